"""What the reproduction of a paper needs: dry runs of real shapes without a download, and refusals before anything is loaded."""

import json
from pathlib import Path

import pytest
import torch

from bluedit.methods.presets import preset
from bluedit.methods.tunings import tune
from toys import toy_llama

SCRIPTS = Path(__file__).parent.parent / "benchmarks"
GB = 10**9


@pytest.fixture
def needs(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import needs  # pyright: ignore[reportMissingImports]

    return needs


@pytest.fixture
def reproduce(needs, monkeypatch, tmp_path, capsys):
    """Run the script on a machine of given rates and room; returns what it prints. Nothing may be loaded."""
    import reproduction  # pyright: ignore[reportMissingImports]

    def refuse(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(reproduction.Editor, "load", refuse)
    monkeypatch.setenv("BLUEDIT_CACHE", str(tmp_path / "cache"))

    def run(*arguments, room=None, rates=None):
        room = room or needs.Room(200 * GB, 200 * GB, 500 * GB, 500 * GB)
        monkeypatch.setattr(needs.Room, "here", lambda *_: room)
        monkeypatch.setattr(needs, "probe", lambda *_: rates or needs.Rates(1e13, 1e13, 1e12, 1e11, 0.5))
        monkeypatch.setattr("sys.argv", ["reproduction.py", *map(str, arguments)])
        reproduction.main()
        return capsys.readouterr().out

    return run


def test_a_probe_measures_this_machine(needs):
    rates = needs.probe(torch.device("cpu"), torch.float32, size=64)
    assert min(rates.targets, rates.forward, rates.exact, rates.eigen) > 1e6
    assert 0 < rates.reached < 1


@pytest.mark.parametrize(
    ("model", "size", "spread", "blue"),
    [
        ("gpt2-xl", "1.56 billion parameters in float32, d_key 6400", "13+14+15+16+17", "13+17"),
        ("gpt-j", "6.05 billion parameters in float32, d_key 16384", "3+4+5+6+7+8", "3+8"),
        ("llama-3-8b", "8.03 billion parameters in bfloat16, d_key 14336", "4+5+6+7+8", "4+8"),
    ],
)
def test_a_dry_run_of_the_papers_models(model, size, spread, blue, reproduce):
    out = reproduce("--model", model, "--facts", 2000, "--dry-run")
    assert f"{model}: {size}" in out
    for part in ("counterfact", "zsre"):
        assert f"{part}, 2000 facts in batches of 100" in out
    assert "few, 2000" not in out
    for method in ("memit", "alphaedit", "pmet", "rect", "prune", "memit-seq"):
        assert f"| {method} | {spread} |" in out and f"| {method}-blue | {blue} |" in out
    for word in ("memory: ", "disk: ", "weights to download", "Assumed", "Measured", "factor of two"):
        assert word in out


def test_time_grows_with_facts_and_slower_machines(needs):
    config = needs.config_of("llama-3-8b")
    shape = needs.shape_of(config, torch.bfloat16)
    recipe = tune(preset("memit-blue"), config, shape.d_key)
    rates = [needs.Rates(pace, pace, pace, pace, 0.5) for pace in (1e12, 2e12)]
    slow, fast = (sum(needs.seconds_of(recipe, shape, r, needs.Plan([recipe], 2000)).values()) for r in rates)
    assert slow == pytest.approx(2 * fast)
    more, fewer = (needs.seconds_of(recipe, shape, rates[0], needs.Plan([recipe], n))["targets"] for n in (2000, 500))
    assert more == pytest.approx(4 * fewer)


def test_targets_cost_what_was_counted_on_smollm2(needs):
    """182 GFLOP an edit with early stopping (docs/results/speed.md); the estimate has all steps."""
    config = needs.config_of("smollm2")
    shape = needs.shape_of(config, torch.float32)
    recipe = tune(preset("alphaedit-blue"), config, shape.d_key)
    found = needs.seconds_of(recipe, shape, needs.Rates(1, 1, 1, 1, 1), needs.Plan([recipe], 1))
    assert 182e9 < found["targets"] < 1.5 * 182e9


def test_sizes_hold_weights_and_statistics(needs):
    config = needs.config_of("gpt-j")
    shape = needs.shape_of(config, torch.float32)
    recipe = tune(preset("memit"), config, shape.d_key)
    sizes = needs.sizes_of(shape, needs.Plan([recipe], 2000), copies=False, fetched=7)
    assert sizes.model > 4 * shape.parameters
    assert sizes.statistics == (6 + 5) * 16384**2 * 8
    assert sizes.cache == 7 + 2 * 6 * 16384**2 * 8
    assert sizes.out == 2000 * 4 * (6 * (4096 + 2 * 16384) + 4096)


@pytest.mark.parametrize(
    ("room", "words"),
    [
        ((10, 10, 500, 500), ["are needed on cpu", "10.0 GB are free; use a device with more"]),
        ((200, 200, 1, 500), ["of disk are needed in", "weights 16.1 GB", "set HF_HOME and BLUEDIT_CACHE"]),
        ((200, 200, 500, 1), ["of disk are needed in", "choose another --out"]),
    ],
)
@pytest.mark.parametrize("options", [("--dry-run",), ("--data", "nowhere")])
def test_what_does_not_fit_is_said_before_anything_is_loaded(room, words, options, needs, reproduce):
    short = needs.Room(*(size * GB for size in room))
    with pytest.raises(SystemExit, match="this machine does not suffice") as ended:
        reproduce("--model", "llama-3-8b", "--facts", 2000, "--device", "cpu", *options, room=short)
    assert all(word in str(ended.value) for word in words)


def test_statistics_may_lie_in_main_memory(needs):
    sizes = needs.Sizes(model=30 * GB, statistics=20 * GB, cache=0, out=0, fetched=0)
    room = needs.Room(40 * GB, 100 * GB, GB, GB)
    where = {"cache": Path("a"), "out": Path("b")}
    (line,) = needs.shortages(sizes, room, "cuda", beside=True, **where)
    assert line.endswith("keep the statistics in main memory: --statistics-device cpu")
    assert not needs.shortages(sizes, room, "cuda", beside=False, **where)


def test_a_dry_run_of_a_folder(reproduce, tmp_path):
    toy_llama().save_pretrained(tmp_path / "toy")
    out = reproduce("--model", tmp_path / "toy", "--only", "zsre", "--recipes", "memit-blue:layers=0+1", "--dry-run")
    assert "| memit-blue | 0+1 |" in out and "0.0 GB are weights to download" in out


def test_a_dry_run_needs_shapes(reproduce):
    with pytest.raises(
        SystemExit, match=r"^a dry run needs shapes: give --model a folder with config.json, or one of smollm2, gpt2-xl"
    ):
        reproduce("--model", "someone/something", "--dry-run")


def test_facts_are_asked_for(reproduce, capsys):
    with pytest.raises(SystemExit):
        reproduce("--model", "gpt2-xl")
    assert "--data FOLDER is missing" in capsys.readouterr().err


def test_the_papers_own_files_are_taken_where_they_are(needs, tmp_path):
    import reproduction  # pyright: ignore[reportMissingImports]

    part = reproduction.PARTS["counterfact"]
    assert part.in_folder(tmp_path, published=True).name == "counterfact_easyedit.jsonl"
    (tmp_path / "multi_counterfact.json").write_text(json.dumps([]))
    assert part.in_folder(tmp_path, published=True).name == "multi_counterfact.json"
    assert part.in_folder(tmp_path, published=False).name == "counterfact_easyedit.jsonl"
