"""Recipes as data: the presets, and overrides by path."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluedit.errors import RecipeError
from bluedit.methods.parts import every_option, every_part
from bluedit.methods.presets import BLUE_PAPER, DEFAULT, PRESETS, preset
from bluedit.methods.recipe import blue
from bluedit.methods.schedules import Boundary, Single

PATHS = {
    "memory", "sequential", "layers",
    "objective.site", "objective.learning_rate", "objective.steps", "objective.clamp", "objective.weight_decay",
    "objective.kl_factor", "objective.stop_loss", "objective.stop", "objective.attention", "objective.adaptive", "objective.weights",
    "objective.kl_anchor", "objective.norm_anchor", "objective.together", "objective.correction", "objective.rotate",
    "objective.clamp_again", "objective.others", "objective.others_factor", "objective.teacher", "objective.variance", "objective.variance_layers",
    "rounds.count", "rounds.lower", "rounds.upper", "schedule.power", "schedule.first", "schedule.every", "update.slack",
    "preserve.lambda", "preserve.names", "preserve.l2", "preserve.threshold", "preserve.unit", "preserve.share",
    "preserve.shrink", "preserve.leakage", "preserve.refresh", "preserve.tolerance", "preserve.rate",
    "filters.rect.keep", "filters.rect.feedback", "filters.prune.base",
    "filters.revive.energy", "filters.sphere.energy", "filters.sphere.strength", "keys.energy",
    "update.loss", "update.learning_rate", "update.epochs", "update.minibatch", "update.norm", "update.stop_loss", "update.seed",
    "contexts.count", "contexts.seed", "descent.decay",
}  # fmt: skip
PARTS = {
    "schedule": {"spread", "boundary", "single", "replay"},
    "update": {"closed-form", "finetune"},
    "preserve": {"covariance", "controlled", "null-space", "neurons"},
    "filters": {"rect", "prune", "revive", "sphere"},
    "keys": {"whole", "specific"},
    "contexts": {"mentioning", "neutral", "sampled"},
    "subjects": {"split", "merge"},
    "descent": {"adam", "momentum", "relative-adam"},
}
HOSTS = (
    "natural",
    "rome",
    "memit",
    "memit-seq",
    "emmet",
    "pmet",
    "pmet-seq",
    "rect",
    "rect-seq",
    "prune",
    "alphaedit",
    "betaedit",
    "revive",
    "sphere",
    "suit-keys",
    "lyaplock-lambda",
    "nse",
)
MEMIT = preset("memit")


# the presets


def test_methods_are_rows():
    assert {
        *HOSTS,
        *(f"{host}-blue" for host in HOSTS),
        "memit-seq-joint",
        "natural-joint",
        "memit-seq-replay",
        "ft",
        "ft-local",
    } == set(PRESETS)
    assert DEFAULT in PRESETS
    for name, recipe in PRESETS.items():
        assert recipe.name == name
        assert recipe.paper.startswith("https://arxiv.org/abs/")
        assert recipe.about and recipe.use
        assert recipe.layers == () and recipe.tuning == ""
        assert recipe.override(recipe.override({"layers": [1, 2]}).settings()).steps()


@pytest.mark.parametrize("name", HOSTS)
def test_blue_replaces_the_schedule_and_nothing_else(name):
    host, with_blue = preset(name), preset(f"{name}-blue")
    assert with_blue == dataclasses.replace(host, schedule=Boundary(), name=f"{name}-blue", about=with_blue.about)
    assert with_blue == blue(host)
    assert BLUE_PAPER == "https://arxiv.org/abs/2502.03748"


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("memit", ("spread", "covariance", 1.0, "none", False, False)),
        ("memit-seq", ("spread", "covariance", 1.0, "none", True, False)),
        ("alphaedit", ("spread", "null-space", 1.0, "none", True, False)),
        ("alphaedit-blue", ("boundary", "null-space", 1.0, "none", True, False)),
        ("nse", ("spread", "neurons", 1.0, "none", True, False)),
        ("rect", ("spread", "covariance", 1.0, "rect", False, False)),
        ("rect-seq", ("spread", "covariance", 1.0, "rect", True, False)),
        ("prune-blue", ("boundary", "covariance", 1.0, "prune", False, False)),
        ("emmet", ("spread", "covariance", 0.0, "none", False, False)),
        ("rome", ("single", "covariance", 0.0, "none", False, True)),
    ],
)
def test_rows_of_the_designs_table(name, row):
    recipe = preset(name)
    found = recipe.settings()
    paths = ("schedule", "preserve", "update.slack", "filters", "memory", "sequential")
    assert tuple(found[path] for path in paths) == row
    assert recipe.objective.site == ("mlp" if name == "rome" else "block")


def test_only_the_sequential_row_of_rect_feeds_its_error_back():
    feedback = {n: r.settings()["filters.rect.feedback"] for n, r in PRESETS.items() if n.startswith("rect")}
    assert feedback == {"rect": False, "rect-blue": False, "rect-seq": True, "rect-seq-blue": True}


def test_unknown_recipe():
    with pytest.raises(RecipeError) as caught:
        preset("alfaedit")
    assert str(caught.value) == (
        "unknown recipe 'alfaedit'; did you mean 'alphaedit' or 'alphaedit-blue' or 'betaedit'? ('bluedit recipes' lists them)"
    )


def test_recipes_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MEMIT.schedule = Single()


def test_written_layers():
    assert preset("memit").override({"layers": [2, 3, 4]}).written == (2, 3, 4)
    assert preset("memit-blue").override({"layers": [2, 3, 4]}).written == (2, 4)
    assert preset("rome").override({"layers": [2, 3, 4]}).written == (2,)


# paths


def test_every_option_and_part_is_listed_with_help():
    paths = [path for path, *_ in every_option()]
    assert len(set(paths)) == len(paths) and set(paths) >= PATHS
    assert all(option.help and option.meaning for _, option, _, _ in every_option())
    found: dict[str, set[str]] = {}
    for slot, kind, cls in every_part():
        found.setdefault(slot, set()).add(kind)
        assert cls.about() and not cls.about().endswith(".")
    assert all(found[slot] >= kinds for slot, kinds in PARTS.items())


def test_a_recipe_shows_the_options_of_its_own_parts():
    known = {path for path, *_ in every_option()} | {slot for slot, *_ in every_part()}
    for recipe in PRESETS.values():
        assert recipe.settings().keys() <= known
    assert "preserve.l2" not in MEMIT.settings() and "preserve.lambda" not in preset("alphaedit").settings()
    assert not [path for path in preset("ft").settings() if path.startswith(("preserve", "filters", "rounds"))]


@pytest.mark.parametrize(
    ("path", "value", "stored"),
    [
        ("preserve.lambda", "1500", 1500.0),
        ("objective.attention", "true", True),
        ("objective.attention", False, False),
        ("update.slack", "0", 0.0),
        ("update.slack", 1, 1.0),
        ("objective.steps", "30", 30),
        ("objective.site", "mlp", "mlp"),
        ("contexts.count", 0, 0),
        ("memory", "true", True),
        ("schedule.power", 0.5, 0.5),
        ("rounds.upper", "7", 7.0),
        ("layers", "[4, 5,6]", [4, 5, 6]),
        ("layers", "4,5", [4, 5]),
        ("layers", "7", [7]),
        ("layers", 7, [7]),
        ("layers", (0, 3), [0, 3]),
    ],
)
def test_override_changes_one_option(path, value, stored):
    found = MEMIT.override({path: value}).settings()
    assert found[path] == stored and type(found[path]) is type(stored)
    assert {p for p, v in found.items() if v != MEMIT.settings()[p]} <= {path}
    assert preset("memit") == MEMIT


@pytest.mark.parametrize("layers", ["4,8", "[4, 8]", "4+8", "[4+8]", [4, 8]])
def test_ways_of_writing_layers(layers):
    assert preset("memit").override({"layers": layers}).layers == (4, 8)


def fault(path, value):
    with pytest.raises(RecipeError) as caught:
        MEMIT.override({path: value})
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("preserve.lambda", 0, "preserve.lambda is 0; it must be above 0"),
        ("preserve.lambda", float("nan"), "preserve.lambda is nan; it must be above 0"),
        ("schedule.power", -1, "schedule.power is -1; it must be above 0"),
        ("objective.steps", 0, "objective.steps is 0; it must be at least 1"),
        ("objective.kl_factor", -0.1, "objective.kl_factor is -0.1; it must be at least 0"),
        ("objective.learning_rate", "fast", "objective.learning_rate must be a number, not 'fast'"),
        ("objective.learning_rate", None, "objective.learning_rate must be a number, not None"),
        ("objective.steps", "many", "objective.steps must be a whole number, not 'many'"),
        ("contexts.count", 101, "contexts.count is 101; it must be between 0 and 100"),
        ("schedule", "boundry", "schedule cannot be 'boundry'; did you mean 'boundary'?"),
        ("update.slack", -0.5, "update.slack is -0.5; it must be at least 0"),
        ("objective.adaptive", "yes", "objective.adaptive cannot be 'yes'; choose true or false"),
        ("objective.site", "block ", "objective.site cannot be 'block '; did you mean 'block'?"),
        ("layers", "four", "layers must be whole numbers such as [4,5,6,7,8], not 'four'"),
        ("layers", "4+x", "layers must be whole numbers such as [4,5,6,7,8], not '4+x'"),
        ("layers", "4-8", "layers must be whole numbers such as [4,5,6,7,8], not '4-8'"),
        ("layers", "4.5", "layers must be whole numbers such as [4,5,6,7,8], not '4.5'"),
        ("layers", [4.5], "layers must be whole numbers such as [4,5,6,7,8], not [4.5]"),
        ("layers", [], "layers must be one or more ascending layer numbers without repetition, not []"),
        ("layers", "[]", "layers must be one or more ascending layer numbers without repetition, not '[]'"),
        ("layers", [5, 4], "layers must be one or more ascending layer numbers without repetition, not [5, 4]"),
        ("layers", [4, 4], "layers must be one or more ascending layer numbers without repetition, not [4, 4]"),
        ("lamda", 1, "unknown option 'lamda'; did you mean 'preserve.lambda'?"),
        (
            "preserve.lamda",
            1,
            "unknown option 'preserve.lamda'; did you mean 'preserve.lambda' or 'preserve.names' or 'preserve.chat'?",
        ),
        (
            "quux",
            "x",
            "unknown option 'quux'; choose one of contexts, contexts.count, descent, filters, keys, layers, memory, ",
        ),
        ("objective.precision", "bf16", "unknown option 'objective.precision'; did you mean "),
        ("objective.tokens_per_step", 1, "unknown option 'objective.tokens_per_step'; did you mean "),
    ],
)
def test_refused_values(path, value, message):
    found = fault(path, value)
    assert found == f"--set: {message}" or (message[-1] == " " and found.startswith(f"--set: {message}")), found


@pytest.mark.parametrize(
    ("path", "value"), [("objective.steps", 2.7), ("contexts.count", 1.5), ("contexts.count", "2.5")]
)
def test_whole_numbers_are_not_rounded_silently(path, value):
    assert fault(path, value) == f"--set: {path} must be a whole number, not {value!r}"


@pytest.mark.parametrize("path", ["objective.steps", "contexts.count", "layers", "preserve.lambda", "objective.clamp"])
def test_infinity_is_refused_with_a_sentence(path):
    assert path in fault(path, float("inf"))


def test_all_faults_come_together_in_the_order_they_were_given():
    with pytest.raises(RecipeError) as caught:
        MEMIT.override(
            {
                "objective.lr": 1,
                "objective.steps": 0,
                "memory": True,
                "layers": "x",
                "update.slak": 2,
                "filters": "pruen",
            },
            "tuning toy",
        )
    lines = str(caught.value).split("\n")
    assert len(lines) == 5
    assert lines[0].startswith("tuning toy: unknown option 'objective.lr'; did you mean 'objective.")
    assert lines[1] == "tuning toy: objective.steps is 0; it must be at least 1"
    assert lines[2] == "tuning toy: layers must be whole numbers such as [4,5,6,7,8], not 'x'"
    assert lines[3].startswith("tuning toy: unknown option 'update.slak'; did you mean 'update.slack'")
    assert lines[4] == "tuning toy: filters cannot be 'pruen'; did you mean 'prune'?"


# settings, there and back

COMMON = {
    "schedule": st.sampled_from(["boundary", "single"]),
    "memory": st.booleans(),
    "sequential": st.booleans(),
    "layers": st.lists(st.integers(0, 90), min_size=1, max_size=6, unique=True).map(sorted),
    "objective.site": st.sampled_from(["block", "mlp"]),
    "objective.learning_rate": st.floats(1e-6, 10),
    "objective.steps": st.integers(1, 100),
    "objective.weight_decay": st.floats(0, 2),
    "objective.attention": st.booleans(),
    "contexts.count": st.integers(0, 100),
}
CHOSEN = (
    {"schedule": st.just("spread"), "schedule.power": st.floats(0.01, 4)},
    {"preserve": st.just("covariance"), "preserve.lambda": st.floats(1e-6, 1e6), "update.slack": st.floats(0, 2)},
    {
        "preserve": st.just("null-space"),
        "preserve.unit": st.sampled_from(["absolute", "energy", "rank"]),
        "preserve.l2": st.floats(1e-6, 100),
    },
    {"preserve": st.just("neurons"), "preserve.share": st.floats(0.01, 1), "rounds.count": st.integers(1, 5)},
    {
        "filters": st.just("prune+rect"),
        "filters.rect.keep": st.floats(0.01, 1),
        "filters.prune.base": st.floats(1.1, 9),
    },
    {"contexts": st.just("sampled"), "contexts.seed": st.integers(0, 2**31)},
    {"update": st.just("finetune"), "update.norm": st.floats(0, 1), "update.loss": st.sampled_from(["all", "last"])},
)
VALUES = st.sampled_from(CHOSEN).flatmap(
    lambda parts: st.fixed_dictionaries(parts, optional={k: v for k, v in COMMON.items() if k not in parts})
)


@settings(max_examples=40, deadline=None)
@given(VALUES, st.sampled_from([name for name in sorted(PRESETS) if not name.startswith("ft")]))
def test_settings_round_trip_through_override(values, name):
    recipe = preset(name).override({"layers": [1, 2]} | values)
    found = recipe.settings()
    assert {path: found[path] for path in values} == values
    assert preset(name).override(json.loads(json.dumps(found))) == recipe
    assert MEMIT.override(found).settings() == found, "settings name the parts too, so any recipe can take them"


@pytest.mark.parametrize("name", PRESETS)
def test_settings_can_be_typed(name):
    """As the command line passes them: every value as the text that settings() shows."""
    found = preset(name).override({"layers": [1, 2]}).settings()
    assert MEMIT.override({path: str(value) for path, value in found.items()}).settings() == found


def test_steps_of_a_default_target_grow_with_its_facts():
    objective = preset(DEFAULT).objective
    assert objective.rotate and objective.evaluations(4) == 4 * objective.evaluations(1)
