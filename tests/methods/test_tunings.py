"""Tunings: numbers for a model, given to recipes by the parts they have."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import Gemma3TextConfig, GPT2Config, LlamaConfig

import bluedit
from bluedit.errors import RecipeError
from bluedit.methods.descent import Adam, Momentum
from bluedit.methods.filters import CapSpectrum
from bluedit.methods.presets import PRESETS, preset
from bluedit.methods.recipe import Recipe
from bluedit.methods.tuning_file import TuningFile, read_tuning, user_folder
from bluedit.methods.tunings import Tuning, tune, tuning_for, tunings
from bluedit.methods.update import ClosedForm, FineTune

MEMIT = preset("memit")


def smollm2(**changes):
    return LlamaConfig(**{"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30} | changes)


def deep(layers):
    return SimpleNamespace(num_hidden_layers=layers)


def test_the_tunings_that_come_along_fit_every_recipe():
    assert tunings()
    for tuning in tunings():
        assert tuning.source and tuning.match
        for recipe in PRESETS.values():
            tuned = tuning.apply(recipe)
            assert tuned.layers and tuned.tuning == tuning.name
            assert (tuned.name, tuned.schedule) == (recipe.name, recipe.schedule)


def test_a_recipe_does_not_take_the_numbers_of_one_whose_name_is_its_beginning():
    found = {name: tune(preset(name), smollm2(), 1536).update for name in ("ft", "ft-local")}
    assert (found["ft"].norm, found["ft-local"].norm) == (0.02, 0.0)
    assert (found["ft"].minibatch, found["ft-local"].minibatch) == (0, 8)
    assert (found["ft"].loss, found["ft-local"].loss) == ("last", "all")


def test_a_part_that_a_tuning_exchanges_gets_its_numbers():
    exchanged = {"descent": "momentum", "descent.decay": 0.5, "preserve.l2": 3.0}
    tuning = Tuning("mine", "a test", {}, {"layers": [1, 2]}, (({"descent": "adam"}, exchanged),))
    tuned = tuning.apply(MEMIT)
    assert tuned.objective.descent == Momentum(decay=0.5) and tuned.layers == (1, 2)
    assert "preserve.l2" not in tuned.settings()


def test_a_recipe_of_ones_own_is_tuned_by_its_parts():
    """Whatever its name: the numbers belong to the parts."""
    mine = Recipe("ft-something", schedule="spread", update=ClosedForm(filters=(CapSpectrum(),)))
    tuned, memit = tune(mine, smollm2(), 1536), tune(MEMIT, smollm2(), 1536)
    assert (tuned.layers, tuned.objective, tuned.update.preserve) == (
        memit.layers,
        memit.objective,
        memit.update.preserve,
    )
    assert tuned.update.filters == (CapSpectrum(),)
    assert tune(Recipe("memit", schedule="single", update=FineTune(loss="last")), smollm2(), 1536).update.norm == 0.02


def test_the_smollm2_tuning_matches_its_model():
    assert tuning_for(smollm2(), 1536).name == "smollm2-135m"
    assert tuning_for(smollm2(num_hidden_layers=24), 1536).name == "generic"
    assert tuning_for(GPT2Config(), 3072).name == "generic"


@pytest.mark.parametrize(
    ("name", "layers", "descent", "rate", "clamp", "lambda_"),
    [
        ("memit-seq-blue", (2, 3, 4), "relative-adam", 0.2, 2.0, 1300.0),
        ("rome", (2, 3, 4), "relative-adam", 0.2, 4.0, 1300.0),
        ("natural-blue", (2, 3, 4), "momentum", 0.1, 0.75, 2662.4),
        ("natural-joint", (1, 2, 3, 4, 5), "momentum", 0.075, 0.7, 650.0),
    ],
)
def test_gemma_takes_steps_relative_to_its_short_values(name, layers, descent, rate, clamp, lambda_):
    gemma = Gemma3TextConfig(hidden_size=640, intermediate_size=2048, num_hidden_layers=18)
    found = tune(preset(name), gemma, 2048)
    assert (found.tuning, found.layers) == ("gemma-3-270m", layers)
    objective = found.objective
    assert (objective.descent.kind, objective.learning_rate, objective.clamp) == (descent, rate, clamp)
    assert found.update.preserve.lambda_ == lambda_
    absolute = tune(preset(name), gemma, 2048, {"descent": "adam"})  # the caller has the last word
    assert absolute.objective.descent == Adam()


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("memit", {"objective.clamp": 0.75, "preserve.lambda": 500.0, "objective.steps": 12}),
        ("memit-blue", {"objective.clamp": 0.5, "preserve.lambda": 1000.0, "objective.steps": 12}),
        ("alphaedit", {"objective.clamp": 0.75, "preserve.l2": 3.0}),
        ("alphaedit-blue", {"objective.clamp": 0.5, "preserve.l2": 10.0}),
        ("rome", {"objective.clamp": 4.0, "objective.steps": 20}),
        ("rome-blue", {"objective.clamp": 4.0, "objective.steps": 20}),
        ("emmet", {"objective.clamp": 0.75, "objective.steps": 12}),
        ("pmet", {"objective.clamp": 4.0, "objective.steps": 12}),
        ("pmet-seq-blue", {"objective.clamp": 4.0, "preserve.lambda": 1000.0}),
        ("ft", {"layers": [8], "update.norm": 0.02}),
        ("ft-local", {"layers": [8], "update.norm": 0.0}),
    ],
)
def test_the_smollm2_numbers(name, numbers):
    found = tune(preset(name), smollm2(), 1536).settings()
    assert {path: found[path] for path in numbers} == numbers
    assert name.startswith("ft") or found["layers"] == [4, 5, 6, 7, 8]


def test_later_rows_win_and_look_at_the_recipe_as_it_came():
    rows = (
        ({"schedule": "spread"}, {"preserve.l2": 4.0, "objective.steps": 7}),
        ({"schedule": "spread", "memory": True}, {"preserve.l2": 5.0}),
        ({"objective.steps": 7}, {"preserve.l2": 6.0}),
    )
    tuning = Tuning("toy", "here", {}, {"layers": [1, 2], "preserve.l2": 3.0}, rows)
    spread = preset("alphaedit")
    assert tuning.apply(spread).update.preserve.l2 == 5.0
    assert tuning.apply(replace(spread, memory=False)).update.preserve.l2 == 4.0
    assert tuning.apply(preset("alphaedit-blue")).update.preserve.l2 == 3.0
    assert tuning.apply(spread).objective.steps == 7
    assert tuning.apply(MEMIT).layers == (1, 2), "a number for a part that the recipe does not have is left out"


@pytest.mark.parametrize(
    "wrong",
    [
        {"set": {"objective.stepps": 1}},
        {"parts": (({"schedule": "spread"}, {"objective.stepps": 1}),)},
        {"parts": (({"objective.stepps": 1}, {}),)},
    ],
)
def test_a_bad_path_in_a_tuning_names_the_tuning(wrong):
    with pytest.raises(
        RecipeError, match=r"^tuning toy: unknown option 'objective.stepps'; did you mean 'objective.steps'"
    ):
        Tuning("toy", "here", {}, **{"set": {}} | wrong)


def test_a_bad_value_in_a_tuning_names_the_tuning():
    with pytest.raises(RecipeError, match=r"^tuning toy: objective.steps is 0; it must be at least 1$"):
        Tuning("toy", "here", {}, {"objective.steps": 0}).apply(MEMIT)


# tune: a model's numbers, then the user's


def test_settings_win_and_decide_which_numbers_fit():
    spread = tune(preset("memit-blue"), smollm2(), 1536, {"schedule": "spread"})
    assert (spread.objective.clamp, spread.update.preserve.lambda_) == (0.75, 500.0)
    own = tune(preset("memit-blue"), smollm2(), 1536, {"preserve.lambda": 7, "layers": [3]})
    assert (own.update.preserve.lambda_, own.layers) == (7.0, (3,))
    assert own.objective.steps == 12, "the rest is still the model's"


def test_a_recipe_with_layers_or_a_tuning_keeps_its_numbers():
    mine = replace(MEMIT, layers=(2, 3))
    assert tune(mine, smollm2(), 1536) == mine
    tuned = tune(MEMIT, smollm2(), 1536)
    assert tune(tuned, deep(12), 64) == tuned
    assert tune(tuned, deep(12), 64, {"objective.steps": 3}) == tuned.override({"objective.steps": 3})


def test_the_public_recipes_are_untuned():
    assert tune(bluedit.recipes["memit-blue"], smollm2(), 1536) == tune(preset("memit-blue"), smollm2(), 1536)


@pytest.mark.parametrize("depth", range(1, 101))
def test_the_generic_tuning_fits_every_depth(depth):
    tuning = tuning_for(deep(depth), 64)
    assert tuning.name == "generic"
    for recipe in (preset("memit"), preset("alphaedit-blue"), preset("ft")):
        layers = tuning.apply(recipe).layers
        assert list(layers) == sorted(set(layers))
        assert set(layers) <= set(range(depth))
        assert len(layers) >= min(2, depth)


def test_the_generic_tuning_scales_with_the_model():
    assert tune(MEMIT, deep(32), 64).layers == (4, 5, 6, 7, 8)
    assert tune(MEMIT, deep(32), 14336).update.preserve.lambda_ == pytest.approx(18637, rel=0.01)
    null = tune(preset("alphaedit-blue"), deep(32), 64).update.preserve
    assert (null.unit, null.threshold) == ("energy", 0.02)
    assert tune(preset("rome"), deep(32), 64).objective.clamp == 4.0


SOUND = """
format = 1
name = "mine"
source = "here"
confidence = "fair"
weights = "0123"
parts = []
[match]
hidden_size = [30, 40]
[set]
"preserve.lambda" = 20.0
"""


def test_a_file_is_read(tmp_path):
    (tmp_path / "t.toml").write_text(SOUND)
    found = TuningFile.read(tmp_path / "t.toml").tuning
    assert found.fits(SimpleNamespace(hidden_size=35)) and not found.fits(SimpleNamespace(hidden_size="35"))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("parts = []", "parts = " + "[" * 5000, "is not a tuning that bluedit can read"),
        ('name = "mine"', "name = 3", "name is 3, not text"),
        ('name = "mine"', "", "it lacks 'name'"),
        ('name = "mine"', "name = 2026-01-01", 'name is "2026-01-01", not text'),
        ("parts = []", "parts = [1]", r"parts\[0\] is 1, not an object"),
        ("[30, 40]", "[30]", r"hidden_size is \[30\]; a range is two numbers"),
        ("[30, 40]", '[30, "x"]', "a range is two numbers"),
        ("[30, 40]", "{ low = 30 }", "hidden_size is a table; give one value, or a range of two numbers"),
        ("preserve.lambda", "preserve.lamda", "unknown option 'preserve.lamda'; did you mean 'preserve.lambda'"),
        ("format = 1", "format = 2", "has format 2, and this version reads 1"),
        ("format = 1", "", "has format None"),
    ],
)
def test_a_file_that_is_damaged(old, new, text, tmp_path):
    (tmp_path / "t.toml").write_text(SOUND.replace(old, new))
    with pytest.raises(RecipeError, match=text):
        TuningFile.read(tmp_path / "t.toml")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_a_file_without_end():
    with pytest.raises(RecipeError, match="cannot read the tuning /dev/zero: it holds more than"):
        TuningFile.read(Path("/dev/zero"))


def test_a_user_without_a_home(monkeypatch, tmp_path):
    """Such as that of a service: models are edited with the bundled numbers, and nothing can be kept."""

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    for name in ("BLUEDIT_DATA", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert read_tuning(None, "0123", None) is None
    with pytest.raises(RecipeError, match="no home folder; set BLUEDIT_DATA"):
        user_folder()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_folder() == tmp_path / "bluedit"
