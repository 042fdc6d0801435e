"""Rows that are padded to one length for attention, as on accelerators, against rows of one length at a time."""

import pytest
import torch
from test_suffix import EVERY, MIXED, PREFIXES, toy

from bluedit.forward import _packed
from bluedit.forward._packed import Packed
from bluedit.forward._runner import uses_attention_interface
from bluedit.forward._suffix import SuffixRunner
from bluedit.model.sites import Site
from bluedit.text.prompts import rows_of


def found_by(lm, rows, kept):
    """(lengths of the spans, logits before and after rows are dropped, gradient)."""
    runner = SuffixRunner(lm, rows, [Site("mlp", 1)], Packed)
    spans = [span.lengths for span in runner._passes[0]._layout._spans]
    delta = (0.3 * runner.values.roll(1, dims=-1)).requires_grad_(True)
    with torch.enable_grad():
        logits = runner.logits(delta)
        (gradient,) = torch.autograd.grad(logits.log_softmax(dim=-1)[:, 3].sum(), delta)
    runner.keep(kept)
    return spans, logits.detach(), runner.logits(delta.detach()[:, kept]).detach(), gradient


@pytest.mark.parametrize("family", sorted(EVERY))
def test_padded_spans_compute_the_same(family, monkeypatch):
    lm = toy(family)
    if not uses_attention_interface(lm):
        pytest.skip("its attention is its own")
    rows = rows_of(lm.tokenizer, MIXED, PREFIXES, drift=True)
    kept = list(range(0, len(rows), 2))
    with torch.no_grad():
        exact, *expected = found_by(lm, rows, kept)
        monkeypatch.setattr(_packed, "_same", _packed._within_a_factor_of_two)
        padded, *found = found_by(lm, rows, kept)
    assert len(padded) < len(exact) and any(len(set(lengths)) > 1 for lengths in padded)
    assert all(2 * min(lengths) > max(lengths) - 1 for lengths in padded)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-10)
