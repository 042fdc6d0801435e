"""Rows of a benchmark that are not locate-then-edit: in-context, retrieval and LoRA."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from benchmark_help import BLUE, FACTS, SETTINGS, Stopped, run, without_time

from bluedit.benchmark import Entry
from bluedit.benchmark._in_context import Statements
from bluedit.benchmark._retrieval import Stored, stored
from bluedit.benchmark.approach import Approach, InContext, Lora, Retrieval
from bluedit.benchmark.entry import LISTS, entries_of
from bluedit.editing.editor import Editor
from bluedit.editing.patch import Patch
from bluedit.errors import BenchmarkError, RecipeError
from bluedit.facts import Fact, Neighbour
from bluedit.methods.presets import BENCHMARKED, DEFAULT
from bluedit.methods.wordings import Natural
from bluedit.model.editable import EditableModel
from toys import toy_gpt2, toy_llama, toy_tokenizer

LORA = "lora:steps=4,r=2,learning_rate=0.02"
RETRIEVAL = f"retrieval:threshold=0.2,{SETTINGS}"
ALL = ("in-context", RETRIEVAL, LORA)
SUITES = ("counterfact", "locality", "zsre")
MORE = {"suites": SUITES, "facts": [replace(f, neighbours=(Neighbour("The weather was", "mild"),)) for f in FACTS]}


def state(lm):
    """All of a model that an entry might leave behind."""
    return (
        {name: tensor.clone() for name, tensor in lm.model.state_dict().items()},
        {name: weight.requires_grad for name, weight in lm.model.named_parameters()},
        {name: type(module) for name, module in lm.model.named_modules()},
        sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules()),
        hasattr(lm.model, "peft_config"),
    )


def same(one, other):
    return all(torch.equal(one[0][name], tensor) for name, tensor in other[0].items()) and one[1:] == other[1:]


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """(model, state before, folder, rows) of a benchmark of all approaches."""
    lm = EditableModel.of(toy_gpt2(), toy_tokenizer(), "toy")
    root = tmp_path_factory.mktemp("others")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLUEDIT_CACHE", str(root / "cache"))
        before = state(lm)
        return lm, before, root / "r", run(lm, root / "r", entries=("unedited", *ALL), **MORE)


def test_they_stand_in_the_same_table_with_the_same_metrics(others):
    lm, before, folder, rows = others
    assert [(row.entry.split(":")[0], row.facts) for row in rows] == [
        ("unedited", 4), ("in-context", 2), ("in-context", 4), ("retrieval", 2), ("retrieval", 4), ("lora", 2), ("lora", 4),
    ]  # fmt: skip
    assert len({frozenset(row.scores) for row in rows}) == 1
    assert same(state(lm), before)
    text = (folder / "results.md").read_text()
    assert all(f"| {entry} |" in text for entry in ALL)
    settings = json.loads((folder / "config.json").read_text())["settings"]
    assert settings[LORA]["steps"] == 4 and settings[LORA]["wordings"] == "prompt"
    assert settings[RETRIEVAL]["threshold"] == 0.2 and settings[RETRIEVAL]["layers"] == [1, 2, 3]
    assert settings["in-context"] == {"beside": False, "most": 20}


def test_each_does_something_and_only_where_it_should(others):
    rows = {row.entry: row.scores for row in others[3]}
    unedited = rows["unedited"]
    assert rows["in-context"]["neighbour_kl"] < 1e-12 and rows["in-context"]["subject_kl"] > 0
    assert rows["in-context"]["passage_kl"] < 1e-12 and rows["in-context"]["perplexity"] == unedited["perplexity"]
    assert rows[RETRIEVAL]["subject_kl"] > 0 and rows[LORA]["passage_kl"] > 0
    assert rows[LORA]["perplexity"] != unedited["perplexity"]


@pytest.mark.parametrize("event", ["on_written", "on_saved"])
def test_an_interrupted_one_goes_on_and_gives_the_same(others, tmp_path, monkeypatch, event):
    lm, before, folder, rows = others
    monkeypatch.setenv("BLUEDIT_CACHE", str(folder.parent / "cache"))
    for number, entry in enumerate(ALL):
        place = tmp_path / str(number)
        more = {**MORE, "entries": (entry,), "targets": folder / "targets"}
        with pytest.raises(KeyboardInterrupt):
            run(lm, place, Stopped(event, 2), **more)
        assert same(state(lm), before)
        expected = [row for row in rows if row.entry == entry]
        assert without_time(run(lm, place, **more)) == without_time(expected)


def test_what_a_folder_lacks_is_said(lm, tmp_path):
    for entry, file, message in (
        (LORA, "adapter-1/adapter_model.safetensors", "the adapters in .*adapter-1 cannot be read"),
        (RETRIEVAL, "stored/manifest.json", "stored"),
    ):
        folder = tmp_path / entry[:4]
        with pytest.raises(KeyboardInterrupt):
            run(lm, folder, Stopped("on_start", 2), entries=(entry,))
        (folder / Entry.parse(entry).folder / file).unlink()
        with pytest.raises(BenchmarkError, match=message):
            run(lm, folder, entries=(entry,))
        assert not any("lora" in name for name, _ in lm.model.named_modules())


@pytest.mark.parametrize("made", [toy_gpt2, toy_llama])
def test_lora_learns_the_facts(tmp_path, made):
    lm = EditableModel.of(made(), toy_tokenizer(), "toy")
    rows = run(lm, tmp_path / "r", entries=("unedited", "lora:steps=60,learning_rate=0.02"), batch_size=4)
    assert rows[1].scores["strict"] == 1 > rows[0].scores["strict"]


def test_lora_trains_on_earlier_facts_too_and_in_other_wordings(lm, tmp_path):
    entries = [f"{LORA},{more}" for more in ("seed=0", "earlier=false", "wordings=natural", "modules=projections")]
    rows = run(lm, tmp_path / "r", entries=entries)
    found = [row.scores["perplexity"] for row in rows if row.facts == 4]
    assert len(set(found)) == 4
    assert Lora(wordings=Natural(statements=2)).settings()["wordings.statements"] == 2


def test_retrieval_adds_the_residual_of_the_nearest_key():
    memory = Stored(torch.eye(3), torch.tensor([[1.0, 0], [2, 0], [3, 0]]))
    found = memory.recalled(torch.tensor([[9.0, 1, 0], [0, 0.1, 0], [1, 1, 1], [0, 0, -5]]), 0.9)
    assert found.tolist() == [[1, 0], [2, 0], [0, 0], [0, 0]]


def test_retrieval_at_a_stored_key_delivers_all_of_the_residual(lm, tmp_path):
    """At the subject's token of the first layer the projection's output is moved by R, and nowhere else."""
    run(
        lm,
        tmp_path / "r",
        entries=(f"retrieval:threshold=0.999,schedule=single,{SETTINGS},contexts.count=0",),
        batch_size=4,
    )
    (place,) = (tmp_path / "r").glob("retrieval*/stored")
    batches = Patch.load(place).batches
    memory = stored(batches, lm)
    (update,) = batches[0].updates
    assert set(memory) == {1}
    key = update.keys[:, 2].double()
    assert torch.allclose(memory[1].recalled(key[None].to(memory[1].keys), 0.999)[0], update.R[:, 2].to(memory[1].keys))


def test_the_newest_of_equal_keys_wins(lm):
    editor = Editor(lm, tokens=480)
    settings = dict(pair.split("=") for pair in SETTINGS.split(","))
    more = {"settings": {**settings, "schedule": "single"}, "known": "edit", "report": False}
    try:
        edits = [editor.edit(fact, "memit", **more) for fact in (FACTS[0], replace(FACTS[0], target="London"))]
    finally:
        editor.reset()
    batches = [batch for edit in edits for batch in edit.patch.batches]
    first, second = (batch.updates[0] for batch in batches)
    memory = stored(batches, lm)[1]
    found = memory.recalled(first.keys.T.to(memory.keys), 0.9)
    assert torch.allclose(found, second.R.T.to(memory.keys))


def test_which_statements_stand_before_a_text():
    facts = [
        Fact("The capital of {} is", "France", "Rome", neighbours=(Neighbour("The capital of Spain is", "Madrid"),)),
        Fact("{} is in", "Rome", "Asia."),
        Fact("The king of {} is", "France", "Bob"),
    ]
    plain = Statements.of(facts, beside=False, most=20)
    assert plain.told("Is FRANCE large?") == (
        "The capital of France is Rome. The king of France is Bob. Is FRANCE large?"
    )
    named = Statements.of([replace(facts[0], phrasings=["The {Gallic} capital is"])], beside=False, most=20)
    assert named.told("Gallic France lies") == "The capital of France is Rome. Gallic France lies"
    assert plain.told("Rome lies") == "Rome is in Asia. Rome lies"
    assert plain.told("Romeo and Frances") == "Romeo and Frances"
    assert plain.told("The capital of Spain is") == "The capital of Spain is"
    beside = Statements.of(facts, beside=True, most=1)
    assert beside.told("The capital of Spain is") == "The capital of France is Rome. The capital of Spain is"
    assert beside.told("Is France large?") == "The king of France is Bob. Is France large?"


def test_in_context_is_told_in_the_users_turn(tmp_path):
    tokenizer = toy_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    lm = EditableModel.of(toy_gpt2(), tokenizer, "toy")
    running = InContext().start(type("Work", (), {"editor": Editor(lm, tokens=480)})())
    running.write([FACTS[:2]])
    asked = []
    queries = running.queries(lambda: None)
    object.__setattr__(queries.model, "progress", Editor(lm, tokens=480).progress)
    prompt = queries.in_chat(FACTS[0].text)
    assert "Rome" not in prompt
    asked.append(queries._told(prompt))
    assert asked == ["[Complete the sentence in a few words: The capital of France is Rome. The capital of France is]"]


def test_beside_shows_what_a_statement_does_where_it_does_not_belong(lm, tmp_path):
    rows = run(lm, tmp_path / "r", entries=("in-context:beside=true",), batch_size=4, suites=("locality",))
    assert rows[0].scores["neighbour_kl"] > 0 and rows[0].scores["passage_kl"] < 1e-12


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ("lora:rank=4", RecipeError, r"^lora: unknown option 'rank'; "),
        ("lora:steps=0", RecipeError, "^lora: steps is 0; it must be at least 1"),
        ("lora:modules=heads", RecipeError, "^lora: modules cannot be 'heads'; "),
        ("retrieval:threshold=1.5", RecipeError, "threshold is 1.5; it must be above 0 and at most 1"),
        ("retrieval:from=ft", RecipeError, "retrieval needs keys and residuals, and ft has none"),
        ("retrieval:from=memti", RecipeError, "unknown recipe 'memti'; did you mean 'memit'"),
        ("in-context:shots=3", RecipeError, "^in-context: unknown option 'shots'; "),
        ("in-contxt", RecipeError, "unknown recipe 'in-contxt'; did you mean 'in-context'"),
        ("unedited:layers=3", RecipeError, "unknown"),
    ],
)
def test_what_cannot_be_is_said(lm, tmp_path, entry, error, message):
    with pytest.raises(error, match=message):
        run(lm, tmp_path / "r", entries=(entry,))
    assert not (tmp_path / "r").exists()


def test_without_peft_one_sentence_says_what_to_install(lm, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None)
    with pytest.raises(
        BenchmarkError, match=r"^the entry 'lora' needs PEFT, .*; pip install 'bluedit\[lora\]', or leave it out$"
    ):
        run(lm, tmp_path / "r", entries=(LORA,))


def test_ready_made_lists(lm):
    for names in LISTS.values():
        assert len(entries_of(names)) == len(names)
        assert all(isinstance(entry.approach, Approach) for entry in entries_of(names))
    assert LISTS["default"] == ("unedited", BENCHMARKED) and DEFAULT in LISTS["honest"]
    honest = {entry.split(":")[0] for entry in LISTS["honest"]}
    assert {"unedited", "memit-seq", "memit-seq-replay", "in-context", "retrieval", "lora"} <= honest
    assert entries_of([Retrieval(), Lora(r=4), BLUE])[1].name == "lora"


def test_the_first_layer_alone(lm, tmp_path):
    rows = run(lm, tmp_path / "r", entries=(f"memit-seq:schedule=single,{SETTINGS}",), batch_size=4)
    assert set(rows[0].reach) == {1}
