"""Memory: optimising targets stays within its budget, and what an edit keeps is small."""

import gc

import pytest
import torch
from gpu_help import Peak, edit, editor_of
from transformers import LlamaConfig, LlamaForCausalLM

from bluedit import Fact
from bluedit.execution import Execution
from bluedit.forward import _budget, tokens_per_step
from bluedit.methods.objective import Objective
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Place, Site
from bluedit.text.prompts import rows_of
from bluedit.writing.targets import optimise_targets
from toys import toy_llama, toy_tokenizer

NAMES = ("France", "Germany", "Italy", "Rome", "London", "Berlin", "Paris", "Michel", "Edwin", "Danielle")
FACTS = [
    Fact("The capital of {} is", subject=f"{one} {two}", target="Rome") for one in NAMES for two in NAMES if one != two
]
FREE = 256 * 2**20
SLACK = 1.25  # the estimate counts activations; cached beginnings and the vectors themselves come on top
WORKSPACE = 32 * 2**20  # of cuBLAS, on CUDA


def a_larger_toy():
    """Wide and deep enough that activations are most of the memory, with grouped attention as today's models have it.

    With as many heads for keys as for queries, the cached keys and values of long prefixes count: of this toy they then take three times
    the budget while they are put together.
    """
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
    }
    return LlamaForCausalLM(LlamaConfig(vocab_size=432, max_position_embeddings=256, **sizes)).eval()


def peak_of(device, facts, tokens, monkeypatch):
    """Bytes at the most while targets of these facts are optimised, with `FREE` bytes said to be free."""
    monkeypatch.setattr(_budget, "free_memory", lambda _device: FREE)
    lm = EditableModel.of(a_larger_toy().to(device), toy_tokenizer(), "toy")
    rows = rows_of(lm.tokenizer, facts, ["The weather was mild that morning."], drift=True)
    objective = Objective(steps=2)
    with Peak(device) as peak:
        optimise_targets(
            lm,
            rows,
            Site(Place.MLP, 0),
            objective,
            Execution(precision="full", tokens_per_step=tokens),
            lambda: None,
        )
    return peak.bytes, tokens_per_step(lm)


def test_optimising_targets_takes_at_most_a_quarter_of_the_free_memory(device, monkeypatch):
    found, tokens = peak_of(device, FACTS, 0, monkeypatch)
    assert 64 < tokens < 2048, "at a bound there is no budget to keep"
    most = SLACK * FREE / 4 + (WORKSPACE if device.type == "cuda" else 0)
    assert FREE / 40 < found <= most, f"{found / 2**20:.1f} MiB of {FREE / 2**22:.1f} MiB"


def test_without_a_budget_it_takes_more(device, monkeypatch):
    found, _ = peak_of(device, FACTS, 10**6, monkeypatch)
    assert found > SLACK * FREE / 4 + WORKSPACE


@pytest.mark.gpu
def test_edits_do_not_crowd_out_the_model(tmp_path):
    """After the first edits have made their statistics, nine more take no memory of the device: batches are kept in main memory."""
    editor = editor_of(toy_llama(dtype=torch.float32).to("cuda"), tmp_path)
    taken = []
    for fact in FACTS[:90:9]:
        edit(editor, "memit-seq-blue", [fact])
        gc.collect()
        taken.append(torch.cuda.memory_allocated())
    assert taken[-1] - taken[1] < 2**20
