"""How often the host waits for the device: once for a step of the optimisation, which on a GPU would cost more than the step's kernels."""

from collections import Counter

import pytest
import torch
from editing_help import SETTINGS, make_editor
from torch.overrides import TorchFunctionMode

from bluedit import Execution
from toys import FACTS, fitting

READS = {"item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "nonzero", "masked_select"}


class Waits(TorchFunctionMode):
    """Counts the calls that read values of a tensor on the host, by name."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        index = args[1] if name in ("__getitem__", "__setitem__") else ()
        masks = [i for i in (index if isinstance(index, tuple) else (index,)) if getattr(i, "dtype", 0) == torch.bool]
        self.found[name] += name in READS or bool(masks)
        return function(*args, **(kwargs or {}))


def waits(recipe, **settings):
    editor = make_editor(dtype=torch.float32, execution=Execution(precision="full"))
    chosen = fitting(recipe, SETTINGS | {"objective.stop_loss": 1e-9, "update.stop_loss": 1e-9} | settings)

    def edit():
        return editor.edit(FACTS[:2], recipe, settings=chosen, known="edit", report=False)

    edit().undo()  # statistics are computed
    with Waits() as counted:
        edit()
    return counted.found.total()


def test_they_are_seen():
    with Waits() as counted:
        found = torch.arange(3)
        assert found.max() > 1 and int(found[1]) == 1 and found[found > 0].tolist() == [1, 2]
    assert counted.found.total() == 4


@pytest.mark.parametrize("recipe", ["memit-blue", "pmet-blue"])
def test_a_step_waits_once(recipe):
    targets, more = 2, 6
    few, many = (waits(recipe, **{"objective.steps": steps}) for steps in (3, 3 + more))
    assert many - few <= targets * more
    assert few < 160, "setting up, solving and writing two layers"


def test_an_epoch_of_fine_tuning_waits_once():
    few, many = (waits("ft", **{"update.epochs": epochs, "layers": [2]}) for epochs in (2, 6))
    # besides, transformers reads the mask of padded rows in every forward pass, and Adam its counter, which is on the host
    assert many - few <= 4 * 4
