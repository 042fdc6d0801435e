"""Fine-tuning an edited model on ordinary text, to see whether it still trains and whether the edits survive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import torch

from bluedit.errors import BenchmarkError
from bluedit.evaluate.data import ROW_LENGTH, Training
from bluedit.evaluate.passages import passage_rows
from bluedit.model.state import frozen

if TYPE_CHECKING:
    from torch import Tensor

    from bluedit.model.editable import EditableModel
    from bluedit.progress import Progress

__all__ = ["Training", "trained", "training_rows"]


def training_rows(lm: EditableModel, texts: Sequence[str], training: Training) -> Tensor:
    """Token rows (rows x 128) of the texts, as many as the training can use.

    Raises:
        BenchmarkError: the texts are too short for one step.
    """
    tokens = [token for row in passage_rows(lm, texts, training.tokens) for token in row]
    whole = tokens[: len(tokens) // ROW_LENGTH * ROW_LENGTH]
    rows = torch.tensor(whole, dtype=torch.long, device=lm.device).view(-1, ROW_LENGTH)
    if len(rows) < training.rows:
        raise BenchmarkError(
            f"further fine-tuning needs {training.rows * ROW_LENGTH} tokens of text beyond those that perplexity is measured on, "
            f"and there are {len(tokens)}; give more with --passages"
        )
    return rows


@contextmanager
def trained(
    lm: EditableModel, texts: Sequence[str], training: Training, progress: Progress
) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Inside the `with` the model is fine-tuned on the texts; afterwards its weights are, bit for bit, what they were before. Yields a
    context manager that restores the earlier weights for a while.

    Raises:
        BenchmarkError: the texts are too short for one step, or the loss is not finite.
    """
    rows = training_rows(lm, texts, training)
    weights = list(lm.model.parameters())
    saved = [weight.detach().clone() for weight in weights]

    @contextmanager
    def untrained() -> Iterator[None]:
        after = [weight.detach().clone() for weight in weights]
        try:
            _set(weights, saved)
            yield
        finally:
            _set(weights, after)

    try:
        with torch.enable_grad(), frozen(lm.model), trainable(weights):
            _train(lm, weights, rows, training, progress)
        yield untrained
    finally:
        _set(weights, saved)


@torch.no_grad()
def _set(weights: Sequence[torch.nn.Parameter], values: Sequence[Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)


def _train(
    lm: EditableModel,
    weights: Sequence[torch.nn.Parameter],
    rows: Tensor,
    training: Training,
    progress: Progress,
) -> None:
    masters = [weight.detach().to(torch.promote_types(weight.dtype, torch.float32), copy=True) for weight in weights]
    adam = torch.optim.AdamW(masters, lr=training.learning_rate, weight_decay=0.0)
    with progress.task("fine-tuning further", training.steps, "steps") as advance:
        for index in minibatches(len(rows), training.rows, training.steps, training.seed):
            batch = rows[index]
            loss = lm.model(input_ids=batch, labels=batch, use_cache=False).loss
            if not torch.isfinite(loss):
                raise BenchmarkError(
                    "the loss of further fine-tuning is not finite; lower its learning rate, or load the model with --dtype float32"
                )
            loss.backward()
            for master, weight in zip(masters, weights, strict=True):
                master.grad = None if weight.grad is None else weight.grad.to(master.dtype)
                weight.grad = None
            adam.step()
            _set(weights, masters)
            advance()


def minibatches(count: int, size: int, steps: int, seed: int) -> Iterator[list[int]]:
    """`size` of `count` indices for each step: all in a random order, again and again."""
    order = torch.Generator().manual_seed(seed)
    queue: list[int] = []
    for _ in range(steps):
        while len(queue) < size:
            queue += torch.randperm(count, generator=order).tolist()
        chosen, queue = queue[:size], queue[size:]
        yield chosen


@contextmanager
def trainable(weights: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Gradients for these weights inside the `with`; used inside `frozen`, which restores the flags afterwards."""
    try:
        for weight in weights:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(False)
            weight.grad = None
