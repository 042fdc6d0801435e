"""The report of an edit: what the model said before and after, fact by fact, and how far the perplexity of ordinary text drifted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bluedit.evaluate.answers import perplexity, score
from bluedit.evaluate.passages import ordinary_passages

if TYPE_CHECKING:
    from bluedit.evaluate.data import Answer
    from bluedit.facts.fact import Fact
    from bluedit.model.editable import EditableModel
    from bluedit.progress import Progress

_DRIFT_TOKENS = 1200


@dataclass(frozen=True)
class Reading:
    """What a model says about one fact.

    Attributes:
        new, old: how likely `target` and `old_target` are after the prompt; `old` is None if the fact has no old target.
        paraphrases: how likely `target` is after each paraphrase.
        neighbours: how likely each neighbour's answer is; without an answer of its own, the fact's old target or its target.
    """

    new: Answer
    old: Answer | None
    paraphrases: tuple[Answer, ...]
    neighbours: tuple[Answer, ...]


def read_facts_in(lm: EditableModel, facts: Sequence[Fact], progress: Progress | None = None) -> list[Reading]:
    """Score the prompts, paraphrases and neighbours of facts in one batched run.

    Raises:
        FactError: a prompt is longer than the model's context.
        ModelError: the model's logits are not finite.
    """
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
        first_before, first_after: the most probable token right after the prompt.
        says_before, says_after: whether every token of the target is the first choice.
        p_new_before ... p_old_after: probability of the whole answer.
        paraphrases: number of paraphrases; paraphrases_before, paraphrases_after: how many of them are answered with the target.
        neighbours: number of neighbours; neighbours_kept: after how many of them the most probable token is the same as before.
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
    """Two readings of one fact as a report; `decode` turns token ids into text."""
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
    """The report of a whole edit. All figures are teacher-forced; perplexity is that of the bundled ordinary passages."""

    facts: tuple[FactReport, ...]
    perplexity_before: float
    perplexity_after: float

    @property
    def drift(self) -> float:
        """Relative rise of perplexity; 0.01 is one percent."""
        return self.perplexity_after / self.perplexity_before - 1

    def totals(self) -> dict[str, tuple[int, int]]:
        """(count, of how many): facts said after the edit, paraphrases answered, neighbours kept."""
        return {
            "facts": (sum(f.says_after for f in self.facts), len(self.facts)),
            "paraphrases": (sum(f.paraphrases_after for f in self.facts), sum(f.paraphrases for f in self.facts)),
            "neighbours": (sum(f.neighbours_kept for f in self.facts), sum(f.neighbours for f in self.facts)),
        }

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {"drift": self.drift, **asdict(self)}


@dataclass(frozen=True)
class Measurement:
    """What a model says about each fact, and its perplexity on the bundled ordinary passages."""

    facts: tuple[Fact, ...]
    readings: tuple[Reading, ...]
    perplexity: float


def measure(lm: EditableModel, facts: Sequence[Fact], progress: Progress | None = None) -> Measurement:
    """Measure the model with the weights it has now.

    Raises:
        FactError: a prompt is longer than the model's context.
        ModelError: the model's logits are not finite.
    """
    readings = read_facts_in(lm, facts, progress)
    return Measurement(tuple(facts), tuple(readings), perplexity(lm, ordinary_passages(), _DRIFT_TOKENS))


def compare(lm: EditableModel, before: Measurement, after: Measurement) -> Report:
    """The report on two measurements of the same facts, before and after an edit."""
    rows = zip(before.facts, before.readings, after.readings, strict=True)
    lines = tuple(_side_by_side(fact, b, a, lm.tokenizer.decode) for fact, b, a in rows)
    return Report(lines, before.perplexity, after.perplexity)
