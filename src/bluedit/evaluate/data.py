"""Settings and results of measurements as plain data. Importing this loads no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

# (prompt, answer), or with a third part: whether the answer follows without a space; otherwise the text decides
Pair = tuple[str, str] | tuple[str, str, bool | None]


@dataclass(frozen=True)
class Answer:
    """How likely a model is to give one answer to one prompt, under teacher forcing.

    Attributes:
        logprob: sum of log p over the answer's tokens, in nats.
        tokens: number of tokens in the answer.
        said: whether every token of the answer is the argmax given the tokens before it.
        top: id of the most probable token right after the prompt.
        first_choices: id of the most probable token at each position of the answer.
        accuracy: share of the answer's tokens that are the argmax.
    """

    logprob: float
    tokens: int
    said: bool
    top: int
    first_choices: tuple[int, ...] = ()
    accuracy: float = 0.0

    @property
    def probability(self) -> float:
        """Probability of the whole answer."""
        return math.exp(self.logprob)

    @property
    def mean_logprob(self) -> float:
        """Mean log p per token, which CounterFact's metrics compare."""
        return self.logprob / self.tokens


class Drift(NamedTuple):
    """How far an edited model's distribution of the next token is from the unedited model's.

    Attributes:
        kl: KL(unedited || edited) in nats.
        same: 1 if both have the same first choice, else 0.
        top5, top10: share of the 5 or 10 most probable tokens that both have.
    """

    kl: float
    same: float
    top5: float
    top10: float


@dataclass(frozen=True)
class Asked:
    """A prompt, its greedy continuation, and the most probable next tokens.

    Attributes:
        top: (token text, probability), most probable first.
    """

    prompt: str
    text: str
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Sampling:
    """How text is sampled.

    Attributes:
        tokens: length of the text.
        top_k: each token is drawn from this many of the most probable ones.
        seed: together with the prompt it determines the text.
    """

    tokens: int
    top_k: int
    seed: int


SAMPLED_TEXT = Sampling(tokens=100, top_k=5, seed=0)  # what fluency and consistency are measured on; top 5 as in ROME


@dataclass(frozen=True)
class Ability:
    """Accuracy and weighted F1 on one general-ability task, both between 0 and 1, over `items` items."""

    task: str
    accuracy: float
    f1: float
    items: int


@dataclass(frozen=True)
class HiddenDrift:
    """How far the hidden states of known facts moved: the last block's output at the last token of each prompt.

    Attributes:
        layer: index of the last block.
        shift: distance between the mean states before and after, divided by the root mean square distance of the states before
            from their mean.
        before, after: the states (prompts x 2), projected on the first two principal axes of the states before.
        explained: share of the variance before on each of the two axes.
    """

    layer: int
    shift: float
    before: Sequence[tuple[float, float]]
    after: Sequence[tuple[float, float]]
    explained: Sequence[float]


@dataclass(frozen=True)
class Training:
    """A short fine-tuning of all weights with AdamW (no weight decay) on rows of 128 tokens. The optimiser holds float32 copies of the
    weights, and the model gets them rounded after each step, so that half precision does not swallow small steps.

    Attributes:
        steps: gradient steps.
        learning_rate: constant.
        rows: rows per step.
        seed: of the order of the rows.
    """

    steps: int = 50
    learning_rate: float = 2e-5
    rows: int = 8
    seed: int = 0

    @property
    def tokens(self) -> int:
        """Tokens seen in training."""
        return self.steps * self.rows * ROW_LENGTH


ROW_LENGTH = 128  # tokens of a training row
