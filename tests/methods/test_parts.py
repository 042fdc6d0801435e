"""Parts of a recipe: misspelt ones are refused wherever they are given, and a part of one's own is as good as any."""

from dataclasses import dataclass, replace

import pytest

from bluedit import Execution, Recipe
from bluedit.errors import RecipeError
from bluedit.methods.contexts import NEUTRAL, Neutral, Sampled
from bluedit.methods.filters import CapSpectrum, Filter, Sparsify
from bluedit.methods.objective import Objective
from bluedit.methods.part import Part
from bluedit.methods.preserve import Covariance, NullSpace, StrongNeurons
from bluedit.methods.presets import PRESETS, preset
from bluedit.methods.schedules import Boundary, Single, Spread
from bluedit.methods.subjects import Merge, Split
from bluedit.methods.update import ClosedForm, FineTune, Rounds
from bluedit.options import number


def refusal(act) -> str:
    with pytest.raises(RecipeError) as caught:
        act()
    return str(caught.value)


# misspelt: in Python and by --set


@pytest.mark.parametrize(
    ("in_python", "path", "value", "message"),
    [
        (
            lambda: Objective(site="blok"),
            "objective.site",
            "blok",
            "objective.site cannot be 'blok'; did you mean 'block'?",
        ),
        (
            lambda: ClosedForm(preserve="identiy"),
            "preserve",
            "identiy",
            "preserve cannot be 'identiy'; choose one of controlled, covariance, neurons, null-space",
        ),
        (
            lambda: ClosedForm(preserve="nul-space"),
            "preserve",
            "nul-space",
            "preserve cannot be 'nul-space'; did you mean 'null-space'?",
        ),
        (
            lambda: ClosedForm(filters=("pruen",)),
            "filters",
            "pruen",
            "filters cannot be 'pruen'; did you mean 'prune'?",
        ),
        (
            lambda: ClosedForm(filters=(Sparsify(), "pruen")),
            "filters",
            "rect+pruen",
            "filters cannot be 'pruen'; did you mean 'prune'?",
        ),
        (
            lambda: Recipe("mine", update="slove"),
            "update",
            "slove",
            "update cannot be 'slove'; choose one of closed-form, finetune",
        ),
        (
            lambda: Recipe("mine", subjects="marge"),
            "subjects",
            "marge",
            "subjects cannot be 'marge'; did you mean 'merge'?",
        ),
        (
            lambda: Recipe("mine", schedule="boundry"),
            "schedule",
            "boundry",
            "schedule cannot be 'boundry'; did you mean 'boundary'?",
        ),
        (
            lambda: Recipe("mine", contexts="sampeld"),
            "contexts",
            "sampeld",
            "contexts cannot be 'sampeld'; did you mean 'sampled'?",
        ),
        (
            lambda: FineTune(loss="lst"),
            None,
            None,
            "update.loss cannot be 'lst'; did you mean 'last'?",
        ),
    ],
)
def test_misspelt_parts_and_words_are_refused_everywhere(in_python, path, value, message):
    assert refusal(in_python) == message
    if path:
        assert refusal(lambda: preset("memit").override({path: value})) == f"--set: {message}"


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda: Recipe("mine", schedule=Covariance()),
            "schedule must be the name of a part or a Schedule, not Covariance(",
        ),
        (lambda: ClosedForm(preserve=3), "preserve must be the name of a part or a Preserve, not 3"),
        (lambda: ClosedForm(filters=[Merge()]), "filters must be the name of a part or a Filter, not Merge()"),
        (lambda: ClosedForm(rounds=2), "rounds must be the name of a part or a Rounds, not 2"),
        (
            lambda: Recipe("mine", objective=Rounds()),
            "objective must be the name of a part or a Objective, not Rounds(",
        ),
        (lambda: Spread(power=0), "schedule.power is 0; it must be above 0"),
        (
            lambda: Sparsify(keep=1.5, feedback="no"),
            "filters.rect.keep is 1.5; it must be above 0 and at most 1\nfilters.rect.feedback cannot be 'no'",
        ),
        (lambda: CapSpectrum(base=1), "filters.prune.base is 1; it must be at least 1.0001"),
        (lambda: NullSpace(unit="ranks"), "preserve.unit cannot be 'ranks'; did you mean 'rank'?"),
        (lambda: StrongNeurons(share=0), "preserve.share is 0; it must be above 0 and at most 1"),
        (lambda: Rounds(count=0), "rounds.count is 0; it must be between 1 and 100"),
        (
            lambda: ClosedForm(slack=-1, preserve="x", filters="y"),
            "update.slack is -1; it must be at least 0\npreserve cannot be 'x'",
        ),
        (lambda: Execution(precision="bf17"), "execution.precision cannot be 'bf17'; did you mean 'bf16'?"),
        (lambda: Execution(tokens_per_step=-1), "execution.tokens_per_step is -1; it must be at least 0"),
        (
            lambda: Execution(statistics_device=3),
            "execution.statistics_device must be the name of a torch device or empty, not 3",
        ),
    ],
)
def test_values_that_cannot_be(act, message):
    assert refusal(act).startswith(message)


def test_parts_may_be_given_by_name():
    by_name = Recipe("mine", schedule="boundary", update=ClosedForm(preserve="null-space", filters="rect+prune"))
    filters = (Sparsify(), CapSpectrum())
    assert by_name == Recipe("mine", schedule=Boundary(), update=ClosedForm(preserve=NullSpace(), filters=filters))
    assert ClosedForm(filters=Sparsify()).filters == (Sparsify(),)
    assert ClosedForm(filters="none").filters == ()
    assert ClosedForm(filters=["prune", Sparsify(keep=0.3)]).filters == (CapSpectrum(), Sparsify(keep=0.3))


# paths of other parts


@pytest.mark.parametrize(
    ("recipe", "path", "message"),
    [
        (
            "memit",
            "preserve.threshold",
            "'preserve.threshold' belongs to preserve=null-space, and this recipe has preserve=covariance; ",
        ),
        (
            "alphaedit",
            "preserve.lambda",
            "'preserve.lambda' belongs to preserve=covariance or preserve=controlled or preserve=neurons, and this recipe has preserve=null-space; ",
        ),
        (
            "memit",
            "update.norm",
            "'update.norm' belongs to update=finetune, and this recipe has update=closed-form; "
            "did you mean 'update' or 'update.slack'?",
        ),
        ("ft", "update.slack", "'update.slack' belongs to update=closed-form, and this recipe has update=finetune; "),
        ("ft", "preserve.l2", "'preserve.l2' belongs to preserve=null-space, and this recipe has no preserve; "),
        ("ft", "rounds.count", "'rounds.count' belongs to rounds, and this recipe has no rounds; "),
        (
            "memit",
            "filters.rect.keep",
            "'filters.rect.keep' belongs to filters=rect, and this recipe has filters=none; did you mean 'filters'?",
        ),
        (
            "memit-blue",
            "schedule.power",
            "'schedule.power' belongs to schedule=spread, and this recipe has schedule=boundary; ",
        ),
        ("nse", "contexts.seed", "'contexts.seed' belongs to contexts=sampled, and this recipe has contexts=neutral; "),
    ],
)
def test_an_option_of_another_part_names_where_it_belongs(recipe, path, message):
    assert refusal(lambda: preset(recipe).override({path: 1})).startswith(f"--set: {message}")


def test_a_slot_that_a_recipe_does_not_have():
    assert refusal(lambda: preset("ft").override({"filters": "rect"})).startswith(
        "--set: this recipe has no part 'filters'; "
    )


def test_choosing_a_part_makes_its_options_available_in_any_order():
    found = preset("memit").override({"preserve.threshold": 0.5, "preserve.unit": "rank", "preserve": "null-space"})
    assert found.update.preserve == NullSpace(threshold=0.5, unit="rank")


def test_a_part_that_is_there_keeps_its_numbers():
    tuned = preset("rect").override({"filters.rect.keep": 0.3, "preserve.lambda": 7})
    again = tuned.override({"filters": "rect+prune", "preserve": "covariance"})
    assert again.update.filters == (Sparsify(keep=0.3), CapSpectrum())
    assert again.update.preserve == Covariance(lambda_=7)
    assert tuned.override({"preserve": "null-space"}).override({"preserve": "covariance"}).update.preserve == (
        Covariance()
    )


def test_part_objects_by_path():
    found = preset("memit").override(
        {"schedule": Single(), "preserve": StrongNeurons(share=0.5), "filters": [Sparsify(keep=0.2), "prune"]}
    )
    assert found == replace(
        preset("memit"),
        schedule=Single(),
        update=ClosedForm(preserve=StrongNeurons(share=0.5), filters=(Sparsify(keep=0.2), CapSpectrum())),
    )


# parts of one's own


@pytest.fixture
def halve():
    """A filter that a user wrote, registered for the duration of a test."""

    @dataclass(frozen=True)
    class Halve(Filter, kind="halve"):
        """Keeps a part of each batch's change."""

        share: float = number(0.5, "how much is kept", high=1.0, positive=True)

        def apply(self, W0, before, total):
            return before + self.share * (total - before)

    yield Halve
    del Filter.choices["halve"]


def test_a_part_of_ones_own_is_found_by_name_and_its_options_by_path(halve):
    recipe = preset("alphaedit").override({"filters": "halve+prune", "filters.halve.share": "0.25"})
    assert recipe.update.filters == (halve(share=0.25), CapSpectrum())
    assert recipe.settings()["filters.halve.share"] == 0.25
    assert recipe == replace(recipe, update=replace(recipe.update, filters=(halve(0.25), CapSpectrum())))
    assert "did you mean 'halve'?" in refusal(lambda: recipe.override({"filters": "halv"}))
    assert refusal(lambda: recipe.override({"filters.halve.share": 2})) == (
        "--set: filters.halve.share is 2; it must be above 0 and at most 1"
    )


def test_two_parts_of_one_name_are_refused(halve):
    message = refusal(lambda: type("Other", (Filter,), {"__doc__": "Another."}, kind="halve"))
    assert message.startswith(f"filters=halve is already {__name__}.halve.<locals>.Halve; choose another kind")
    assert Filter.choices["halve"] is halve


def test_defining_the_same_part_again_replaces_it():
    """As a notebook does when a cell is run twice."""

    def define():
        @dataclass(frozen=True)
        class Again(Filter, kind="again"):
            """Nothing."""

        return Again

    first, second = define(), define()
    try:
        assert Filter.choices["again"] is second is not first
        assert preset("memit").override({"filters": "again"}).update.filters == (second(),)
    finally:
        del Filter.choices["again"]


def test_every_slot_has_a_table_of_its_own():
    assert Part.choices == {}
    assert Filter.choices is Sparsify.choices and Filter.choices.keys() >= {"rect", "prune"}
    assert Split.choices is Merge.choices and Split.choices.keys() >= {"split", "merge"}
    assert not Filter.choices.keys() & Split.choices.keys()


# what the parts say of themselves


def test_neutral_prefixes_are_a_fixed_list():
    def never(count, seed):
        raise AssertionError("nothing has to be sampled")

    assert Neutral(count=3).prefixes(never) == NEUTRAL[:3]
    assert Neutral(count=10).prefixes(never) == NEUTRAL
    assert refusal(lambda: Neutral(count=11).prefixes(never)) == (
        "contexts.count is 11; there are 10 neutral prefixes, so choose 0 to 10 or contexts=sampled"
    )


def test_sampled_prefixes_are_asked_for_with_their_seed():
    asked = []
    assert Sampled(count=2, seed=7).prefixes(lambda *given: asked.append(given) or ("a.", "b.")) == ("a.", "b.")
    assert Sampled(count=0).prefixes(lambda *given: asked.append(given) or ()) == ()
    assert asked == [(2, 7)]


def test_merged_subjects_share_a_column(facts_of_two_subjects):
    facts = facts_of_two_subjects
    assert Split().columns(facts) == [0, 1, 2]
    assert Merge().columns(facts) == [0, 1, 0]
    assert len({Split().once(fact) for fact in facts}) == 2
    assert len({Merge().once(fact) for fact in facts}) == 3


@pytest.fixture
def facts_of_two_subjects():
    from bluedit import Fact

    return [
        Fact("{} is in", subject="Paris", target="Asia"),
        Fact("{} is in", subject="Rome", target="Asia"),
        Fact("{} lies on the", subject="Paris", target="Nile"),
    ]


def test_fine_tuning_takes_one_layer():
    assert PRESETS["ft"].update.check(Single().steps([1, 2, 3])) is None
    assert refusal(lambda: FineTune().check(Boundary().steps([1, 2, 3]))) == (
        "fine-tuning trains one layer, and the schedule writes 2; set schedule=single"
    )


def test_every_preset_can_be_summed_up_for_a_table():
    for recipe in PRESETS.values():
        assert recipe.schedule.summary and recipe.update.summary and recipe.objective.summary
    assert PRESETS["pmet"].schedule.summary == "all layers, one target, shares to the power 0.5"
    assert PRESETS["emmet"].update.summary == "lambda C, exactly met"
    assert PRESETS["nse"].objective.summary == "block output, on the unedited weights"
