"""Every refusal is one sentence on standard error with the numbers and what to do, and leaves everything as it was."""

from __future__ import annotations

import json
import subprocess

import pytest
import torch
import typer
from cli_help import EDIT, FACT, assert_fails, files, flat, run
from cli_help import command as process
from typer.testing import CliRunner

from bluedit.cli.commands import Group
from bluedit.errors import StatisticsError
from toys import toy_llama, toy_tokenizer

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
    "option of another part": (
        ["-f", FACT, "-s", "preserve.threshold=0.1"],
        5,
        "--set: 'preserve.threshold' belongs to preserve=null-space, and this recipe has preserve=covariance; did you mean",
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
        "the folder {tmp} contains files that are not part of a patch; choose a new or",
    ),
    "force is for patches only": (
        ["-f", FACT, "-o", "{tmp}", "--force"],
        7,
        "the folder {tmp} contains files that are not part of a patch; choose a new or",
    ),
    "layer out of range": (
        ["-f", FACT, "-s", "layers=[1,9]"],
        4,
        "layer 9 is out of range: this model has layers 0 to 4; set 'layers'",
    ),
    "batch of none": (
        ["-f", FACT, "--batch-size", "0"],
        5,
        "batch_size is 0; it must be a whole number and at least 1",
    ),
    "unknown way with known facts": (["-f", FACT, "--known", "skp"], 5, "known is 'skp'; did you mean 'skip'?"),
    "unknown precision": (
        ["-f", FACT, "--precision", "fulll"],
        5,
        "--precision cannot be 'fulll'; did you mean 'full'?",
    ),
    "negative tokens": (["-f", FACT, "--tokens-per-step", "-1"], 5, "--tokens-per-step is -1; it must be at least 0"),
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
}


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


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (["--set", "objective.stepz=4"], "--set: unknown option 'objective.stepz'"),
        (["--precision", "half"], "--precision cannot be 'half'; choose one of auto, bf16, full"),
        (["--patch", "nowhere"], "nowhere is not a patch: there is no such folder"),
    ],
)
def test_what_needs_no_model_is_checked_before_it_is_loaded(option, text, tmp_path):
    result = run("edit", "-m", "no model", "-o", tmp_path / "patch", "-f", FACT, *option)
    assert result.exit_code in (5, 7)
    assert flat(result.stderr).startswith(f"bluedit: {text}")


def test_options_that_would_do_nothing_are_refused(patch, mess):
    before = files(mess)
    public = run("export", patch, mess / "x", "--to", "patch", "--public")
    assert_fails(public, 12, "--public is about an uploaded repository; name it with --push REPO")
    assert_fails(run("log", "--events", "--health"), 14, "--health asks about entries, and --events lists events")
    assert_fails(
        run("facts", "expand", "world:2", "--only"), 3, "--only chooses what is written, so it needs --out FILE"
    )
    assert files(mess) == before


def test_other_commands_refuse_in_a_sentence(model, patch, mess):
    before = files(mess)
    assert_fails(
        run("ask", "-m", model, "I", " "), 3, "a prompt is empty; write the text that the model is to continue"
    )
    assert_fails(run("ask", "-m", model, "word " * 300), 3, "a prompt of ")
    assert_fails(
        run("ask", "-m", mess / "facts.bin", "I"),
        4,
        f"{mess / 'facts.bin'} is a file, not a model; give a Hugging Face folder",
    )
    assert_fails(
        run("ask", "-m", mess, "I"), 4, f"the folder {mess} holds no config.json, so it is not a Hugging Face model"
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
    assert_fails(run("ask", "-m", mess, "I"), 4, f"cannot load the model '{mess}': ")


def test_a_damaged_model(tmp_path):
    broken = toy_llama(dtype=torch.float32)
    broken.model.layers[1].mlp.down_proj.weight.data[0, 0] = float("nan")
    broken.save_pretrained(tmp_path / "broken")
    toy_tokenizer(bos=True).save_pretrained(tmp_path / "broken")
    result = run("edit", "-m", tmp_path / "broken", "-o", tmp_path / "patch", "-f", FACT, *EDIT)
    assert_fails(
        result, 4, "model.layers.1.mlp.down_proj.weight holds 1 NaN or infinite values of 1536; the model is damaged"
    )
    assert not (tmp_path / "patch").exists()


def test_code_that_comes_with_a_model_runs_only_if_trusted(model, tmp_path):
    folder, mark = tmp_path / "model", tmp_path / "it ran"
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(
        "from pathlib import Path\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        f"Path({str(mark)!r}).touch()\n"
        "class Own(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = Own\n"
    )
    commands = (["ask", "-m", folder, "I"], ["edit", "-m", folder, "-o", tmp_path / "patch", "-f", FACT, *EDIT])
    for command in commands:
        result = run(*command, input="y\n")
        assert result.exit_code == 4
        assert "--trust-remote-code" in flat(result.stderr)
        assert not mark.exists()
    for command in commands:
        result = run(*command, "--trust-remote-code")
        assert result.exit_code == 0, result.stderr
    assert mark.exists()


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there(model, device, tmp_path):
    assert_fails(run("ask", "-m", model, "--device", device, "I"), 4, f"cannot put the model on device '{device}'")


def test_a_device_for_statistics_that_is_not_there(model, tmp_path):
    arguments = ["edit", "-m", model, "-o", tmp_path / "patch", "-f", FACT, *EDIT, "--statistics-device", "nonsense"]
    text = "key statistics cannot be kept on nonsense, they need a device with float64"
    result = run(*arguments)
    assert_fails(result, 6, text)
    assert "set --statistics-device=cpu" in flat(result.stderr)


def test_a_number_of_threads_that_makes_no_sense():
    result = run("--threads", "-1", "recipes")
    assert result.exit_code == 2
    assert "Invalid value for '--threads'" in flat(result.stderr)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (StatisticsError("no room; set execution.statistics_device=cpu"), 6, "no room; set --statistics-device=cpu"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was changed"),
        (MemoryError(), 4, "not enough memory; use a smaller --tokens-per-step or --batch-size, or --dtype bfloat16"),
        (torch.OutOfMemoryError("CUDA out of memory"), 4, "not enough memory; "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), 4, "not enough"),
    ],
)
def test_what_goes_wrong_inside_a_command_ends_in_a_sentence(error, code, text):
    app = typer.Typer(cls=Group)

    @app.command()
    def fails():
        raise error

    @app.command()
    def works():
        typer.echo("fine")

    assert_fails(CliRunner().invoke(app, ["fails"]), code, text)
    assert CliRunner().invoke(app, ["works"]).stdout == "fine\n"


def test_faults_of_ours_are_not_hidden():
    app = typer.Typer(cls=Group)

    @app.command()
    def fails():
        raise RuntimeError("shapes do not match")

    @app.command()
    def works():
        pass

    result = CliRunner().invoke(app, ["fails"])
    assert isinstance(result.exception, RuntimeError)


def test_arguments_that_are_not_utf8(model, patch, tmp_path):
    """As Python hands on bytes of a command line that are no text."""
    said = "has half a surrogate pair; give it as UTF-8 text"
    assert_fails(run("ask", "-m", model, "hi\udcff"), 3, f"'hi\\udcff' {said}")
    name = tmp_path / "m\udcff"
    name.symlink_to(model)
    assert_fails(
        run("ask", "-m", name, "hi"), 4, f"the model's name {str(name)!r} is not UTF-8 text, so no patch could name it"
    )
    export = ("export", patch, "--to", "lora", "--model", model)
    assert_fails(
        run(*export, tmp_path / "l", "--base-model", "a\udcff"), 12, "base_model is 'a\\udcff', which is not UTF-8 text"
    )
    done = subprocess.run(process(*export, tmp_path / "l\udcff", "--no-check"), capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "l\udcff" / "README.md").is_file()


def test_a_model_of_a_user_that_does_not_exist():
    assert_fails(run("ask", "-m", "~no-such-user/model", "hi"), 4, "there is no model '~no-such-user/model'")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("apply", "PATCH", "--save"), 4),
        (("export", "PATCH", "--to", "checkpoint"), 12),
        (("export", "PATCH", "--to", "gguf-lora"), 12),
        (("benchmark", "--facts", "world:2", "-r", "unedited", "-o"), 9),
        (("harness", "sst2", "-o"), 9),
        (("explain", "edit", "PATCH", "-f", "1", "-o"), 11),
        (("explain", "residuals", "--facts", "world:2", "-o"), 11),
        (("locate", "no-such-model", "-o"), 11),
        (("tune", "no-such-model", "-o"), 11),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_model_is_loaded(command, code, patch, tmp_path):
    (tmp_path / "file").write_text("x")
    arguments = [patch if word == "PATCH" else word for word in command]
    model = [] if "no-such-model" in command else ["-m", "no-such-model"]
    result = run(*arguments, tmp_path / "file" / "x", *model)
    assert result.exit_code == code and "no-such-model" not in result.stderr, result.stderr
    assert f"{tmp_path / 'file'} is not a folder; choose another place" in flat(result.stderr)
