"""What each row of the grid claims, on real optimised targets: a toy model learns three facts, and the property holds."""

import math
from dataclasses import replace

import pytest
import torch
from editing_help import bits, edit, leftovers, make_editor, same_bits

from bluedit import Fact, Patch
from bluedit.errors import SingularError
from bluedit.evaluate.answers import score
from bluedit.maths.preserve import null_space, strongest_neurons
from bluedit.model.sites import Site
from bluedit.model.state import frozen
from bluedit.methods.presets import PRESETS, preset
from bluedit.methods.recipe import Objective
from bluedit.text.prompts import rows_of
from bluedit.writing.loop import observe_keys
from bluedit.writing.targets import optimise_targets
from toys import FACTS

ROWS = list(PRESETS)
LEARN = {
    "objective.steps": 20,
    "objective.learning_rate": 1.0,
    "objective.clamp": 20.0,
    "rounds.lower": 0.05,
    "finetune.norm": 0.0,
}
LEARN |= {"finetune.learning_rate": 0.02, "finetune.loss": "all", "preserve.lambda": 0.1, "preserve.l2": 0.1}


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    return tmp_path_factory.mktemp("statistics")


@pytest.fixture(scope="module")
def learned(statistics):
    """(editor, edit) of each row on a toy GPT-2: made once, not to be changed."""
    made = {}

    def of(name):
        if name not in made:
            editor = make_editor("gpt2", statistics=statistics)
            editor.untouched = bits(editor.model)
            made[name] = editor, edit(editor, FACTS, name, settings=LEARN)
        return made[name]

    return of


def told(editor, facts=FACTS):
    return [answer.mean_logprob for answer in score(editor.lm, [(f.text, f.target) for f in facts])]


def weight(editor, layer):
    return editor.lm.projection(layer).matrix().double()


def original(editor, layer):
    return editor._weights._original[layer].double()


@pytest.mark.parametrize("name", ROWS)
def test_three_facts_are_learned_kept_and_undone(name, learned, statistics, tmp_path):
    before = told(make_editor("gpt2", statistics=statistics))
    editor, made = learned(name)
    after = told(editor)
    assert sum(after) > sum(before) + 2, (before, after)
    assert leftovers(editor.model) == []
    fresh = make_editor("gpt2", statistics=statistics)
    fresh.apply(Patch.load(made.patch.save(tmp_path / "patch")))
    assert same_bits(fresh.model, bits(editor.model))
    fresh.undo()
    assert same_bits(fresh.model, editor.untouched)


@pytest.mark.parametrize("name", ["rect-blue", "prune", "nse", "emmet", "ft", "pmet-seq-blue"])
def test_edit_after_edit_undone_in_turn(name, statistics):
    editor = make_editor("gpt2", statistics=statistics)
    marks = [bits(editor.model)]
    edits = []
    for fact in FACTS:
        edits.append(edit(editor, fact, name, settings=LEARN))
        marks.append(bits(editor.model))
    fresh = make_editor("gpt2", statistics=statistics)
    fresh.apply(editor.patch)
    assert same_bits(fresh.model, marks[-1])
    for made, mark in zip(reversed(edits), reversed(marks[:-1]), strict=True):
        made.undo()
        assert same_bits(editor.model, mark)


# what each method claims


@pytest.mark.parametrize("name", ["emmet", "emmet-blue"])
def test_equality_constraints_are_met_exactly(name, learned):
    _, made = learned(name)
    for update in made.patch.batches[0].updates:
        assert (update.reach - 1).abs().max() < 1e-8


@pytest.mark.parametrize("name", ["rome", "rome-blue"])
def test_rome_meets_each_fact_in_turn(name, learned):
    _, made = learned(name)
    assert [len(batch.facts) for batch in made.patch.batches] == [1, 1, 1]
    assert all((u.reach - 1).abs().max() < 1e-8 for batch in made.patch.batches for u in batch.updates)


@pytest.mark.parametrize("name", ["alphaedit", "alphaedit-blue"])
def test_alphaedit_leaves_the_preserved_subspace(name, learned):
    editor, made = learned(name)
    for layer, moment in editor._second_moments(made.recipe.written).items():
        _, V = null_space(moment, made.recipe.preserve.threshold, made.recipe.preserve.unit)
        dW = weight(editor, layer) - original(editor, layer)
        assert (dW @ V).norm() < 1e-10 * dW.norm()


@pytest.mark.parametrize("name", ["rect", "rect-blue"])
def test_rect_keeps_two_entries_in_five(name, learned):
    editor, made = learned(name)
    for layer in made.recipe.written:
        W = original(editor, layer)
        dW = weight(editor, layer) - W
        kept = dW != 0
        assert kept.sum() == round(0.4 * dW.numel())
        whole = sum(u.R @ u.A for u in made.patch.batches[0].updates if u.layer == layer)
        assert (whole / W).abs()[kept].min() >= (whole / W).abs()[~kept].max()


@pytest.mark.parametrize("name", ["prune", "prune-blue"])
def test_prune_caps_the_change_once(name, statistics):
    editor = make_editor("gpt2", statistics=statistics)
    strong = LEARN | {"objective.clamp": 60.0, "preserve.lambda": 1e-6, "objective.learning_rate": 8.0}
    made = [edit(editor, fact, name, settings=strong) for fact in FACTS]
    for layer in made[0].recipe.written:
        W = original(editor, layer)
        limit = torch.linalg.svdvals(W).max()
        whole = sum(u.R @ u.A for m in made for u in m.patch.batches[0].updates if u.layer == layer)
        size = torch.linalg.svdvals(whole)
        assert size.max() > limit, "nothing to cap: the test cannot fail"
        wanted = torch.where(size > limit, torch.log(size / limit) / math.log(1.2) + limit, size)
        found = torch.linalg.svdvals(weight(editor, layer) - W)
        assert (found - wanted.sort(descending=True).values).abs().max() < 1e-8 * limit


@pytest.mark.parametrize(("name", "shares"), [("pmet", [3**-0.5, 2**-0.5, 1.0]), ("memit", [1 / 3, 1 / 2, 1.0])])
def test_shares(name, shares, learned):
    _, made = learned(name)
    assert [step.share for step in made.recipe.steps()] == pytest.approx(shares)


@pytest.mark.parametrize("name", ["nse", "nse-blue"])
def test_nse_changes_only_the_selected_neurons(name, statistics):
    editor = make_editor("gpt2", statistics=statistics)
    rows = rows_of(editor.lm.tokenizer, FACTS, ("The weather was mild that morning.",))
    first = PRESETS[name].override({"layers": [1, 2, 3]}).written[0]
    keys = observe_keys(editor.lm, rows, (first,), 3)[first]
    made = edit(editor, FACTS, name, settings=LEARN | {"rounds.count": 1, "preserve.neurons": 0.5})
    chosen = strongest_neurons(keys, 0.5)
    assert 1 < len(chosen) < len(keys) / 2
    touched = ((weight(editor, first) - original(editor, first)) != 0).any(dim=0).nonzero().flatten()
    assert torch.equal(touched, chosen)
    assert made.patch.info["free_dimensions"][str(first)] == len(chosen)


def test_nse_writes_again_what_misses(statistics):
    """Round two writes the facts that miss their target by more than `lower`, and nothing when all are near enough."""
    counts = {}
    for lower in (0.0, 1e6):
        made = edit(make_editor("gpt2", statistics=statistics), FACTS, "nse", settings=LEARN | {"rounds.lower": lower})
        counts[lower] = len(made.patch.batches[0].updates)
    assert counts == {0.0: 6, 1e6: 3}


def test_memit_seq_with_nothing_to_remember_is_memit(learned):
    for suffix in ("", "-blue"):
        assert same_bits(learned(f"memit{suffix}")[0].model, bits(learned(f"memit-seq{suffix}")[0].model))


@pytest.mark.parametrize("name", ["memit", "alphaedit", "pmet", "rect", "emmet", "nse"])
def test_blue_on_one_layer_is_the_single_schedule(name, statistics):
    models = []
    for recipe, more in ((f"{name}-blue", {}), (name, {"schedule": "single"}), (name, {"schedule": "spread"})):
        editor = make_editor("gpt2", statistics=statistics)
        edit(editor, FACTS[:2], recipe, settings=LEARN | {"objective.steps": 3, "layers": [2]} | more)
        models.append(editor.model)
    assert same_bits(models[0], bits(models[1])) and same_bits(models[0], bits(models[2]))


# EMMET and equal keys

TWINS = (
    Fact("{} is the capital of", subject="Paris", target="German", id="a"),
    Fact("{} is in the country of", subject="Paris", target="Italian", id="b"),
)


def test_equal_keys_are_named_with_the_remedy(statistics):
    """With merged batches off, facts about one subject never meet; a template that differs after the subject only makes twins."""
    editor = make_editor("gpt2", statistics=statistics)
    before = bits(editor.model)
    recipe = editor.recipe("emmet", {"layers": [1, 2, 3], "contexts.count": 0})
    from bluedit.editing import editor as module

    original_split, module.split_batches = module.split_batches, lambda facts, *_a, **_k: [list(facts)]
    try:
        with pytest.raises(SingularError) as caught:
            editor.edit([FACTS[0], *TWINS], recipe, known="edit", report=False)
        assert caught.value.facts == (1, 2)
        assert (
            "nearly parallel: 'Paris is the capital of' => 'German'; 'Paris is in the country of' => 'Italian'"
            in str(caught.value)
        )
        assert "set a ridge such as preserve.slack=1e-3" in str(caught.value)
        assert same_bits(editor.model, before)
        editor.edit([FACTS[0], *TWINS], recipe.override({"preserve.slack": 1e-3}), known="edit", report=False)
    finally:
        module.split_batches = original_split


# options that compose with any row


def test_merged_subjects_share_one_target(statistics):
    editor = make_editor("gpt2", statistics=statistics)
    before = told(editor, TWINS)
    made = edit(editor, [*TWINS, FACTS[0]], "memit-blue", settings=LEARN | {"subjects": "merge"})
    (batch,) = made.patch.batches
    assert batch.updates[0].R.shape[1] == 2 and len(batch.facts) == 3
    assert sum(told(editor, TWINS)) > sum(before) + 1
    split = edit(make_editor("gpt2", statistics=statistics), [*TWINS, FACTS[0]], "memit-blue", settings=LEARN)
    assert [len(b.facts) for b in split.patch.batches] == [2, 1]


def test_merging_changes_nothing_where_subjects_differ(statistics, learned):
    editor = make_editor("gpt2", statistics=statistics)
    edit(editor, FACTS, "memit-blue", settings=LEARN | {"subjects": "merge"})
    assert same_bits(editor.model, bits(learned("memit-blue")[0].model))


def test_stopping_at_the_first_choice_takes_fewer_steps(statistics):
    """At the last layer, with the target right after the subject, the first choice comes long before the loss is low."""
    editor = make_editor("gpt2", statistics=statistics)
    rows = rows_of(editor.lm.tokenizer, [Fact("The capital of {}", subject="France", target="is")], (), drift=True)
    base = Objective(steps=40, learning_rate=0.5, clamp=100.0, stop_loss=0.0, weight_decay=0.0)
    taken = {}
    for stop in ("loss", "argmax"):
        with frozen(editor.model):
            found = optimise_targets(editor.lm, rows, Site("block", 4), replace(base, stop=stop), lambda *_: None)
        taken[stop] = int(found.steps)
    assert 0 < taken["argmax"] < taken["loss"] == 39


def values_of(editor, layer, monkeypatch, settings):
    """|v*| of the second fact, written after the first."""
    import bluedit.writing.loop as loop

    seen = []
    real = loop._Writer.targets

    def spy(self, site):
        found = real(self, site)
        if site.layer == layer:
            seen.append((self.values(loop.Site("mlp", layer)) + found.z - found.start).norm(dim=0))
        return found

    monkeypatch.setattr(loop._Writer, "targets", spy)
    for fact in FACTS[:2]:
        edit(editor, fact, "memit-seq-blue", settings=LEARN | settings)
    monkeypatch.setattr(loop._Writer, "targets", real)
    return [float(s) for s in seen]


def test_the_norm_anchor_holds_the_length_of_values(statistics, monkeypatch):
    free = values_of(make_editor("gpt2", statistics=statistics), 1, monkeypatch, {})
    held = values_of(make_editor("gpt2", statistics=statistics), 1, monkeypatch, {"objective.norm_anchor": True})
    assert free[0] != pytest.approx(free[1], rel=1e-3)
    assert held == pytest.approx([held[0]] * 2, rel=1e-9)
    assert held[0] == pytest.approx(free[0], rel=1e-9)


@pytest.mark.parametrize("option", ["objective.kl_anchor", "objective.weights"])
def test_anchors_to_the_unedited_model(option, statistics):
    """The first batch of a one-layer schedule is the same with and without; later ones are not."""
    one, other = (make_editor("gpt2", statistics=statistics) for _ in range(2))
    more = LEARN | {"schedule": "single", "objective.kl_factor": 5.0}
    for number, fact in enumerate(FACTS[:2]):
        edit(one, fact, "memit-seq", settings=more)
        edit(other, fact, "memit-seq", settings=more | {option: "unedited"})
        apart = float((weight(one, 1) - weight(other, 1)).norm() / (weight(one, 1) - original(one, 1)).norm())
        assert (apart > 1e-4) == bool(number), apart


def test_the_null_space_as_a_share_of_key_space(statistics):
    more = LEARN | {"preserve.unit": "rank", "preserve.threshold": 0.25}
    made = edit(make_editor("gpt2", statistics=statistics), FACTS, "alphaedit-blue", settings=more)
    assert set(made.patch.info["free_dimensions"].values()) == {12}


@pytest.mark.parametrize("minibatch", [0, 2])
def test_fine_tuning_in_parts_gives_the_same(minibatch, statistics):
    settings = {"finetune.minibatch": minibatch, "finetune.norm": 0.0, "finetune.epochs": 3}
    changes = []
    for tokens in (0, 1):  # all of a step at once, or one row after another
        editor = make_editor("gpt2", statistics=statistics)
        edit(editor, FACTS, "ft-local", settings=settings | {"objective.tokens_per_step": tokens})
        changes.append(weight(editor, 1) - original(editor, 1))
    assert (changes[0] - changes[1]).abs().max() < 1e-6 * changes[0].abs().max()


def test_fine_tuning_stays_within_its_norm(statistics):
    editor = make_editor("gpt2", statistics=statistics)
    made = edit(editor, FACTS, "ft", settings={"finetune.norm": 1e-3, "finetune.learning_rate": 0.01})
    dW = weight(editor, 1) - original(editor, 1)
    assert dW.abs().max() == pytest.approx(1e-3, rel=1e-6)
    assert made.patch.layers == (1,)
    assert preset("ft").finetune.loss == "last"
