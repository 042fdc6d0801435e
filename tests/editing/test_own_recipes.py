"""Recipes of one's own: preset objects, composed parts, and parts that a user wrote, from the edit to a patch on another model."""

from dataclasses import dataclass, replace

import pytest
import torch
from editing_help import SETTINGS, bits, edit, make_editor, original, same_bits, weight

import bluedit
from bluedit import Patch, Recipe
from bluedit.errors import PatchError, RecipeError
from bluedit.maths.preserve import Preservation, Projected
from bluedit.maths.schedule import Step
from bluedit.methods.filters import CapSpectrum, Filter
from bluedit.methods.objective import Objective
from bluedit.methods.preserve import NullSpace, Preserve
from bluedit.methods.schedules import Schedule
from bluedit.methods.update import ClosedForm
from bluedit.options import number
from toys import FACTS, fitting

CHEAP = Objective(steps=4, clamp=5.0, weight_decay=0.0)


@pytest.fixture
def register():
    """A decorator for part classes that are to be forgotten after the test."""
    made = []
    yield lambda cls: made.append(cls) or cls
    for cls in made:
        cls.choices.pop(cls.kind, None)


@pytest.fixture
def shrink(register):
    """A filter that keeps only a part of every batch's change."""

    @register
    @dataclass(frozen=True)
    class Shrink(Filter, kind="shrink"):
        """Keeps a part of each batch's change."""

        share: float = number(0.5, "how much is kept", high=1.0, positive=True)

        def apply(self, W0, before, total):
            return before + self.share * (total - before)

    return Shrink


# presets as objects


def test_a_public_recipe_works_as_it_stands(statistics):
    by_name, as_object = (make_editor(statistics=statistics) for _ in range(2))
    by_name.edit(FACTS[0], "memit-blue", known="edit", report=False)
    made = as_object.edit(FACTS[0], bluedit.recipes["memit-blue"], known="edit", report=False)
    assert same_bits(as_object.model, bits(by_name.model))
    assert made.recipe.tuning == "generic" and made.recipe.layers == (1, 2)
    assert made.recipe.update.preserve.lambda_ == pytest.approx(1.3 * 48)


def test_a_preset_with_settings(statistics):
    by_name, as_object = (make_editor(statistics=statistics) for _ in range(2))
    edit(by_name, FACTS, "rect-seq-blue")
    edit(as_object, FACTS, bluedit.recipes["rect-seq-blue"])
    assert same_bits(as_object.model, bits(by_name.model))


def test_a_recipe_with_layers_of_its_own_keeps_its_numbers(statistics):
    mine = Recipe("mine", layers=(1, 3), objective=CHEAP, update=ClosedForm(preserve=NullSpace(l2=2.5, threshold=0.3)))
    editor = make_editor(statistics=statistics)
    tuned = editor.recipe(mine)
    assert tuned == mine and tuned.tuning == ""
    assert editor.recipe(mine, {"preserve.l2": 3}) == mine.override({"preserve.l2": 3})
    once = editor.recipe("memit-blue")
    assert editor.recipe(once) == once
    without = editor.recipe(replace(mine, layers=()))
    assert (without.layers, without.update.preserve.unit) == ((1, 2), "energy")


def test_recipes_that_cannot_be_run(statistics):
    editor = make_editor(statistics=statistics)

    with pytest.raises(RecipeError, match=r"^update cannot be 'slove'; "):
        editor.edit(FACTS, Recipe("mine", update="slove"))
    with pytest.raises(RecipeError, match=r"^--set: subjects cannot be 'marge'; did you mean 'merge'\?$"):
        editor.edit(FACTS, Recipe("mine"), settings={"subjects": "marge"})
    assert editor.edits == ()


# filters compose


@pytest.mark.parametrize("as_objects", [False, True])
def test_filters_compose_and_the_saved_patch_applies_bit_for_bit(as_objects, shrink, statistics, tmp_path):
    """AlphaEdit's null space, a filter of the user's and PRUNE, over two edits."""
    live, fresh = (make_editor("gpt2", statistics=statistics, dtype=torch.float32) for _ in range(2))
    base = {"objective.clamp": 60.0, "objective.learning_rate": 8.0, "preserve.l2": 1e-3, "objective.steps": 8}
    if as_objects:
        recipe = live.recipe("alphaedit-blue", fitting("alphaedit-blue", SETTINGS, base))
        recipe = replace(recipe, update=replace(recipe.update, filters=(shrink(share=0.75), CapSpectrum(base=1.5))))
        settings = {}
    else:
        recipe = "alphaedit-blue"
        settings = {"filters": "shrink+prune", "filters.shrink.share": 0.75, "filters.prune.base": 1.5}
        settings |= fitting("alphaedit-blue", SETTINGS, base)
    made = [live.edit(facts, recipe, settings=settings, known="edit", report=False) for facts in (FACTS[:2], FACTS[2])]
    assert made[0].patch.batches[0].filters == (shrink(share=0.75), CapSpectrum(base=1.5))
    live.patch.save(tmp_path / "patch")
    fresh.apply(tmp_path / "patch")
    assert same_bits(fresh.model, bits(live.model))
    W0, W = original(live, 1), weight(live, 1)
    sums = sum(0.75 * (u.R.double() @ u.A.double()) for m in made for u in m.patch.batches[0].updates if u.layer == 1)
    limit = torch.linalg.svdvals(W0).max()
    assert torch.linalg.svdvals(sums).max() > limit, "nothing to cap: the test would not see PRUNE"
    expected = CapSpectrum(base=1.5).apply(W0, 0 * W0, sums)
    assert (W - W0 - expected).norm() < 1e-5 * expected.norm()
    live.undo()
    live.undo()
    fresh.undo()
    assert same_bits(fresh.model, bits(live.model))


def test_kept_changes_are_filtered_in_the_order_of_the_recipe(shrink, statistics):
    editor = make_editor(statistics=statistics)
    settings = {"filters": "rect+shrink", "filters.shrink.share": 0.5}
    one = edit(editor, FACTS, "memit", settings=settings)
    (first, *_) = one.patch.batches[0].updates
    change = weight(editor, first.layer) - original(editor, first.layer)
    assert (change != 0).sum() == round(0.4 * change.numel())
    dense = first.R.double() @ first.A.double()
    kept = change != 0
    assert torch.allclose(change[kept], 0.5 * dense[kept], rtol=1e-9)


def test_a_patch_with_a_filter_that_is_not_known_here(shrink, statistics, tmp_path):
    made = edit(make_editor(statistics=statistics), FACTS[0], "memit", settings={"filters": "shrink"})
    made.save(tmp_path / "patch")
    del Filter.choices["shrink"]
    with pytest.raises(PatchError) as caught:
        Patch.load(tmp_path / "patch")
    assert str(caught.value) == (
        f"the patch {tmp_path / 'patch'} cannot be read here: it needs the filter 'shrink', which is not known here; "
        "import the module that defines it first"
    )
    Filter.choices["shrink"] = shrink
    assert Patch.load(tmp_path / "patch").batches[0].filters == (shrink(),)


def test_feedback_of_a_filter_of_ones_own(shrink, statistics):
    """What any filter with `feedback` drops comes back with the next batch: with shares of 1/2 the sums are those of no filter, half a batch late."""

    @dataclass(frozen=True)
    class Late(shrink):
        """Keeps half of each batch's change for the next one."""

        feedback = True

    editor = make_editor(statistics=statistics)
    recipe = editor.recipe("memit-seq-blue", fitting("memit-seq-blue", SETTINGS))
    recipe = replace(recipe, update=replace(recipe.update, filters=(Late(),)))
    totals = []
    for fact in FACTS[:2]:
        made = editor.edit(fact, recipe, known="edit", report=False)
        update = next(u for u in made.patch.batches[0].updates if u.layer == 1)
        totals.append(update.R.double() @ update.A.double())
    found = weight(editor, 1) - original(editor, 1)
    # first batch: a/2 stays and -a/2 is owed; the second adds b + a/2, of which half stays
    expected = totals[0] / 2 + (totals[1] + totals[0] / 2) / 2
    assert (found - expected).norm() < 1e-9 * expected.norm()


# other parts of one's own


def test_a_schedule_and_a_preservation_of_ones_own(register, statistics, tmp_path):
    @register
    @dataclass(frozen=True)
    class Reversed(Schedule, kind="reversed"):
        """The last layer first, each with its own target."""

        def steps(self, layers):
            return tuple(Step(layer, layer, 1.0) for layer in reversed(layers))

    @register
    @dataclass(frozen=True)
    class Ridge(Preserve, kind="ridge"):
        """S = L2 I on the whole key space."""

        l2: float = number(10.0, "weight of the identity", positive=True)

        def operator(self, C):
            everything = torch.eye(len(C.matrix), dtype=torch.float64)
            return Preservation(Projected(everything, everything[:, :0], self.l2))

    live, fresh = (make_editor(statistics=statistics) for _ in range(2))
    settings = {"schedule": "reversed", "preserve": "ridge", "preserve.l2": 0.5}
    made = edit(live, FACTS, "memit-seq", settings=settings)
    assert [update.layer for update in made.patch.batches[0].updates] == [3, 2, 1]
    for update in made.patch.batches[0].updates:
        K = update.A @ update.A.T  # A = (I + K^T K / L2)^-1 K^T / L2
        assert torch.linalg.eigvalsh(K).max() < 1 / (4 * 0.5) + 1e-9
    assert made.patch.batches[0].origin.settings["preserve"] == "ridge"
    fresh.apply(made.save(tmp_path / "patch"))
    assert same_bits(fresh.model, bits(live.model))
