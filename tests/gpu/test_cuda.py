"""An edit on CUDA: near the one in float64 on the CPU, within its memory, and repeatable. Skipped where there is no CUDA device."""

import pytest
import torch

from bluedit import Editor, Execution
from toys import FACTS, fitting, toy_llama, toy_tokenizer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
SETTINGS = {"layers": [1, 2, 3], "preserve.lambda": 1.0, "objective.steps": 4, "contexts.count": 1}
# of the weight's change, relative: half precision rounds the weight itself
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2, torch.bfloat16: 0.2, torch.float16: 0.1}


def change(device, dtype, tmp_path, recipe="memit-seq-blue"):
    """W - W0 of each written layer, float64 on the CPU."""
    model = toy_llama(dtype=dtype).to(device)
    editor = Editor(model, toy_tokenizer(), tokens=480, statistics=tmp_path, execution=Execution(precision="full"))
    before = {layer: editor.lm.projection(layer).matrix().double().cpu() for layer in (1, 3)}
    editor.edit(FACTS, recipe, settings=fitting(recipe, SETTINGS), known="edit", report=False)
    return {layer: editor.lm.projection(layer).matrix().double().cpu() - W for layer, W in before.items()}


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_an_edit_is_near_the_one_on_the_cpu(dtype, tmp_path):
    expected = change("cpu", torch.float64, tmp_path / "cpu")
    found = change("cuda", dtype, tmp_path / "cuda")
    for layer, dW in expected.items():
        assert (found[layer] - dW).norm() <= TOLERANCE[dtype] * dW.norm()


@pytest.mark.parametrize("recipe", ["memit-seq-blue", "alphaedit-blue", "rect-seq"])
def test_the_same_edit_twice_gives_the_same_bits(recipe, tmp_path):
    """Sums by owner are sorted on CUDA, so nothing depends on the order in which threads finish."""
    first, second = (change("cuda", torch.float32, tmp_path, recipe) for _ in range(2))
    assert all(torch.equal(first[layer], second[layer]) for layer in first)


def test_memory_stays_within_the_budget(tmp_path):
    model = toy_llama(dtype=torch.float32).to("cuda")
    editor = Editor(model, toy_tokenizer(), tokens=480, statistics=tmp_path, execution=Execution(tokens_per_step=64))
    torch.cuda.reset_peak_memory_stats()
    start = torch.cuda.memory_allocated()
    editor.edit(FACTS, "memit-seq-blue", settings=SETTINGS, known="edit", report=False)
    assert torch.cuda.max_memory_allocated() - start < 256 * 2**20
