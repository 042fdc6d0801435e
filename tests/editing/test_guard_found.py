"""What a guard writes again is not optimised again: targets that do not depend on the rest of the batch are kept for the edit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
from editing_help import OTHER, Recorder, edit, make_editor

from bluedit import Fact
from bluedit.editing.rules import Rule
from bluedit.options import number
from bluedit.writing import loop
from toys import FACTS

EVERY = 5 + 2 + 3 + 1 + 2 + 1 + 1  # facts in all batches that are tried
FIVE = [*FACTS, OTHER[1], replace(OTHER[0], subject="Berlin")]


@pytest.fixture
def harmful():
    """A rule that only batches with these facts break."""
    ids = set()

    @dataclass(frozen=True)
    class Harm(Rule, kind="harm"):
        """Breaks when a harmful fact is in the batch."""

        limit: float = number(0.5, "how much")
        noun = "harm"

        def figure(self, model):
            return float(sum(fact.id in ids for fact in model.facts()))

    yield ids
    Rule.choices.pop("harm")


@pytest.fixture
def descents(monkeypatch):
    """How many columns were optimised, by layer and by number of evaluations allowed."""
    found = Counter()
    optimise = loop.optimise_targets

    def counted(lm, rows, site, objective, *more):
        found[site.layer, objective.steps] += len({row.fact for row in rows})
        return optimise(lm, rows, site, objective, *more)

    monkeypatch.setattr(loop, "optimise_targets", counted)
    return found


@pytest.mark.parametrize(
    ("recipe", "settings", "expected"),
    [
        ("memit", {}, {(3, 4): 5}),  # all layers for one target: found once
        ("memit-seq-blue", {}, {(1, 4): 5, (3, 4): EVERY}),  # the last one depends on what was written before
        ("nse", {}, {(3, 4): 5}),  # optimised on the unedited weights
        (
            "memit-seq-joint",
            {"objective.correction": 2},
            {(1, 4): 5, (3, 2): EVERY},  # the pass over all layers once, and a short correction
        ),
    ],
)
def test_dividing_a_batch_costs_solves(recipe, settings, expected, statistics, harmful, descents):
    """5 facts, then halves of 2 and 3, of which the second has the harmful one, then 1 and 2 of these 3."""
    harmful.add("o2")
    editor = make_editor(statistics=statistics)
    made = edit(editor, FIVE, recipe, guard="harm", on_violation="bisect", settings=settings)
    assert [one.fact.id for one in made.left_out] == ["o2"]
    assert descents == expected


def test_a_divided_batch_takes_the_targets_of_the_whole_one(statistics, harmful):
    harmful.add("o2")
    trace = Recorder()
    editor = make_editor(statistics=statistics, trace=trace)
    edit(editor, FIVE, "memit", guard="harm", on_violation="bisect")
    (_, whole), *others = trace.targets
    column = 0
    for _, part in others[:2]:
        for i in range(part.z.shape[1]):
            assert torch.equal(part.z[:, i], whole.z[:, column]) and part.loss[i] == whole.loss[column]
            assert torch.equal(part.start[:, i], whole.start[:, column]) and part.steps[i] == whole.steps[column]
            column += 1
    assert column == 5


def test_another_batch_has_its_own_targets(statistics, harmful, descents):
    """The same facts on other weights are optimised again."""
    editor = make_editor(statistics=statistics)
    edit(editor, [*FACTS, replace(FACTS[1], target="Berlin", id="again")][:3], "memit", guard="harm", batch_size=1)
    edit(editor, FACTS, "memit", guard="harm")
    assert descents == {(3, 4): 6}


def test_facts_that_share_a_subject_are_optimised_in_their_company(statistics, harmful, descents):
    """A target for several facts about a subject is another one when one of them is missing."""
    harmful.add("3")
    more = Fact("{} was born in", subject=FACTS[2].subject, target="Rome", id="m")
    editor = make_editor(statistics=statistics)
    edit(editor, [FACTS[0], more, FACTS[2]], "natural", guard="harm", on_violation="bisect", settings={"reteach": 0})
    ((key, columns),) = descents.items()
    assert key == (3, 4) and columns == 2 + 0 + 2


def test_an_edit_without_its_unsaid_facts_is_not_optimised_again(statistics, descents):
    learned = Fact("We all live in {}", subject="France", target="The", id="learned")
    settings = {"objective.steps": 40, "reteach": 1}
    all_of_them = [FACTS[0], learned, FACTS[2]]
    editor = make_editor(statistics=statistics)
    made = edit(editor, all_of_them, "memit-seq-blue", guard="efficacy=0.9", settings=settings)
    assert made.facts == (learned,)
    guarded = descents[1, 40]
    for facts in (all_of_them, [learned]):  # what the two runs would optimise by themselves
        editor.reset()
        edit(editor, facts, "memit-seq-blue", settings=settings)
    assert guarded == descents[1, 40] - guarded - 1, "the target of the learned fact was found twice"
