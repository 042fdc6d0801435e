"""What the papers' public code does, written again: the baseline for speed, and a check that the fast path gives the same numbers.

One fact at a time, all its prompts in one batch, the whole model and the whole vocabulary at every step, forward passes of the whole model
for keys, one dense LU solve of d_key x d_key per layer and batch. No caches, no reduced precision. It shares with the fast path only what
does not affect speed: token rows and second moments.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bluedit.maths.moment import SecondMoment
from bluedit.methods.objective import Objective
from bluedit.methods.preserve import Covariance, NullSpace
from bluedit.methods.recipe import Recipe
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import first_tensor, with_first_tensor
from bluedit.text.prompts import rows_of
from bluedit.text.rows import Row

_KEY_BATCH = 128  # prompts per forward pass for keys, as in the reference code


@dataclass
class Timed:
    """Result of a textbook edit, and the seconds spent in each phase."""

    z: dict[int, Tensor] = field(default_factory=dict)
    dW: dict[int, Tensor] = field(default_factory=dict)
    steps: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"targets": 0.0, "keys": 0.0, "solve": 0.0})


def textbook_edit(
    lm: EditableModel,
    facts: Sequence[Any],
    recipe: Recipe,
    prefixes: Sequence[str],
    moments: Mapping[int, SecondMoment],
) -> Timed:
    """Write a batch of facts with MEMIT's or AlphaEdit's equation (no earlier edits). This changes the model."""
    out, of_fact = Timed(), [rows_of(lm.tokenizer, [fact], prefixes, drift=True) for fact in facts]
    for step in recipe.steps():
        if step.target not in out.z:
            started = time.perf_counter()
            found = [textbook_target(lm, rows, step.target, recipe.objective) for rows in of_fact]
            out.z[step.target] = torch.stack([z for z, _ in found], dim=1)
            out.steps += sum(steps for _, steps in found)
            out.seconds["targets"] += time.perf_counter() - started
        started = time.perf_counter()
        K = torch.stack([_key(lm, rows, step.layer) for rows in of_fact], dim=1).double()
        h = torch.stack([_read(lm, rows[:1], step.target, key=False)[0] for rows in of_fact], dim=1)
        R = (step.share * (out.z[step.target] - h)).double()
        out.seconds["keys"] += time.perf_counter() - started
        started = time.perf_counter()
        dW = dense_update(K, R, moments[step.layer].matrix, recipe)
        out.seconds["solve"] += time.perf_counter() - started
        with torch.no_grad():
            lm.projection(step.layer).matrix().add_(dW.to(lm.dtype))
        out.dW[step.layer] = dW
    return out


def dense_update(K: Tensor, R: Tensor, C: Tensor, recipe: Recipe) -> Tensor:
    """dW by the papers' formulas with a dense LU solve."""
    p = recipe.update.preserve
    if isinstance(p, NullSpace):
        U, S, _ = torch.linalg.svd(C)
        P = U[:, p.threshold > S] @ U[:, p.threshold > S].T
        left = P @ (K @ K.T) + p.l2 * torch.eye(len(C), dtype=C.dtype)
        return torch.linalg.solve(left, P @ K @ R.T).T
    assert isinstance(p, Covariance)
    return torch.linalg.solve(p.lambda_ * C + K @ K.T, K @ R.T).T


def textbook_target(lm: EditableModel, rows: Sequence[Row], layer: int, objective: Objective) -> tuple[Tensor, int]:
    """(z*, steps) of one fact: Adam on delta through the whole model, every logit computed."""
    ids, mask = lm.pad([row.ids for row in rows])
    lanes, at = torch.arange(len(rows)), torch.tensor([row.subject_last for row in rows])
    with_target = [i for i, row in enumerate(rows) if row.targets]
    start = _read(lm, rows[:1], layer, key=False)[0]
    delta = torch.zeros_like(start, requires_grad=True)
    adam = torch.optim.Adam([delta], lr=objective.learning_rate)
    reference, steps = None, 0

    def add(_module: Any, _args: Any, output: Any) -> Any:
        hidden = first_tensor(output).clone()
        hidden[lanes, at] += delta
        return with_first_tensor(output, hidden)

    for step in range(objective.steps):
        adam.zero_grad()
        handle = lm.anatomy.blocks[layer].register_forward_hook(add)
        logp = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits.log_softmax(dim=-1)
        handle.remove()
        losses = []
        for i in with_target:
            first = rows[i].target_start - 1
            target = torch.tensor(rows[i].targets)
            losses.append(-logp[i, first : first + len(target)].gather(1, target[:, None]).mean())
        now = logp[len(rows) - 1, rows[-1].subject_last]
        reference = now.detach() if reference is None else reference
        kl = (now.exp() * (now - reference)).sum()
        size = delta.norm() if step else delta.sum() * 0
        loss = torch.stack(losses).mean() + objective.kl_factor * kl + objective.weight_decay * size / start.norm() ** 2
        steps = step
        if loss.item() < objective.stop_loss or step == objective.steps - 1:
            break
        (delta.grad,) = torch.autograd.grad(loss, delta)
        adam.step()
        with torch.no_grad():
            limit = objective.clamp * start.norm()
            if delta.norm() > limit:
                delta *= limit / delta.norm()
    return start + delta.detach(), steps


def _key(lm: EditableModel, rows: Sequence[Row], layer: int) -> Tensor:
    keys = _read(lm, [row for row in rows if not row.is_drift], layer, key=True)
    return keys[0] if len(keys) == 1 else keys[0] / 2 + keys[1:].mean(dim=0) / 2


@torch.no_grad()
def _read(lm: EditableModel, rows: Sequence[Row], layer: int, *, key: bool) -> Tensor:
    """Activations at the subject's last token, rows x width, by forward passes of the whole model."""
    seen: list[Tensor] = []

    def hook(_module: Any, args: Any, output: Any) -> None:
        seen.append(args[0] if key else first_tensor(output))

    module = lm.projection(layer).module if key else lm.anatomy.blocks[layer]
    parts = []
    for i in range(0, len(rows), _KEY_BATCH):
        part = rows[i : i + _KEY_BATCH]
        ids, mask = lm.pad([row.ids for row in part])
        handle = module.register_forward_hook(hook)
        lm.model(input_ids=ids, attention_mask=mask, use_cache=False)
        handle.remove()
        parts.append(seen.pop()[torch.arange(len(part)), torch.tensor([row.subject_last for row in part])])
    return torch.cat(parts)
