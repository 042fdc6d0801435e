"""A small benchmark that was run once, and a made-up one, as files, for its page."""

import json

import pytest
from benchmark_help import run as run_small

from bluedit.benchmark.record import (
    BatchRecord,
    Configuration,
    EntryLog,
    FactRecord,
    FactRecords,
    Measured,
    write,
    write_configuration,
)
from bluedit.evaluate.data import SAMPLED_TEXT, Ability
from bluedit.model.editable import EditableModel
from toys import toy_gpt2, toy_tokenizer

NAN = float("nan")
SUBJECTS = ("<b>0", "<!-- <script>", "the \"Tower\" & 'co'", "برج خليفة")


@pytest.fixture(scope="session")
def lm():
    return EditableModel.of(toy_gpt2(), toy_tokenizer(), "toy")


@pytest.fixture(scope="session")
def whole(lm, tmp_path_factory):
    """(folder, rows) of the small plan, run without interruption. Tests that change the folder copy it first."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLUEDIT_CACHE", str(root / "cache"))
        return root / "whole", run_small(lm, root / "whole")


def fact(i, **scores):
    record = {"prompt": "The capital of {} is", "subject": SUBJECTS[i], "target": "Rome"}
    return FactRecord(record, " Rome</script>", scores)


def batch(facts, strict, perplexity, edited):
    every = {"efficacy": 0.9, "generalisation": 0.8, "specificity": 0.7, "strict": strict, "score": 0.79}
    measured = Measured(every | {"perplexity": perplexity}, (every,), {"sst2": Ability("sst2", 0.5, 0.4, 8)})
    return BatchRecord(facts, int(edited), 3.0 * edited, (), {}, measured)


@pytest.fixture
def run(tmp_path):
    """The folder of a finished benchmark of four facts: unedited, memit and memit-blue."""
    folder = tmp_path / "run"
    configuration = Configuration(
        model="toy & co",
        weights="0",
        tokenizer="0",
        facts=4,
        facts_fingerprint="0",
        batch_size=2,
        every=1,
        suites=("counterfact",),
        passage_tokens=100,
        passages_fingerprint="0",
        corpus="self",
        corpus_fingerprint="0",
        tokens=None,
        abilities={"sst2": "0"},
        shots=4,
        sampling=SAMPLED_TEXT,
        versions={"bluedit": "0.1"},
        entries=("unedited", "memit", "memit-blue"),
        settings={},
        source="",
        device="cpu",
        threads=1,
    )
    write_configuration(configuration, folder)
    for name, values in (("memit", (0.0, 1.0)), ("memit-blue", (1.0, 1.0)), ("unedited", (0.0, 0.0))):
        place, edited = folder / name, name != "unedited"
        log = [batch(2, v, 20.0 + i, True) for i, v in enumerate(values)] if edited else [batch(4, 0.0, 20.0, False)]
        facts = [fact(i, efficacy=1.0, generalisation=1.0, specificity=NAN, strict=v) for i, v in enumerate(values * 2)]
        write(EntryLog(name, tuple(log)), place)
        write(FactRecords(tuple(facts)), place)
    return folder


@pytest.fixture
def change(run):
    """change(entry, file, function): let a function change the JSON in a file of the benchmark."""

    def changed(entry, file, function):
        place = run / entry / file
        found = json.loads(place.read_text("utf-8")) if place.is_file() else {}
        found.pop("digest", None)  # else any change is refused
        function(found)
        place.write_text(json.dumps(found), "utf-8")

    return changed


@pytest.fixture
def metrics(change):
    """metrics(entry, name=value, ...): set metrics after the last batch over all facts; None removes one."""

    def set_(entry, **values):
        def function(log):
            scores = log["batches"][-1]["measured"]["all"]
            scores.update(values)
            for name in [name for name, value in values.items() if value is None]:
                del scores[name]

        change(entry, "batches.json", function)

    return set_


@pytest.fixture
def scores(change):
    """scores(entry, name=value, ...): set metrics of every fact; a list has one value for each."""

    def set_(entry, **values):
        def function(found):
            for i, one in enumerate(found["facts"]):
                one["scores"].update({n: v[i] if isinstance(v, list) else v for n, v in values.items()})

        change(entry, "facts.json", function)

    return set_


@pytest.fixture
def rename(change):
    """rename(folder, name): call the entry in a folder something else."""
    return lambda folder, name: change(folder, "batches.json", lambda log: log.update(entry=name))
