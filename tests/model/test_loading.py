"""Loading: GGUF files, checkpoints that are not whole, folders with code of their own."""

import builtins
import io
import json
import logging
import os
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from bluedit.errors import ModelError
from bluedit.model import _gguf
from bluedit.model.loading import load
from toys import toy_gpt2, toy_llama, toy_tokenizer


def saved(folder, model=None):
    """A toy checkpoint in float32."""
    (model or toy_llama(layers=2, dtype=torch.float32)).save_pretrained(folder)
    toy_tokenizer().save_pretrained(folder)
    return folder


def changed(folder, change):
    file = saved(folder) / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})
    return folder


def refusal(folder):
    with pytest.raises(ModelError) as caught:
        load(str(folder))
    return str(caught.value)


# whole checkpoints


def test_tied_weights_and_buffers_are_not_missed(tmp_path):
    """The head is tied and not in the file; the rotary frequencies of older checkpoints are ignored by transformers itself."""
    folder = changed(
        tmp_path / "m", lambda w: w.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)})
    )
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    lm = load(str(folder))
    expected = toy_llama(layers=2, dtype=torch.float32)
    for (name, one), other in zip(lm.model.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other), name
    assert lm.anatomy.head.weight is lm.model.get_input_embeddings().weight
    assert load(str(folder), anatomy="model.layers.{}.mlp.down_proj").anatomy.n_layers == 2


END = (
    "Weights that are missing would be random numbers: get the whole checkpoint, or the config.json that belongs to it"
)
DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda w: w.pop(DOWN), f"1 missing: {DOWN}"),
        (lambda w: w.update(extra=torch.zeros(2)), "1 unexpected: extra"),
        (
            lambda w: w.update({DOWN: torch.zeros(32, 40)}),
            f"1 of another shape: {DOWN} (32, 40) instead of (32, 48)",
        ),
        (
            lambda w: [w.pop(name) for name in list(w) if "layers.1.mlp" in name] and w.update(extra=torch.zeros(2)),
            f"3 missing: {DOWN}, model.layers.1.mlp.gate_proj.weight, model.layers.1.mlp.up_proj.weight; 1 unexpected: extra",
        ),
    ],
    ids=["missing", "unexpected", "shape", "several"],
)
def test_weights_that_do_not_fit_are_named(tmp_path, change, fault):
    folder = changed(tmp_path / "m", change)
    assert refusal(folder) == (
        f"the weights of {str(folder)!r} do not fit its configuration (LlamaForCausalLM): {fault}. {END}"
    )


def test_the_configuration_of_another_family(tmp_path):
    folder = saved(tmp_path / "m", toy_gpt2(layers=2, dtype=torch.float32))
    toy_llama(layers=2).config.save_pretrained(folder)
    assert refusal(folder) == (
        f"the weights of {str(folder)!r} do not fit its configuration (LlamaForCausalLM): "
        "21 missing: lm_head.weight, model.embed_tokens.weight, model.layers.0.input_layernorm.weight and 18 more; "
        "28 unexpected: transformer.h.0.attn.c_attn.bias, transformer.h.0.attn.c_attn.weight, transformer.h.0.attn.c_proj.bias "
        f"and 25 more. {END}"
    )


def test_a_folder_whose_weights_are_no_checkpoint(tmp_path):
    folder = saved(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(b"no tensors")
    assert refusal(folder).startswith(f"cannot load the model {str(folder)!r}: ")


# code that comes with a model

CODE = """
from pathlib import Path
Path({mark!r}).write_text("ran")
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


class NobodyThere(io.StringIO):
    def read(self, *_args):
        raise AssertionError("standard input was read")

    readline = __next__ = read


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    """A folder whose configuration points to a Python file that leaves a mark, and a standard input that nobody may read."""
    monkeypatch.setattr(sys, "stdin", NobodyThere())
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("somebody was asked"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, mark = saved(tmp_path / "own"), tmp_path / "mark"
    (folder / "own_code.py").write_text(CODE.format(mark=str(mark)))
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own_code.OwnConfig", "AutoModelForCausalLM": "own_code.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder, mark


def test_code_that_comes_with_a_model_is_not_run(own_code):
    folder, mark = own_code
    assert refusal(folder) == (
        f"the model {str(folder)!r} comes with Python code of its own, which was not run; read that code, and if you trust it, "
        "load the model with --trust-remote-code (from Python: trust_remote_code=True)"
    )
    assert not mark.exists()


def test_code_beside_a_model_that_transformers_knows_is_not_run(own_code):
    folder, mark = own_code
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "llama"}
    (folder / "config.json").write_text(json.dumps(config))
    assert type(load(str(folder)).model).__name__ == "LlamaForCausalLM"
    assert not mark.exists()


def test_code_of_a_tokenizer_is_not_run(own_code):
    folder, mark = own_code
    toy_llama(layers=2).config.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": [None, "own_code.OwnTokenizer"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "load the model with --trust-remote-code" in refusal(folder)
    assert not mark.exists()


def test_trusted_code_runs_with_a_warning(own_code, caplog):
    folder, mark = own_code
    with caplog.at_level(logging.WARNING):
        lm = load(str(folder), trust_remote_code=True)
    assert type(lm.model).__name__ == "OwnModel" and mark.exists()
    assert f"Python code that comes with the model {folder} may run on this machine (trust_remote_code)" in caplog.text


# GGUF files


def test_another_gguf_file_of_the_same_name_and_size_is_converted_anew(tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    monkeypatch.setenv("BLUEDIT_CACHE", str(tmp_path / "cache"))
    places = []
    monkeypatch.setattr(_gguf, "write_folder", lambda folder, _write, **_options: places.append(folder))
    for content in (b"one", b"two", b"one"):
        (tmp_path / "model.gguf").write_bytes(content)
        _gguf.converted(tmp_path / "model.gguf")
    assert places[0] == places[2] != places[1]


def test_what_a_killed_conversion_left_goes_away_when_the_model_is_used_next(tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    monkeypatch.setenv("BLUEDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_gguf, "_convert", lambda _gguf, folder: (folder / "config.json").write_text("{}"))
    (tmp_path / "model.gguf").write_bytes(b"one")
    folder = _gguf.converted(tmp_path / "model.gguf")
    left = folder.parent / ".bluedit-1.tmp"
    left.mkdir()
    os.utime(left, (0, 0))
    assert _gguf.converted(tmp_path / "model.gguf") == folder
    assert list(folder.parent.iterdir()) == [folder]


def test_a_damaged_gguf_file(tmp_path):
    pytest.importorskip("gguf")
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + b"\xff" * 40)
    with pytest.raises(ModelError, match=r"model\.gguf is damaged, or is not a model that transformers can read"):
        _gguf.converted(tmp_path / "model.gguf")


def test_a_gguf_file_is_parsed_once_while_it_is_converted(monkeypatch):
    gguf, read = pytest.importorskip("gguf"), []
    monkeypatch.setattr(gguf, "GGUFReader", reader := lambda path: read.append(path) or object())
    with _gguf._headers_parsed_once():
        assert gguf.GGUFReader("a.gguf") is gguf.GGUFReader("a.gguf") is not gguf.GGUFReader("b.gguf")
    assert read == ["a.gguf", "b.gguf"]
    assert gguf.GGUFReader is reader
