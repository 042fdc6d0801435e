"""Comparing two checkpoints, tensor by tensor."""

from __future__ import annotations

import pytest
import torch
from export_help import SHARD, saved, toy_patch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from bluedit.errors import ModelError
from bluedit.export.diff import diff
from bluedit.export.export import export_patch


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_edit_is_found(dtype, tmp_path):
    """In other shards, with the rank that was written, above the rounding of bfloat16."""
    base = saved(tmp_path / "base", dtype=dtype)
    patch = toy_patch(base, columns=1, batches=3, size=0.5)
    export_patch(patch, "checkpoint", tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    model.save_pretrained(tmp_path / "sharded", max_shard_size=SHARD)
    found = diff(str(base), str(tmp_path / "sharded"))
    assert [each.name for each in found.differing] == [f"model.layers.{i}.mlp.down_proj.weight" for i in (1, 3)]
    before, after = load_file(base / "model.safetensors"), model.state_dict()
    for each in found.differing:
        moved = after[each.name].double() - before[each.name].double()
        assert each.relative == pytest.approx(float(moved.norm() / before[each.name].double().norm()))
        assert each.largest == float(moved.abs().max())
        assert each.changed == float((moved != 0).double().mean())
        assert each.rank == 3 and 1 <= each.directions <= 3 and each.shape == (32, 48)
    assert found.same == len(before) - 2 and not found.equal
    assert diff(str(base), str(base)).equal


def test_other_tensors_shapes_and_types(tmp_path):
    one, two = saved(tmp_path / "one"), saved(tmp_path / "two")
    state = load_file(two / "model.safetensors")
    norm, down = "model.norm.weight", "model.layers.10.mlp.down_proj.weight"
    state[norm] = state[norm].double() * 2
    state["model.layers.0.self_attn.q_proj.weight"] = torch.zeros(8, 32)
    state["model.layers.2.input_layernorm.weight"] = state["model.layers.2.input_layernorm.weight"].half()
    state[down] = state.pop("model.layers.1.mlp.down_proj.weight")
    save_file(state, two / "model.safetensors", metadata={"format": "pt"})
    found = diff(str(one), str(two))
    assert [each.name for each in found.differing] == [norm]
    (norm_found,) = found.differing
    assert (norm_found.relative, norm_found.rank, norm_found.dtype) == (1.0, None, "float64")
    assert found.only_first == ("model.layers.1.mlp.down_proj.weight",) and found.only_second == (down,)
    assert found.reshaped == (("model.layers.0.self_attn.q_proj.weight", (32, 32), (8, 32)),)


def test_what_cannot_be_read(tmp_path):
    base = saved(tmp_path / "base")
    (base / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(ModelError, match=r"cannot read .*model.safetensors: .*; get the file again"):
        diff(str(base), str(base))
    (base / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"base holds no weights that can be read file by file"):
        diff(str(base), str(base))
