"""The report of an edit: what the model said before and after, fact by fact, and what the edit did to everything else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bluedit.evaluate._greedy import LiveRespondent
from bluedit.evaluate._missed import Details, Evidence, Missed, missed, missed_elsewhere
from bluedit.evaluate.answers import perplexity, score_encoded
from bluedit.evaluate.asked import Reply, ask_facts
from bluedit.evaluate.bystanders import (
    Bystanders,
    ask_bystanders,
    bystander_questions,
    chat_perplexity,
    compare_bystanders,
)
from bluedit.evaluate.ordinary import Ordinary
from bluedit.evaluate.passages import ORDINARY_TOKENS, ordinary_passages
from bluedit.files import as_json
from bluedit.progress import Progress
from bluedit.text.prompts import encode_answer

if TYPE_CHECKING:
    from bluedit.evaluate.data import Answer
    from bluedit.facts.fact import Fact
    from bluedit.model.editable import EditableModel


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
    pairs: list[tuple[list[int], list[int]]] = []

    def ask(prompt: str, answer: str, joined: bool | None = None) -> int:
        pairs.append(encode_answer(lm.tokenizer, prompt, answer, joined))
        return len(pairs) - 1

    places = []
    for fact in facts:
        new = ask(fact.text, fact.target, fact.joined)
        old = ask(fact.text, fact.old_target, fact.joined) if fact.old_target else None
        paraphrases = [ask(p, fact.target) for p in fact.paraphrases]
        neighbours = [ask(n.prompt, n.answer or fact.old_target or fact.target) for n in fact.neighbours]
        places.append((new, old, paraphrases, neighbours))
    answers = score_encoded(lm, pairs, progress)
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
        says_before, says_after: whether what the model generates at the prompt is the target (see `bluedit.evaluate.said`). In a report
            without `asked`, whether every token of the target is the first choice.
        p_new_before ... p_old_after: probability of the whole answer.
        paraphrases: number of paraphrases; paraphrases_before, paraphrases_after: how many of them are answered with the target,
            token by token given those before it.
        neighbours: number of neighbours; neighbours_kept: after how many of them the most probable token is the same as before.
        asked: what the model generates after the edit, to the prompt first, then in other words and in chat.
        text_before: what it generated at the prompt before the edit; None if it was not asked.
        asked_before: what it generated before the edit, to the same questions as in `asked`.
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
    asked: tuple[Reply, ...] = ()
    text_before: str | None = None
    asked_before: tuple[Reply, ...] = ()


def _side_by_side(before: Known, after: Known, decode: Callable[[list[int]], str]) -> FactReport:
    """One fact before and after; `decode` turns token ids into text."""
    fact, was, now = after.fact, before.reading, after.reading
    kept = sum(a.top == b.top for a, b in zip(now.neighbours, was.neighbours, strict=True))
    return FactReport(
        prompt=fact.text,
        target=fact.target,
        old_target=fact.old_target,
        first_before=decode([was.new.top]).strip(),
        first_after=decode([now.new.top]).strip(),
        p_new_before=was.new.probability,
        p_new_after=now.new.probability,
        p_old_before=was.old.probability if was.old else None,
        p_old_after=now.old.probability if now.old else None,
        says_before=before.says,
        says_after=after.says,
        paraphrases=len(fact.paraphrases),
        paraphrases_before=sum(a.said for a in was.paraphrases),
        paraphrases_after=sum(a.said for a in now.paraphrases),
        neighbours=len(fact.neighbours),
        neighbours_kept=kept,
        asked=after.replies,
        text_before=before.replies[0].text if before.replies else None,
        asked_before=before.replies,
    )


@dataclass(frozen=True)
class Report:
    """The report of a whole edit.

    Attributes:
        facts: one by one.
        perplexity_before, perplexity_after: of the bundled ordinary passages.
        chat_perplexity_before, chat_perplexity_after: of the bundled chat turns; None if the model has no chat template.
        bystanders: answers to ordinary questions; None if they were not asked.
        missed: facts that the model does not say at their prompt, each with a reason and what to try.
        prompt_only: facts that it says there, but not in chat (without a chat template: not after "Question: ... Answer:").
    """

    facts: tuple[FactReport, ...]
    perplexity_before: float
    perplexity_after: float
    chat_perplexity_before: float | None = None
    chat_perplexity_after: float | None = None
    bystanders: Bystanders | None = None
    missed: tuple[Missed, ...] = ()
    prompt_only: tuple[Missed, ...] = ()

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
        """The report as a JSON object; numbers that are not finite become None. Of the ordinary answers it has those that changed most."""
        content = {"drift": self.drift, **asdict(self)}
        if self.bystanders:
            del content["bystanders"]["answers"]
            content["bystanders"]["worst"] = [asdict(one) for one in self.bystanders.worst]
        return json.loads(as_json(content))


@dataclass(frozen=True)
class Known:
    """One fact with its reading and, if it was asked, the model's replies."""

    fact: Fact
    reading: Reading
    replies: tuple[Reply, ...] = ()

    @property
    def says(self) -> bool:
        """Whether the model says it: what it generates at the prompt or, if it was not asked, each token's first choice."""
        return self.replies[0].said if self.replies else self.reading.new.said


@dataclass(frozen=True)
class Measurement:
    """What a model says about each fact, and what it does with ordinary text and questions.

    Attributes:
        replies: for each fact what the model generates, at the prompt first; empty if it was not asked.
    """

    facts: tuple[Fact, ...]
    readings: tuple[Reading, ...]
    ordinary: Ordinary
    replies: tuple[tuple[Reply, ...], ...] = ()

    @property
    def known(self) -> list[Known]:
        """All about each fact."""
        replies = self.replies or ((),) * len(self.facts)
        return [Known(*all_) for all_ in zip(self.facts, self.readings, replies, strict=True)]

    def only(self, facts: Sequence[Fact]) -> Measurement:
        """The same measurement with some of its facts, in this order."""
        places = [self.facts.index(fact) for fact in facts]
        replies = tuple(self.replies[i] for i in places) if self.replies else ()
        return replace(self, facts=tuple(facts), readings=tuple(self.readings[i] for i in places), replies=replies)


def measure(
    lm: EditableModel,
    facts: Sequence[Fact],
    progress: Progress | None = None,
    known: Ordinary | None = None,
    before: Ordinary | None = None,
) -> Measurement:
    """Measure the model with its present weights.

    Args:
        known: what the model does with ordinary text and questions, if that was measured already.
        before: the same of the model before an edit, which makes it faster.

    Raises:
        FactError: a prompt is longer than the model's context.
        ModelError: the model's logits are not finite.
    """
    progress = progress or Progress()
    return Measurement(
        tuple(facts),
        tuple(read_facts_in(lm, facts, progress)),
        known or measure_ordinary(lm, progress, before),
        tuple(ask_facts(LiveRespondent(lm, progress), facts)),
    )


def measure_ordinary(lm: EditableModel, progress: Progress, before: Ordinary | None = None) -> Ordinary:
    """Measure what the model does with ordinary text and questions. Raises ModelError if its logits are not finite.

    Args:
        before: the same of the model before an edit, which makes it faster.
    """
    return Ordinary(
        perplexity(lm, ordinary_passages(), ORDINARY_TOKENS),
        chat_perplexity(lm, progress),
        ask_bystanders(LiveRespondent(lm, progress), bystander_questions(), before=before.heard if before else ()),
    )


def compare(lm: EditableModel, before: Measurement, after: Measurement, details: Details | None = None) -> Report:
    """The report on two measurements of the same facts, before and after an edit.

    Args:
        details: by the text of a fact's prompt, what is known of how it was written; see `Evidence`.
    """
    pairs = list(zip(before.known, after.known, strict=True))
    evidence = [
        Evidence(
            now.fact,
            now.reading.new,
            now.reading.old,
            was.replies[0].text if was.replies else "",
            now.replies,
            (details or {}).get(now.fact.text),
        )
        for was, now in pairs
    ]
    then, later = (one.ordinary.beside(after.facts) for one in (before, after))
    return Report(
        tuple(_side_by_side(was, now, lm.tokenizer.decode) for was, now in pairs),
        then.perplexity,
        later.perplexity,
        then.chat_perplexity,
        later.chat_perplexity,
        compare_bystanders(then.heard, later.heard),
        tuple(filter(None, map(missed, evidence))),
        tuple(filter(None, map(missed_elsewhere, evidence))),
    )
