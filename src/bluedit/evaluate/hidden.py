"""How far an edited model's hidden states of known facts have moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from bluedit.evaluate.answers import check_finite
from bluedit.evaluate.data import HiddenDrift
from bluedit.forward import observe
from bluedit.model.sites import Place, Site
from bluedit.model.state import frozen
from bluedit.text.prompts import encode
from bluedit.text.rows import Row, RowKind

if TYPE_CHECKING:
    from bluedit.evaluate._drift import Unedited
    from bluedit.model.editable import EditableModel

_TINY = 1e-30  # against division by zero


def hidden_drift(lm: EditableModel, prompts: Sequence[str], unedited: Unedited) -> HiddenDrift:
    """Compare the last block's output at the last token of each prompt, before and after editing.

    Args:
        unedited: gives a context manager inside which the model has its unedited weights.

    Raises:
        ModelError: the hidden states are not finite.
    """
    rows = [_row(encode(lm.tokenizer, prompt)[0]) for prompt in prompts]
    site = Site(Place.BLOCK, lm.anatomy.n_layers - 1)
    with frozen(lm.model):
        after = observe(lm, rows, [site])[site].cpu().double()
        with unedited():
            before = observe(lm, rows, [site])[site].cpu().double()
    for states in (before, after):
        check_finite(lm, states)
    centre = before.mean(dim=0)
    spread = (before - centre).norm() / len(before) ** 0.5
    _, sizes, axes = torch.linalg.svd(before - centre, full_matrices=False)
    flat_before, flat_after = (((states - centre) @ axes[:2].T).tolist() for states in (before, after))
    return HiddenDrift(
        layer=site.layer,
        shift=float((after.mean(dim=0) - centre).norm() / spread.clamp(min=_TINY)),
        before=flat_before,
        after=flat_after,
        explained=(sizes[:2] ** 2 / (sizes**2).sum().clamp(min=_TINY)).tolist(),
    )


def _row(ids: list[int]) -> Row:
    return Row(fact=0, kind=RowKind.BARE, ids=tuple(ids), subject_last=len(ids) - 1)
