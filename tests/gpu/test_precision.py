"""One edit in each precision, against float64 on the CPU."""

import copy

import pytest
import torch
from gpu_help import Shared, changes, edit, editor_of

from bluedit import Execution
from bluedit.model.precision import fast_bfloat16, reduced_linears
from toys import FACTS, FAMILIES, toy_llama

# Rounding errors of keys, values and residuals grow with the precision's eps, so tolerances are multiples of it. On the CPU the error of
# R A is at most 40 eps in float32 and 16 eps in half precision, whose kernels add in float32; a GPU adds in another order.
EPS_OF_A_CHANGE = {torch.float32: 64, torch.bfloat16: 32, torch.float16: 32}


@pytest.mark.parametrize("recipe", ["memit-seq-blue", "alphaedit-blue"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", EPS_OF_A_CHANGE, ids=str)
def test_an_edit_equals_the_one_in_float64(dtype, family, recipe, device, tmp_path):
    """Both write the same targets: Adam's first step is the sign of a gradient, so optimised ones differ by more than rounding."""
    low, targets = FAMILIES[family](dtype=dtype), Shared()
    exact = copy.deepcopy(low).double()  # the same weights
    before = {layer: low.state_dict()[name].clone() for layer, name in _names(low).items()}
    expected = edit(editor_of(exact, tmp_path / "exact", targets=targets), recipe)
    editor = editor_of(low.to(device), tmp_path / "low", targets=targets)
    found = edit(editor, recipe)
    tolerance = EPS_OF_A_CHANGE[dtype] * torch.finfo(dtype).eps
    for dW, wanted in zip(changes(found), changes(expected), strict=True):
        assert 0 < (dW - wanted).norm() <= tolerance * wanted.norm()
    _check_rounded_once(editor, found, before)


def _names(model):
    return {
        layer: next(n for n in model.state_dict() if f".{layer}.mlp." in n and ("down_proj.w" in n or "c_proj.w" in n))
        for layer in (1, 3)
    }


def _check_rounded_once(editor, made, before):
    """The weight is W0 + R A, rounded once to the model's precision (R A is added up in another order here, hence the 1 %)."""
    for update, dW in zip(made.patch.batches[0].updates, changes(made), strict=True):
        projection = editor.lm.projection(update.layer)
        W0 = before[update.layer].T if projection.transposed else before[update.layer]
        exact = W0.double() + dW
        off = (projection.matrix().cpu().double() - exact).abs()
        half_a_place = 0.5 * torch.finfo(editor.lm.dtype).eps * exact.abs()
        assert (off <= 1.01 * half_a_place + torch.finfo(editor.lm.dtype).tiny).all()


@pytest.mark.parametrize("dtype", EPS_OF_A_CHANGE, ids=str)
def test_optimised_targets_are_as_good(dtype, device, tmp_path):
    """The loss that a model in this precision reaches by itself is the one that float64 reaches.

    Within 8 eps of it (on the CPU the difference is 3); in float32 within 1e-3, because signs of gradients near zero differ.
    """
    low = toy_llama(dtype=dtype)
    exact = copy.deepcopy(low).double()
    losses = []
    for model, folder in ((exact, tmp_path / "exact"), (low.to(device), tmp_path / "low")):
        targets = Shared()
        edit(editor_of(model, folder, targets=targets), **{"objective.steps": 25, "layers": [1]})
        (found,) = targets.found.values()
        losses.append(found.loss.double().cpu())
    assert found.z.dtype == torch.float32 and found.z.device.type == device.type
    assert (losses[1] - losses[0]).abs().max() <= max(8 * torch.finfo(dtype).eps, 1e-3) * losses[0].max()


def test_bfloat16_products_for_a_float32_model(device, tmp_path):
    """`auto` takes them where the device has them, and their targets are as good: the losses agree to bfloat16's eps of 1 nat."""
    model = toy_llama(dtype=torch.float32).to(device)
    losses = {}
    for precision in ("full", "bf16", "auto"):
        targets = Shared()
        editor = editor_of(model, tmp_path, targets=targets, execution=Execution(precision=precision))
        edit(editor, **{"objective.steps": 1})  # the loss of the start
        editor.undo()
        losses[precision] = torch.cat([t.loss.cpu() for t in targets.found.values()])
    assert (reduced_linears(editor.lm, "auto", ()) is not None) == fast_bfloat16(device)
    assert torch.equal(losses["auto"], losses["bf16" if fast_bfloat16(device) else "full"])
    assert not torch.equal(losses["bf16"], losses["full"])
    assert (losses["bf16"] - losses["full"]).abs().max() < 16 * torch.finfo(torch.bfloat16).eps * losses["full"].max()


@pytest.mark.gpu
def test_cuda_has_bfloat16():
    """Every GPU since Ampere does; on an older one the line above compares `auto` with `full`."""
    assert fast_bfloat16(torch.device("cuda")) == (torch.cuda.get_device_capability() >= (8, 0))


def test_statistics_on_another_device(device, tmp_path):
    """C is kept and solved in main memory, the model is where it is; the change is the same but for the order of additions."""
    made = []
    targets = Shared()
    for where in ("", "cpu"):
        execution = Execution(precision="full", statistics_device=where)
        editor = editor_of(
            toy_llama(dtype=torch.float32).to(device), tmp_path / "s", targets=targets, execution=execution
        )
        made.append(changes(edit(editor)))
    for dW, other in zip(*made, strict=True):
        assert (dW - other).norm() <= EPS_OF_A_CHANGE[torch.float32] * torch.finfo(torch.float32).eps * dW.norm()


@pytest.mark.parametrize(
    "recipe", ["rome", "pmet-seq", "emmet-blue", "nse", "rect-seq-blue", "prune", "natural-blue", "ft"]
)
def test_every_part_works_on_the_device(recipe, device, tmp_path):
    """No tensor is on another device than those it meets; undo gives back the bits."""
    editor = editor_of(toy_llama(dtype=torch.float32).to(device), tmp_path)
    before = {name: tensor.clone() for name, tensor in editor.model.state_dict().items()}
    edit(editor, recipe, FACTS[:2], **({"subjects": "merge"} if recipe == "nse" else {}))
    now = editor.model.state_dict()
    assert any(not torch.equal(now[name], before[name]) for name in before)
    assert all(now[name].device.type == device.type for name in before)
    editor.undo()
    assert all(torch.equal(now[name], before[name]) for name in before)
