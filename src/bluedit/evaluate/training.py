"""Training an edited model further on ordinary text, for a while: is it still fit for it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch

from bluedit.errors import BenchmarkError
from bluedit.evaluate.answers import passage_rows
from bluedit.model.editable import EditableModel
from bluedit.model.state import frozen
from bluedit.progress import Progress
from bluedit.shapes import Tensor

_LENGTH = 128


@dataclass(frozen=True)
class Training:
    """A short fine-tuning of all weights: AdamW without decay, rows of 128 tokens in an order by the seed. The optimiser's weights are
    float32, those of the model are what they round to after each step, so that half precision does not swallow small steps.

    Attributes:
        steps: gradient steps.
        learning_rate: AdamW's, constant.
        rows: token rows a step.
        seed: of the order of rows.
    """

    steps: int = 50
    learning_rate: float = 2e-5
    rows: int = 8
    seed: int = 0

    @property
    def tokens(self) -> int:
        """Tokens seen."""
        return self.steps * self.rows * _LENGTH


def training_rows(lm: EditableModel, texts: Sequence[str], training: Training) -> Tensor:
    """Rows of 128 tokens of the texts, as many as the training can use.

    Raises:
        BenchmarkError: the texts are too short for one step.
    """
    stream = [token for row in passage_rows(lm, texts, training.tokens) for token in row]
    rows = torch.tensor(stream[: len(stream) // _LENGTH * _LENGTH], dtype=torch.long, device=lm.device).view(
        -1, _LENGTH
    )
    if len(rows) < training.rows:
        raise BenchmarkError(
            f"further fine-tuning needs {training.rows * _LENGTH} tokens of text beside those that perplexity is measured on, "
            f"and there are {len(stream)}; give more with --passages"
        )
    return rows


@contextmanager
def trained(
    lm: EditableModel, texts: Sequence[str], training: Training, progress: Progress
) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Inside the `with` the model is fine-tuned on the texts; afterwards its weights are, bit for bit, what they were. Yields what gives
    those weights back for a while.

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
    order = torch.Generator().manual_seed(training.seed)
    queue: list[int] = []
    with (
        frozen(lm.model),
        _trainable(weights),
        progress.task("fine-tuning further", training.steps, "steps") as advance,
    ):
        masters = [
            weight.detach().to(torch.promote_types(weight.dtype, torch.float32), copy=True) for weight in weights
        ]
        adam = torch.optim.AdamW(masters, lr=training.learning_rate, weight_decay=0.0)
        for _ in range(training.steps):
            while len(queue) < training.rows:
                queue += torch.randperm(len(rows), generator=order).tolist()
            batch, queue = rows[queue[: training.rows]], queue[training.rows :]
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


@contextmanager
def _trainable(weights: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Inside `frozen`, which knows what to switch on again afterwards."""
    try:
        for weight in weights:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(False)
            weight.grad = None
