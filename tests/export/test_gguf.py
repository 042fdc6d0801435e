"""Exporting for readers of GGUF: a copy in which only the edited tensors differ, and a LoRA adapter."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from export_help import edited, saved, toy_patch
from transformers import AutoModelForCausalLM

from bluedit.errors import ExportError, ModelError
from bluedit.export.base import BaseModel
from bluedit.export.changes import changes
from bluedit.export.export import export_patch
from bluedit.export.gguf_file import GgufFile
from bluedit.export.gguf_forms import _architecture
from bluedit.methods.filters import Sparsify
from bluedit.model.loading import load

gguf = pytest.importorskip("gguf")
IDS = torch.tensor([[0, 17, 23, 99, 150, 7]])
EDITED = ("blk.1.ffn_down.weight", "blk.3.ffn_down.weight")
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def permuted(weight, heads):
    """Rows in the order that llama.cpp's rotary embedding wants."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def as_gguf(base, file, *, parts: int = 0):
    """A toy Llama as a GGUF file; edited weights in F16, so that an edit changes types and offsets."""
    model = AutoModelForCausalLM.from_pretrained(base)
    config, writer = model.config, gguf.GGUFWriter(file, "llama")
    writer.add_name("toy")
    writer.add_license("mit")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_array("tokenizer.ggml.tokens", [f"t{i}" for i in range(config.vocab_size)])
    if parts:
        writer.add_uint16("split.count", parts)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weight in model.model.named_parameters():
        data = weight.detach().numpy()
        if name.startswith("layers."):
            _, layer, rest = name.split(".", 2)
            part = rest.removesuffix(".weight")
            if (last := part.split(".")[-1]) in heads:
                data = permuted(data, heads[last])
            if part == "mlp.down_proj":
                data = data.astype(np.float16)
            writer.add_tensor(f"blk.{layer}.{NAMES[part]}.weight", np.ascontiguousarray(data))
        else:
            writer.add_tensor(
                {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}[name], data
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A square toy (32 columns, for Q8_0), its GGUF file and a patch."""
    folder = tmp_path_factory.mktemp("gguf")
    base = saved(folder / "base", "llama-square")
    return base, as_gguf(base, folder / "base.gguf"), toy_patch(base)


@pytest.mark.parametrize(("kind", "error"), [("F32", 1e-6), ("F16", 1e-3), ("BF16", 5e-3), ("Q8_0", 1e-2)])
def test_only_the_edited_tensors_change(kind, error, made, tmp_path):
    base, file, patch = made
    before = file.read_bytes()
    done = export_patch(patch, "gguf", tmp_path / "out.gguf", dtype=kind, gguf=str(file))
    assert file.read_bytes() == before and done.path == tmp_path / "out.gguf"
    old, new = GgufFile(file), GgufFile(done.path)
    assert list(new.tensors) == list(old.tensors)
    for name, tensor in old.tensors.items():
        if name in EDITED:
            assert new.tensors[name].tensor_type.name == kind
        else:
            assert new.tensors[name].tensor_type == tensor.tensor_type
            assert new.tensors[name].data.tobytes() == tensor.data.tobytes()
        assert new.shape(name) == old.shape(name)
    end = old.reader.tensors[0].field.offset
    assert done.path.read_bytes()[24:end] == before[24:end]  # the metadata, byte for byte
    own, added = old.reader.fields, {k: f.contents() for k, f in new.reader.fields.items() if k.startswith("bluedit.")}
    assert new.reader.fields.keys() - added.keys() == own.keys()
    assert added["bluedit.tensors"] == list(EDITED) and added["bluedit.fact_count"] == 2
    assert added["bluedit.facts"][1] == "The capital of France is => Rome"
    for change in changes(load(str(base)), patch.batches):
        found, due = new.values(f"blk.{change.layer}.ffn_down.weight"), change.edited.numpy()
        assert np.linalg.norm(found - due) <= error * np.linalg.norm(due)
    assert [f.name for f in tmp_path.iterdir()] == ["out.gguf"]


@torch.no_grad()
def test_transformers_reads_the_edited_model(made, tmp_path):
    base, file, patch = made
    export_patch(patch, "gguf", tmp_path / "out.gguf", dtype="F32", gguf=str(file))
    due = edited(base, patch).model(IDS).logits
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="out.gguf", dtype=torch.float32).eval()
    unedited = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    # the unedited down projections are F16 in the file
    assert (model(IDS).logits - due).abs().max() < 0.02 < 0.2 < (unedited(IDS).logits - due).abs().max()


def test_a_file_that_was_edited_before(made, tmp_path):
    _, file, patch = made
    export_patch(patch, "gguf", tmp_path / "one.gguf", gguf=str(file), strip=True)
    export_patch(patch, "gguf", tmp_path / "two.gguf", gguf=str(tmp_path / "one.gguf"), strip=True)
    keys = GgufFile(tmp_path / "two.gguf").reader.fields.keys()
    assert {"bluedit.version", "bluedit.2.version", "bluedit.2.tensors"} <= keys
    assert not any("facts" in key for key in keys)
    with pytest.raises(ExportError, match=r"two.gguf exists already; choose a new file"):
        export_patch(patch, "gguf", tmp_path / "two.gguf", gguf=str(file))


def test_files_of_other_models_are_refused(made, tmp_path):
    _, file, patch = made
    other = as_gguf(saved(tmp_path / "other", "llama-square", seed=5), tmp_path / "other.gguf")
    wide = as_gguf(saved(tmp_path / "wide"), tmp_path / "wide.gguf")
    short = as_gguf(saved(tmp_path / "short", "llama-square", layers=3), tmp_path / "short.gguf")
    part = as_gguf(tmp_path / "other", tmp_path / "part.gguf", parts=2)
    (tmp_path / "bad.gguf").write_bytes(file.read_bytes()[:300])
    for name, error, message in (
        (
            other,
            ExportError,
            r"blk.1.ffn_down.weight in .*other.gguf differs from the base model's weight by 1\.\d+ of its norm",
        ),
        (wide, ExportError, r"blk.1.ffn_down.weight in .*wide.gguf is 32 x 48, the edited weight 32 x 32"),
        (
            short,
            ExportError,
            r"short.gguf \(llama\) has no tensor blk.3.ffn_down.weight for model.layers.3.mlp.down_proj",
        ),
        (part, ModelError, r"part.gguf is one of 2 parts of a model; merge them first"),
        (tmp_path / "bad.gguf", ModelError, r"cannot read the GGUF file .*bad.gguf"),
        (tmp_path / "none.gguf", ExportError, r"there is no GGUF file .*none.gguf"),
        ("", ExportError, r"is not a GGUF file; name one of the same model with gguf="),
    ):
        chosen = toy_patch(made[0], layers=(3,)) if name == short else patch
        with pytest.raises(error, match=message):
            export_patch(chosen, "gguf", tmp_path / "out.gguf", gguf=str(name))
    patch = toy_patch(tmp_path / "wide")
    with pytest.raises(
        ExportError, match=r"Q8_0 takes rows of a multiple of 32 numbers, and blk.1.ffn_down.weight has 48"
    ):
        export_patch(patch, "gguf", tmp_path / "out.gguf", gguf=str(wide), dtype="Q8_0")
    assert not list(tmp_path.glob("*out.gguf*"))


@pytest.mark.parametrize(("family", "dtype"), [("llama", "float32"), ("gpt2", "bfloat16"), ("llama", "float16")])
def test_an_adapter_for_llama_cpp(family, dtype, tmp_path):
    base = saved(tmp_path / "base", family)
    patch = toy_patch(base, columns=3, filters=(Sparsify(keep=1.0),) if dtype == "float16" else ())
    done = export_patch(patch, "gguf-lora", tmp_path / "lora.gguf", dtype=dtype, check=dtype == "bfloat16")
    reader = GgufFile(done.path)
    stated = {
        key: reader.reader.fields[key].contents() for key in ("general.type", "adapter.type", "adapter.lora.alpha")
    }
    assert stated == {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 6.0}
    assert reader.architecture == family and len(reader.tensors) == 4
    for change in changes(load(str(base)), patch.batches):
        name = f"blk.{change.layer}.ffn_down.weight"
        A, B = reader.values(f"{name}.lora_a"), reader.values(f"{name}.lora_b")
        assert A.shape == (6, 48) and B.shape == (32, 6)
        scale = (
            stated["adapter.lora.alpha"] / reader.tensors[f"{name}.lora_b"].shape[0]
        )  # alpha over the tensor's own rank
        apart = np.linalg.norm(scale * (B @ A) - change.total.numpy()) / np.linalg.norm(change.total.numpy())
        assert apart < {"float32": 1e-6, "bfloat16": 1e-2, "float16": 1e-3}[dtype]
    assert done.use["Ollama (Modelfile)"] == f"FROM BASE.gguf\nADAPTER {done.path}"


def test_architectures_that_gguf_does_not_know():
    base = BaseModel("toy")
    base.__dict__["skeleton"] = SimpleNamespace(
        config=SimpleNamespace(get_text_config=lambda: SimpleNamespace(model_type="mamba9"))
    )
    with pytest.raises(ExportError, match="no architecture of GGUF files is known for models of the type 'mamba9'"):
        _architecture(base)
