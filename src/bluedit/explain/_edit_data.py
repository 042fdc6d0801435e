"""What the explanation of one edited fact holds. All of it goes to the page and to JSON as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from bluedit.evaluate.asked import FORMS as ASKED
from bluedit.facts.fact import Fact
from bluedit.facts.records import fact_record


class Position(StrEnum):
    """Which token of its texts a fact is written at: the subject's last one, the same where the tokenizer spells the subject with
    other tokens than in the fact's first text or the text has another name of it, or, in a text that starts with the subject as one token, the one after it."""

    SUBJECT = "subject"
    SPELLING = "subject, other tokens"
    NEXT = "token after it"


class Role(StrEnum):
    """What a text is to the fact."""

    PROMPT = "prompt"
    TAUGHT = "taught"
    UNTAUGHT = "not taught"
    PARAPHRASE = "paraphrase"
    NEIGHBOUR = "neighbour"


class When(StrEnum):
    """When another edit was written."""

    EARLIER = "earlier"
    SAME = "same batch"
    LATER = "later"


@dataclass(frozen=True)
class Written:
    """One write of the fact's batch, at one of the fact's positions.

    Attributes:
        layer, target: where the weight changed, and the layer whose target it served; `target` is None where the schedule is not known.
        position: which token of the fact's texts it was written at.
        share: of the missing residual that the schedule gave to this layer; None where it is not known.
        residual: |r|, what this write was to add at the fact's stored key; None for fine-tuning.
        reach: share of r that arrived at that key, as recorded when it was written; None for fine-tuning.
        delivered: the same share, computed anew from the change of the weight and the key of the edited model.
        part: of the whole move of the fact's hidden state at the last written layer, the part that came with this write. The parts of a
            position, and the part of filters, add up to 1.
    """

    layer: int
    target: int | None
    position: Position
    share: float | None
    residual: float | None
    reach: float | None
    delivered: float | None
    part: float


@dataclass(frozen=True)
class Arrival:
    """How much of a target's residual is there.

    Attributes:
        layer: of the target.
        position: which token of the fact's texts it is for.
        wanted: |z - h|, the whole residual of the target, measured before the first write that served it.
        start: |h| there.
        arrived: share of it, in its own direction, that the hidden state moved by the time the batch was complete.
        now: the same with all batches that came later.
    """

    layer: int
    position: Position
    wanted: float
    start: float
    arrived: float
    now: float


@dataclass(frozen=True)
class Lens:
    """The probability of an answer at each layer, read with the model's own final norm and head (the logit lens).

    Attributes:
        before, after: of the unedited and of the edited model, one number a layer; the last one is the model's own probability.
        tokens: of the answer.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    tokens: int


@dataclass(frozen=True)
class Asked:
    """One text that asks for the fact, or a neighbour's prompt.

    Attributes:
        form: a key of `FORMS`.
        role: what the text is to the fact.
        prompt: the text; in chat the user's turn, without the template.
        text: the text as the model gets it.
        token: the token whose key is looked at: the subject's last one (or the one after it, where the subject is the first token) or,
            where the text does not name the subject, the one that receives most of the change.
        position: the fact's position whose residual counts for this text.
        match: by layer, the whitened match of its key with the stored one: k_s^T G k / k_s^T G k_s; None where G is unknown.
        delivered: by layer, the share of the residual that the batch's change delivers there: <dW k, r> / |r|^2.
        received: that share over all written layers, weighted by |r|^2; None for fine-tuning.
        target_before, target_after: log-probability of the new answer, in nats.
        rival: what it competes with: the old answer or, for a neighbour, its own answer; None if it is not known.
        rival_before, rival_after: its log-probability.
        says_before, says: what the model writes, without and with the edits (see `bluedit.evaluate.asked`).
        said: whether that says the new answer.
        kept: for a neighbour, whether its first token is the same as before; None for other texts.
        lens: of the new answer; None for neighbours.
        rival_lens: of the old answer.
    """

    form: str
    role: Role
    prompt: str
    text: str
    token: str
    position: Position
    match: Mapping[int, float | None]
    delivered: Mapping[int, float]
    received: float | None
    target_before: float
    target_after: float
    rival: str | None
    rival_before: float | None
    rival_after: float | None
    says_before: str
    says: str
    said: bool
    kept: bool | None = None
    lens: Lens | None = None
    rival_lens: Lens | None = None

    @property
    def ahead(self) -> float | None:
        """By how many nats the rival is more probable than the new answer after the edit; negative if it is less probable."""
        return None if self.rival_after is None else self.rival_after - self.target_after

    @property
    def good(self) -> bool:
        """Whether it is answered as it should be: with the new answer, or as before for a neighbour."""
        return self.said if self.kept is None else self.kept


TAUGHT, NEIGHBOUR = "taught text", "neighbour"
FORMS = {
    **ASKED,
    TAUGHT: "another text that was taught, such as the bare question",
    NEIGHBOUR: "a neighbour, which must stay",
}


@dataclass(frozen=True)
class Other:
    """Another edited fact, and what it and this one do to each other.

    Attributes:
        number: as `bluedit show` counts them; None for an edit that the editor carried below the patch.
        when: when it was written.
        match: whitened match of the two keys, in the metric of the other's write; the largest over the layers. None where it is unknown.
        adds: what the other's change adds at this fact's key, in shares of this fact's residual.
        takes: what this fact's change adds at the other's key, in shares of the other's residual.
    """

    number: int | None
    prompt: str
    target: str
    when: When
    match: float | None
    adds: float
    takes: float

    @property
    def interferes(self) -> bool:
        """Whether either moves the other by more than `INTERFERES` of its residual."""
        return max(abs(self.adds), abs(self.takes)) >= INTERFERES


INTERFERES = 0.05  # of a residual


@dataclass(frozen=True)
class EditExplanation:
    """Why an edited fact is said or not.

    Attributes:
        sentence: the answer in words, made of the numbers below.
        number, fact: which one.
        model, recipe: where and how it was written.
        batch, batches: the batch that is explained, counted from 1 in the patch, and how many the patch has. Of several that wrote the fact
            it is the last one.
        writings: all batches of the patch that wrote the fact.
        written: the writes of its batch, in order.
        filters: of the whole move of the fact's hidden state, the part that the recipe's filters made; None without filters.
        arrivals: of each target.
        asked: its texts, the prompt first, the neighbours last.
        others: the other edits nearest to it.
        moved_by: what all others add at its key, in shares of its residual: earlier edits, those of the same batch, later ones, and, where
            there are any, its own earlier writings ("itself, earlier") and the filters of its batch ("filters").
        reading_note: what could not be computed and why; empty if all is there.
    """

    sentence: str
    number: int
    fact: Fact
    model: str
    recipe: str
    batch: int
    batches: int
    writings: tuple[int, ...]
    written: tuple[Written, ...]
    filters: float | None
    arrivals: tuple[Arrival, ...]
    asked: tuple[Asked, ...]
    others: tuple[Other, ...]
    moved_by: Mapping[str, float]
    reading_note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The explanation as a JSON object."""
        found = asdict(self)
        for asked, entry in zip(self.asked, found["asked"], strict=True):
            entry["ahead"] = asked.ahead
        for other, entry in zip(self.others, found["others"], strict=True):
            entry["interferes"] = other.interferes
        return found | {"fact": fact_record(self.fact)}
