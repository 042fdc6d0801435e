"""`explain residuals`: what it writes, that it goes on after an interruption, and what it refuses."""

import csv
import json
from html import unescape
from types import SimpleNamespace

import pytest
import torch
from residuals_help import Prescribed, linear_model

import bluedit
from bluedit.editing.editor import Editor
from bluedit.errors import EditError, ExplainError, FactError, ModelError, RecipeError
from bluedit.explain import _residual_stages as stages_of
from bluedit.explain.residual_data import TABLES
from bluedit.facts import Fact, world_facts
from bluedit.model.editable import EditableModel
from toys import corpus_in, toy_tokenizer


@pytest.fixture(scope="module")
def done(analyse, tmp_path_factory):
    return analyse(tmp_path_factory.mktemp("done") / "out")


def test_everything_is_written(done):
    assert done.page.name == "residuals.html" and done.resumed == ()
    assert set(done.tables) == set(TABLES)
    results = json.loads((done.folder / "results.json").read_text("utf-8"))
    assert results["summary"] == list(done.summary) and results["notes"] == list(done.notes) == []
    assert results["analysis"]["layers"] == [1, 2]
    for name, rows in done.tables.items():
        with (done.folder / f"{name}.csv").open(encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        assert len(table) == len(rows) == len(results[name])
        for read, row in zip(table, rows, strict=True):
            numbers = {key: value for key, value in vars(row).items() if isinstance(value, int)}
            assert {key: int(read[key]) for key in numbers} == numbers
    assert "Added at layers 1, 2, computed residuals raise the target's probability by" in done.summary[0]
    assert any(
        sentence.startswith("Of the last layer's residual is left in the end: divided") for sentence in done.summary
    )


def test_the_last_layer_gets_all_of_its_own(done):
    """There distributed and computed are one, and so is what they do."""
    for name, value in (("contributions", "gain"), ("single_layer", "value")):
        found = {}
        for row in done.tables[name]:
            if row.layer == 2:
                found.setdefault(row.residual, []).append(getattr(row, value))
        torch.testing.assert_close(*(torch.tensor(v) for v in found.values()), equal_nan=True)
    assert all(row.cosine == pytest.approx(1.0) for row in done.tables["geometry"] if row.layer == 2)


def test_the_same_again_computes_nothing(done, analyse, monkeypatch):
    before = {file.name: file.read_bytes() for file in done.folder.glob("*.*")}
    monkeypatch.setattr(stages_of, "single_layer", None)
    again = analyse(done.folder)
    assert len(again.resumed) == len(list((done.folder / "stages").glob("*.json"))) == 15
    assert {file.name: file.read_bytes() for file in done.folder.glob("*.*")} == before


def test_an_interrupted_analysis_goes_on(done, analyse, monkeypatch, tmp_path):
    original = stages_of.written_by

    def interrupted(setting, residuals, order):
        if order.name == "BLUE":
            raise KeyboardInterrupt
        return original(setting, residuals, order)

    weights = [p.detach().clone() for p in analyse.model.model.parameters()]
    monkeypatch.setattr(stages_of, "written_by", interrupted)
    with pytest.raises(KeyboardInterrupt):
        analyse(tmp_path / "out")
    assert all(torch.equal(*pair) for pair in zip(weights, analyse.model.model.parameters(), strict=True))
    finished = len(list((tmp_path / "out" / "stages").glob("*.json")))
    assert 0 < finished < 15 and not (tmp_path / "out" / "results.json").exists()
    monkeypatch.setattr(stages_of, "written_by", original)
    again = analyse(tmp_path / "out")
    assert len(again.resumed) == finished
    for name in TABLES:
        assert (again.folder / f"{name}.csv").read_bytes() == (done.folder / f"{name}.csv").read_bytes()


def test_a_damaged_stage_is_computed_again(done, analyse, caplog):
    file = done.folder / "stages" / "geometry.json"
    content = file.read_bytes()
    changed = content.replace(b'"cosine": ', b'"cosine": 1', 1)
    without = b"{" + content[content.index(b",") + 1 :]
    for damaged, why in (
        (content[:50], "Unterminated string"),
        (changed, "it was changed after it was written"),
        (without, "it was changed after it was written"),
        (b"[]", "it was changed after it was written"),
    ):
        file.write_bytes(damaged)
        again = analyse(done.folder)
        assert "geometry" not in again.resumed and file.read_bytes() == content
        assert again.tables["geometry"] == done.tables["geometry"]
        assert "geometry.json is damaged (" in caplog.text and why in caplog.text
        caplog.clear()


def test_a_folder_of_something_else(done, analyse, tmp_path):
    with pytest.raises(
        ExplainError,
        match=r"out holds the results of another request: batches, sample, facts differ; choose another folder \(--out\)",
    ):
        analyse(done.folder, world_facts(3), batches=1)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        ExplainError,
        match=r"contains files that explain residuals did not write \(notes.txt\); choose a new or empty folder",
    ):
        analyse(tmp_path)
    with pytest.raises(ExplainError, match=r"notes.txt is a file; choose a folder"):
        analyse(tmp_path / "notes.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_facts_and_layers_that_cannot_be(analyse, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ModelError, match="layers 5, 6 are out of range: this model has layers 0 to 4"):
        analyse(out, layers=(3, 5, 6))
    with pytest.raises(ExplainError, match=r"critical layers are \[2\]; distribution needs two or more, ascending"):
        analyse(out, layers=(2,))
    with pytest.raises(ExplainError, match=r"critical layers are \[3, 2\]"):
        analyse(out, layers=(3, 2))
    with pytest.raises(FactError, match="no facts to explain"):
        analyse(out, [])
    with pytest.raises(
        ExplainError, match="the recipe ft does not write batches in closed form, so it distributes nothing"
    ):
        analyse(out, recipe="ft", settings={})
    with pytest.raises(ExplainError, match="the recipe rome does not write batches"):
        analyse(out, recipe="rome", settings={})
    with pytest.raises(RecipeError, match="unknown recipe 'memti'; did you mean"):
        analyse(out, recipe="memti")
    assert not out.exists()


def test_a_fact_that_is_said_already(analyse, tmp_path, monkeypatch):
    said = lambda lm, pairs, progress: [SimpleNamespace(said=i == 0) for i in range(len(pairs))]  # noqa: E731
    monkeypatch.setattr("bluedit.editing.known.score", said)
    with pytest.raises(
        FactError,
        match=r"the model already says 1 of 3 facts: .*Leave them out, choose another target, or pass known='skip'",
    ):
        analyse(tmp_path / "out", world_facts(3))
    found = analyse(tmp_path / "out", world_facts(3), known="skip", batches=1)
    assert {row.fact for row in found.tables["geometry"]} == {0, 1}


def test_an_edited_model_is_refused(analyse, tmp_path):
    editor = Editor(linear_model(), corpus=str(corpus_in(tmp_path)), tokens=400, targets=Prescribed(32))
    editor.edit(world_facts(1), "memit-blue", settings={"layers": [1, 2]}, known="edit", report=False)
    with pytest.raises(
        ExplainError, match=r"carries 1 edits, and the analysis is of the unedited model; call reset\(\) first"
    ):
        bluedit.explain_residuals(editor, world_facts(2), tmp_path / "out")
    with (
        torch.inference_mode(),
        pytest.raises(EditError, match=r"needs gradients, which torch.inference_mode\(\) rules out"),
    ):
        analyse(tmp_path / "out")


def test_the_second_fact_about_a_subject_is_left_out(analyse, tmp_path, caplog):
    facts = [*world_facts(2), world_facts(1)[0]]
    twice = [facts[0], facts[1], Fact("Everyone knows that {} is", facts[0].subject, "old")]
    found = analyse(tmp_path / "out", twice, known="edit")
    assert {row.fact for row in found.tables["geometry"]} == {0, 1}
    assert "1 facts about a subject that occurred before are left out" in caplog.text


def test_without_old_targets_other_metrics_are_used(analyse, tmp_path):
    facts = [Fact(f.prompt, f.subject, f.target, paraphrases=f.paraphrases) for f in world_facts(2)]
    found = analyse(tmp_path / "out", facts, known="edit", batches=1)
    metrics = {row.metric for row in found.tables["single_layer"]}
    assert "accuracy" in metrics and "efficacy" not in metrics


def test_a_model_that_cannot_distribute(analyse, tmp_path):
    """Gemma 3 normalises the MLP's output before adding it: what needs another layer's residual is left out, and the page says so."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=432, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, max_position_embeddings=256, sliding_window=64, initializer_range=0.3,
    )  # fmt: skip
    gemma = EditableModel.of(Gemma3ForCausalLM(config).double().eval(), toy_tokenizer(bos=True), "gemma")
    assert not gemma.anatomy.additive
    found = analyse(tmp_path / "out", world_facts(2), gemma, batches=1)
    assert set(found.tables) == {"contributions", "passive", "single_layer", "steps", "shift", "places"}
    assert {row.residual for row in found.tables["single_layer"]} == {"computed"}
    assert {row.recipe for row in found.tables["shift"]} == {"memit-seq-blue"}
    (note,) = found.notes
    assert "so no layer can write another one's residual" in note and note in unescape(found.page.read_text("utf-8"))
