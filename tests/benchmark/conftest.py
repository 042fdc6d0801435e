"""A finished run, as a benchmark leaves it."""

import json

import pytest

from bluedit.benchmark.runs import FORMAT

NAN = float("nan")
SUBJECTS = ("<b>0", "<!-- <script>", "the \"Tower\" & 'co'", "برج خليفة")


def fact(i, **scores):
    return {
        "fact": {"prompt": "The capital of {} is", "subject": SUBJECTS[i], "target": "Rome"},
        "says": " Rome</script>",
    } | scores


def entry(name, facts, strict, perplexity):
    every = {"efficacy": 0.9, "generalisation": 0.8, "specificity": 0.7, "strict": strict, "score": 0.79}
    return {
        "recipe": name,
        "facts": facts,
        "seconds": 3.0,
        "reach": [],
        "abilities": {"sst2": {"accuracy": 0.5}},
        "all": every | {"perplexity": perplexity},
        "first": every,
    }


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    config = {
        "format": FORMAT,
        "model": "toy & co",
        "facts": 4,
        "batch_size": 2,
        "order": ["unedited", "memit", "memit-blue"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    for name, values in (("memit", (0.0, 1.0)), ("memit-blue", (1.0, 1.0)), ("unedited", (0.0, 0.0))):
        place = folder / name
        place.mkdir()
        log = [entry(name, 2, v, 20.0 + i) for i, v in enumerate(values)]
        (place / "batches.json").write_text(json.dumps([entry(name, 4, 0.0, 20.0)] if name == "unedited" else log))
        facts = [fact(i, efficacy=1.0, generalisation=1.0, specificity=NAN, strict=v) for i, v in enumerate(values * 2)]
        (place / "facts.json").write_text(json.dumps(facts, ensure_ascii=False), "utf-8")
    return folder


@pytest.fixture
def change(run):
    """change(recipe, file, function): let a function change what a file of the run holds."""

    def changed(recipe, file, function):
        place = run / recipe / file
        found = json.loads(place.read_text("utf-8")) if place.is_file() else {}
        function(found)
        place.write_text(json.dumps(found), "utf-8")

    return changed
