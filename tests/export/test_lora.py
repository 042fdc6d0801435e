"""Exporting a LoRA adapter: PEFT, vLLM and llama.cpp must all apply exactly what was written."""

from __future__ import annotations

import re
import warnings

import pytest
import torch
from export_help import card_data, edited, read_json, saved, toy_patch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from bluedit.errors import ExportError
from bluedit.export.changes import changes
from bluedit.export.export import export_patch
from bluedit.export.factors import RANKS, allowed_rank, factor
from bluedit.export.lora import target_regex
from bluedit.methods.filters import CapSpectrum, Sparsify
from bluedit.model.loading import load

peft = pytest.importorskip("peft")
IDS = torch.tensor([[0, 17, 23, 99, 150, 7]])


def adapter(folder, base):
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto").eval()
    with warnings.catch_warnings():  # PEFT asks transformers under a name that is going out of use
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return peft.PeftModel.from_pretrained(model, folder).eval()


@pytest.mark.parametrize(
    ("family", "filters"), [("llama", ()), ("gpt2", (Sparsify(),)), ("llama", (CapSpectrum(),)), ("gpt2-square", ())]
)
@torch.no_grad()
def test_peft_gives_the_edited_models_logits(family, filters, tmp_path):
    base = saved(tmp_path / "base", family)
    patch = toy_patch(base, filters=filters)
    export_patch(patch, "lora", tmp_path / "lora")
    export_patch(patch, "checkpoint", tmp_path / "merged")
    due = edited(base, patch).model(IDS).logits
    model = adapter(tmp_path / "lora", base)
    assert model.get_base_model() is not None and len(model.targeted_module_names) == 2
    assert torch.allclose(model(IDS).logits, due, atol=1e-4)
    with model.disable_adapter():
        assert not torch.allclose(model(IDS).logits, due, atol=1e-2)
    found, due = (
        model.merge_and_unload().state_dict(),
        AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict(),
    )
    assert found.keys() == due.keys()
    assert all(torch.allclose(found[name], due[name], atol=1e-6) for name in due)


def test_every_scale_rule_applies_the_change(tmp_path):
    base = saved(tmp_path / "base")
    patch = toy_patch(base, columns=5)
    done = export_patch(patch, "lora", tmp_path / "lora", check=False)
    config, tensors = (
        read_json(tmp_path / "lora" / "adapter_config.json"),
        load_file(tmp_path / "lora" / "adapter_model.safetensors"),
    )
    assert config["r"] == config["lora_alpha"] == 16  # rank 10, rounded up
    assert (
        not config["use_rslora"]
        and config["bias"] == "none"
        and not config["rank_pattern"]
        and not config["alpha_pattern"]
    )
    for change in changes(load(str(base)), patch.batches):
        name = f"base_model.model.model.layers.{change.layer}.mlp.down_proj"
        A, B = tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"]
        assert A.shape == (16, 48) and B.shape == (32, 16)
        for scale in (config["lora_alpha"] / config["r"], config["lora_alpha"] / B.shape[1]):  # vLLM, llama.cpp
            assert torch.allclose(scale * (B.double() @ A.double()), change.total, atol=1e-7)
        sizes = A[:10].norm(dim=1), B[:, :10].norm(dim=0)
        assert torch.allclose(*sizes, rtol=1e-5) and not A[10:].any() and not B[:, 10:].any()
    assert len(tensors) == 4
    assert done.use["vLLM"].startswith(
        f"vllm serve {base} --enable-lora --max-lora-rank 16 --lora-modules edited={tmp_path / 'lora'}"
    )


def test_lower_precision_is_measured(tmp_path):
    base = saved(tmp_path / "base")
    patch = toy_patch(base)
    done = export_patch(patch, "lora", tmp_path / "lora", dtype="bfloat16", base_model="org/base")
    tensors = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    worst = 0.0
    for change in changes(load(str(base)), patch.batches):
        name = f"base_model.model.model.layers.{change.layer}.mlp.down_proj"
        found = tensors[f"{name}.lora_B.weight"].double() @ tensors[f"{name}.lora_A.weight"].double()
        worst = max(worst, float((found - change.total).norm() / change.total.norm()))
    assert 1e-4 < worst < 1e-2
    assert done.notes[0].startswith(f"Largest error of dW in bfloat16: {worst:.2g} of its norm")
    with torch.no_grad():
        apart = (adapter(tmp_path / "lora", base)(IDS).logits - edited(base, patch).model(IDS).logits).abs().max()
    stated = float(re.search(r"Largest difference of a logit: ([\d.e-]+) ", done.notes[1])[1])
    assert 0.2 * apart < stated < 5 * apart  # other texts, the same size
    text = (tmp_path / "lora" / "README.md").read_text("utf-8")
    assert f"| bfloat16 (this file) | {worst:.2g} |" in text and "--max-lora-rank 8 " in text
    assert "Largest difference of a logit from the edited model in bfloat16" in text
    assert card_data(tmp_path / "lora")["base_model_relation"] == "adapter"


def test_a_change_of_higher_rank_is_cut_and_says_so(tmp_path):
    base = saved(tmp_path / "base")
    patch = toy_patch(base, columns=12)
    done = export_patch(patch, "lora", tmp_path / "lora", rank=16, check=False)
    errors = []
    for change in changes(load(str(base)), patch.batches):
        S = torch.linalg.svdvals(change.total)
        errors.append(float(S[16:].norm() / S.norm()))
    assert done.notes[0] == (
        f"The change has rank 24; the adapter has 16, the largest singular values, and misses up to {max(errors):.1%} of its norm. "
        "The form checkpoint has all of it."
    )
    with pytest.raises(ExportError, match="rank is 17; vLLM takes 8, 16, 32"):
        export_patch(patch, "lora", tmp_path / "other", rank=17)


def test_both_ways_to_factor_agree(tmp_path):
    base = saved(tmp_path / "base")
    (thin, *_), (full, *_) = (
        list(changes(load(str(base)), toy_patch(base, columns=2, filters=filters).batches))
        for filters in ((), (Sparsify(keep=1.0),))
    )
    assert thin.factors is not None and full.factors is None
    one, two = factor(thin, 512), factor(full, 512)
    assert one.needed == two.needed == one.rank == two.rank == 4
    assert torch.allclose(one.B @ one.A, two.B @ two.A, atol=1e-12)


def test_names_and_ranks():
    names = ["model.layers.5.mlp.down_proj", "model.layers.16.mlp.down_proj"]
    regex = target_regex(names)
    modules = [f"model.layers.{i}.mlp.{part}" for i in range(20) for part in ("down_proj", "up_proj")]
    assert [name for name in modules if re.fullmatch(regex, name)] == names
    assert re.fullmatch(target_regex(["head", "a.1.b", "c.1.d"]), "c.1.d")
    assert [allowed_rank(rank) for rank in (1, 8, 9, 300, 512, 4096)] == [8, 8, 16, 320, 512, 512]
    assert all(allowed_rank(rank) == rank for rank in RANKS)
