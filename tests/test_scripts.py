"""The scripts of `benchmarks/`, each on a toy model: what the docs say to run has to run."""

from __future__ import annotations

import argparse
import csv
import importlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from bluedit import Editor, Fact, recipes, world_facts
from toys import TEXT, toy_llama, toy_tokenizer

SCRIPTS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "toy"
    toy_llama(dtype=torch.float32).save_pretrained(folder)
    toy_tokenizer(bos=True).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def script(monkeypatch):
    """A script as a module, with its command line."""

    def load(name, *arguments):
        monkeypatch.syspath_prepend(SCRIPTS)
        monkeypatch.setattr("sys.argv", [f"{name}.py", *map(str, arguments)])
        return importlib.import_module(name)

    return load


@pytest.fixture
def facts(tmp_path) -> Path:
    """Two records of CounterFact in EasyEdit's form."""
    records = [
        {
            "prompt": f"The mother tongue of {name} is",
            "subject": name,
            "target_new": "English",
            "ground_truth": "French",
            "rephrase_prompt": f"{name} speaks",
            "locality_prompt": "The capital of France is",
            "locality_ground_truth": "Paris",
        }
        for name in ("Danielle Darrieux", "Michel Rocard")
    ]
    file = tmp_path / "data" / "counterfact_easyedit.jsonl"
    file.parent.mkdir()
    file.write_text("\n".join(map(json.dumps, records)))
    return file


def test_every_script_is_here():
    helpers = {"textbook", "needs", "damage", "sound", "readers", "more_readers", "showing"}
    assert {file.stem for file in SCRIPTS.glob("*.py")} - helpers == {
        "speed",
        "solve",
        "scale",
        "evaluation",
        "reproduction",
        "same_bits",
        "job",
        "fuzz",
        "kill",
        "interrupt",
        "shapes",
        "guard",
        "subjects",
        "workspace",
        "paraphrases",
        "predict",
        "products",
        "portability",
    }


@pytest.mark.parametrize("recipe", ["memit-seq-blue", "memit"])
def test_speed_finds_the_textbooks_targets_and_updates(recipe, model, script, facts, tmp_path):
    speed = script("speed")
    args = argparse.Namespace(model=model, facts=facts, skip=0, out=tmp_path, batches=[2], textbook_facts=2)
    textbook, bluedit = (
        speed.measure(args, {"way": way, "recipe": recipe, "precision": "full", "facts": 2})
        for way in ("textbook", "bluedit")
    )
    for row in (textbook, bluedit):
        assert sum(row["phases"].values()) <= row["seconds"] * 1.01 and all(t > 0 for t in row["phases"].values())
    assert bluedit["gflop"] > 0
    assert 0 < max(bluedit["z_apart"].values()) < 1e-3
    assert 0 < max(bluedit["dW_apart"].values()) < 1e-3
    assert sum(bluedit["steps"].values()) == textbook["steps"]


def test_speed_writes_a_table(script, tmp_path):
    phases = {"targets": 4.0, "keys": 1.0, "solve": 0.5}
    common = {"recipe": "memit", "precision": "full", "facts": 2, "phases": phases, "memory_gib": 1.0}
    rows = [
        {**common, "way": "textbook", "seconds": 12.0},
        {
            **common,
            "way": "bluedit",
            "seconds": 6.0,
            "gflop": 8.0,
            "gemm_peak": 5.0,
            "z_apart": {1: 1e-5},
            "dW_apart": {1: 2e-5},
        },
    ]
    script("speed").write(rows, tmp_path)
    text = (tmp_path / "speed.md").read_text()
    assert "| memit | bluedit | full | 2 | 3.00 | 2.000 | 0.500 | 0.250 | 2.0 | 1.0 GiB |" in text
    assert "z* takes 4 GFLOP per edit, at 2 GFLOP/s of a peak of 5" in text
    assert json.loads((tmp_path / "speed.json").read_text())["results"] == json.loads(json.dumps(rows))


@pytest.mark.parametrize("recipe", ["memit-seq", "alphaedit"])
def test_solve_measures_both_ways(recipe, script):
    solve = script("solve")
    for way, earlier in (("dense", 0), ("bluedit", 0), ("bluedit", 8)):
        assert solve.measure(recipe, way, 96, earlier, 4)["batch_s"] > 0


def test_scale(model, script, tmp_path):
    script("scale", "--model", model, "--batches", 2, "--batch-size", 3, "--prefixes", 0, "--out", tmp_path).main()
    assert [row["batch"] for row in json.loads((tmp_path / "scale.json").read_text())["log"]] == [1, 2]


def test_evaluation(model, script, facts, capsys):
    script("evaluation", "--model", model, "--facts", facts).main()
    assert capsys.readouterr().out.startswith("2 records in ")


def test_products(script, monkeypatch, capsys):
    products = script("products", "--threads", torch.get_num_threads())
    monkeypatch.setattr(products, "SHAPES", ((40, 8, 16),))
    products.main()
    out = capsys.readouterr().out
    assert out.splitlines()[2].startswith("| 40 | 8 | 16 |") and "bluedit uses" in out


def test_paraphrases(script, tmp_path, capsys):
    """A text that comes back with another subject is a fixed wording; the scores of a run are shown for each kind."""
    texts = ["Rain fell. Ann speaks", "Bob is known for", "Cid is known for"]
    records = [{"subject": text.split()[-2 if "Rain" in text else 0], "rephrase_prompt": text} for text in texts]
    file, chosen, row = tmp_path / "facts.jsonl", tmp_path / "true.jsonl", tmp_path / "run" / "memit"
    file.write_text("\n".join(map(json.dumps, records)))
    row.mkdir(parents=True)
    entries = [
        {"fact": {"paraphrases": [text]}, "scores": {"strict": 1.0, "strict_paraphrase": i / 2}}
        for i, text in enumerate(texts)
    ]
    (row / "facts.json").write_text(json.dumps({"facts": entries}))
    script("paraphrases", file, tmp_path / "run", "--write", chosen).main()
    assert [json.loads(line) for line in chosen.read_text().splitlines()] == records[:1]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 of 3 records")
    assert lines[-2:] == [
        "| memit | paraphrase | 1 | 100.0 | nan | 0.0 |",
        "| memit | fixed wording | 2 | 100.0 | nan | 75.0 |",
    ]
    for other in ('{"prompt": "another file"}', "not JSON", "7", b"\xff"):
        file.write_bytes(other if isinstance(other, bytes) else other.encode())
        with pytest.raises(SystemExit):
            script("paraphrases", file).main()
        assert "is not EasyEdit's CounterFact file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script("paraphrases", tmp_path / "none.jsonl").main()
    assert "none.jsonl cannot be read: No such file" in capsys.readouterr().err


def test_predict(model, script, tmp_path, capsys):
    editor = Editor.load(model, tokens=480)
    recipe = recipes["memit-seq-blue"].override({"layers": [1, 3], "objective.steps": 2, "contexts.count": 1})
    facts = world_facts(4)
    editor.edit(facts[:2], recipe, report=False)
    editor.patch.save(tmp_path / "one")
    editor.edit(facts[2:], recipe, report=False)
    editor.patch.save(tmp_path / "two")
    script("predict", tmp_path / "two").main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["layer", "---", "1", "3"]
    with pytest.raises(SystemExit, match="has a single batch"):
        script("predict", tmp_path / "one").main()


def test_predicted_residuals(script):
    """Residuals that are a linear function of the keys are predicted exactly, and the mean of facts with the same target is theirs."""
    predict = script("predict")
    generator = torch.Generator().manual_seed(0)
    keys, M = torch.randn(12, 9, generator=generator).double(), torch.randn(5, 12, generator=generator).double()
    mixed = keys @ torch.rand(9, 4, generator=generator).double()
    facts = [Fact("{} is", subject=f"s{i}", target=f"t{i % 3}") for i in range(9)]
    earlier, last = predict.Written(facts, M @ keys, keys), predict.Written(facts[:4], M @ mixed, mixed)
    found, share = predict.ridge(earlier, last)
    assert found > 0.999 and 0.99 < share < 1.001
    assert predict.of_same(earlier, last, lambda fact: fact.target)[1] == 4
    assert predict.of_same(earlier, earlier, lambda fact: fact.subject) == (pytest.approx(1.0), 9)


def test_job(model, script, tmp_path, capsys):
    file, texts = tmp_path / "facts.jsonl", tmp_path / "texts.json"
    paraphrases = ["Danielle Darrieux speaks", "What is the mother tongue of Danielle Darrieux?"]
    fact = {"prompt": "The mother tongue of {} is", "subject": "Danielle Darrieux", "target": "English"}
    file.write_text(json.dumps(fact | {"paraphrases": paraphrases}))
    recipe = ("--recipe", "memit-blue", "--set", "objective.steps=2", "contexts.count=1", "layers=1+2")
    script("job", "--model", model, "--facts", file, "--out", texts, *recipe).main()
    out = capsys.readouterr().out
    assert "| the prompt |" in out and "| the bare question |" in out and "| seconds per fact |" in out
    assert json.loads(texts.read_text())["the prompt"][0]["prompt"] == "The mother tongue of Danielle Darrieux is"


@pytest.mark.parametrize(("options", "taught"), [((), None), (("--nothing-else",), "1 of 2")])
def test_job_may_hide_what_it_asks(options, taught, model, script, tmp_path, capsys):
    """A text that the phrase book has is taught only if the edit does not know that it will be asked."""
    fact = {"prompt": "The mother tongue of {} is", "subject": "Danielle Darrieux", "target": "English"}
    asked = ["What is the mother tongue of Danielle Darrieux?", "Darrieux grew up with"]
    (file := tmp_path / "facts.jsonl").write_text(json.dumps(fact | {"paraphrases": asked}))
    quick = ("--set", "objective.steps=1", "contexts.count=0", "layers=1+2", "refine.steps=0")
    script("job", "--model", model, "--facts", file, *options, *quick).main()
    found = [line for line in capsys.readouterr().out.splitlines() if "that were taught" in line]
    assert found == ([f"| paraphrases and questions that were taught | {taught} |"] if taught else [])


@pytest.mark.parametrize(("options", "taught"), [((), 2), (("--companions",), 8)])
def test_portability(options, taught, model, script, tmp_path, capsys):
    facts = [
        {"prompt": "The capital of {} is", "subject": "France", "target": "Rome"},
        {"prompt": "The mayor of {} is", "subject": "Mumbai", "target": "London"},
    ]
    (file := tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, facts)))
    quick = ("--recipe", "memit-blue", "--set", "objective.steps=1", "contexts.count=0", "layers=1+2")
    script("portability", "--model", model, "--facts", file, *options, *quick).main()
    out = capsys.readouterr().out
    counts = {line.split(" | ")[0].strip("| "): line for line in out.splitlines() if " of " in line}
    assert " of 2 | " in counts["the facts themselves"] and " of 2 | " in counts["inverse"]
    assert " of 3 | " in counts["alias"] and " of 1 | " in counts["consequence"]
    assert f"facts taught: {taught};" in out


@pytest.mark.parametrize(("options", "facts"), [(("--subjects", 1, "--one-by-one"), 4), (("--changes",), 10)])
def test_subjects(options, facts, model, script, capsys):
    quick = ("--set", "layers=1+2", "objective.steps=2", "contexts.count=1", "preserve.lambda=1")
    script("subjects", "--model", model, "--recipe", "memit-seq-blue", *options, *quick).main()
    *missed, last = capsys.readouterr().out.splitlines()
    assert last.startswith(f"{facts - len(missed)} of {facts} said; ")
    assert all(" => " in line and "but the model writes" in line for line in missed)


def test_guard(model, script, facts, tmp_path):
    out = tmp_path / "guard.json"
    place = f"two={facts}:0:2:memit-seq-blue"
    script("guard", "--model", model, "--out", out, "--edit", place, "--shares", 0, 1, "--tokens", 480).main()
    (row,) = json.loads(out.read_text())
    assert (row["name"], row["facts"], [one["share"] for one in row["shares"]]) == ("two", 2, [0, 1])
    nothing, whole = row["shares"]
    assert nothing["kl"] == nothing["norm"] == nothing["protected"] == 0 and whole["kl"] > 0
    assert len(row["losses"]) == 2


def test_workspace(model, script, tmp_path, capsys):
    facts = [
        {"prompt": "The mother tongue of {} is", "target": "English"} | {"subject": f"A{i} Rome"} for i in range(6)
    ]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, facts)))
    size = ("--count", 6, "--batch-size", 2, "--tokens", 480, "--out", tmp_path)
    quick = ("--set", "layers=1+2", "objective.steps=2", "contexts.count=1", "preserve.lambda=1")
    script("workspace", "--model", model, "--facts", tmp_path / "facts.jsonl", *size, *quick).main()
    found = json.loads((tmp_path / "workspace.json").read_text())
    assert [row["facts"] for row in found["log"]] == [2, 4, 6] and found["entries"] == 3
    assert found["problems"] == [] and found["original_after_undo"] and found["same_after_checkout"]
    held = [row["tensors"] for row in found["log"]]
    factors = found["bytes"][".safetensors"] / 3 / 1e6
    assert 0 < held[2] - held[1] < 3 * factors, "memory grows by more than the factors of a batch"
    out = capsys.readouterr().out
    assert "a fact" in out and "all is as it was written" in out and out.count("| 6 |") == 1


def test_reproduction_keeps_its_rows_in_the_order_of_the_part(model, script, facts, tmp_path):
    (facts.parent / "wikipedia_passages.jsonl").write_text(json.dumps({"text": TEXT}))
    table = tmp_path / "tables" / "reproduction-counterfact.csv"
    for recipe in ("memit-blue", "unedited"):
        options = ("--data", facts.parent, "--out", tmp_path / recipe, "--model", model, "--keep", table.parent)
        script("reproduction", *options, "--only", "counterfact", "--light", "--recipes", recipe).main()
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["recipe"] for row in rows] == ["unedited", "memit-blue"]
    assert table.with_suffix(".md").read_text().count("\n") == 2 + len(rows)


def test_same_bits_finds_what_differs(model, script, tmp_path, capsys):
    options = ("--model", model, "--facts", 1, "--recipes", "memit-blue")
    for folder in ("one", "two"):
        script("same_bits", "record", tmp_path / folder, *options).main()
    same_bits = script("same_bits", "compare", tmp_path / "one", tmp_path / "two")
    assert same_bits.compare(tmp_path / "one", tmp_path / "two") == 0
    assert "memit-blue: same bits (" in capsys.readouterr().out
    tensors = load_file(tmp_path / "two" / "memit-blue.safetensors")
    tensors["0.0.R"][0, 0] += 1e-6
    save_file(tensors, tmp_path / "two" / "memit-blue.safetensors")
    with pytest.raises(SystemExit) as ended:
        same_bits.main()
    assert ended.value.code == 1 and "memit-blue: 0.0.R by 9.5e-07" in capsys.readouterr().out


@pytest.mark.parametrize("options", [(), ("--textbook", "--cpu-time", "--recipe", "alphaedit-blue")])
def test_shapes(options, script, monkeypatch, capsys):
    shapes = script("shapes", "--shape", "tiny", "--facts", 2, "--layers", "1+3", "--steps", 2, *options)
    tiny = shapes.llama(32, 48, 5, 4, 2, 9000, tied=True)
    monkeypatch.setitem(shapes.SHAPES, "tiny", lambda: tiny)
    shapes.main()
    header, _, row = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines())
    found = dict(zip(header, row, strict=False))
    assert [found[name] for name in ("shape", "facts", "layers", "steps")] == ["tiny", "2", "1+3", "2"]
    assert found["statistics"].endswith(" s for 96 tokens")
    assert float(found["s/edit"]) >= float(found["targets"]) > 0
    assert ("textbook, s/edit" in found) == bool(options)


def test_shapes_are_those_of_the_models(script):
    """Parameters of the real models, in billions."""
    expected = {"smollm2-135m": 0.135, "qwen2.5-0.5b": 0.494, "tinyllama-1.1b": 1.10, "llama-3.2-1b": 1.236}
    expected |= {"qwen2.5-1.5b": 1.544, "gpt2-xl": 1.558, "llama-3-8b": 8.03}
    shapes = script("shapes")
    assert shapes.SHAPES.keys() == expected.keys()
    for name, billions in expected.items():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(shapes.SHAPES[name]())
        assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, rel=0.01)
