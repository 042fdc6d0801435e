"""Tunings from public sources, checked with the configurations of the real models on the meta device: no weights, no download."""

import tomllib
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from bluedit.methods.presets import PRESETS, preset
from bluedit.methods.tunings import tune, tuning_for, tunings
from bluedit.model._blocks import find_attention, find_blocks

ROOT = Path(__file__).parents[2]
MODELS = tomllib.loads((ROOT / "benchmarks" / "models.toml").read_text("utf-8"))
MODELS.pop("smollm2")  # not published elsewhere

# per model: the tuning, MLP output projection of a block, d_key, and the layer whose output the sources take the loss of
SHAPES = {
    "gpt2-xl": ("gpt2-xl", "mlp.c_proj", 6400, 47),
    "gpt-j": ("gpt-j-6b", "mlp.fc_out", 16384, 27),
    "llama-3-8b": ("llama-3-8b", "mlp.down_proj", 14336, 31),
    "llama-3.1-8b": ("llama-3.1-8b", "mlp.down_proj", 14336, 31),
    "llama-2-7b": ("llama-2-7b", "mlp.down_proj", 11008, 31),
    "llama-3.2-3b": ("llama-3.2-3b", "mlp.down_proj", 8192, 27),
    "qwen2.5-7b": ("qwen2.5-7b", "mlp.down_proj", 18944, 27),
    "mistral-7b": ("mistral-7b", "mlp.down_proj", 14336, 31),
    "phi-1.5": ("phi-1.5", "mlp.fc2", 8192, 23),
    "gemma-7b": ("gemma-7b", "mlp.down_proj", 24576, 27),
    "falcon-7b": ("falcon-7b", "mlp.dense_4h_to_h", 18176, 31),
    "deepseek-llm-7b": ("deepseek-llm-7b", "mlp.down_proj", 11008, 29),
    "gpt-neox-20b": ("gpt-neox-20b", "mlp.dense_4h_to_h", 24576, 43),
}


def config_of(name, **changes):
    return AutoConfig.for_model(**MODELS[name]["config"] | changes)


@cache
def model_of(name):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config_of(name), dtype=torch.bfloat16)


def projection_of(block, width):
    """Name and input width of the widest linear map to the residual stream outside attention."""
    found = find_attention(block)
    attention = set(found.modules() if found else ())
    free = {name: m for name, m in block.named_modules() if isinstance(m, (Conv1D, nn.Linear)) and m not in attention}
    shapes = {name: m.weight.shape if isinstance(m, Conv1D) else m.weight.T.shape for name, m in free.items()}
    return max((d_key, name) for name, (d_key, d_out) in shapes.items() if d_out == width)[::-1]


def tuned(name, recipe, **settings):
    return tune(preset(recipe), config_of(name), SHAPES[name][2], settings).settings()


def test_every_published_tuning_has_a_model_here():
    assert {row[0] for row in SHAPES.values()} == {t.name for t in tunings()} - {"smollm2-135m", "gemma-3-270m"}
    assert set(SHAPES) == set(MODELS)


@pytest.mark.parametrize("name", SHAPES)
def test_the_numbers_fit_the_real_model(name):
    tuning, projection, d_key, loss_layer = SHAPES[name]
    model = model_of(name)
    config, blocks = model.config, find_blocks(model)
    assert tuning_for(config, d_key).name == tuning
    assert loss_layer == len(blocks) - 1, "targets are optimised on the output of the model, as in the sources"
    assert model.get_output_embeddings().weight.shape == (config.vocab_size, config.hidden_size)
    assert {projection_of(block, config.hidden_size) for block in blocks} == {(projection, d_key)}
    for recipe in PRESETS:
        layers = tuned(name, recipe)["layers"]
        assert layers and set(layers) <= set(range(len(blocks)))


@pytest.mark.parametrize("name", SHAPES)
def test_a_tuning_fits_neither_another_depth_nor_another_width(name):
    config = config_of(name)
    for key in ("num_hidden_layers", "hidden_size"):
        other = config_of(name)
        setattr(other, key, getattr(config, key) + 64)
        assert tuning_for(other, 64).name == "generic"


@pytest.mark.parametrize("name", SHAPES)
def test_lambda_lets_a_residual_through(name):
    """A key from ordinary text has k^T C^-1 k = d_key on average, so d_key / (d_key + lambda) of its residual is written at once."""
    lam, d_key = tuned(name, "memit")["preserve.lambda"], SHAPES[name][2]
    assert d_key / (d_key + lam) > 0.2


COMMON = {"objective.clamp": 0.75, "objective.weight_decay": 0.5, "objective.kl_factor": 0.0625}
PAPER = [
    ("gpt2-xl", [13, 14, 15, 16, 17], 0.5, 20, 20000.0, 80.0),
    ("gpt-j", [3, 4, 5, 6, 7, 8], 0.5, 25, 15000.0, 95.0),
    ("llama-3-8b", [4, 5, 6, 7, 8], 0.1, 25, 15000.0, 1.0),
]


@pytest.mark.parametrize(("name", "layers", "rate", "steps", "lam", "l2"), PAPER)
def test_the_paper_s_numbers_arrive_in_the_recipe(name, layers, rate, steps, lam, l2):
    wanted = COMMON | {"layers": layers, "objective.learning_rate": rate, "objective.steps": steps}
    null = {"preserve.threshold": 0.02, "preserve.unit": "absolute"}
    for recipe, more in {
        "memit": {"preserve.lambda": lam},
        "memit-seq-blue": {"preserve.lambda": lam},
        "rect": {"preserve.lambda": lam},
        "prune-blue": {"preserve.lambda": lam},
        "alphaedit": null | {"preserve.l2": 10.0},
        "alphaedit-blue": null | {"preserve.l2": l2},
    }.items():
        found = tuned(name, recipe)
        assert {path: found[path] for path in wanted | more} == wanted | more
        written = tune(preset(recipe), config_of(name), 64).written
        assert list(written) == ([layers[0], layers[-1]] if recipe.endswith("-blue") else layers)


@pytest.mark.parametrize(
    ("name", "recipe", "numbers"),
    [
        ("gpt2-xl", "pmet", {"objective.clamp": 2.0, "preserve.lambda": 10000.0}),
        ("gpt2-xl", "nse", {"preserve.lambda": 10000.0, "preserve.share": 1.0}),
        ("gpt2-xl", "rome", {"layers": [17], "objective.clamp": 4.0, "objective.steps": 20}),
        ("gpt2-xl", "emmet", {"layers": [17]}),
        ("gpt2-xl", "ft", {"layers": [0], "update.norm": 5e-4}),
        ("gpt-j", "pmet-blue", {"objective.clamp": 0.75, "preserve.lambda": 1000.0}),
        ("gpt-j", "pmet", {"preserve.lambda": 15000.0}),
        ("gpt-j", "rome", {"layers": [5], "objective.clamp": 4.0, "objective.steps": 20}),
        ("llama-3-8b", "rome", {"layers": [5], "objective.learning_rate": 0.5, "objective.weight_decay": 1e-3}),
        ("llama-3-8b", "pmet-blue", {"objective.clamp": 0.75, "preserve.lambda": 15000.0}),
        ("llama-3.1-8b", "alphaedit-blue", {"layers": [4, 5, 6, 7, 8], "preserve.l2": 10.0}),
        ("llama-3.2-3b", "memit", {"layers": [2, 3, 4, 5, 6], "objective.learning_rate": 0.1}),
        ("qwen2.5-7b", "memit", {"layers": [4, 5, 6, 7, 8], "objective.clamp": 4.0}),
        ("falcon-7b", "memit", {"layers": [3, 4], "preserve.lambda": 5000.0}),
        ("falcon-7b", "pmet", {"layers": [4, 5, 6, 7, 8]}),
        ("gpt-neox-20b", "memit", {"layers": [6, 7, 8, 9, 10], "objective.clamp": 0.8, "preserve.lambda": 6000.0}),
        ("gpt-neox-20b", "rome", {"layers": [15]}),
    ],
)
def test_numbers_of_other_methods_and_models(name, recipe, numbers):
    found = tuned(name, recipe)
    assert {path: found[path] for path in numbers} == numbers


@pytest.mark.parametrize("name", SHAPES)
def test_a_step_size_for_adam_is_not_given_to_momentum(name):
    """Momentum's is in units of |h|."""
    assert tuned(name, "natural-blue")["objective.learning_rate"] == preset("natural").objective.learning_rate


def test_a_renamed_or_fine_tuned_model_keeps_its_numbers():
    config = config_of("llama-3-8b", vocab_size=128258, max_position_embeddings=262144)
    config._name_or_path = "/somewhere/my-own-name"
    assert tuning_for(config, 14336).name == "llama-3-8b"
    assert tuning_for(config_of("llama-2-7b", vocab_size=64000), 11008).name == "generic"  # Yi-6B


def test_the_guess_does_not_agree_with_the_published_layers():
    """As the docs say: a guess from the depth is not a measurement."""
    for name, layers in {"gpt2-xl": range(6, 13), "gpt-j": range(4, 8)}.items():
        guess = tuning_for(SimpleNamespace(num_hidden_layers=config_of(name).num_hidden_layers), 64)
        assert guess.set["layers"] == list(layers) != tuned(name, "memit")["layers"]
        assert "guess" in guess.source


def test_contested_numbers_say_so():
    sources = {t.name: t.source for t in tunings()}
    assert {name for name, source in sources.items() if "contested" in source} == {
        "llama-2-7b",
        "llama-3.2-3b",
        "qwen2.5-7b",
    }
    assert "7-11" in sources["qwen2.5-7b"]


def test_the_docs_have_a_line_for_every_published_tuning():
    text = (ROOT / "docs" / "tuning.md").read_text("utf-8")
    for name, (tuning, _, d_key, _) in SHAPES.items():
        found = tuned(name, "memit")
        layers, lam = found["layers"], found["preserve.lambda"]
        share = round(100 * d_key / (d_key + lam))
        numbers = f"{found['objective.learning_rate']:g} | {found['objective.steps']} | {found['objective.clamp']:g}"
        line = f"| `{tuning}` | {layers[0]}-{layers[-1]} | {numbers} | {d_key:,} | {lam:,.0f} | {share} % |"
        assert line in text, line
