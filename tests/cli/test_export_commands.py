"""`bluedit export`, `diff`, `sign` and `verify`."""

from __future__ import annotations

import pytest
import torch
from cli_help import assert_fails, assert_fits, files, flat, key_pair, run
from transformers import AutoModelForCausalLM

from bluedit import Editor
from bluedit.model.loading import load


def test_export_a_checkpoint_and_compare(model, patch, tmp_path):
    before = files(model)
    result = run("export", patch, "--to", "checkpoint", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert flat(result.stdout).startswith(f"Written to {tmp_path / 'out'}".replace("\n", " "))
    assert files(model) == before
    editor = Editor(load(str(model)))
    editor.apply(patch)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").state_dict()
    assert all(torch.equal(value, found[name]) for name, value in editor.model.state_dict().items())

    differ = run("diff", model, tmp_path / "out")
    assert differ.exit_code == 1 and differ.stderr == ""
    assert_fits(differ.stdout, "What differs tensor change largest elements rank")
    rows = [line.split() for line in differ.stdout.splitlines() if "down_proj" in line]
    assert [row[0] for row in rows] == [f"model.layers.{i}.mlp.down_proj.weight" for i in (1, 3)]
    assert "45 tensors equal, 2 different" in differ.stdout or "44 tensors equal, 2 different" in differ.stdout
    same = run("diff", model, model)
    assert same.exit_code == 0 and "0 different" in same.stdout


def test_export_an_adapter(model, patch, tmp_path):
    result = run(
        "export", patch, tmp_path / "lora", "--to", "lora", "--dtype", "bfloat16", "--strip", "--base-model", "org/base"
    )
    assert result.exit_code == 0, result.stderr
    text = flat(result.stdout)
    for part in (
        "Largest error of dW in bfloat16: ",
        "Largest difference of a logit: ",
        "vllm serve org/base --enable-lora --max-lora-rank 8 ",
    ):
        assert part in text, part
    assert {f.name for f in (tmp_path / "lora").iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_strip_and_show(model, patch, tmp_path):
    result = run("export", patch, tmp_path / "bare", "--to", "patch", "--strip")
    assert result.exit_code == 0 and "2 facts and their keys are left out" in flat(result.stdout)
    for details in ((), ("--details",)):
        shown = run("show", tmp_path / "bare", *details)
        assert shown.exit_code == 0 and "Danielle" not in shown.stdout
    assert "0, and 2 that were taken out" in flat(run("show", tmp_path / "bare").stdout)
    applied = run("apply", tmp_path / "bare", "-m", model, "--save", tmp_path / "edited")
    assert applied.exit_code == 0 and "2 facts written. The edited model is in" in flat(applied.stdout)


def test_refusals(model, patch, tmp_path):
    for arguments, code, message in (
        (("--to", "lorra"), 12, "there is no form of export 'lorra'; did you mean 'lora' or 'gguf-lora'?"),
        (("--to", "lora", "--rank", "9"), 12, "rank is 9; vLLM takes 8, 16, 32, 64, 128, 256, 320, 512"),
        (("--to", "gguf"), 12, f"{model} is not a GGUF file; name one of the same model"),
        (("--to", "checkpoint", "--model", "smoll"), 4, "there is no model 'smoll'"),
        (
            ("--to", "checkpoint", "--rank", "8"),
            12,
            "the form checkpoint has no option rank; it is one of gguf-lora and lora",
        ),
    ):
        assert_fails(run("export", patch, tmp_path / "out", *arguments), code, message)
    assert not (tmp_path / "out").exists()


def test_sign_and_verify(patch, tmp_path):
    pytest.importorskip("model_signing.signing", exc_type=ImportError)
    key, public = key_pair(tmp_path)
    signature = ("--signature", tmp_path / "p.sig")
    assert run("sign", patch, "--key", key, *signature).stdout == f"Signature written to {tmp_path / 'p.sig'}\n"
    assert run("verify", patch, "--key", public, *signature).stdout == f"{patch} is what was signed\n"
    assert_fails(run("verify", tmp_path, "--key", public, *signature), 12, f"{tmp_path} is not what ")
