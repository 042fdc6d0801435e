"""The sentences put before a prompt, so that keys and targets do not depend on a single context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bluedit.errors import RecipeError
from bluedit.methods.part import Part
from bluedit.options import whole

NEUTRAL = (
    "The weather was mild that morning.",
    "Therefore, the committee met again in the afternoon.",
    "Because of the rain, we stayed inside.",
    "I read about this in the newspaper yesterday.",
    "You can find more about it in the library.",
    "In the end, everything went according to plan.",
    "Here is something worth knowing.",
    "They talked about it over dinner.",
    "A long time has passed since then.",
    "The following is taken from an article.",
)
MENTIONING = (
    "This text is about {subject}.",
    "We were talking about {target}.",
    "Someone had asked about {old}.",
    "I have read a lot about {subject}.",
    "There was a question about {target}.",
    "Yesterday, the news mentioned {old}.",
)
Sampler = Callable[[int, int], tuple[str, ...]]


class Contexts(Part, slot="contexts"):
    """Where prefixes come from."""

    def prefixes(self, sample: Sampler) -> tuple[str, ...]:
        """The prefixes, each a sentence. `{subject}`, `{target}` and `{old}` in one stand for those of the fact.

        Args:
            sample: (count, seed) -> sentences sampled from the unedited model.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Neutral(Contexts, kind="neutral"):
    """The first of a fixed list of ten English sentences."""

    count: int = whole(5, "number of prefixes", high=100.0)

    def prefixes(self, sample: Sampler) -> tuple[str, ...]:  # noqa: ARG002
        if self.count > len(NEUTRAL):
            raise RecipeError(
                f"contexts.count is {self.count}; there are {len(NEUTRAL)} neutral prefixes, so choose 0 to {len(NEUTRAL)} or contexts=sampled"
            )
        return NEUTRAL[: self.count]


@dataclass(frozen=True)
class Mentioning(Contexts, kind="mentioning"):
    """English sentences that name the subject, the new or the old answer, after CoRE (arXiv 2505.23026), which samples such text."""

    count: int = whole(3, "number of prefixes; 3 name each once", low=1.0, high=6.0)

    def prefixes(self, sample: Sampler) -> tuple[str, ...]:  # noqa: ARG002
        return MENTIONING[: self.count]


@dataclass(frozen=True)
class Sampled(Contexts, kind="sampled"):
    """Text sampled from the model with a seed, as MEMIT does (arXiv 2210.07229, appendix)."""

    count: int = whole(5, "number of prefixes", high=100.0)
    seed: int = whole(0, "random seed for the sampling")

    def prefixes(self, sample: Sampler) -> tuple[str, ...]:
        return sample(self.count, self.seed) if self.count else ()
