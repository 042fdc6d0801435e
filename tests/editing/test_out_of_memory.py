"""Edits whose device runs out of memory: they go on with less at once and give the same, or say what does not fit."""

import pytest
import torch
from editing_help import bits, edit, make_editor, same_bits
from torch import nn

from bluedit import Execution
from bluedit.errors import EditError
from bluedit.writing import needs
from toys import FACTS, corpus_in


def small_device(model, tokens):
    """The MLPs have memory for so many tokens at once."""

    def check(_module, args):
        if args[0].shape[:-1].numel() > tokens:
            raise torch.OutOfMemoryError(f"out of memory for {args[0].shape[:-1].numel()} tokens")

    for module in model.modules():
        if type(module).__name__ == "LlamaMLP":
            module.register_forward_pre_hook(check)


def test_targets_and_keys_are_computed_in_smaller_chunks_with_the_same_result(monkeypatch, caplog, tmp_path):
    made = []
    for tokens in (10**6, 150):
        editor = make_editor(execution=Execution(precision="full"), statistics=tmp_path / "s")
        if not made:
            editor.moments.get([1, 2, 3])
        small_device(editor.model, tokens)
        caplog.clear()
        made.append(edit(editor, FACTS, "memit-blue", settings={"contexts.count": 4}))
        halved = [r.getMessage() for r in caplog.records if "out of memory" in r.getMessage()]
        assert bool(halved) == (tokens == 150)
    assert "out of memory on cpu with 3 facts at once; trying again with half as many" in halved
    for one, two in zip(*(found.patch.batches[0].updates for found in made), strict=True):
        assert torch.allclose(one.R @ one.A, two.R @ two.A, rtol=1e-4, atol=1e-7)


def test_a_fact_that_does_not_fit_alone_changes_nothing(monkeypatch, tmp_path):
    editor = make_editor(execution=Execution(precision="full"), statistics=tmp_path / "s")
    editor.moments.get([1, 2, 3])
    before = bits(editor.model)
    small_device(editor.model, 5)
    with pytest.raises(
        EditError, match=r"^there is not enough memory on cpu for .* \(out of memory for \d+ tokens\); free"
    ):
        edit(editor, FACTS, "memit-blue")
    assert same_bits(editor.model, before)


def test_statistics_in_smaller_chunks_are_the_same(monkeypatch, caplog, tmp_path):
    """The memory runs out at a different layer each time, after some have their sums."""
    corpus = str(corpus_in(tmp_path))
    found = []
    for name in ("usual", "small"):
        editor = make_editor(statistics=tmp_path / name, corpus=corpus)
        if name == "small":
            layers = editor.model.model.layers
            for layer, tokens in ((1, 1500), (2, 900), (3, 300)):
                small_device(nn.ModuleList([layers[layer]]), tokens)
        found.append([editor.moments.get([1, 2, 3])[layer].matrix for layer in (1, 2, 3)])
    assert sum("rows of text at once" in r.getMessage() for r in caplog.records) >= 2
    for one, two in zip(*found, strict=True):
        assert torch.allclose(one, two, rtol=1e-10, atol=0)


@pytest.mark.parametrize("statistics_device", ["", "cpu"])
def test_an_edit_that_cannot_fit_is_refused_before_it_starts(statistics_device, monkeypatch, tmp_path):
    editor = make_editor(execution=Execution(statistics_device=statistics_device), statistics=tmp_path / "s")
    monkeypatch.setattr(needs, "known_free_memory", lambda _device: 10**5)
    monkeypatch.setattr(type(editor.model), "forward", lambda *_a, **_k: pytest.fail("the model ran"))
    before = bits(editor.model)
    with pytest.raises(EditError) as caught:
        edit(editor, FACTS, "memit-blue")
    assert str(caught.value).startswith(
        "the edit needs at least 0.0 GB on cpu (operators 0.0 GB, changed weights 0.0 GB, "
    )
    assert str(caught.value).endswith(
        "but 0.0 GB are free there; keep statistics on another device (execution.statistics_device=cpu), write fewer layers, "
        "load the model in bfloat16, or free memory"
    )
    assert same_bits(editor.model, before)


def test_what_an_edit_needs():
    """Two layers of Llama 3 8B in bfloat16: half of C each, and 12 bytes a weight with the workspace of one."""

    class Lm:
        d_key = 14336
        weight = torch.empty(4096, 14336, dtype=torch.bfloat16, device="meta")

        def projection(self, layer):
            return self

        def matrix(self):
            return self.weight

    size = 4096 * 14336
    assert needs.weights_needed(Lm(), [4, 8]) == 2 * 12 * size + 24 * size
    assert needs.weights_needed(Lm(), []) == 0
