"""Facts that a model does not say after an edit: the reason, as far as measurements show it, and what to try."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluedit.evaluate.said import beginning_of, goes_on_as

if TYPE_CHECKING:
    from bluedit.evaluate.asked import Reply
    from bluedit.evaluate.data import Answer
    from bluedit.facts.fact import Fact

Details = Mapping[str, Mapping[str, Any]]
_LEAST_SHARED = 3  # characters of a target; fewer are chance
_LOW_REACH = 0.5
_HIGH_LOSS = 0.5  # nats per token: the target's mean probability is below 0.6
_STRONGER = "a larger bound and more steps: --set objective.clamp=NUMBER and --set objective.steps=NUMBER"
_STEPS = "more steps: --set objective.steps=NUMBER"
_ENDS = (
    "teaching the end of the answer, as the default recipe does (no --no-phrasings), or the answer as a whole sentence"
)
_QUESTION = "a phrasing that is a question: --phrasing 'Who ...?' (and no --no-chat)"
_SPACING = "another spacing: begin the target with a space, or set joined=True for none"


@dataclass(frozen=True)
class Missed:
    """A fact that is not said.

    Attributes:
        form: how it was asked, a key of `FORMS`: "prompt", or "chat" or "question" where only the prompt is answered with it.
        asked: the text it was asked with.
        text: what the model says; empty if it was not generated.
        reason: what is known, as a sentence without its full stop.
        advice: what to try.
    """

    prompt: str
    target: str
    form: str
    asked: str
    text: str
    reason: str
    advice: str

    @property
    def sentence(self) -> str:
        """The whole of it as text."""
        where = "" if self.form == "prompt" else f" when asked {self.asked!r}" + (" in chat" * (self.form == "chat"))
        return f"{self.prompt!r} => {self.target!r} is not said{where}: {self.reason}. Try {self.advice}."


@dataclass(frozen=True)
class Evidence:
    """What is known about one fact after an edit.

    Attributes:
        new, old: how likely the target and the old target are after the prompt.
        before: what the model said at the prompt before the edit; empty if it was not generated.
        replies: what it says now; empty if it was not asked.
        details: of the write, as far as known. "loss": the loss of the fact at the end, in nats per token; "bound": whether the target
            reached its bound (objective.clamp); "reach": the share of the residual that the write delivered; "lost_to": a later fact
            that took its place, in words.
    """

    fact: Fact
    new: Answer
    old: Answer | None = None
    before: str = ""
    replies: Sequence[Reply] = ()
    details: Mapping[str, Any] | None = None

    @property
    def said(self) -> bool:
        """Whether the model says the fact at its prompt. If it was not asked, whether each token of the target is its first choice."""
        return self.replies[0].said if self.replies else self.new.said


def missed(known: Evidence) -> Missed | None:
    """Why a fact is not said at its prompt; None if it is."""
    if known.said:
        return None
    text = known.replies[0].text if known.replies else ""
    reason, advice = _seen(known, text)
    more = list(_written(known.details or {}))
    reasons = "; ".join([reason, *(why for why, _ in more)])
    fact = known.fact
    return Missed(fact.text, fact.target, "prompt", fact.text, text, reasons, more[0][1] if more else advice)


def missed_elsewhere(known: Evidence) -> Missed | None:
    """A fact that is said at its prompt, but not in chat or, without a chat form, not after "Question: ... Answer:"; None for others."""
    if not known.said:
        return None
    by_form = {reply.form: reply for reply in known.replies}
    reply = by_form.get("chat") or by_form.get("question")
    if reply is None or reply.said:
        return None
    other = goes_on_as(reply.text, known.fact.target)
    reason = f"it is said at the prompt, but here the answer is {_quoted(other or reply.text)}"
    advice = _STRONGER if "question" in by_form else _QUESTION
    return Missed(known.fact.text, known.fact.target, reply.form, reply.prompt, reply.text, reason, advice)


def _seen(known: Evidence, text: str) -> tuple[str, str]:
    """(reason, advice) from what the model says."""
    target = known.fact.target
    if other := goes_on_as(text, target):
        return f"the answer goes on beyond it, as {_quoted(other)}", _ENDS
    shared = beginning_of(text, target)
    if len(shared) >= _LEAST_SHARED:
        return f"it begins as the target and ends otherwise, as {_quoted(text)}", _STEPS
    if known.new.said:
        reason = "each of its tokens is the first choice when those before it are given, but the model writes"
        return f"{reason} {_quoted(text)}", _SPACING
    if known.old and known.old.logprob > known.new.logprob:
        ahead = known.old.logprob - known.new.logprob
        return f"the old answer {known.fact.old_target!r} is still ahead by {ahead:.1f} nats", _STRONGER
    if text and text == known.before:
        return f"the answer is still {_quoted(text)}, as before the edit", _STRONGER
    if text:
        return f"the answer is {_quoted(text)}", _STRONGER
    return f"its probability is {known.new.probability:.2g}", _STRONGER


def _written(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(reason, advice) from how it was written; the most telling ones first."""
    loss, reach = details.get("loss"), details.get("reach")
    if details.get("lost_to"):
        yield f"a later fact took its place: {details['lost_to']}", "writing both facts in one edit, with subjects=unit"
    if details.get("bound"):
        yield "its value reached the bound", "a larger bound: --set objective.clamp=NUMBER"
    if loss is not None and loss > _HIGH_LOSS:
        yield f"its loss ended at {loss:.2f} nats a token", _STEPS
    if reach is not None and reach < _LOW_REACH:
        yield f"the weights took only {reach:.0%} of the change", "a weaker preservation: --set preserve.lambda=NUMBER"


def _quoted(text: str, most: int = 60) -> str:
    text = text.rstrip(" .")
    return repr(text if len(text) <= most else text[: most - 1].rstrip() + "…")
