"""The questions that the report of an edit asks a model. `LiveRespondent` asks a real model; tests use canned answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from bluedit.methods.wordings import ChatForm

Ended = Callable[[int, str], bool]  # of the number of a prompt, and the text after it so far


@dataclass(eq=False)
class Written:
    """A greedy continuation.

    Attributes:
        text: without special tokens.
        first: log-probabilities of the first token (float32, on the CPU), if asked for.
        tokens: its token ids, the end token included.
    """

    text: str = ""
    first: Tensor | None = None
    tokens: list[int] = field(default_factory=list)


def never(number: int, text: str) -> bool:  # noqa: ARG001
    """For texts that end only at their length limit or at the model's end token."""
    return False


class Respondent(Protocol):
    """A model to be asked."""

    @property
    def chat(self) -> ChatForm | None:
        """The model's chat form; None if it has none."""
        ...

    def answer_length(self, prompt: str, answer: str, joined: bool | None = None) -> int:
        """Number of tokens of an answer."""
        ...

    def write(
        self,
        prompts: Sequence[str],
        rooms: Sequence[int],
        ended: Ended = never,
        *,
        first: bool = False,
        expected: Sequence[str] = (),
    ) -> list[Written]:
        """Greedy continuations of at most so many tokens; see `bluedit.evaluate._greedy.greedy`."""
        ...
