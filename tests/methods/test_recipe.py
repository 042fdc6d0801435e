"""Recipes as data: rows, overrides by path, tunings."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, LlamaConfig

from bluedit.errors import RecipeError
from bluedit.maths.schedule import SCHEDULES
from bluedit.methods.presets import BLUE_PAPER, DEFAULT, PRESETS, preset
from bluedit.methods.recipe import Contexts, Filter, FineTune, Objective, Preserve, Recipe, Rounds, blue, options
from bluedit.methods.tunings import Tuning, tuning_for, tunings

PATHS = {
    "schedule", "share_power", "update", "memory", "subjects", "sequential", "layers",
    "objective.site", "objective.learning_rate", "objective.steps", "objective.clamp", "objective.weight_decay",
    "objective.kl_factor", "objective.stop_loss", "objective.stop", "objective.attention", "objective.adaptive", "objective.weights",
    "objective.kl_anchor", "objective.tokens_per_step", "objective.precision", "objective.norm_anchor",
    "preserve.subspace", "preserve.gram", "preserve.slack", "preserve.lambda", "preserve.l2", "preserve.threshold",
    "preserve.unit", "preserve.neurons", "filter.kind", "filter.keep", "filter.base",
    "rounds.count", "rounds.lower", "rounds.upper", "finetune.loss", "finetune.learning_rate", "finetune.epochs",
    "finetune.minibatch", "finetune.norm", "finetune.stop_loss", "finetune.seed",
    "contexts.kind", "contexts.count", "contexts.seed",
}  # fmt: skip
MEMIT = preset("memit")


# the rows


def test_the_methods_are_rows():
    hosts = {"rome", "memit", "memit-seq", "emmet", "pmet", "pmet-seq", "rect", "prune", "alphaedit", "nse"}
    assert hosts | {f"{host}-blue" for host in hosts} | {"ft", "ft-local"} == set(PRESETS)
    assert DEFAULT in PRESETS
    for name, recipe in PRESETS.items():
        assert recipe.name == name
        assert recipe.paper.startswith("https://arxiv.org/abs/")
        assert recipe.about and recipe.use
        assert recipe.layers == ()
        assert recipe.override(recipe.override({"layers": [1, 2]}).settings()).steps()


def test_blue_replaces_the_schedule_and_nothing_else():
    for name in ("rome", "memit", "memit-seq", "emmet", "pmet", "pmet-seq", "rect", "prune", "alphaedit", "nse"):
        host, with_blue = preset(name), preset(f"{name}-blue")
        assert with_blue == dataclasses.replace(host, schedule="boundary", name=f"{name}-blue", about=with_blue.about)
        assert with_blue == blue(host)
    assert BLUE_PAPER == "https://arxiv.org/abs/2502.03748"


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("memit", ("spread", "all", "C", 1.0, False, False)),
        ("memit-seq", ("spread", "all", "C", 1.0, True, False)),
        ("alphaedit", ("spread", "null", "identity", 1.0, True, False)),
        ("alphaedit-blue", ("boundary", "null", "identity", 1.0, True, False)),
        ("rome", ("single", "all", "C", 0.0, False, True)),
    ],
)
def test_rows_of_the_designs_table(name, row):
    r = preset(name)
    assert (r.schedule, r.preserve.subspace, r.preserve.gram, r.preserve.slack, r.memory, r.sequential) == row
    assert r.objective.site == ("mlp" if name == "rome" else "block")


def test_unknown_recipe():
    with pytest.raises(RecipeError) as caught:
        preset("alfaedit")
    assert str(caught.value) == (
        "unknown recipe 'alfaedit'; did you mean 'alphaedit' or 'alphaedit-blue'? ('bluedit recipes' lists them)"
    )


def test_recipes_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MEMIT.schedule = "single"


def test_written_layers():
    assert preset("memit").override({"layers": [2, 3, 4]}).written == (2, 3, 4)
    assert preset("memit-blue").override({"layers": [2, 3, 4]}).written == (2, 4)
    assert preset("rome").override({"layers": [2, 3, 4]}).written == (2,)


# overrides


def test_every_field_has_a_path_and_help():
    assert {path for path, _ in options()} == PATHS == set(MEMIT.settings())
    assert all(spec.metadata["help"] for _, spec in options())
    kinds = (Objective, Preserve, Filter, Rounds, FineTune, Contexts)
    parts = sum(len(dataclasses.fields(part)) for part in kinds)
    assert (
        len(PATHS) == len(dataclasses.fields(Recipe)) - 4 - len(kinds) + parts
    )  # all but name, paper, about, use, and the parts


@pytest.mark.parametrize(
    ("path", "value", "read"),
    [
        ("preserve.lambda", "1500", lambda r: r.preserve.lambda_ == 1500.0 and isinstance(r.preserve.lambda_, float)),
        ("objective.attention", "true", lambda r: r.objective.attention is True),
        ("objective.attention", False, lambda r: r.objective.attention is False),
        ("preserve.unit", "energy", lambda r: r.preserve.unit == "energy"),
        ("preserve.slack", "0", lambda r: r.preserve.slack == 0.0),
        ("preserve.slack", 1, lambda r: r.preserve.slack == 1.0),
        ("objective.steps", "30", lambda r: r.objective.steps == 30 and isinstance(r.objective.steps, int)),
        ("objective.site", "mlp", lambda r: r.objective.site == "mlp"),
        ("contexts.count", 0, lambda r: r.contexts.count == 0),
        ("contexts.kind", "sampled", lambda r: r.contexts.kind == "sampled"),
        ("memory", "true", lambda r: r.memory is True),
        ("schedule", "boundary", lambda r: r.schedule == "boundary"),
        ("share_power", 0.5, lambda r: r.share_power == 0.5),
        ("layers", "[4, 5,6]", lambda r: r.layers == (4, 5, 6)),
        ("layers", "4,5", lambda r: r.layers == (4, 5)),
        ("layers", "7", lambda r: r.layers == (7,)),
        ("layers", 7, lambda r: r.layers == (7,)),
        ("layers", (0, 3), lambda r: r.layers == (0, 3)),
    ],
)
def test_override(path, value, read):
    changed = MEMIT.override({path: value})
    assert read(changed)
    different = {p for p, v in changed.settings().items() if v != MEMIT.settings()[p]}
    assert different <= {path}
    assert preset("memit") == MEMIT


def fault(path, value):
    with pytest.raises(RecipeError) as caught:
        MEMIT.override({path: value})
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("preserve.lambda", 0, "preserve.lambda is 0; it must be above 0"),
        ("preserve.l2", -1, "preserve.l2 is -1; it must be above 0"),
        ("preserve.threshold", float("nan"), "preserve.threshold is nan; it must be above 0"),
        ("objective.steps", 0, "objective.steps is 0; it must be at least 1"),
        ("objective.kl_factor", -0.1, "objective.kl_factor is -0.1; it must be at least 0"),
        ("objective.learning_rate", "fast", "objective.learning_rate must be a number, not 'fast'"),
        ("objective.learning_rate", None, "objective.learning_rate must be a number, not None"),
        ("objective.steps", "many", "objective.steps must be a whole number, not 'many'"),
        ("contexts.count", 101, "contexts.count is 101; it must be between 0 and 100"),
        ("contexts.seed", -1, "contexts.seed is -1; it must be at least 0"),
        ("schedule", "boundry", "schedule cannot be 'boundry'; did you mean 'boundary'?"),
        ("preserve.slack", -0.5, "preserve.slack is -0.5; it must be at least 0"),
        ("objective.adaptive", "yes", "objective.adaptive cannot be 'yes'; choose one of false, true"),
        ("objective.site", "block ", "objective.site cannot be 'block '; did you mean 'block'?"),
        ("layers", "four", "layers must be whole numbers such as [4,5,6,7,8], not 'four'"),
        ("layers", "4+x", "layers must be whole numbers such as [4,5,6,7,8], not '4+x'"),
        ("layers", "4-8", "layers must be whole numbers such as [4,5,6,7,8], not '4-8'"),
        ("layers", "4.5", "layers must be whole numbers such as [4,5,6,7,8], not '4.5'"),
        ("layers", [], "layers must be one or more ascending layer numbers without repetition, not []"),
        ("layers", "[]", "layers must be one or more ascending layer numbers without repetition, not '[]'"),
        ("layers", [5, 4], "layers must be one or more ascending layer numbers without repetition, not [5, 4]"),
        ("layers", [4, 4], "layers must be one or more ascending layer numbers without repetition, not [4, 4]"),
        ("lamda", 1, "unknown option 'lamda'; did you mean "),
        ("preserve.lamda", 1, "unknown option 'preserve.lamda'; did you mean 'preserve.lambda'"),
        ("name", "x", "unknown option 'name'; "),
    ],
)
def test_refused_values(path, value, message):
    found = fault(path, value)
    assert found == f"--set: {message}" or (message[-1] in " '" and found.startswith(f"--set: {message}")), found


@pytest.mark.parametrize(
    ("path", "value"), [("objective.steps", 2.7), ("contexts.count", 1.5), ("contexts.seed", "2.5")]
)
def test_whole_numbers_are_not_rounded_silently(path, value):
    assert fault(path, value) == f"--set: {path} must be a whole number, not {value!r}"


@pytest.mark.parametrize("layers", ["4,8", "[4, 8]", "4+8", "[4+8]", [4, 8]])
def test_ways_of_writing_layers(layers):
    assert preset("memit").override({"layers": layers}).layers == (4, 8)


def test_layers_are_not_rounded_silently():
    assert fault("layers", [4.5]) == "--set: layers must be whole numbers such as [4,5,6,7,8], not [4.5]"


@pytest.mark.parametrize("path", ["objective.steps", "contexts.count", "layers", "preserve.lambda", "objective.clamp"])
def test_infinity_is_refused_with_a_sentence(path):
    assert path in fault(path, float("inf"))


def test_all_faults_come_together():
    with pytest.raises(RecipeError) as caught:
        MEMIT.override(
            {"objective.lr": 1, "objective.steps": 0, "memory": True, "layers": "x", "preserve.lamda": 2}, "tuning toy"
        )
    lines = str(caught.value).split("\n")
    assert len(lines) == 4
    assert all(line.startswith("tuning toy: ") for line in lines)
    assert lines[0].startswith("tuning toy: unknown option 'objective.lr'; did you mean 'objective.")
    assert lines[1] == "tuning toy: objective.steps is 0; it must be at least 1"
    assert lines[2] == "tuning toy: layers must be whole numbers such as [4,5,6,7,8], not 'x'"
    assert lines[3].startswith("tuning toy: unknown option 'preserve.lamda'; did you mean 'preserve.lambda'")


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "schedule": st.sampled_from(["spread", "boundary", "single"]),
        "share_power": st.floats(0.01, 4),
        "memory": st.booleans(),
        "sequential": st.booleans(),
        "layers": st.lists(st.integers(0, 90), min_size=1, max_size=6, unique=True).map(sorted),
        "objective.site": st.sampled_from(["block", "mlp"]),
        "objective.learning_rate": st.floats(1e-6, 10),
        "objective.steps": st.integers(1, 100),
        "objective.weight_decay": st.floats(0, 2),
        "preserve.subspace": st.sampled_from(["all", "null"]),
        "preserve.gram": st.sampled_from(["C", "identity"]),
        "preserve.slack": st.floats(0, 2),
        "preserve.lambda": st.floats(1e-6, 1e6),
        "preserve.unit": st.sampled_from(["absolute", "energy", "rank"]),
        "objective.attention": st.booleans(),
        "filter.keep": st.floats(0.01, 1),
        "contexts.count": st.integers(0, 100),
        "contexts.seed": st.integers(0, 2**31),
    },
)


@settings(max_examples=25, deadline=None)
@given(VALUES, st.sampled_from(sorted(PRESETS)))
def test_settings_round_trip_through_override(values, name):
    recipe = preset(name).override({"layers": [1, 2]} | values)
    found = recipe.settings()
    assert {path: found[path] for path in values} == values
    assert preset(name).override(json.loads(json.dumps(found))) == recipe


@pytest.mark.parametrize("path", sorted(PATHS))
def test_settings_can_be_typed(path):
    """As the command line passes them: every value as the text that settings() shows."""
    for recipe in PRESETS.values():
        value = recipe.override({"layers": [1, 2]}).settings()[path]
        assert MEMIT.override({path: str(value)}).settings()[path] == value


# tunings


def test_the_tunings_that_come_along_fit_every_recipe():
    assert tunings()
    for tuning in tunings():
        assert tuning.source
        assert tuning.match
        assert set(tuning.recipes) <= set(PRESETS) | set(SCHEDULES)
        for recipe in PRESETS.values():
            tuned = tuning.apply(recipe)
            assert tuned.layers
            assert (tuned.name, tuned.schedule) == (recipe.name, recipe.schedule)


def smollm2(**changes):
    return LlamaConfig(**{"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30} | changes)


def test_a_recipe_named_after_another_does_not_take_its_norm():
    found = {name: tuning_for(smollm2(), 1536).apply(preset(name)).finetune.norm for name in ("ft", "ft-local")}
    assert found == {"ft": 0.02, "ft-local": 0.0}


def test_the_smollm2_tuning_matches_its_model():
    assert tuning_for(smollm2(), 1536).name == "smollm2-135m"
    assert tuning_for(smollm2(num_hidden_layers=24), 1536).name == "generic"
    assert tuning_for(GPT2Config(), 3072).name == "generic"
    layers = tuning_for(smollm2(), 1536).apply(preset("memit")).layers
    assert list(layers) == sorted(set(layers))
    assert set(layers) <= set(range(30))


def test_exact_names_win_over_stems():
    tuning = Tuning(
        "toy", "here", {}, {"layers": [1, 2], "preserve.l2": 3.0},
        {"memit": {"preserve.l2": 4.0, "objective.steps": 7}, "memit-seq-blue": {"preserve.l2": 5.0}},
    )  # fmt: skip
    numbers = {name: (r.preserve.l2, r.objective.steps) for name, r in PRESETS.items() for r in [tuning.apply(r)]}
    assert numbers["memit"] == numbers["memit-seq"] == numbers["memit-blue"] == (4.0, 7)
    assert numbers["memit-seq-blue"] == (5.0, 7)
    assert numbers["rome"][0] == 3.0
    by_schedule = Tuning(
        "toy", "here", {}, {"layers": [1, 2]}, {"spread": {"preserve.l2": 6.0}, "alphaedit": {"preserve.l2": 7.0}}
    )
    found = {name: by_schedule.apply(r).preserve.l2 for name, r in PRESETS.items()}
    assert (found["memit"], found["memit-blue"], found["alphaedit"]) == (6.0, 10.0, 7.0)


def test_a_bad_tuning_names_itself():
    with pytest.raises(
        RecipeError, match=r"^tuning toy: unknown option 'objective.stepps'; did you mean 'objective.steps'"
    ):
        Tuning("toy", "here", {}, {"objective.stepps": 1}, {}).apply(MEMIT)


@pytest.mark.parametrize("depth", range(1, 101))
def test_the_generic_tuning_fits_every_depth(depth):
    tuning = tuning_for(SimpleNamespace(num_hidden_layers=depth), 64)
    assert tuning.name == "generic"
    for recipe in PRESETS.values():
        layers = tuning.apply(recipe).layers
        assert list(layers) == sorted(set(layers))
        assert set(layers) <= set(range(depth))
        assert len(layers) >= min(2, depth)


def test_the_generic_tuning_scales_with_the_published_choices():
    def layers(depth):
        return tuning_for(SimpleNamespace(num_hidden_layers=depth), 64).apply(MEMIT).layers

    assert layers(32) == (4, 5, 6, 7, 8)  # Llama-3
    assert tuning_for(SimpleNamespace(num_hidden_layers=32), 14336).apply(MEMIT).preserve.lambda_ == pytest.approx(
        18637, rel=0.01
    )
    assert (
        tuning_for(SimpleNamespace(num_hidden_layers=32), 64).apply(preset("alphaedit-blue")).preserve.unit == "energy"
    )
    assert tuning_for(SimpleNamespace(num_hidden_layers=32), 64).apply(preset("rome")).objective.clamp == 4.0
