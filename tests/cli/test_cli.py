"""The command line on a toy model: the whole way, every refusal in one sentence, and Ctrl-C."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from bluedit import Editor, Patch, read_facts
from bluedit.cli.app import app
from bluedit.evaluate.generate import ask
from bluedit.model.loading import load
from bluedit.methods.presets import DEFAULT, PRESETS
from toys import toy_gpt2, toy_llama, toy_tokenizer

SET = [
    "layers=[1,2,3]",
    "preserve.lambda=1",
    "preserve.unit=energy",
    "preserve.threshold=0.2",
    "objective.clamp=5",
    "objective.steps=4",
    "contexts.count=1",
]
OPTIONS = ["--known", "edit", "--tokens", "480", *(word for pair in SET for word in ("--set", pair))]
SETTINGS = {pair.split("=")[0]: pair.split("=")[1] for pair in SET}
FACT = "The mother tongue of {Danielle Darrieux} is => English"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A toy Llama as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("models") / "toy"
    toy_llama(dtype=torch.float32).save_pretrained(folder)
    toy_tokenizer(bos=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def patch(model, tmp_path_factory) -> Path:
    """A patch of it with two facts."""
    folder = tmp_path_factory.mktemp("patches") / "patch"
    result = run("edit", "-m", model, "-o", folder, "-f", FACT, "-f", "The capital of {France} is => Rome", *OPTIONS)
    assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture(autouse=True)
def terminal(monkeypatch, request):
    """A wide terminal, and no log handler that outlives the runner's streams."""
    monkeypatch.setenv("COLUMNS", "200")
    before = list(logging.root.handlers)
    yield
    for handler in list(logging.root.handlers):
        if handler not in before:
            logging.root.removeHandler(handler)


def run(*arguments, **options):
    return CliRunner().invoke(app, [str(a) for a in arguments], **options)


def files(folder: Path) -> dict[str, bytes | None]:
    return {str(f.relative_to(folder)): f.read_bytes() if f.is_file() else None for f in sorted(folder.rglob("*"))}


def flat(text: str) -> str:
    return " ".join(text.split())


# the whole way


def test_edit_writes_a_patch_and_leaves_the_model_alone(model, tmp_path):
    before = files(model)
    out = tmp_path / "patch"
    result = run("edit", "-m", model, "-o", out, "-f", FACT, *OPTIONS)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert "What changed" in result.stdout
    assert "perplexity of ordinary text" in flat(result.stdout)
    assert f"Patch written to {out}. The model itself is unchanged; try:" in flat(result.stdout)
    assert f'bluedit ask --model {model} --patch {out} "The mother tongue of Danielle Darrieux is"' in result.stdout
    assert files(model) == before
    saved = Patch.load(out)
    assert [(f.prompt, f.subject, f.target) for f in saved.facts] == [
        ("The mother tongue of {} is", "Danielle Darrieux", "English")
    ]
    assert saved.info["recipe"] == DEFAULT
    assert saved.info["settings"]["objective.steps"] == 4
    assert saved.info["settings"]["layers"] == [1, 2, 3]
    assert saved.info["model"] == str(model)
    live = Editor(load(str(model)), tokens=480)
    done = live.edit(list(saved.facts), settings=SETTINGS, known="edit", report=False)
    for one, two in zip(saved.batches[0].updates, done.patch.batches[0].updates, strict=True):
        assert torch.equal(one.R, two.R)
        assert torch.equal(one.A, two.A)


def test_show(patch):
    result = run("show", patch)
    assert result.exit_code == 0
    text = flat(result.stdout)
    for part in (
        "Patch",
        "Updates",
        "Facts",
        "What changed",
        DEFAULT,
        "Darrieux",
        "English",
        "layers.1.mlp.down_proj.weight",
    ):
        assert part in text, part
    assert "2 in 1 batch" in text


def test_apply_saves_an_edited_checkpoint(model, patch, tmp_path):
    before = files(model)
    result = run("apply", patch, "-m", model, "--save", tmp_path / "edited")
    assert result.exit_code == 0, result.stderr
    assert f"2 facts written; edited model saved to {tmp_path / 'edited'}" in flat(result.stdout)
    assert files(model) == before
    editor = Editor(load(str(model)))
    editor.apply(patch)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "edited", dtype="auto").state_dict()
    expected = editor.model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    again = run("apply", patch, "-m", model, "--save", tmp_path / "edited")
    assert_fails(
        again,
        4,
        f"{tmp_path / 'edited'} exists already; choose a new folder for the edited model, or remove that one first",
    )


def test_ask_with_and_without_the_patch(model, patch):
    prompt = "The mother tongue of Danielle Darrieux is"
    result = run("ask", "-m", model, "--patch", patch, "--tokens", 3, prompt, "The capital of France is")
    assert result.exit_code == 0, result.stderr
    assert "unedited" in result.stdout
    assert "with the patch" in result.stdout
    lm = load(str(model))
    top = ask(lm, [prompt], tokens=3)[0].top[0]
    assert f"{top[1]:6.1%}  {top[0]!r}".strip() in result.stdout
    plain = run("ask", "-m", model, "--tokens", 3, prompt)
    assert plain.exit_code == 0
    assert "with the patch" not in plain.stdout
    assert f"{top[1]:6.1%}  {top[0]!r}".strip() in plain.stdout


def test_edit_on_top_of_a_patch_contains_both(model, patch, tmp_path):
    result = run(
        "edit",
        "-m",
        model,
        "-o",
        tmp_path / "both",
        "--patch",
        patch,
        "-f",
        "The rain in {Berlin} is => mild",
        *OPTIONS,
    )
    assert result.exit_code == 0, result.stderr
    assert [f.target for f in Patch.load(tmp_path / "both").facts] == ["English", "Rome", "mild"]


def test_edit_without_report_and_with_a_file_of_facts(model, tmp_path):
    (tmp_path / "facts.csv").write_text(
        "prompt,subject,target\nThe capital of {} is,France,Rome\n{} plays the,Élise,drum kit\n", "utf-8"
    )
    result = run(
        "edit",
        "-m",
        model,
        "-o",
        tmp_path / "patch",
        "--facts",
        tmp_path / "facts.csv",
        "--no-report",
        "--batch-size",
        1,
        "-r",
        "memit",
        *OPTIONS,
    )
    assert result.exit_code == 0, result.stderr
    assert "2 facts written with memit into layers 1, 2, 3; not measured" in flat(result.stdout)
    assert len(Patch.load(tmp_path / "patch").batches) == 2
    assert run("show", tmp_path / "patch").exit_code == 0


def test_facts_shows_and_converts(tmp_path):
    record = {"prompt": "{} is in", "subject": "Rome", "target": "France", "old_target": "Italy"}
    (tmp_path / "facts.jsonl").write_text(json.dumps(record) + "\n")
    result = run("facts", tmp_path / "facts.jsonl")
    assert result.exit_code == 0
    assert "1 facts" in result.stdout
    assert "Rome is in" in result.stdout
    result = run("facts", "world:7", "--out", tmp_path / "world.jsonl")
    assert result.exit_code == 0
    assert f"7 facts written to {tmp_path / 'world.jsonl'}" in flat(result.stdout)
    assert len(read_facts(tmp_path / "world.jsonl")) == 7
    for options, expected in ((("--limit", 3), slice(3)), (("--skip", 2, "--limit", 3), slice(2, 5))):
        run("facts", "world:7", "--out", tmp_path / "part.jsonl", *options)
        found = [fact.text for fact in read_facts(tmp_path / "part.jsonl")]
        assert found == [fact.text for fact in read_facts(tmp_path / "world.jsonl")][expected]
    assert_fails(run("facts", "world:7", "--skip", -1), 3, "skip=-1 is negative")


def test_facts_tells_of_conflicts_and_converts_all_the_same(tmp_path, caplog):
    record = {"prompt": "{} is in", "subject": "Rome", "target": "France"}
    lines = [json.dumps(record), json.dumps(record | {"target": "Spain"})]
    (tmp_path / "facts.jsonl").write_text("\n".join(lines))
    result = run("facts", tmp_path / "facts.jsonl", "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 0
    assert "facts 1 and 2 contradict each other" in caplog.text
    assert len(read_facts(tmp_path / "out.jsonl")) == 2


def test_the_choice_of_bundled_facts(model, tmp_path):
    chosen = []
    for seed in (0, 1):
        out = tmp_path / str(seed)
        assert (
            run(
                "edit",
                "-m",
                model,
                "--facts",
                "world:2",
                "--seed",
                seed,
                "--known",
                "edit",
                "--no-report",
                *OPTIONS,
                "-o",
                out,
            ).exit_code
            == 0
        )
        chosen.append([fact.text for fact in Patch.load(out).facts])
    assert chosen[0] != chosen[1]


def test_version():
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout == f"bluedit {version('bluedit')}\n"


def test_recipes_and_their_options():
    result = run("recipes")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in PRESETS)
    assert f"Default: {DEFAULT}" in flat(result.stdout)
    result = run("recipes", "--options")
    assert result.exit_code == 0
    assert all(option in result.stdout for option in ("preserve.lambda", "objective.clamp", "contexts.kind", "layers"))


def test_recipes_as_markdown():
    result = run("recipes", "--markdown")
    assert result.exit_code == 0
    assert result.stdout.startswith("| name | paper | writes |")


def test_benchmark_runs_goes_on_and_refuses(model, tmp_path):
    recipe = "memit-blue:" + ",".join(pair.replace("[1,2,3]", "1+2+3") for pair in SET)
    wanted = [
        "benchmark",
        "-m",
        model,
        "-o",
        tmp_path / "run",
        "--facts",
        "world:4",
        "--tokens",
        480,
        "--batch-size",
        2,
    ]
    wanted += ["--passage-tokens", 100, "--suite", "counterfact", "--suite", "zsre"]
    result = run(*wanted, "-r", "unedited", "-r", recipe)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("| recipe | facts | efficacy |") and "| rephrase_accuracy |" in result.stdout
    assert (tmp_path / "run" / "results.md").read_text() == result.stdout
    again = run(*wanted, "-r", "unedited", "-r", recipe)
    assert again.exit_code == 0 and again.stdout == result.stdout
    assert_fails(run(*wanted, "--skip", 1, "-r", "unedited"), 9, f"{tmp_path / 'run'} holds another benchmark: facts")
    assert_fails(run(*wanted, "--suite", "zsr"), 9, "unknown suite of metrics 'zsr'; did you mean 'zsre'?")
    assert_fails(run(*wanted, "--passages", tmp_path / "none.txt"), 6, "there is no corpus")


def test_fetch_says_what_it_sees(model):
    result = run("fetch", model)
    assert result.exit_code == 0
    assert "LlamaForCausalLM, 5 layers, d_key 48, torch.float32; layers [1, 2] will be edited" in flat(result.stdout)


@pytest.mark.parametrize("command", ["edit", "show", "apply", "ask", "benchmark", "recipes", "facts", "fetch", "demo"])
def test_every_command_explains_itself(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


# refusals


def assert_fails(result, code: int, text: str) -> None:
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    assert flat(result.stderr).startswith(flat("bluedit: " + text)), result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


EDITS = {
    "unknown model": (
        ["-m", "smolm2", "-f", FACT],
        4,
        "there is no model 'smolm2': no such folder, and it is not built in; did you mean 'smollm2'?",
    ),
    "no such folder": (["-m", "./nowhere", "-f", FACT], 4, "there is no model './nowhere': no such folder"),
    "unknown recipe": (
        ["-f", FACT, "-r", "alphaedit-bleu"],
        5,
        "unknown recipe 'alphaedit-bleu'; did you mean 'alphaedit-blue'",
    ),
    "unknown option": (
        ["-f", FACT, "-s", "preserve.lamda=3"],
        5,
        "--set: unknown option 'preserve.lamda'; did you mean 'preserve.lambda'",
    ),
    "set without value": (
        ["-f", FACT, "-s", "preserve.lambda"],
        5,
        "--set 'preserve.lambda' is not of the form option=value, e.g. --set preserve.lambda=500",
    ),
    "set out of range": (
        ["-f", FACT, "-s", "preserve.lambda=-2"],
        5,
        "--set: preserve.lambda is -2; it must be above 0",
    ),
    "set no number": (
        ["-f", FACT, "-s", "objective.steps=many"],
        5,
        "--set: objective.steps must be a whole number, not 'many'",
    ),
    "no such file of facts": (["--facts", "{tmp}/fact.csv"], 3, "there is no file {tmp}/fact.csv"),
    "binary file of facts": (["--facts", "{tmp}/facts.bin"], 3, "{tmp}/facts.bin is a binary file (zero byte at 3)"),
    "no facts": ([], 3, "no facts were given; use --fact 'The capital of {{France}} is => Rome' or --facts FILE"),
    "empty file of facts": (
        ["--facts", "{tmp}/empty.jsonl"],
        3,
        "{tmp}/empty.jsonl is empty; expected facts as JSON, JSONL or CSV",
    ),
    "subject not in the prompt": (
        ["--facts", "{tmp}/easyedit.json"],
        3,
        "{tmp}/easyedit.json: 1 of 1 records cannot be used",
    ),
    "no braces": (
        ["-f", "The capital of France is => Rome"],
        3,
        "cannot read the fact 'The capital of France is => Rome'; write it as",
    ),
    "empty target": (["-f", "The capital of {{France}} is => "], 3, "fact 'The capital of {{}} is': target is empty"),
    "contradiction": (
        ["-f", "The capital of {{France}} is => Rome", "-f", "The capital of {{France}} is => Berlin"],
        3,
        "facts 1 and 2 contradict each other: 'The capital of France is' => 'Rome' and 'Berlin'; keep one",
    ),
    "out is a file": (
        ["-f", FACT, "-o", "{tmp}/facts.bin"],
        7,
        "{tmp}/facts.bin is a file; a patch is a folder, choose another name",
    ),
    "out is somebody's folder": (
        ["-f", FACT, "-o", "{tmp}"],
        7,
        "the folder {tmp} holds other things than a patch; choose a new or",
    ),
    "layer out of range": (
        ["-f", FACT, "-s", "layers=[1,9]"],
        4,
        "layer 9 is out of range: this model has layers 0 to 4; set 'layers'",
    ),
    "batch of none": (["-f", FACT, "--batch-size", "0"], 5, "batch_size is 0; it must be at least 1"),
    "unknown way with known facts": (["-f", FACT, "--known", "skp"], 5, "known is 'skp'; did you mean 'skip'?"),
    "unknown dtype": (["-f", FACT, "--dtype", "bfloat61"], 4, "unknown dtype 'bfloat61'; did you mean 'bfloat16'"),
    "no such corpus": (
        ["-f", FACT, "--known", "edit", "--corpus", "{tmp}/fcts.bin"],
        6,
        "there is no corpus '{tmp}/fcts.bin'; did you mean 'facts.bin'?",
    ),
    "too few tokens": (
        ["-f", FACT, "--known", "edit", "--tokens", "20"],
        6,
        "the corpus self gives 32 tokens, but statistics of 48-dim",
    ),
    "no such patch to build on": (
        ["-f", FACT, "--patch", "{tmp}/no"],
        7,
        "{tmp}/no is not a patch: there is no such folder",
    ),
    "world of words": (
        ["--facts", "world:many"],
        3,
        "'world:many' is no number of bundled facts; write for example world:20",
    ),
}


@pytest.fixture
def mess(tmp_path) -> Path:
    """A folder of files that no edit may touch."""
    (tmp_path / "facts.bin").write_bytes(b"abc\0def")
    (tmp_path / "empty.jsonl").write_text("")
    record = {
        "prompt": "The mother tongue of Danielle is",
        "subject": "Darrieux",
        "target_new": "English",
        "ground_truth": "French",
    }
    (tmp_path / "easyedit.json").write_text(json.dumps([record]))
    return tmp_path


@pytest.mark.parametrize("case", EDITS)
def test_edits_that_are_refused(case, model, mess):
    arguments, code, text = EDITS[case]
    arguments = [a.format(tmp=mess) if "{tmp}" in a or "{{" in a else a for a in arguments]
    before = files(mess), files(model)
    if "-m" not in arguments:
        arguments += ["-m", str(model)]
    if "-o" not in arguments:
        arguments += ["-o", str(mess / "patch")]
    result = run("edit", *arguments)
    assert_fails(result, code, text.format(tmp=mess))
    after = {name: data for name, data in files(mess).items() if not name.startswith("cache")}
    assert (after, files(model)) == before


def test_every_fault_of_a_file_is_told(mess):
    result = run("facts", mess / "easyedit.json")
    assert_fails(result, 3, f"{mess / 'easyedit.json'}: 1 of 1 records cannot be used")
    assert "subject 'Darrieux' does not occur in the prompt 'The mother tongue of Danielle is'" in flat(result.stderr)


def test_a_patch_of_another_model(patch, tmp_path):
    toy_llama(dtype=torch.float32, seed=1).save_pretrained(tmp_path / "other")
    toy_gpt2(dtype=torch.float32, square=True).save_pretrained(tmp_path / "gpt2")
    for name in ("other", "gpt2"):
        toy_tokenizer(bos=True).save_pretrained(tmp_path / name)
    before = files(tmp_path)
    for command in (["apply", patch, "--save", tmp_path / "edited"], ["ask", "--patch", patch, "I am"]):
        result = run(*command, "-m", tmp_path / "other")
        assert_fails(result, 7, "the patch was made for other weights: ")
        assert "or pass force=True (--force) if you know better" in flat(result.stderr)
        result = run(*command, "-m", tmp_path / "gpt2", "--force")
        assert_fails(result, 7, "the patch changes 32 x 48 weights at layer 1, but ")
    result = run("edit", "-m", tmp_path / "other", "-o", tmp_path / "new", "-f", FACT, "--patch", patch)
    assert_fails(result, 7, "the patch was made for other weights: ")
    assert files(tmp_path) == before
    assert run("ask", "-m", tmp_path / "other", "--patch", patch, "--force", "--tokens", 1, "I am").exit_code == 0


def test_other_commands_refuse_in_a_sentence(model, patch, mess):
    before = files(mess)
    assert_fails(run("ask", "-m", model, "I", " "), 3, "a prompt is empty; write the text the model is to continue")
    assert_fails(run("ask", "-m", model, "word " * 300), 3, "a prompt of ")
    assert_fails(
        run("ask", "-m", mess / "facts.bin", "I"),
        4,
        f"{mess / 'facts.bin'} is a file, not a model; give a Hugging Face folder",
    )
    assert_fails(
        run("ask", "-m", mess, "I"), 4, f"the folder {mess} holds no config.json, so it is no Hugging Face model"
    )
    assert_fails(run("show", mess), 7, f"{mess} is not a patch: it holds no manifest.json")
    assert_fails(run("show", mess / "no"), 7, f"{mess / 'no'} is not a patch: there is no such folder")
    assert_fails(run("apply", mess / "no", "-m", model, "--save", mess / "x"), 7, f"{mess / 'no'} is not a patch")
    assert_fails(run("apply", patch, "-m", model, "--save", mess), 4, f"{mess} exists already; choose a new folder")
    assert_fails(run("facts", mess / "facts.bin"), 3, f"{mess / 'facts.bin'} is a binary file")
    assert_fails(run("facts", "world:5", "-o", mess / "facts.bin" / "x"), 3, "cannot write ")
    assert files(mess) == before


def test_a_model_that_cannot_be_read(mess):
    (mess / "config.json").write_text("{}")
    result = run("ask", "-m", mess, "I")
    assert_fails(result, 4, f"cannot load the model '{mess}': ")


def test_a_damaged_model(model, tmp_path):
    broken = toy_llama(dtype=torch.float32)
    broken.model.layers[1].mlp.down_proj.weight.data[0, 0] = float("nan")
    broken.save_pretrained(tmp_path / "broken")
    toy_tokenizer(bos=True).save_pretrained(tmp_path / "broken")
    result = run("edit", "-m", tmp_path / "broken", "-o", tmp_path / "patch", "-f", FACT, *OPTIONS)
    assert_fails(
        result, 4, "model.layers.1.mlp.down_proj.weight holds 1 NaN or infinite values of 1536; the model is damaged"
    )
    assert not (tmp_path / "patch").exists()


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there(model, device):
    assert_fails(run("ask", "-m", model, "--device", device, "I"), 4, "")


def test_a_number_of_threads_that_makes_no_sense():
    assert run("--threads", "-1", "recipes").exit_code == 2


def test_no_disk_space_for_the_patch(model, tmp_path, monkeypatch):
    def fsync(_descriptor):
        raise OSError(28, os.strerror(28))

    assert (
        run("edit", "-m", model, "-o", tmp_path / "a", "-f", FACT, "--no-report", *OPTIONS).exit_code == 0
    )  # statistics are stored now
    monkeypatch.setattr("bluedit.files.os.fsync", fsync)
    result = run("edit", "-m", model, "-o", tmp_path / "patch", "-f", FACT, "--no-report", *OPTIONS)
    assert_fails(
        result, 7, f"cannot save the patch to {tmp_path / 'patch'}: No space left on device; nothing was written."
    )
    assert not (tmp_path / "patch").exists()


def test_ctrl_c_and_memory_inside_a_command(model, tmp_path, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    def exhausted(*_args, **_options):
        raise kinds.pop()

    arguments = ["edit", "-m", model, "-o", tmp_path / "patch", "-f", FACT, *OPTIONS]
    monkeypatch.setattr("bluedit.editing.editor.write_batch", interrupted)
    assert_fails(run(*arguments), 130, "interrupted; nothing was changed")
    monkeypatch.setattr("bluedit.editing.editor.write_batch", exhausted)
    kinds = [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ]
    while kinds:
        assert_fails(run(*arguments), 4, "not enough memory; use a smaller --batch-size, or --dtype bfloat16")
    assert not (tmp_path / "patch").exists()


# as a process of its own


def command(*arguments) -> list[str]:
    return [sys.executable, "-c", "from bluedit.cli.app import main; main()", *map(str, arguments)]


def test_a_mistyped_command_is_recognised():
    done = subprocess.run(command("edti"), capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "No such command 'edti'" in flat(done.stderr)
    assert "Did you mean 'edit'" in flat(done.stderr)
    assert done.stdout == ""


def test_ctrl_c_in_the_middle_of_an_edit(model, tmp_path):
    """A real signal, sent when the statistics are there and the first of many facts are being written."""
    before = files(model)
    cache = Path(os.environ["BLUEDIT_CACHE"])
    process = subprocess.Popen(
        command(
            "edit", "-m", model, "-o", tmp_path / "patch", "--facts", "world:300", "--batch-size", 1, "--no-report", *OPTIONS,
            "--set", "objective.steps=200", "--set", "objective.stop_loss=0",
        ),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while not list(cache.rglob("layer-3.safetensors")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the edit never began"
            time.sleep(0.05)
        time.sleep(1.0)
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert err == "bluedit: interrupted; nothing was changed\n"
    assert out == ""
    assert not (tmp_path / "patch").exists()
    assert files(model) == before
