"""Short forms of `benchmarks/fuzz.py` and `benchmarks/kill.py`, and that both notice what they look for."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import load as load_tensors

from bluedit.editing._batch_record import read_batch
from bluedit.errors import BluEditError, ModelError
from bluedit.export.base import BaseModel
from bluedit.export.gguf_file import GgufFile
from bluedit.model.loading import load
from bluedit.progress import Progress
from toys import toy_llama, toy_tokenizer

SCRIPTS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """A script, or a helper of scripts, as a module."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module


def run(name, *arguments):
    """What a script prints; it fails if any input or kill does."""
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_damaged_input_is_refused_or_read_as_what_was_written(tmp_path):
    pytest.importorskip("gguf")
    shown = run("fuzz", "--count", 60, "--seed", 1, "--out", tmp_path)
    assert shown.count("no failure") == 28
    assert (tmp_path / "fuzz.md").read_text().count("\n") == 30 and not (tmp_path / "failing").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it forks")
def test_killed_commands_leave_what_is_whole(tmp_path):
    pytest.importorskip("gguf")
    shown = run("kill", "--kills", 10, "--seed", 1, "--out", tmp_path)
    assert shown.count("no failure") == 10


def test_a_whole_gguf_file_is_converted(script, tmp_path, monkeypatch):
    """What the fuzzer damages must be readable before."""
    pytest.importorskip("gguf")
    monkeypatch.setenv("BLUEDIT_CACHE", str(tmp_path / "cache"))
    model = toy_llama(dtype=torch.float32, layers=1)
    lm = load(str(script("sound").gguf_file(tmp_path / "toy.gguf", model, toy_tokenizer())))
    assert torch.equal(lm.model.model.layers[0].mlp.down_proj.weight, model.model.layers[0].mlp.down_proj.weight)


def test_a_conversion_is_reported_to_bluedit_alone(script, tmp_path, monkeypatch, capfd):
    """transformers draws a bar of its own, also where nobody asked for one and outside a terminal."""
    pytest.importorskip("gguf")
    from transformers import modeling_gguf_pytorch_utils

    bar, seen = modeling_gguf_pytorch_utils.tqdm, []

    class Counting(Progress):
        @contextmanager
        def task(self, title, total, unit=""):
            seen.append([title, total, unit, 0])
            here = seen[-1]

            def advance(count=1):
                here[-1] += count

            yield advance

    monkeypatch.setenv("BLUEDIT_CACHE", str(tmp_path / "cache"))
    file = script("sound").gguf_file(tmp_path / "toy.gguf", toy_llama(dtype=torch.float32, layers=1), toy_tokenizer())
    load(str(file), progress=Counting())
    assert seen == [[f"loading {file}", 1, "", 1], ["converting toy.gguf", 11, "tensors", 11]]
    BaseModel(str(file)).folder.joinpath("config.json").unlink()  # then it is converted again
    assert BaseModel(str(file)).folder.joinpath("config.json").is_file()
    assert modeling_gguf_pytorch_utils.tqdm is bar
    assert capfd.readouterr() == ("", "")


def test_a_gguf_file_of_too_many_blocks_is_refused_before_they_are_made(script, tmp_path, monkeypatch):
    gguf = pytest.importorskip("gguf")
    monkeypatch.setenv("BLUEDIT_CACHE", str(tmp_path / "cache"))
    file = script("sound").gguf_file(tmp_path / "toy.gguf", toy_llama(dtype=torch.float32, layers=1), toy_tokenizer())
    field = gguf.GGUFReader(file, "r+").fields["llama.block_count"]
    field.parts[-1][0] = 2**31
    field.parts[-1].flush()
    with pytest.raises(ModelError, match=r"llama\.block_count is 2147483648, and there are weights of 1"):
        load(str(file))


def test_a_gguf_file_of_too_wide_a_model_is_refused_before_it_is_made(script, tmp_path, monkeypatch):
    gguf = pytest.importorskip("gguf")
    monkeypatch.setenv("BLUEDIT_CACHE", str(tmp_path / "cache"))
    file = script("sound").gguf_file(tmp_path / "toy.gguf", toy_llama(dtype=torch.float32, layers=1), toy_tokenizer())
    field = gguf.GGUFReader(file, "r+").fields["llama.feed_forward_length"]
    field.parts[-1][0] = 2**24
    field.parts[-1].flush()
    with pytest.raises(ModelError, match=r"its header describes a model of [\d,]+ weights, and it holds [\d,]+"):
        load(str(file))


def test_a_gguf_text_that_is_not_utf8_is_refused(script, tmp_path):
    gguf = pytest.importorskip("gguf")
    file = script("sound").gguf_file(tmp_path / "toy.gguf", toy_llama(dtype=torch.float32, layers=1), toy_tokenizer())
    name = gguf.GGUFReader(file, "r+").fields["general.name"].parts[-1]
    name[0] = 0xFF
    name.flush()
    with pytest.raises(ModelError, match=r"cannot read general\.name in the GGUF file"):
        GgufFile(file).text("general.name")


def test_a_gguf_array_that_is_longer_than_its_file_is_refused_at_once(script, tmp_path, monkeypatch):
    """The reader of the package gguf would read it to its end, which never comes."""
    gguf = pytest.importorskip("gguf")
    monkeypatch.setenv("BLUEDIT_CACHE", str(tmp_path / "cache"))
    file = script("sound").gguf_file(tmp_path / "toy.gguf", toy_llama(dtype=torch.float32, layers=1), toy_tokenizer())
    length = gguf.GGUFReader(file, "r+").fields["tokenizer.ggml.token_type"].parts[4]
    assert length.dtype == "uint64"
    length[0] = 2**62
    length.flush()
    for read in (lambda: GgufFile(file).architecture, lambda: load(str(file))):
        with pytest.raises(ModelError, match=r"bytes are said to follow byte [\d,]+ of"):
            read()


@pytest.mark.parametrize(
    ("check", "failure"),
    [
        (lambda number: number < 100 or {}["x"], "KeyError: 'x'"),
        (lambda number: number < 100 or busy(), "Wrong: it took"),
        (lambda number: number < 100 or refuse(""), "Wrong: it is refused without a word"),
    ],
)
def test_fuzz_keeps_the_smallest_input_that_fails(check, failure, script, tmp_path, monkeypatch):
    fuzz, readers = script("fuzz"), script("readers")
    monkeypatch.setattr(fuzz, "LIMIT_S", 0.02)
    found = fuzz.run(readers.Target("a reader", st.integers(0, 10**6), check), 200, 0, tmp_path)
    assert found.failure.startswith(failure)
    seed, smallest, *_ = (tmp_path / "a-reader.txt").read_text().split("\n")
    assert (seed, smallest) == ("seed 0", "100")


def busy():
    until = time.process_time() + 0.03
    while time.process_time() < until:
        pass
    return True


def refuse(words):
    raise BluEditError(words)


def test_fuzz_counts_what_is_read_and_what_is_refused(script):
    fuzz, readers = script("fuzz"), script("readers")
    target = readers.Target("a reader", st.integers(0, 10**6), lambda number: number % 2 == 0 or refuse("it is odd"))
    found = fuzz.run(target, 50, 0)
    assert found.accepted + found.refused == found.inputs >= 50 and found.accepted and found.refused
    assert not found.failure and fuzz.table([found]).count("\n") == 2


def test_a_patch_that_reads_as_another_one_is_found(script, tmp_path, monkeypatch):
    """The fuzzer must fail if digests are not compared."""
    readers = script("readers")
    targets = {target.name: target for target in readers.patch_targets(tmp_path)}
    file = next((tmp_path / "patch").glob("0000*.json"))
    said = json.loads(file.read_text())
    said["updates"][0]["layer"] = 2

    def unchecked(folder, name):
        record, factors = ((folder / f"{name}{suffix}").read_bytes() for suffix in (".json", ".safetensors"))
        return read_batch(json.loads(record), load_tensors(factors))

    changed = json.dumps(said)
    with pytest.raises(BluEditError, match="was changed after it was written"):
        targets["patch: batch records"].check(changed)
    monkeypatch.setattr("bluedit.editing._folder.load_batch", unchecked)
    with pytest.raises(readers.Wrong, match="read as another one"):
        targets["patch: batch records"].check(changed)


def test_a_half_finished_state_is_found(script, tmp_path):
    kill = script("kill")
    scenario = kill.Scenario("one", (), tmp_path, lambda _folder: "half")
    with pytest.raises(AssertionError, match="neither the old nor the new"):
        kill._check(scenario, tmp_path, "old", "new")
