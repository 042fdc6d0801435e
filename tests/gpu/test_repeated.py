"""Which numbers are the same bits when an edit is made twice on one device, and which are not promised.

Promised on one device: sums by owner, and with them keys, values, residuals and the closed form for given targets. Optimised targets are
promised where the attention's backward pass adds in a fixed order. Not promised anywhere: equal bits on two devices. torch's `index_add_`
adds in any order on CUDA, so bluedit does not use it there.
"""

import warnings

import pytest
import torch
from gpu_help import Shared, edit, editor_of

from bluedit.model.sums import sum_by_owner
from toys import FAMILIES, toy_llama

ATTENTION = (
    "attention",
    "CuBLAS",
)  # said of the attention's backward pass, and of cuBLAS on several streams; an edit uses one


def bits_of(made, editor):
    factors = [getattr(u, part) for b in made.patch.batches for u in b.updates for part in ("R", "A", "keys", "reach")]
    return [*factors, *(tensor.cpu() for tensor in editor.model.state_dict().values())]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("recipe", ["memit-seq-blue", "alphaedit-blue", "rect-seq"])
def test_an_edit_with_given_targets_twice(recipe, family, device, tmp_path):
    targets = Shared()
    runs = []
    for _ in range(3):  # the first one optimises the targets
        editor = editor_of(FAMILIES[family](dtype=torch.float32).to(device), tmp_path, targets=targets)
        runs.append(bits_of(edit(editor, recipe), editor))
    assert all(torch.equal(one, two) for one, two in zip(runs[1], runs[2], strict=True))


def test_optimised_targets_twice(device, tmp_path):
    """The toy's prompts fit into one block of keys of every attention kernel, so there is one order of additions."""
    runs = []
    for _ in range(2):
        editor = editor_of(toy_llama(dtype=torch.float32).to(device), tmp_path)
        runs.append(bits_of(edit(editor), editor))
    assert all(torch.equal(one, two) for one, two in zip(*runs, strict=True))


def test_no_operation_but_attention_adds_in_any_order(device, tmp_path):
    """torch names the operations of an edit that have no deterministic implementation."""
    editor = editor_of(toy_llama(dtype=torch.float32).to(device), tmp_path)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            edit(editor)
    finally:
        torch.use_deterministic_algorithms(False)
    messages = [str(w.message) for w in said if "deterministic" in str(w.message)]
    assert [m for m in messages if not any(word.lower() in m.lower() for word in ATTENTION)] == []


def test_sums_do_not_change_while_those_of_index_add_may(device):
    values = torch.randn(20000, 64, generator=torch.Generator().manual_seed(0)).to(device)
    owners = torch.arange(20000, device=device) % 7
    first = sum_by_owner(values, owners, 7)
    assert all(torch.equal(first, sum_by_owner(values, owners, 7)) for _ in range(20))
    exact = values.double().cpu().new_zeros(7, 64).index_add_(0, owners.cpu(), values.double().cpu())
    assert torch.allclose(first.cpu().double(), exact, atol=1e-3)  # 2,900 additions of numbers around 1, sums around 50


def test_undo_and_a_patch_from_this_device(device, tmp_path):
    """Undo gives back the bits; a patch, whose factors lie in main memory, gives the same weights on the CPU but for rounding once."""
    editor = editor_of(toy_llama(dtype=torch.float32).to(device), tmp_path)
    before = {name: tensor.cpu().clone() for name, tensor in editor.model.state_dict().items()}
    made = edit(editor)
    assert {u.R.device.type for b in made.patch.batches for u in b.updates} == {"cpu"}
    edited = {name: tensor.cpu().clone() for name, tensor in editor.model.state_dict().items()}
    other = editor_of(toy_llama(dtype=torch.float32), tmp_path)
    other.apply(made.patch)
    for name, tensor in other.model.state_dict().items():
        assert torch.allclose(tensor, edited[name], rtol=2 * torch.finfo(torch.float32).eps, atol=1e-9)
    editor.undo()
    assert all(torch.equal(tensor.cpu(), before[name]) for name, tensor in editor.model.state_dict().items())
