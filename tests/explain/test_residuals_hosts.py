"""`explain residuals` with different recipes and editors: which hosts it takes, what it compares, and whose options count."""

import json

import pytest
import torch
from residuals_help import SETTINGS, Prescribed, linear_model

from bluedit.editing.editor import Editor
from bluedit.errors import ExplainError
from bluedit.execution import Execution
from bluedit.explain._residual_notes import notes_of
from bluedit.explain._residual_request import recipes_of
from bluedit.explain._residual_vectors import Residuals, passive_changes, replayed
from bluedit.explain.residuals import explain_residuals
from bluedit.facts import Fact, world_facts
from bluedit.methods.presets import PRESETS, preset
from bluedit.writing.keys import batch_rows, read_values
from bluedit.writing.target import Targets
from bluedit.writing.trace import Trace

LAYERS = (1, 2)


@pytest.mark.parametrize("recipe", ["pmet", "alphaedit", "nse"])
def test_other_hosts(analyse, tmp_path, recipe):
    settings = {k: v for k, v in SETTINGS.items() if recipe != "alphaedit" or k != "preserve.lambda"}
    settings |= {"schedule.power": 0.5} if recipe == "pmet" else {}  # which its BLUE form does not have
    settings |= {"preserve.unit": "rank", "preserve.threshold": 0.5} if recipe == "alphaedit" else {}
    found = analyse(tmp_path / "out", world_facts(2), recipe=recipe, settings=settings, batches=1)
    shares = {row.layer: row.share for row in found.tables["geometry"]}
    assert shares == {1: pytest.approx(0.5**0.5 if recipe == "pmet" else 0.5), 2: 1.0}
    assert all(row.error <= row.direct * (1 + 1e-9) for row in found.tables["growth"])
    names = [row.recipe for row in found.tables["shift"]]
    assert names == ([recipe] if recipe in ("alphaedit", "nse") else [f"{recipe}-seq"]) + [f"{names[0]}-blue"]


@pytest.mark.parametrize(
    ("recipe", "more", "named"),
    [
        ("memit-blue", {}, "memit"),
        ("natural-blue", {}, "natural"),
        ("memit", {"schedule": "boundary"}, "memit"),
        ("memit", {"schedule": "single"}, "memit"),
    ],
)
def test_hosts_that_do_not_distribute(analyse, tmp_path, recipe, more, named):
    message = rf"the recipe {recipe} does not write every critical layer for the last one's target .*choose {named} with a schedule that does"
    with pytest.raises(ExplainError, match=message):
        analyse(tmp_path / "out", recipe=recipe, settings=SETTINGS | more)
    assert not (tmp_path / "out").exists()


def test_sequences_are_those_of_the_presets(analyse):
    """rect's form for sequences is the preset rect-seq, which feeds back what a filter drops, not rect with memory under that name."""
    editor = Editor(analyse.model)
    host, plain, with_blue = recipes_of(editor, "rect", LAYERS, {"contexts.count": 1})
    assert (host.name, plain.name, with_blue.name) == ("rect", "rect-seq", "rect-seq-blue")
    for recipe in (plain, with_blue):
        (kept,) = recipe.update.filters
        assert kept.feedback and recipe.memory and recipe.layers == LAYERS and recipe.contexts.count == 1
    own = preset("memit").override(
        {"preserve.lambda": 7.0, "layers": LAYERS}
    )  # another recipe than the preset of its name
    _, plain, with_blue = recipes_of(editor, own, LAYERS, {})
    assert (plain.name, with_blue.name) == ("memit-with-memory", "memit-with-memory-blue")
    assert plain.update.preserve.lambda_ == 7.0 and plain.memory
    _, plain, _ = recipes_of(editor, "emmet", LAYERS, {})  # no preset
    assert plain.name == "emmet-seq" not in PRESETS and plain.memory


class Recorder(Trace):
    """What is left of the last layer's residual when a batch is complete, measured by itself."""

    def __init__(self, lm, rows, n):
        self.lm, self.rows, self.n = lm, rows, n
        self.targets, self.left, self.writes = {}, [], []

    def on_target(self, site, targets):
        self.targets[site.layer] = site, targets

    def on_write(self, write):
        self.writes.append((write.number, write.step.layer))

    def on_batch(self, batch):
        assert batch.updates
        if LAYERS[-1] in self.targets:
            site, wanted = self.targets[LAYERS[-1]]
            missing = wanted.z - read_values(self.lm, self.rows, site, self.n)
            self.left.append((missing.norm(dim=0) / (wanted.z - wanted.start).norm(dim=0)).tolist())
        self.targets.clear()


@pytest.mark.parametrize("recipe", ["rect", "nse"])
def test_what_remains_in_the_end(analyse, tmp_path, recipe):
    """After filters and later rounds, which no write of one layer stands for; and an editor's own trace is told of everything."""
    facts = world_facts(3)
    settings = SETTINGS | ({"rounds.lower": 1e-3} if recipe == "nse" else {})
    host, _, _ = recipes_of(Editor(analyse.model), recipe, LAYERS, settings)
    rows = batch_rows(analyse.model.tokenizer, facts, host.contexts.prefixes(None), host)
    recorder = Recorder(analyse.model, rows.rows, rows.n)
    editor = Editor(analyse.model, trace=recorder)
    found = analyse(tmp_path / "out", facts, editor, recipe=recipe, settings=settings, batches=1, known="edit")
    divided = [row for row in found.tables["remaining"] if row.schedule == "divided"]
    assert [row.layer for row in divided[::3]] == [-1, 1, 2, -1] and [row.write for row in divided[::3]] == [0, 1, 2, 3]
    last, before = ([row.share for row in divided if row.write == write] for write in (3, 2))
    assert last != pytest.approx(before, rel=1e-3)
    # single layers are written with targets of their own layer: layer 2's is the first batch with a target there, and divided the second
    assert last == pytest.approx(recorder.left[1], rel=1e-9)
    assert max(number for number, _ in recorder.writes) == (1 if recipe == "nse" else 0)


def test_targets_are_optimised_on_the_weights_as_they_are(analyse, tmp_path):
    """NSE's are those of the unedited weights, and the steps that lower layers spare could never be seen."""
    source = Prescribed(32)
    found = analyse(tmp_path / "out", world_facts(2), recipe="nse", targets=source, batches=1, known="edit")
    assert [note for note in found.notes if "The recipe optimises targets on the unedited weights. Here" in note]
    assert json.loads((found.folder / "results.json").read_text("utf-8"))["notes"] == list(found.notes)
    by_layer = {row.layer: (row.unedited, row.after) for row in found.tables["steps"] if row.fact == 0}
    assert by_layer == {1: (0, 0), 2: (0, 4)}
    kinds = [objective.uses_unedited_weights for objective in source.objectives]
    assert not any(kinds[:-3]) and all(kinds[-3:])  # the sequences: NSE at layer 2, its BLUE form at 1 and 2


def test_an_editors_own_options_count(analyse, tmp_path):
    source, execution = Prescribed(32), Execution(tokens_per_step=64)
    editor = Editor(
        analyse.model,
        corpus=str(analyse.corpus),
        tokens=500,
        statistics=tmp_path / "statistics",
        targets=source,
        execution=execution,
    )
    options = {"layers": LAYERS, "settings": SETTINGS, "batches": 1, "fluent": 0, "known": "edit"}
    found = explain_residuals(editor, world_facts(1), tmp_path / "out", **options)
    about = json.loads((found.folder / "results.json").read_text("utf-8"))["analysis"]
    assert (about["corpus"], about["tokens"]) == (str(analyse.corpus), 500)
    assert about["execution"]["tokens_per_step"] == 64
    assert list((tmp_path / "statistics").rglob("*.safetensors")) and source.objectives
    assert not (found.folder / "targets").exists()
    own = source.delta(1, 1).norm()
    assert found.tables["geometry"][0].own == pytest.approx(float(own))
    other = Prescribed(32, seed=5)  # what is passed counts more
    again = explain_residuals(editor, world_facts(1), tmp_path / "again", targets=other, tokens=400, **options)
    assert again.tables["geometry"][0].own == pytest.approx(float(other.delta(1, 1).norm()))
    assert json.loads((again.folder / "results.json").read_text("utf-8"))["analysis"]["tokens"] == 400


def test_columns_without_a_bare_prompt(analyse, tmp_path, setting_of):
    """A subject that is the first token is written in two columns; the one of the prefixed texts is measured as the mean over them."""
    facts = [Fact("{} stands for", "Q", "queen"), Fact("Everyone has heard of {}", "Bruges", "gold")]
    options = {"settings": SETTINGS | {"contexts.count": 3}, "known": "edit"}
    setting = setting_of(lambda: analyse(tmp_path / "out", facts, linear_model(), **options))
    assert setting.batch.n == 3 and [setting.fact_of(column) for column in range(3)] == [0, 1, 0]
    assert [row.fact for row in setting.measured].count(0) == 3
    source = Prescribed(32)
    with torch.no_grad():
        targets = {}
        for layer in LAYERS:
            start = read_values(setting.lm, setting.batch.rows, setting.site(layer), 3)
            zero = torch.zeros(3)
            targets[layer] = Targets(start + source.delta(layer, 3), start, zero.long(), zero)
        residuals = Residuals(targets, setting.shares)
        first = replayed(setting, residuals)[LAYERS[0]]
    torch.testing.assert_close(first, targets[LAYERS[0]].z)
    assert [row.fact for row in passive_changes(setting, residuals)] == [0, 1, 0]
    (note,) = [note for note in notes_of(setting) if "two residuals" in note]
    assert note.startswith("The subject of 1 of the facts begins its text")
