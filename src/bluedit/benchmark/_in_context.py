"""Facts that are told, not written: a fact's statement stands before each question about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bluedit.benchmark.record import BatchRecord, EntryLog
from bluedit.benchmark.running import Running, Unedited
from bluedit.evaluate.model_queries import ModelQueries
from bluedit.evaluate.said import mentions
from bluedit.spacing import continuation

if TYPE_CHECKING:
    from bluedit.benchmark.approach import InContext
    from bluedit.benchmark.running import Work
    from bluedit.evaluate.data import Answer, Drift, Pair, Sampling
    from bluedit.evaluate.queries import Queries
    from bluedit.facts.fact import Fact


class InContextRun(Running):
    """Remembers the facts so far; the model is never changed."""

    def __init__(self, approach: InContext, work: Work) -> None:
        super().__init__(approach, work)
        self._facts: list[Fact] = []

    def restore(self, log: EntryLog, parts: Sequence[Sequence[Fact]]) -> None:
        self._facts = [fact for part in parts[: len(log.batches)] for fact in part]

    def write(self, parts: Sequence[Sequence[Fact]]) -> BatchRecord:
        self._facts = [fact for part in parts for fact in part]
        return super().write(parts)

    def queries(self, unedited: Unedited) -> Queries:
        told = ModelQueries(self.lm, unedited, self.editor.progress)
        return ToldQueries(told, Statements.of(self._facts, beside=self.approach.beside, most=self.approach.most))


@dataclass(frozen=True, eq=False)
class Statements:
    """Which statements stand before a text.

    Attributes:
        by_subject: subjects' names without case, each with its statements, oldest first.
        by_prompt: prompts that name no subject, each with the statement that is put before it all the same.
        most: most statements before one text.
    """

    by_subject: Mapping[str, Sequence[str]]
    by_prompt: Mapping[str, str] = field(default_factory=dict)
    most: int = 20

    @classmethod
    def of(cls, facts: Sequence[Fact], *, beside: bool, most: int) -> Statements:
        """The statements of some facts.

        Args:
            beside: also before the facts' neighbours and probes.
        """
        by_subject: dict[str, list[str]] = {}
        by_prompt: dict[str, str] = {}
        for fact in facts:
            statement = fact.text + continuation(fact.text, fact.target, fact.joined).rstrip(" .") + "."
            for name in fact.names:
                by_subject.setdefault(name.casefold(), []).append(statement)
            for one in (*fact.neighbours, *fact.probes) if beside else ():
                by_prompt.setdefault(one.prompt, statement)
        return cls(by_subject, by_prompt, most)

    def before(self, text: str) -> str:
        """The statements to put before a text; empty for a text that is about none of the facts."""
        plain = text.casefold()
        found = [
            statement
            for subject, own in self.by_subject.items()
            if subject in plain and mentions(text, subject)
            for statement in own
        ]
        if not found:
            found = [statement for prompt, statement in self.by_prompt.items() if prompt in text][:1]
        newest = list(dict.fromkeys(reversed(found)))[: self.most]  # one may be found by several names
        return " ".join(reversed(newest))

    def told(self, text: str) -> str:
        """The text after its statements."""
        before = self.before(text)
        return f"{before} {text}" if before else text


@dataclass(frozen=True, eq=False)
class ToldQueries:
    """Queries whose texts come after the statements they need; compared with the same model without them.

    Attributes:
        model: answers them.
        statements: which stand before a text.
    """

    model: ModelQueries
    statements: Statements
    _chats: dict[str, str] = field(default_factory=dict)

    def _told(self, text: str) -> str:
        """What the model reads for a text. In a chat template the statements are part of the user's turn."""
        return self._chats.get(text) or self.statements.told(text)

    def score(self, pairs: Sequence[Pair]) -> list[Answer]:
        return self.model.score([(self._told(prompt), *rest) for prompt, *rest in pairs])  # pyright: ignore[reportArgumentType]

    def score_unedited(self, pairs: Sequence[Pair]) -> list[Answer]:
        return self.model.score_unedited(pairs)

    def score_after(self, beginning: str, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        return self.model.score_after(beginning, pairs)

    def continuations(self, prompts: Sequence[str], tokens: int | Sampling) -> list[str]:
        return self.model.continuations([self._told(prompt) for prompt in prompts], tokens)

    def answer_length(self, prompt: str, answer: str, joined: bool | None = None) -> int:
        return self.model.answer_length(self._told(prompt), answer, joined)

    def in_chat(self, prompt: str) -> str | None:
        """The prompt in the chat template, without statements: they are put in when the model reads it."""
        plain, told = self.model.in_chat(prompt), self.model.in_chat(self.statements.told(prompt))
        if plain is not None and told is not None:
            self._chats[plain] = told
        return plain

    def next_token_drift(self, prompts: Sequence[str]) -> dict[str, Drift]:
        return self.model.next_token_drift(prompts, now=[self._told(prompt) for prompt in prompts])

    def chat_drift(self) -> dict[str, float]:
        return self.model.chat_drift()

    def passage_drift(self, texts: Sequence[str], tokens: int) -> dict[str, float]:
        return self.model.passage_drift(texts, tokens)

    def perplexity(self, texts: Sequence[str], tokens: int) -> float:
        return self.model.perplexity(texts, tokens)
