"""All or nothing: whatever fails, and whenever, the model is as it was, and the next edit is what it would have been."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from editing_help import (
    OTHER,
    SETTINGS,
    FaultAt,
    Injected,
    bits,
    edit,
    flags,
    leftovers,
    make_editor,
    same_bits,
)

from bluedit import Trace
from bluedit.errors import EditError
from bluedit.methods.filters import Filter
from bluedit.methods.preserve import NullSpace
from bluedit.progress import Progress
from toys import FACTS, fitting

BOTH = pytest.mark.parametrize("family", ["llama", "gpt2"])
TWO_BATCHES = (FACTS[0], OTHER[0])  # one subject


class Saboteur(Trace, Progress):
    """Everything an editor can be given, raising when a stage is reached for the nth time."""

    def __init__(self, stage: str = "", nth: int = 1, exception: type[BaseException] = Injected):
        self.stage, self.nth, self.exception, self.counts = stage, nth, exception, {}

    def reached(self, stage):
        self.counts[stage] = self.counts.get(stage, 0) + 1
        if (stage, self.counts[stage]) == (self.stage, self.nth):
            raise self.exception("injected")

    def task(self, title, total, unit=""):
        self.reached("task: " + title.split(" at ")[0])
        return super().task(title, total, unit)

    def get(self, lm, rows, site, objective, optimise):
        self.reached("targets asked for")
        targets = optimise()
        self.reached("targets optimised")
        return targets

    def on_target(self, site, targets):
        self.reached("on_target")

    def on_write(self, write):
        self.reached("on_write")

    def on_batch(self, batch):
        self.reached("on_batch")


class WatchedOperator:
    """An operator with a saboteur before every solve."""

    def __init__(self, operator, saboteur):
        self.operator, self.saboteur, self.remember = operator, saboteur, operator.remember

    @property
    def rank(self):
        return self.operator.rank

    def apply(self, K):
        self.saboteur.reached("solve")
        return self.operator.apply(K)


class Sabotaged(NullSpace):
    """AlphaEdit's preservation with a saboteur inside."""

    saboteur: ClassVar[Saboteur] = Saboteur()

    def operator(self, C):
        self.saboteur.reached("operator")
        return WatchedOperator(super().operator(C), self.saboteur)


@dataclass(frozen=True)
class Unchanged(Filter):
    """A filter that keeps everything."""

    saboteur: ClassVar[Saboteur] = Saboteur()

    def apply(self, W0, before, total):
        self.saboteur.reached("filter")
        return total


def sabotaged(editor):
    """alphaedit-blue with all its numbers and a saboteur in every part."""
    Sabotaged.saboteur = Unchanged.saboteur = editor.progress
    recipe = editor.recipe("alphaedit-blue", fitting("alphaedit-blue", SETTINGS))
    numbers = recipe.update.preserve
    preserve = Sabotaged(l2=numbers.l2, threshold=numbers.threshold, unit=numbers.unit)
    return replace(recipe, update=replace(recipe.update, preserve=preserve, filters=(Unchanged(),)))


def saboteurs_editor(saboteur, family="llama", statistics=None):
    return make_editor(family, statistics=statistics, progress=saboteur, targets=saboteur, trace=saboteur)


def edit_two_batches(editor, **options):
    return editor.edit(TWO_BATCHES, sabotaged(editor), **{"known": "edit", "report": False} | options)


def in_use(editor):
    """A model in the middle of its user's own work: training, some of it frozen; and a tokenizer that pads on the left."""
    editor.model.train()
    editor.model.get_input_embeddings().eval()
    for i, parameter in enumerate(editor.model.parameters()):
        parameter.requires_grad_(i % 3 != 0)
    editor.lm.tokenizer.padding_side = "left"


@pytest.fixture(scope="module")
def undisturbed(statistics):
    """What the edit of these tests makes of each family when nothing goes wrong."""
    results = {}
    for family in ("llama", "gpt2"):
        editor = saboteurs_editor(Saboteur(), family, statistics)
        edit_two_batches(editor)
        results[family] = bits(editor.model)
    return results


STAGES = [
    ("task: editing", 1),
    ("task: key statistics", 1),
    ("operator", 1),
    ("operator", 2),
    ("targets asked for", 1),
    ("targets optimised", 1),
    ("on_target", 2),
    ("targets optimised", 2),
    ("solve", 1),
    ("solve", 2),
    ("solve", 3),
    ("on_write", 1),
    ("on_write", 2),
    ("on_write", 3),
    ("filter", 1),
    ("filter", 2),
    ("filter", 3),
    ("on_batch", 1),
    ("on_batch", 2),
]


@pytest.mark.parametrize(
    ("stage", "nth", "exception", "family"),
    [
        pytest.param(
            *stage, exception, ("llama", "gpt2")[(i + j) % 2], id=f"{stage[0]} {stage[1]} {exception.__name__}"
        )
        for i, stage in enumerate(STAGES)
        for j, exception in enumerate((Injected, KeyboardInterrupt))
    ],
)
def test_a_fault_at_any_stage_changes_nothing(stage, nth, exception, family, undisturbed, statistics, tmp_path):
    saboteur = Saboteur(stage, nth, exception)
    editor = saboteurs_editor(saboteur, family, tmp_path if stage == "task: key statistics" else statistics)
    in_use(editor)
    before, state = bits(editor.model), flags(editor)
    with pytest.raises(exception, match="injected"):
        edit_two_batches(editor)
    assert saboteur.counts[stage] == nth
    assert same_bits(editor.model, before)
    assert editor.journal.entries == editor.edits == editor.patch.batches == ()
    assert leftovers(editor.model) == []
    assert flags(editor) == state
    edit_two_batches(editor)
    assert same_bits(editor.model, undisturbed[family]), "the fault left something behind"
    assert leftovers(editor.model) == []
    assert flags(editor) == state


@BOTH
def test_ctrl_c_at_any_moment_changes_nothing(family, undisturbed, statistics):
    """Twelve moments, evenly spread over all calls of torch that an edit makes."""
    editor = saboteurs_editor(Saboteur(), family, statistics)
    in_use(editor)
    before, state = bits(editor.model), flags(editor)
    with FaultAt(0) as counted:
        edit_two_batches(editor).undo()
    assert counted.calls > 2000
    for i in range(12):
        with FaultAt(1 + counted.calls * i // 12) as fault, pytest.raises(KeyboardInterrupt):
            edit_two_batches(editor).undo()
        fault.armed = False
        assert same_bits(editor.model, before), f"call {fault.nth} of {counted.calls}"
        assert leftovers(editor.model) == [] and flags(editor) == state
        assert len(editor.journal) == 0
    edit_two_batches(editor)
    assert same_bits(editor.model, undisturbed[family])


@BOTH
def test_a_fault_at_any_write_into_a_weight_changes_nothing(family, statistics):
    editor = saboteurs_editor(Saboteur(), family, statistics)
    before = bits(editor.model)
    with FaultAt(0, name="copy_") as counted:
        edit_two_batches(editor)
    editor.undo()
    assert counted.calls >= 4
    for nth in range(1, counted.calls + 1):
        with FaultAt(nth, Injected, "copy_"), pytest.raises(Injected):
            edit_two_batches(editor)
        assert same_bits(editor.model, before)


@pytest.mark.parametrize("exception", [Injected, KeyboardInterrupt])
@pytest.mark.parametrize(
    ("stage", "nth"), [("targets optimised", 2), ("on_write", 2), ("on_write", 3), ("on_batch", 2)]
)
def test_a_fault_leaves_earlier_edits_standing(stage, nth, exception, statistics):
    saboteur = Saboteur()
    editor, clean = (
        saboteurs_editor(saboteur, statistics=statistics),
        saboteurs_editor(Saboteur(), statistics=statistics),
    )
    unedited = bits(editor.model)
    first = editor.edit(FACTS[1], sabotaged(editor), known="edit", report=False)
    before = bits(editor.model)
    saboteur.stage, saboteur.nth, saboteur.exception, saboteur.counts = stage, nth, exception, {}
    with pytest.raises(exception, match="injected"):
        edit_two_batches(editor)
    assert same_bits(editor.model, before)
    assert editor.edits == (first,)
    edit_two_batches(editor)
    clean.edit(FACTS[1], sabotaged(clean), known="edit", report=False)
    edit_two_batches(clean)
    assert same_bits(editor.model, bits(clean.model)), "memory differs after the fault"
    editor.undo()
    first.undo()
    assert same_bits(editor.model, unedited)


@pytest.mark.parametrize("exception", [Injected, KeyboardInterrupt])
def test_a_fault_while_applying_changes_nothing(exception, statistics):
    patch = edit(make_editor(statistics=statistics), FACTS).patch
    editor = make_editor(statistics=statistics)
    before = bits(editor.model)
    with FaultAt(2, exception, "copy_"), pytest.raises(exception, match="injected"):
        editor.apply(patch)
    assert same_bits(editor.model, before)
    assert editor.patch.batches == ()
    editor.apply(patch)
    assert not same_bits(editor.model, before)


class Infinite:
    """Targets of layer 3 that are not finite."""

    def get(self, lm, rows, site, objective, optimise):
        targets = optimise()
        return replace(targets, z=targets.z * (torch.inf if site.layer == 3 else 1.0))


def test_an_update_that_is_not_finite_is_taken_back(statistics):
    editor = make_editor(statistics=statistics, targets=Infinite())
    before = bits(editor.model)
    with pytest.raises(
        EditError,
        match=r"^the update of layer 3 is not finite \('The mother.*; check the model's weights and the recipe's numbers \(",
    ):
        edit(editor, FACTS)
    assert same_bits(editor.model, before)


@BOTH
def test_a_model_in_use_is_left_as_it_was(family, undisturbed, statistics):
    editor = saboteurs_editor(Saboteur(), family, statistics)
    in_use(editor)
    state, before = flags(editor), bits(editor.model)
    done = edit_two_batches(editor, report=True)
    assert flags(editor) == state
    assert leftovers(editor.model) == []
    assert same_bits(editor.model, undisturbed[family]), "training mode (dropout) or padding side changed the result"
    done.undo()
    assert flags(editor) == state
    assert same_bits(editor.model, before)
