"""Suites that let the model generate: greedy answers up to the model's own stop, and sampled text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluedit.errors import FactError
from bluedit.evaluate._suite import Suite, longest, probes_of, target_pairs
from bluedit.evaluate._wording import contains, cosine, idf, ngram_entropy, same_text, starts_with
from bluedit.evaluate.data import SAMPLED_TEXT
from bluedit.evaluate.metrics import Columns, put
from bluedit.evaluate.queries import Pairs, Queries
from bluedit.facts.words import is_question

if TYPE_CHECKING:
    from bluedit.evaluate.data import Pair
    from bluedit.facts.fact import Fact, Probe

_ROOM = 12  # tokens of a greedy answer
_SPARE = 2  # tokens of it beyond the target's own, at least
_CUE = "\nAnswer:"


class Generation(Suite):
    """What the model generates, greedily and with its own stop, plain and through the chat template; and the teacher-forced figures next
    to it (The Mirage of Model Editing, arXiv 2502.11177)."""

    name = "generation"
    measures = "what the model generates, plain and through the chat template, and the gap to the teacher-forced figure"
    needs = "nothing"
    metrics = (
        *("strict", "accuracy", "generated", "generated_exact", "generated_contains", "generated_paraphrase"),
        *("generated_chat", "generated_chat_exact", "generated_unseen", "forcing_gap"),
    )

    def texts(self, queries: Queries, fact: Fact) -> Iterator[str]:
        yield from (longest(prompt, fact.target) for prompt in (fact.text, *fact.paraphrases))
        chat = queries.in_chat(fact.text)
        if chat is not None:
            yield chat

    def measure(self, queries: Queries, facts: Sequence[Fact]) -> Columns:
        prompts = [own for fact in facts for own in target_pairs(fact)]
        texts = iter(_greedy(queries, prompts, 1))
        chat_prompts = [(chat, fact.target) for fact in facts if (chat := queries.in_chat(fact.text)) is not None]
        chats = iter(_greedy(queries, chat_prompts, 2))
        pairs = Pairs()
        forced = [pairs.add(fact.text, fact.target, fact.joined) for fact in facts]
        answers = queries.score(pairs.all)
        columns: Columns = {}
        for fact, place in zip(facts, forced, strict=True):
            put(columns, "strict", [answers[place].said])
            put(columns, "accuracy", [answers[place].accuracy])
            said, *paraphrased = [next(texts) for _ in range(1 + len(fact.paraphrases))]
            put(columns, "generated", [starts_with(said, fact.target)])
            put(columns, "generated_exact", [same_text(said, fact.target)])
            put(columns, "generated_contains", [contains(said, fact.target)])
            unseen = [starts_with(text, fact.target) for text in paraphrased]
            put(columns, "generated_paraphrase", unseen)
            answer = [next(chats)] if chat_prompts else []
            in_chat = [contains(text, fact.target) for text in answer]
            put(columns, "generated_chat", in_chat)
            put(columns, "generated_chat_exact", [same_text(text, fact.target) for text in answer])
            put(columns, "generated_unseen", [sum(own) / len(own) for own in (unseen, in_chat) if own])
        return columns


@dataclass(frozen=True)
class _ProbeMetrics:
    """The metrics of one kind of probe.

    Attributes:
        share: the share of probes answered correctly.
        any: whether at least one is; None where that is no metric.
        changes: whether the edit changes the right answer, so that the answer is also scored under teacher forcing.
    """

    share: str
    any: str | None = None
    changes: bool = True


_PROBES = {
    "portability": _ProbeMetrics("portability"),
    "multihop": _ProbeMetrics("multihop", any="multihop_any"),
    "alias": _ProbeMetrics("alias"),
    "subject": _ProbeMetrics("subject_kept", changes=False),
}


class Portability(Suite):
    """Whether the model says what follows from an edit, and keeps its answers to what does not: the facts' probes (MQuAKE, arXiv 2305.14795; RippleEdits,
    arXiv 2307.12976)."""

    name = "portability"
    measures = "what follows from the edit in one or several steps; other relations of the subject"
    needs = "`probes` (MQuAKE and RippleEdits have them)"
    metrics = ("portability", "multihop", "multihop_any", "alias", "portability_accuracy", "subject_kept")

    def check(self, facts: Sequence[Fact]) -> None:
        if not any(p.answers for fact in facts for p in fact.probes):
            raise FactError(
                f"{self.name!r} asks the facts' probes, and no fact has one with an answer; leave it out (--suite)"
            )

    def texts(self, queries: Queries, fact: Fact) -> Iterator[str]:
        del queries
        yield from (longest(as_question(p.prompt), *p.answers) for p in fact.probes if p.answers)

    def measure(self, queries: Queries, facts: Sequence[Fact]) -> Columns:
        probes = [[p for p in fact.probes if p.answers] for fact in facts]
        prompts = [(as_question(p.prompt), _longest_answer(p)) for own in probes for p in own]
        texts = iter(
            _first_line(text) if prompt.endswith(_CUE) else text
            for text, (prompt, _) in zip(_greedy(queries, prompts, 2), prompts, strict=True)
        )
        pairs = Pairs()
        forced = [
            [pairs.add(as_question(p.prompt), p.answers[0]) for p in own if _PROBES[p.kind].changes] for own in probes
        ]
        answers = queries.score(pairs.all) if pairs.all else []
        columns: Columns = {}
        for own, places in zip(probes, forced, strict=True):
            right = [(p.kind, _is_right(text, p)) for p, text in zip(own, texts, strict=False)]
            for kind, metrics in _PROBES.items():
                found = [value for k, value in right if k == kind]
                put(columns, metrics.share, found)
                if metrics.any:
                    put(columns, metrics.any, [max(found)] if found else [])
            put(columns, "portability_accuracy", [answers[place].accuracy for place in places])
        return columns


class Fluency(Suite):
    """Entropy of sampled text, and its similarity to reference texts where facts have some (ROME, arXiv 2202.05262, section 3.3). Prompts
    are the facts' probes of kind "generation", or the subject alone."""

    name = "fluency"
    measures = "entropy of sampled text; its similarity to reference texts"
    needs = "nothing; `references` for consistency"
    metrics = ("fluency", "consistency")

    def texts(self, queries: Queries, fact: Fact) -> Iterator[str]:
        del queries
        yield from self._prompts(fact)

    def measure(self, queries: Queries, facts: Sequence[Fact]) -> Columns:
        prompts = [self._prompts(fact) for fact in facts]
        texts = iter(queries.continuations([prompt for own in prompts for prompt in own], SAMPLED_TEXT))
        weights = idf([" ".join(fact.references) for fact in facts if fact.references])
        columns: Columns = {}
        for fact, own in zip(facts, prompts, strict=True):
            said = [f"{prompt}{text}" for prompt, text in zip(own, texts, strict=False)]
            put(columns, "fluency", [ngram_entropy(text) for text in said])
            reference = " ".join(fact.references)
            put(columns, "consistency", [cosine(" ".join(said), reference, weights)] if reference else [])
        return columns

    @staticmethod
    def _prompts(fact: Fact) -> list[str]:
        return [probe.prompt for probe in probes_of(fact, "generation")] or [fact.subject]


def _greedy(queries: Queries, pairs: Sequence[Pair], times: int) -> list[str]:
    """Greedy continuations of (prompt, target) pairs: `times` x 12 tokens each, or the next multiple of that with room for the target and
    two tokens more."""
    lengths = [queries.answer_length(prompt, target, *joined) for prompt, target, *joined in pairs]
    rooms = [-(-(length + _SPARE) // _ROOM) * _ROOM * times for length in lengths]
    texts = [""] * len(pairs)
    for room in sorted(set(rooms)):
        places = [i for i, own in enumerate(rooms) if own == room]
        for i, text in zip(places, queries.continuations([pairs[i][0] for i in places], room), strict=True):
            texts[i] = text
    return texts


def as_question(prompt: str) -> str:
    """A question in a form that a language model answers. Other sentences are unchanged, and the model continues them."""
    return f"Question: {prompt.strip()}{_CUE}" if is_question(prompt) else prompt


def _first_line(text: str) -> str:
    """The answer, as MQuAKE takes it: what follows its line, such as a next question that the model makes up, is not part of it."""
    return text.strip().partition("\n")[0]


def _longest_answer(probe: Probe) -> str:
    """The longest text that answers a probe in full."""
    return " ".join(max(names, key=len) for names in (probe.answers, *probe.further))


def _is_right(text: str, probe: Probe) -> float:
    """1 if the text contains a name of each of the probe's answers, else 0."""
    return min(max(contains(text, name) for name in names) for names in (probe.answers, *probe.further))
