"""Every row of the grid against a dense transcription of its paper's formula, over three batches."""

import copy
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from transcription import (
    BASE,
    KEEP,
    L2,
    LAMBDA,
    LAYERS,
    LOWER,
    NEURONS,
    PREFIXES,
    THRESHOLD,
    UPPER,
    Plain,
    transcribe,
    wanted_change,
)

from bluedit import Editor, Fact
from bluedit.methods.presets import PRESETS
from bluedit.text.rows import Row
from bluedit.writing.targets import Targets
from toys import FACTS, FAMILIES, toy_tokenizer

SETTINGS = {
    "layers": LAYERS,
    "preserve.lambda": LAMBDA,
    "preserve.l2": L2,
    "preserve.threshold": THRESHOLD,
    "preserve.unit": "absolute",
    "preserve.neurons": NEURONS,
    "filter.keep": KEEP,
    "filter.base": BASE,
    "rounds.lower": LOWER,
    "rounds.upper": UPPER,
    "contexts.count": len(PREFIXES),
}
MORE = (
    Fact("{} is made in", subject="London", target="Berlin"),
    Fact("The library of {} is in", subject="Rome", target="Italian"),
    Fact("The tongue of {} is", subject="Edwin of Northumbria", target="German"),
)
BATCHES = [list(FACTS[:2]), [FACTS[2], *MORE[:2]], [MORE[2]]]
ROWS = [name for name, recipe in PRESETS.items() if recipe.update == "solve"]


def stubbed_targets(lm, rows, site, objective, advance, unedited):
    """z* = h + a fixed vector, in place of the optimisation: what is compared is all that follows from it."""
    facts = {row.fact: row for row in rows if row.kind == "bare"}
    plain = Plain(lm.model, lm.tokenizer)
    start = torch.stack([plain.read(facts[i], site.kind, site.layer) for i in sorted(facts)], dim=1)
    change = [wanted_change(_fact_of(lm, facts[i]), site.layer, start[:, i]) for i in sorted(facts)]
    zero = torch.zeros(len(facts))
    return Targets(start + torch.stack(change, dim=1), start, zero.long(), zero.to(start.dtype))


def _fact_of(lm, row: Row):
    return next(f for f in (*FACTS, *MORE) if lm.tokenizer(f.text)["input_ids"] == list(row.ids[: row.target_start]))


def edited(family, name, monkeypatch, tmp_path, settings=None):
    """(bluedit's model, an unedited copy, second moments) after three batches."""
    monkeypatch.setattr("bluedit.writing.loop.optimise_targets", stubbed_targets)
    model = FAMILIES[family]()
    untouched = copy.deepcopy(model)
    editor = Editor(model, toy_tokenizer(), tokens=480, statistics=tmp_path)
    C = {layer: moment.matrix for layer, moment in editor._second_moments(LAYERS).items()}
    for batch in BATCHES:
        editor.edit(batch, name, settings=SETTINGS | (settings or {}), known="edit", report=False)
    return editor, untouched, C


def difference(name, family, monkeypatch, tmp_path, settings=None):
    """Largest relative difference of the change over the layers."""
    editor, untouched, C = edited(family, name, monkeypatch, tmp_path, settings)
    mine, theirs = Plain(editor.model, None), Plain(untouched, toy_tokenizer())
    W0 = {layer: theirs.weight(layer) for layer in LAYERS}
    transcribe(theirs, BATCHES, name, C)
    moved = {layer: float((theirs.weight(layer) - W0[layer]).norm()) for layer in LAYERS}
    written = PRESETS[name].override({"layers": LAYERS}).written
    assert {layer for layer in LAYERS if moved[layer] > 1e-6} == set(written)
    return max(float((mine.weight(layer) - theirs.weight(layer)).norm()) / moved[layer] for layer in written)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("family", ["gpt2", "gpt2-square"])
def test_the_row_is_its_papers_formula(name, family, monkeypatch, tmp_path):
    assert difference(name, family, monkeypatch, tmp_path) < 1e-8


@pytest.mark.parametrize("name", ["memit-seq", "alphaedit-blue", "nse", "rect-blue"])
@pytest.mark.parametrize("family", ["llama", "llama-square"])
def test_the_row_on_a_llama_whose_norms_are_float32_inside(name, family, monkeypatch, tmp_path):
    assert difference(name, family, monkeypatch, tmp_path) < 1e-4


def test_the_comparison_can_fail(monkeypatch, tmp_path):
    assert difference("memit-seq", "gpt2", monkeypatch, tmp_path, {"preserve.lambda": LAMBDA * 1.01}) > 1e-4
    assert difference("pmet", "gpt2", monkeypatch, tmp_path / "2", {"share_power": 0.51}) > 1e-4
    assert difference("nse", "gpt2", monkeypatch, tmp_path / "3", {"rounds.count": 1}) > 1e-4


@pytest.mark.parametrize(
    ("name", "host"), [("rect", "memit"), ("prune", "memit"), ("nse", "memit-seq"), ("pmet", "memit")]
)
def test_what_sets_a_row_apart_shows_here(name, host, monkeypatch, tmp_path):
    """The parity above would be idle for a filter that never bites."""
    one, _, _ = edited("gpt2", name, monkeypatch, tmp_path)
    other, _, _ = edited("gpt2", host, monkeypatch, tmp_path)
    W = [Plain(editor.model, None).weight(LAYERS[0]) for editor in (one, other)]
    assert (W[0] - W[1]).norm() > 1e-3 * W[1].norm()
