"""No tensor without its device: an edit of a model whose device refuses tensors that were made without one.

The model is on the CPU, which stands for an accelerator here. A tensor that is made without a device, or that comes from `.cpu()`, counts as
one of the host until it is moved. As torch does with an accelerator, a call that mixes the two fails; a host tensor of no dimensions may go
anywhere, and host tensors may index.
"""

import pytest
import torch
from editing_help import edit, make_editor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from toys import FACTS

MAKERS = {
    "zeros",
    "ones",
    "empty",
    "full",
    "tensor",
    "arange",
    "eye",
    "linspace",
    "rand",
    "randn",
    "randint",
    "randperm",
    "as_tensor",
}
MOVES = {"to", "cpu", "copy_"}
ANY_DEVICE = {"__getitem__", "__setitem__", "equal", "__get__", "size", "dim", "is_floating_point"}


class HostRefused(TorchFunctionMode):
    """Inside the `with`, tensors of the host and of the model do not mix."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        out = function(*args, **kwargs)
        if name in MAKERS:
            return marked(out, "device" not in kwargs)
        if name in MOVES:
            moved = out.clone() if name != "copy_" and out is given[0] else out
            follows = next((is_host(one) for one in given[1:]), False)  # x.to(y) goes to the device of y
            return marked(moved, name == "cpu" or (name == "to" and follows))
        if name in ANY_DEVICE:
            return marked(out, bool(given) and is_host(given[0]))
        kinds = {is_host(one) for one in given if one.dim() or not is_host(one)}
        if kinds == {True, False}:
            shapes = [("host" if is_host(one) else "model", tuple(one.shape)) for one in given]
            raise RuntimeError(f"{name} mixes a tensor that was made without a device with the model's: {shapes}")
        for made in tree_leaves(out):
            marked(made, kinds == {True})
        return out


def is_host(tensor):
    return getattr(tensor, "is_of_the_host", False)


def marked(value, host):
    if isinstance(value, torch.Tensor) and (host or is_host(value)):
        value.is_of_the_host = host
    return value


def test_a_mix_is_refused():
    weight = torch.ones(3)
    with HostRefused():
        made, moved = torch.zeros(3), torch.zeros(3).to(weight.device)
        assert (
            is_host(made)
            and is_host(made + made)
            and is_host(weight.to(made))
            and not is_host(moved)
            and not is_host(weight + moved)
        )
        assert not is_host(torch.zeros(3, device=weight.device)) and is_host(weight.cpu())
        for mix in (lambda: weight + made, lambda: weight @ (made * 2), lambda: torch.cat([weight, made])):
            with pytest.raises(RuntimeError, match="mixes a tensor that was made without a device"):
                mix()
        assert weight[torch.arange(2)].shape == (2,) and float((weight + torch.tensor(1.0)).sum()) == 6


SLOW = [
    ("llama", "memit-seq"),
    ("llama", "rome"),
    ("gpt2", "nse"),
    ("llama", "pmet"),
    ("llama", "prune"),
    ("gpt2", "ft"),
]


@pytest.mark.parametrize(
    ("family", "recipe"), [("gpt2", "alphaedit-blue"), *(pytest.param(*cell, marks=pytest.mark.slow) for cell in SLOW)]
)
def test_an_edit_makes_no_tensor_without_its_device(family, recipe, tmp_path):
    facts = FACTS[:1] if recipe in ("rome", "ft") else FACTS
    with HostRefused():
        editor = make_editor(family, statistics=tmp_path, dtype=torch.float32)
        made = edit(editor, facts, recipe, report=True)
        assert made.report is not None, made.report_error
        edit(editor, FACTS[2:], recipe)
        editor.undo()
        editor.undo()
