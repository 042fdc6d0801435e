"""The honest report of an edit: what the model said before and after, fact by fact, and how far ordinary text drifted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bluedit.evaluate.answers import Answer, perplexity, score
from bluedit.evaluate.passages import ordinary_passages
from bluedit.facts.fact import Fact
from bluedit.model.editable import EditableModel
from bluedit.progress import Progress

_DRIFT_TOKENS = 1200


@dataclass(frozen=True)
class Reading:
    """What a model says about one fact.

    Attributes:
        new, old: the answers `target` and `old_target` to the prompt (old is None when not given).
        paraphrases: the answer `target` to each paraphrase.
        neighbours: for each neighbour, the answer it should have (or None) and the token the model puts first.
    """

    new: Answer
    old: Answer | None
    paraphrases: tuple[Answer, ...]
    neighbours: tuple[Answer, ...]


def read_facts_in(lm: EditableModel, facts: Sequence[Fact], progress: Progress | None = None) -> list[Reading]:
    """Ask a model about facts: prompts, paraphrases and neighbours in one batched run."""
    pairs: list[tuple[str, str]] = []

    def ask(prompt: str, answer: str) -> int:
        pairs.append((prompt, answer))
        return len(pairs) - 1

    places = []
    for fact in facts:
        new = ask(fact.text, fact.target)
        old = ask(fact.text, fact.old_target) if fact.old_target else None
        paraphrases = [ask(p, fact.target) for p in fact.paraphrases]
        neighbours = [ask(n.prompt, n.answer or fact.old_target or fact.target) for n in fact.neighbours]
        places.append((new, old, paraphrases, neighbours))
    answers = score(lm, pairs, progress)
    return [
        Reading(
            answers[new],
            None if old is None else answers[old],
            tuple(answers[i] for i in paraphrases),
            tuple(answers[i] for i in neighbours),
        )
        for new, old, paraphrases, neighbours in places
    ]


@dataclass(frozen=True)
class FactReport:
    """One fact before and after an edit.

    Attributes:
        first_before, first_after: the token the model puts first after the prompt.
        says_before, says_after: whether every token of the target is the model's first choice.
        p_new_before ... p_old_after: probability of the whole answer.
        paraphrases_before, paraphrases_after: how many paraphrases are answered with the target, of `paraphrases`.
        neighbours_kept: how many neighbours keep the first token of their answer, of `neighbours`.
    """

    prompt: str
    target: str
    old_target: str | None
    first_before: str
    first_after: str
    p_new_before: float
    p_new_after: float
    p_old_before: float | None
    p_old_after: float | None
    says_before: bool
    says_after: bool
    paraphrases: int
    paraphrases_before: int
    paraphrases_after: int
    neighbours: int
    neighbours_kept: int


def _side_by_side(fact: Fact, before: Reading, after: Reading, decode: Callable[[list[int]], str]) -> FactReport:
    """Put two readings of one fact side by side; `decode` turns token ids into text."""
    kept = sum(a.top == b.top for a, b in zip(after.neighbours, before.neighbours, strict=True))
    return FactReport(
        prompt=fact.text,
        target=fact.target,
        old_target=fact.old_target,
        first_before=decode([before.new.top]).strip(),
        first_after=decode([after.new.top]).strip(),
        p_new_before=before.new.probability,
        p_new_after=after.new.probability,
        p_old_before=before.old.probability if before.old else None,
        p_old_after=after.old.probability if after.old else None,
        says_before=before.new.said,
        says_after=after.new.said,
        paraphrases=len(fact.paraphrases),
        paraphrases_before=sum(a.said for a in before.paraphrases),
        paraphrases_after=sum(a.said for a in after.paraphrases),
        neighbours=len(fact.neighbours),
        neighbours_kept=kept,
    )


@dataclass(frozen=True)
class Report:
    """The whole edit: facts and drift. Figures are teacher-forced; `perplexity_*` is on ordinary passages."""

    facts: tuple[FactReport, ...]
    perplexity_before: float
    perplexity_after: float

    @property
    def drift(self) -> float:
        """Relative rise of perplexity; 0.01 is one percent."""
        return self.perplexity_after / self.perplexity_before - 1

    def totals(self) -> dict[str, tuple[int, int]]:
        """(how many, of how many): facts now said, paraphrases now answered, neighbours kept."""
        return {
            "facts": (sum(f.says_after for f in self.facts), len(self.facts)),
            "paraphrases": (sum(f.paraphrases_after for f in self.facts), sum(f.paraphrases for f in self.facts)),
            "neighbours": (sum(f.neighbours_kept for f in self.facts), sum(f.neighbours for f in self.facts)),
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"drift": self.drift, **asdict(self)}


@dataclass(frozen=True)
class Measurement:
    """One look at a model: what it says about each fact, and its perplexity on the bundled ordinary passages."""

    facts: tuple[Fact, ...]
    readings: tuple[Reading, ...]
    perplexity: float


def measure(lm: EditableModel, facts: Sequence[Fact], progress: Progress | None = None) -> Measurement:
    """Look at the model as it is now."""
    readings = read_facts_in(lm, facts, progress)
    return Measurement(tuple(facts), tuple(readings), perplexity(lm, ordinary_passages(), _DRIFT_TOKENS))


def compare(lm: EditableModel, before: Measurement, after: Measurement) -> Report:
    """Put two looks at the same facts side by side."""
    rows = zip(before.facts, before.readings, after.readings, strict=True)
    lines = tuple(_side_by_side(fact, b, a, lm.tokenizer.decode) for fact, b, a in rows)
    return Report(lines, before.perplexity, after.perplexity)
