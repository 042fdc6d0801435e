"""`locate`: tracing finds the layer that holds a fact, the probe finds the layer that can write one; folders, interruptions, refusals."""

import csv
import json

import pytest
import torch
from cli_help import assert_fails, run

import bluedit
from bluedit.errors import ExplainError, ModelError
from bluedit.evaluate.answers import score
from bluedit.explain import locating
from bluedit.explain._locate_tokens import Prompt
from bluedit.explain._locate_trace import Noise, Tracer, by_layer
from bluedit.explain.locate_data import ATTENTION, FIRST, LAST, LAST_OF_SUBJECT, MLP, NEXT, STATE, TABLES
from bluedit.explain.locating import Tracing, locate
from bluedit.facts import Fact, world_facts
from bluedit.model.editable import EditableModel
from toys import corpus_in, files_in, toy_gpt2, toy_llama, toy_tokenizer

HOLDS, READS = 1, 3  # the only layers whose MLP, and whose attention, write anything
SETTINGS = {"objective.steps": 3, "objective.learning_rate": 0.5, "contexts.count": 1, "preserve.lambda": 1.0}
FEW = Tracing(count=2, samples=2)


def one_layer_model() -> EditableModel:
    """A GPT-2 in which a subject's answer is looked up by the MLP of layer 1 and fetched by the attention of layer 3."""
    model = toy_gpt2(seed=1)
    for layer, block in enumerate(model.transformer.h):
        for module, keeps in ((block.mlp.c_proj, HOLDS), (block.attn.c_proj, READS)):
            if layer != keeps:
                module.weight.data.zero_()
                module.bias.data.zero_()
    return EditableModel.of(model, toy_tokenizer(bos=True), "one layer")


def known_to(lm: EditableModel, count: int) -> list[Fact]:
    """Facts that a random model happens to say."""
    found = []
    for subject in ("France", "Rome", "Berlin", "the Eiffel Tower", "Michel Rocard", "Edwin of Northumbria", "London"):
        for prompt in ("The capital of {} is", "Where is {}? It is in", "{} plays the", "The mother tongue of {} is"):
            ids = lm.tokenizer(prompt.replace("{}", subject), return_tensors="pt").input_ids
            with torch.no_grad():
                word = lm.tokenizer.decode(lm.model(ids).logits[0, -1].argmax()).strip()
            if word.isascii() and word.isalpha():
                fact = Fact(prompt, subject=subject, target=word)
                if score(lm, [(fact.text, word)])[0].said:
                    found.append(fact)
    assert len(found) >= count
    return found[:count]


@pytest.fixture(scope="module")
def toy():
    return EditableModel.of(toy_llama(), toy_tokenizer(bos=True), "toy")


@pytest.fixture(scope="module")
def located(tmp_path_factory, toy):
    """located(out, **options): both measurements of a toy, with statistics that all tests share."""
    folder = tmp_path_factory.mktemp("shared")
    shared = {"corpus": str(corpus_in(folder)), "tokens": 400, "statistics": folder / "statistics"}
    shared |= {
        "facts": known_to(toy, 2),
        "tracing": FEW,
        "probe": world_facts(3),
        "layers": (1, 2),
        "settings": SETTINGS,
    }
    return lambda out, model=toy, **options: locate(model, out, **shared | options)


@pytest.fixture(scope="module")
def done(located, tmp_path_factory):
    return located(tmp_path_factory.mktemp("done") / "out")


@pytest.mark.parametrize("cached", [True, False])
def test_tracing_finds_the_layer_that_holds_a_fact(cached):
    lm = one_layer_model()
    fact = Fact("The mother tongue of {} is not", subject="Danielle Darrieux", target="English")
    prompt = Prompt.of(lm.tokenizer, fact)
    tracer = Tracer(lm, Noise(0.5, 4, 0), 1, cached=cached)
    assert tracer.checked(prompt) == tracer
    (traced,), effects = tracer.trace(prompt, 0)
    assert 0 < traced.clean < 1 and traced.noisy != traced.clean

    def seen(kind, role):
        return {layer for layer, value in by_layer(effects, kind, role).items() if abs(value) > 1e-9}

    for role in (FIRST, LAST_OF_SUBJECT):  # the MLP's output counts at its layer alone, the state until it is read
        assert seen(MLP, role) == {HOLDS}
        assert seen(ATTENTION, role) == set()
        assert seen(STATE, role) == set(range(READS))
    assert seen(ATTENTION, LAST) == {READS} and seen(STATE, LAST) == {READS, READS + 1}
    assert seen(ATTENTION, NEXT) == set()
    whole = by_layer(effects, STATE, LAST)[READS]  # nothing comes after it: all of the loss comes back
    assert whole == pytest.approx(traced.clean - traced.noisy, abs=1e-9)


def test_neighbouring_layers_are_put_back_together():
    lm = one_layer_model()
    prompt = Prompt.of(lm.tokenizer, Fact("The capital of {} is", subject="France", target="Paris"))
    _, effects = Tracer(lm, Noise(0.5, 2, 0), 3).trace(prompt, 0)
    seen = {layer for layer, value in by_layer(effects, MLP, LAST_OF_SUBJECT).items() if abs(value) > 1e-9}
    assert seen == {HOLDS - 1, HOLDS, HOLDS + 1}


def test_roles_of_tokens(toy):
    prompt = Prompt.of(toy.tokenizer, Fact("The mother tongue of {} is", subject="Danielle Darrieux", target="French"))
    roles = prompt.roles()
    text = toy.tokenizer.decode([prompt.ids[i] for i in range(prompt.subject[0], prompt.subject[1] + 1)])
    assert text.strip() == "Danielle Darrieux"
    assert sorted(t for tokens in roles.values() for t in tokens) == list(range(prompt.subject[0], len(prompt.ids)))
    last = Prompt.of(toy.tokenizer, Fact("I read about {}", subject="Rome", target="it")).roles()
    assert last[LAST] == [max(max(tokens) for tokens in last.values())] and LAST_OF_SUBJECT not in last


def test_everything_is_written(done):
    assert set(done.tables) == set(TABLES) and done.resumed == ()
    results = json.loads((done.folder / "results.json").read_text("utf-8"))
    assert results["summary"] == list(done.summary) and results["about"]["layers"] == [1, 2]
    for name, rows in done.tables.items():
        with (done.folder / f"{name}.csv").open(encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) == len(rows) == len(results[name])
    assert len(list((done.folder / "targets").iterdir())) == 2  # one search for each layer
    page = done.page.read_text("utf-8")
    assert "MLP outputs: average indirect effect" in page and 'class="cell above"' in page
    assert done.summary[0].startswith("Noise on the subject lowers the answer's probability from ")
    assert set(done.best) == {1, 2} and done.summary[-1].startswith(
        f"Layers by the score of an edit there: {done.best[0]} ("
    )


def test_the_probe_measures_what_a_write_does(done, toy):
    targets, layers = done.tables["targets"], done.tables["layers"]
    assert [(row.layer, row.fact) for row in targets] == [(layer, fact) for layer in (1, 2) for fact in range(3)]
    for row in targets:
        assert row.match > 0 and row.cost > 0 and 0 < row.delivered <= 1.01 and row.length > 0 and row.said in (0, 1)
    for row in layers:
        success = (row.strict + (row.strict_paraphrase + row.generalisation) / 2) / 2
        lost = max(0.0, row.specificity_before - row.specificity)
        assert row.score == pytest.approx(100 * (success - lost - 2 * row.passage_kl))
    assert (
        bluedit.Editor(toy).journal.base.fingerprint
        == json.loads((done.folder / "location.json").read_text())["weights"]
    )


def test_an_interrupted_run_continues(located, done, tmp_path, monkeypatch, caplog):
    calls = []
    original = locating.Probe.at

    def interrupted(self, layer):
        calls.append(layer)
        if layer == 2 and len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, layer)

    monkeypatch.setattr(locating.Probe, "at", interrupted)
    with pytest.raises(KeyboardInterrupt):
        located(tmp_path / "out")
    again = located(tmp_path / "out")
    assert again.resumed == ("fact-0", "fact-1", "layer-1") and calls == [1, 2, 2]
    for name, text in files_in(again.folder).items():
        if name.endswith(".csv"):
            assert text == (done.folder / name).read_bytes(), name
    file = again.folder / "stages" / "layer-1.json"
    content = file.read_text("utf-8")
    changed = content.replace('"said": ', '"said": 1', 1)
    assert changed != content
    for damaged, why in (("{", "Expecting property name"), (changed, "it was changed after it was written")):
        file.write_text(damaged, "utf-8")
        assert "layer-1" not in located(tmp_path / "out").resumed
        assert file.read_text("utf-8") == content
        assert "layer-1.json is damaged (" in caplog.text and why in caplog.text


def test_one_measurement_alone(located, tmp_path):
    traced = located(tmp_path / "traced", probe_count=0)
    assert set(traced.tables) == {"traced", "effects"} and traced.best == []
    probed = located(tmp_path / "probed", tracing=Tracing(count=0), layers=(1,))
    assert set(probed.tables) == {"targets", "layers"} and probed.best == [1]


def test_figures_as_files(located, done, tmp_path):
    pytest.importorskip("matplotlib")
    found = located(tmp_path / "out", plots=("png", "svg"), probe_count=0)
    names = {file.name for file in (found.folder / "figures").iterdir()}
    assert {"effect-state.png", "effect-mlp.svg", "effect-attention.png", "effect-at-subject.svg"} <= names


def test_requests_that_cannot_be_carried_out(located, toy, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ModelError, match="layer 5 is out of range: this model has layers 0 to 4"):
        located(out, layers=(1, 5))
    with pytest.raises(
        ExplainError,
        match=r"gives the true answer of none of the 1 facts, e\.g\. 'The capital of France is' => 'Paris'",
    ):
        located(out, facts=[Fact("The capital of {} is", subject="France", target="Rome", old_target="Paris")])
    with pytest.raises(ExplainError, match="there are no facts to trace and none to probe"):
        located(out, tracing=Tracing(count=0), probe_count=0)
    with pytest.raises(ExplainError, match="samples is 0; it must be at least 1"):
        Tracing(samples=0)
    with pytest.raises(ExplainError, match="noise is 0; it must be positive"):
        Tracing(noise=0)
    with pytest.raises(ExplainError, match="the recipe ft does not write batches in closed form"):
        located(out, recipe="ft", settings={"layers": [1]})
    assert not out.exists()


def test_a_folder_of_something_else_is_left_alone(located, done, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExplainError, match=r"contains files that locate did not write \(notes.txt\)"):
        located(tmp_path)
    before = files_in(done.folder)
    with pytest.raises(ExplainError, match="holds the results of another request: tracing differ"):
        located(done.folder, tracing=Tracing(count=2, samples=3))
    assert files_in(done.folder) == before


def test_the_command(tmp_path):
    model = tmp_path / "toy"
    toy_llama(dtype=torch.float32).save_pretrained(model)
    toy_tokenizer(bos=True).save_pretrained(model)
    assert_fails(run("locate", model, "--samples", "0", "--out", tmp_path / "out"), 11, "samples is 0")
    assert_fails(run("locate", model, "--layers", "four", "--out", tmp_path / "out"), 11, "--layers is 'four'")
    options = ["--count", "0", "--probe", "world:2", "--layers", "1", "--tokens", "480", "--set", "objective.steps=2"]
    result = run("locate", model, "--out", tmp_path / "out", *options, "--set", "preserve.lambda=1")
    assert result.exit_code == 0, result.stderr
    assert "Layers by the score of an edit there: 1 (" in result.stdout
    assert f"Page written to {tmp_path / 'out' / 'locate.html'}" in result.stdout
