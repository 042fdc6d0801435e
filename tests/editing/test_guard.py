"""A guard: its rules, and what becomes of a batch that breaks one. Softened batches: tests/editing/test_guard_softened.py."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, replace

import pytest
import torch
from editing_help import OTHER, bits, edit, make_editor, said_fact, same_bits

from bluedit import Fact, Patch
from bluedit.editing.guard import Guard
from bluedit.editing.rules import Efficacy, NormGrowth, PassageKL, PerplexityRise, ProtectedChange, Rule
from bluedit.errors import EditError, FactError, GuardError, RecipeError
from bluedit.evaluate.answers import perplexity, score
from bluedit.evaluate.passages import ORDINARY_TOKENS, ordinary_passages, passage_rows
from bluedit.options import number
from toys import FACTS

LEARNED = Fact("We all live in {}", subject="France", target="The", id="learned")  # a toy can learn that
LEARN = {"objective.steps": 40}


@pytest.fixture
def register():
    """A decorator for rules that are to be forgotten after the test."""
    made = []
    yield lambda cls: made.append(cls) or cls
    for cls in made:
        cls.choices.pop(cls.kind, None)


@pytest.fixture
def harmful(register):
    """A rule that only batches with these facts break."""
    ids = set()

    @register
    @dataclass(frozen=True)
    class Harm(Rule, kind="harm"):
        """Breaks when a harmful fact is in the batch."""

        limit: float = number(0.5, "how much")
        noun = "harm"

        def figure(self, model):
            return float(sum(fact.id in ids for fact in model.facts()))

    return ids


def figures(made, batch=0):
    return {one["rule"]: one for one in made.patch.batches[batch].guard["figures"]}


# the rules


def test_each_figure_is_what_it_says(statistics):
    """Every figure is computed here in another way."""
    editor = make_editor(statistics=statistics)
    texts, facts = ordinary_passages(), [LEARNED, FACTS[0], FACTS[2]]
    pairs = [(fact.text, fact.target) for fact in OTHER]
    before = perplexity(editor.lm, texts, 1200), [a.mean_logprob for a in score(editor.lm, pairs)], bits(editor.model)
    logits = _logits(editor, texts)
    made = edit(
        editor, facts, guard=["default", "norm=9"], protect=OTHER, on_violation="warn", settings=LEARN, report=True
    )
    found = figures(made)
    assert set(found) == {"efficacy", "perplexity", "kl", "norm", "protected"}
    assert found["perplexity"]["value"] == pytest.approx(perplexity(editor.lm, texts, 1200) / before[0] - 1)
    kl = [
        torch.nn.functional.kl_div(b, a, reduction="none", log_target=True).sum(-1)
        for a, b in zip(logits, _logits(editor, texts), strict=True)
    ]
    assert found["kl"]["value"] == pytest.approx(float(torch.cat(kl).mean()), rel=1e-6)
    growths = [
        float(now.norm() / before[2][name].norm()) - 1
        for name, now in editor.model.state_dict().items()
        if not torch.equal(now, before[2][name])
    ]
    assert found["norm"]["value"] == pytest.approx(max(growths)) and len(growths) == 2
    changes = [
        abs(math.exp(a.mean_logprob) - math.exp(b)) for a, b in zip(score(editor.lm, pairs), before[1], strict=True)
    ]
    assert found["protected"]["value"] == pytest.approx(float(max(changes)), rel=1e-5)
    assert found["efficacy"]["value"] == pytest.approx(1 / 3) and sum(f.says_after for f in made.report.facts) == 1


def _logits(editor, texts):
    rows = passage_rows(editor.lm, texts, 1200)
    return [editor.model(torch.tensor([row])).logits[0, :-1].detach().log_softmax(-1) for row in rows]


@pytest.mark.parametrize("rule", [Efficacy, PerplexityRise, PassageKL, ProtectedChange, NormGrowth])
def test_each_rule_can_hold_and_break(rule, statistics):
    editor = make_editor(statistics=statistics)
    measured = edit(editor, FACTS, guard=[rule()], protect=OTHER, on_violation="warn")
    value = figures(measured)[rule.kind]["value"]
    after = bits(editor.model)
    measured.undo()
    before = bits(editor.model)
    if rule is Efficacy:
        assert value == 0
        holding, breaking = rule(limit=0), rule(limit=0.01)
    else:
        holding, breaking = rule(limit=value), rule(limit=value * (1 - 1e-9))
    kept = edit(editor, FACTS, guard=holding, protect=OTHER, on_violation="reject")
    assert same_bits(editor.model, after)
    assert kept.patch.batches[0].guard["action"] == "kept"
    kept.undo()
    with pytest.raises(GuardError, match=r"^the guard refuses the edit: .*Nothing was changed"):
        edit(editor, FACTS, guard=breaking, protect=OTHER, on_violation="reject")
    assert same_bits(editor.model, before) and len(editor.journal) == 0


def test_a_protected_fact_that_is_not_said_any_more_counts_whole(statistics):
    editor = make_editor(statistics=statistics)
    said = said_fact(editor)
    assert editor._baseline.changes([said]) == [0.0]
    edit(editor, replace(said, target="The"), settings=LEARN)
    assert not score(editor.lm, [(said.text, said.target)])[0].said
    assert editor._baseline.changes([said]) == [1.0]


def test_unedited_figures_are_measured_once(statistics, monkeypatch):
    editor = make_editor(statistics=statistics)
    calls = []
    original = editor._weights.unedited
    monkeypatch.setattr(editor._baseline, "_unedited", lambda: calls.append(1) or original())
    monkeypatch.setattr(editor._baseline, "_known", lambda: None)
    for facts in (FACTS, OTHER):
        edit(editor, facts, batch_size=1, guard="default", protect=LEARNED, on_violation="warn")
    assert len(calls) == 3  # perplexity, passages, protected facts


def test_perplexity_that_a_report_measured_is_not_measured_again(statistics, monkeypatch):
    editor = make_editor(statistics=statistics)
    edit(editor, FACTS[0], report=True)
    with monkeypatch.context() as edited:
        edited.setattr(editor._baseline, "_unedited", lambda: pytest.fail("it was measured again"))
        found = editor._baseline.perplexity
    with editor.unedited():
        assert found == perplexity(editor.lm, ordinary_passages(), ORDINARY_TOKENS)


def test_a_model_whose_numbers_are_not_finite_breaks_every_rule(statistics, monkeypatch):
    editor = make_editor(statistics=statistics)
    before = bits(editor.model)
    edit(editor, FACTS, guard="kl=9")  # the unedited figures are there
    editor.reset()
    original = editor._baseline._lm.model.forward

    def broken(*arguments, **options):
        out = original(*arguments, **options)
        if editor._weights.edited:
            out.logits = out.logits * torch.nan
        return out

    monkeypatch.setattr(editor.model, "forward", broken)
    with pytest.raises(
        GuardError, match="KL on ordinary text not measurable, as the model gives numbers that are not finite"
    ):
        edit(editor, FACTS, guard="kl=9", on_violation="reject", settings={"schedule": "single"})
    monkeypatch.undo()
    assert same_bits(editor.model, before)


# what is done


def test_warn_keeps_the_batch_and_says_so(statistics, caplog):
    plain, editor = make_editor(statistics=statistics), make_editor(statistics=statistics)
    edit(plain, FACTS)
    with caplog.at_level(logging.WARNING):
        made = edit(editor, FACTS, guard="kl=0.001", on_violation="warn")
    assert "a batch of 3 facts is kept although it breaks the guard: KL on ordinary text" in caplog.text
    assert same_bits(editor.model, bits(plain.model))
    assert made.guard[0].startswith("Guard: kept although it breaks a rule: KL on ordinary text 0.0")
    assert made.guard[0].split("\n") == [made.guard[0]] and made.guard[0] in made.summary()


def test_reject_takes_back_the_whole_edit_and_leaves_earlier_ones(statistics, harmful):
    editor, plain = make_editor(statistics=statistics), make_editor(statistics=statistics)
    first = edit(editor, OTHER)
    edit(plain, OTHER)
    before = bits(editor.model)
    harmful.add("3")
    with pytest.raises(GuardError) as caught:
        edit(editor, FACTS, batch_size=1, guard="harm", on_violation="reject")
    assert caught.value.exit_code == 15 and caught.value.record["action"] == "refused"
    assert json.loads(json.dumps(caught.value.record))["figures"][0]["value"] == 1.0
    assert same_bits(editor.model, before) and editor.edits == (first,)
    edit(editor, FACTS)
    edit(plain, FACTS)
    assert same_bits(editor.model, bits(plain.model)), "memory or norms differ after the refusal"


@pytest.mark.parametrize("action", ["bisect", "soften"])
def test_the_facts_that_do_harm_are_left_out(action, statistics, harmful):
    """This harm is the same for every share of the change, so softening does not help."""
    harmful |= {"o1", "3"}
    facts = [*FACTS, OTHER[1], replace(OTHER[0], subject="Berlin")]
    editor = make_editor(statistics=statistics)
    unedited = bits(editor.model)
    made = edit(editor, facts, guard="harm", on_violation=action, report=True)
    assert {fact.id for fact in made.facts} == {"1", "2", "o2"}
    assert {one.fact.id: one.why for one in made.left_out} == dict.fromkeys(("3", "o1"), "harm 1 (limit 0.5)")
    assert {batch.guard["action"] for batch in made.patch.batches} == {"divided"}
    assert [fact.prompt for fact in made.report.facts] == [fact.text for fact in made.facts]
    assert "Left out: Élise Müller plays the => drum kit (harm 1 (limit 0.5))." in made.guard
    fresh = make_editor(statistics=statistics)
    fresh.apply(made.patch)
    assert same_bits(fresh.model, bits(editor.model))
    made.undo()
    assert same_bits(editor.model, unedited)


def test_a_fact_that_does_harm_alone_refuses_the_edit(statistics, harmful):
    harmful |= {"1", "2", "3"}
    editor = make_editor(statistics=statistics)
    before = bits(editor.model)
    with pytest.raises(GuardError, match=r"no fact is left \(harm 1 \(limit 0.5\)\)"):
        edit(editor, FACTS, guard="harm", on_violation="bisect")
    assert same_bits(editor.model, before)


def test_facts_that_are_not_said_are_left_out(statistics):
    editor = make_editor(statistics=statistics)
    made = edit(editor, [FACTS[0], LEARNED, FACTS[2]], guard="efficacy=0.9", settings=LEARN)
    assert made.facts == (LEARNED,) and [one.fact for one in made.left_out] == [FACTS[0], FACTS[2]]
    assert made.left_out[0].why == "facts said 33 % (at least 90 %)"


def test_facts_are_not_blamed_for_what_another_harmful_one_does(statistics, harmful):
    """A model that was harmed may not say facts that it would say without that one."""
    harmful |= {"3"}
    editor = make_editor(statistics=statistics)
    facts = [FACTS[0], LEARNED, FACTS[2]]
    made = edit(editor, facts, guard=["harm", "efficacy=0.9"], on_violation="bisect", settings=LEARN)
    assert made.facts == (LEARNED,)
    assert {one.fact.id: one.why.split(" (")[0] for one in made.left_out} == {"1": "facts said 0 %", "3": "harm 1"}


@pytest.mark.parametrize("action", ["bisect", "reject", "warn"])
def test_a_recipe_that_writes_facts_again_is_judged_when_it_has(action, statistics):
    """Only the whole edit has to say its facts; what it still does not say is left out, and the rest written anew."""
    editor = make_editor(statistics=statistics)
    before = bits(editor.model)
    arguments = ([*FACTS, LEARNED], "memit-seq-blue")
    options = {"guard": "efficacy=0.9", "on_violation": action, "settings": LEARN | {"reteach": 1}, "report": True}
    if action == "reject":
        with pytest.raises(GuardError, match="facts said 25 %"):
            edit(editor, *arguments, **options)
        assert same_bits(editor.model, before)
        return
    made = edit(editor, *arguments, **options)
    if action == "warn":
        assert len(made.facts) == 4 and any("kept although facts said 25 %" in line for line in made.guard)
        return
    plain = make_editor(statistics=statistics)
    edit(plain, [LEARNED], "memit-seq-blue", settings=LEARN | {"reteach": 1})
    assert made.facts == (LEARNED,) and same_bits(editor.model, bits(plain.model))


def test_limits_that_were_broken_before_are_said_to_be(statistics):
    editor = make_editor(statistics=statistics)
    edit(editor, FACTS)
    with pytest.raises(GuardError, match=r"limit 0.0010 nats\) before this batch already"):
        edit(editor, OTHER, guard="kl=0.001", on_violation="soften")
    assert len(editor.edits) == 1


@pytest.mark.parametrize("action", ["soften", "bisect"])
def test_ctrl_c_while_the_guard_works_changes_nothing(action, statistics, register):
    for stop in range(1, 5):

        @register
        @dataclass(frozen=True)
        class Interrupts(Rule, kind="interrupts"):
            """Ends the process when it is asked for the nth time."""

            limit: float = number(0.001, "how much")
            calls = iter(range(1, 100))

            def figure(self, model, calls=calls, stop=stop):
                if next(calls) == stop:
                    raise KeyboardInterrupt
                return model.passage_kl()

        editor = make_editor(statistics=statistics)
        first = edit(editor, LEARNED)
        before = bits(editor.model)
        limit = 1.2 * editor._baseline.passage_kl()
        with pytest.raises(KeyboardInterrupt):
            edit(editor, FACTS, guard=Interrupts(limit=limit), on_violation=action)
        assert same_bits(editor.model, before) and editor.edits == (first,)
        del Rule.choices["interrupts"]


def test_what_a_guard_decided_is_kept_in_the_patch(statistics, tmp_path, harmful):
    harmful.add("1")
    editor = make_editor(statistics=statistics)
    made = edit(editor, FACTS, guard=["harm", "kl=5"], protect=OTHER, on_violation="bisect")
    made.save(tmp_path / "patch")
    loaded = Patch.load(tmp_path / "patch")
    assert [batch.guard for batch in loaded.batches] == [json.loads(json.dumps(b.guard)) for b in made.patch.batches]
    last = loaded.batches[-1].guard
    assert (
        last["asked"]["rules"] == {"harm": 0.5, "kl": 5.0, "protected": 0.1}
        and last["asked"]["on_violation"] == "bisect"
    )
    assert [one["prompt"] for one in last["asked"]["protect"]] == [fact.prompt for fact in OTHER]
    for file in (tmp_path / "patch").glob("*.json"):  # a batch without one, as older versions wrote it
        assert ("guard" in json.loads(file.read_text())) is (file.name != "manifest.json")
    assert edit(make_editor(statistics=statistics), FACTS).patch.batches[0].guard is None


# bad input


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"guard": "perplexety"}, RecipeError, "guard has no rule 'perplexety'; did you mean 'perplexity'"),
        ({"guard": "kl=much"}, RecipeError, "guard.kl.limit must be a number, not 'much'"),
        ({"guard": "efficacy=1.2"}, RecipeError, "guard.efficacy.limit is 1.2; it must be between 0 and 1"),
        ({"guard": "kl="}, RecipeError, "guard 'kl=' has no limit after the '='"),
        (
            {"guard": ["norm=-1", "nrm"]},
            RecipeError,
            "guard.norm.limit is -1; it must be at least 0\nguard has no rule 'nrm'",
        ),
        ({"guard": 3}, RecipeError, "guard must be rules or their names, not 3"),
        ({"on_violation": "softn"}, RecipeError, "on_violation cannot be 'softn'; did you mean 'soften'"),
        ({"guard": "protected"}, FactError, "the guard's rule 'protected' needs facts"),
        ({"protect": ["France"]}, FactError, "protect must be a list of Fact"),
        ({"protect": FACTS[1]}, FactError, "the fact 'The capital of France is' is to be changed and protected"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(options, error, text, statistics):
    editor = make_editor(statistics=statistics)
    with pytest.raises(error) as caught:
        edit(editor, FACTS, **options)
    assert str(caught.value).startswith(text)
    assert len(editor.journal) == 0


def test_a_guard_from_names_and_rules():
    assert Guard() == Guard("default") == Guard("efficacy", "perplexity", "kl", "norm")
    assert (
        Guard("default", "kl=0.5").rules
        == Guard(Efficacy(), PerplexityRise(), PassageKL(limit=0.5), NormGrowth()).rules
    )
    assert hash(Guard("kl")) == hash(Guard(PassageKL())) and "PassageKL" in repr(Guard("kl"))


def test_protected_facts_alone_mean_the_default_guard(statistics):
    made = edit(make_editor(statistics=statistics), FACTS, protect=OTHER, on_violation="warn")
    assert set(figures(made)) == {"efficacy", "perplexity", "kl", "norm", "protected"}


def test_without_a_guard_nothing_is_measured(statistics, monkeypatch):
    editor = make_editor(statistics=statistics)
    monkeypatch.setattr(editor, "_baseline", None)
    assert edit(editor, FACTS).guard == []


def test_refusal_is_an_edit_error():
    assert issubclass(GuardError, EditError)
