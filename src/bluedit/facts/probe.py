"""Questions about a fact other than its prompt: neighbours, whose answers must not change, and probes, whose answers must follow the edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PROBES = ("portability", "multihop", "alias", "subject", "generation")
_ANSWERED, _FREE = PROBES[:3], PROBES[-1]
NOT_A_NEIGHBOUR = "a neighbour is not a Neighbour with a prompt and an answer that is text, not empty, or None"
NOT_A_PROBE = "a probe is not a Probe with a prompt"


@dataclass(frozen=True)
class Neighbour:
    """A prompt whose answer must not change, e.g. ("Michel Rocard is a native speaker of", "French").

    Without an answer the edited model is compared with what the unedited model says.
    """

    prompt: str
    answer: str | None = None

    def fault(self) -> str:
        """What is wrong with it, as part of a sentence; empty if nothing is."""
        return "" if _filled(self.prompt) and (self.answer is None or _filled(self.answer)) else NOT_A_NEIGHBOUR


@dataclass(frozen=True)
class Probe:
    """A question beyond the edited prompt, asked when an edit is evaluated.

    Attributes:
        kind: "portability" (follows from the edit in one step), "multihop" (in several steps), "alias" (the same fact with
            another name for the subject), "subject" (another fact about the subject, which must stay) or "generation"
            (a prompt to continue freely, to measure fluency).
        prompt: the full text.
        answers: names of the right answer; any of them counts. Optional for "subject", where the unedited model's answer is
            the default; not allowed for "generation".
        further: if the right answer is a list (all siblings, say), the names of each other item; every item must be given.
    """

    kind: str
    prompt: str
    answers: Sequence[str] = ()
    further: Sequence[Sequence[str]] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.answers, str):
            object.__setattr__(self, "answers", tuple(self.answers))
        if not isinstance(self.further, str):
            further = tuple(names if isinstance(names, str) else tuple(names) for names in self.further)
            object.__setattr__(self, "further", further)

    def fault(self) -> str:
        """What is wrong with it, as part of a sentence; empty if nothing is."""
        if self.kind not in PROBES:
            return f"the probe {self.prompt!r} is of the unknown kind {self.kind!r}"
        if not _filled(self.prompt):
            return NOT_A_PROBE
        if not _names(self.answers):
            return f"the answers of the probe {self.prompt!r} must be a list of texts, none of them empty"
        if isinstance(self.further, str) or not all(names and _names(names) for names in self.further):
            return f"the further answers of the probe {self.prompt!r} must be lists of texts, none of them empty"
        if self.further and not self.answers:
            return f"the probe {self.prompt!r} has further answers but no first one"
        if self.kind in _ANSWERED and not self.answers:
            return f"the probe {self.prompt!r} has no answer"
        if self.kind == _FREE and self.answers:
            return f"the probe {self.prompt!r} is continued freely; it takes no answers"
        return ""


def _filled(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip())


def _names(answers: object) -> bool:
    return isinstance(answers, tuple) and all(_filled(a) for a in answers)
