"""What can stand between facts, and where each of them is from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from bluedit.editing.patch import Patch
from bluedit.facts.fact import Fact
from bluedit.facts.phrasebook import wordings_of
from bluedit.facts.readers import read_facts
from bluedit.facts.subjects import same_subject_key
from bluedit.writing.batch import Origin


class Kind(StrEnum):
    """What stands between facts, the most serious first."""

    CONTRADICTION = "contradiction"
    OVERWRITTEN = "overwritten"
    REPLACED = "replaced"
    UNSAID = "unsaid"
    REPEATED = "repeated"
    SAME_SUBJECT = "same subject"
    PARALLEL = "parallel keys"


KINDS: Mapping[Kind, str] = {
    Kind.CONTRADICTION: "Facts that contradict each other",
    Kind.OVERWRITTEN: "Edits that a later fact overwrites",
    Kind.REPLACED: "Edits that a later edit has overwritten",
    Kind.UNSAID: "Edits that are not said",
    Kind.REPEATED: "Facts given twice",
    Kind.SAME_SUBJECT: "Facts about one subject",
    Kind.PARALLEL: "Facts whose keys are nearly parallel",
}
"""Each kind as a heading."""

ADVICE: Mapping[Kind, str] = {
    Kind.CONTRADICTION: "keep one of them, unless both can be true, as of several founders",
    Kind.OVERWRITTEN: "leave out the later fact if the earlier one is to stay; otherwise edit on top of the patch (--patch) with "
    "subjects=unit, which writes the subject anew instead of adding to what is there",
    Kind.REPLACED: "nothing, if the later one is meant; if the earlier one is to stay, edit it again on top of the patch (--patch)",
    Kind.UNSAID: "ask why: bluedit explain edit PATCH --fact NUMBER",
    Kind.REPEATED: "leave one out; another wording can be taught with the first one (phrasings)",
    Kind.SAME_SUBJECT: "edit them in one batch, or the later ones on top of the patch (--patch), with subjects=unit, as the default recipe does: "
    "one key cannot hold several values written apart",
    Kind.PARALLEL: "edit them in one batch, or the later ones on top of the patch (--patch) with memory=true, as the default recipe does, so that "
    "they are solved for together; look at both afterwards, and name the subjects more fully if they are different things",
}


@dataclass(frozen=True, eq=False)
class Source:
    """A file of facts, or a patch.

    Attributes:
        name: as messages have it.
        facts: in order.
        patch: the patch they come from; None for facts that are still to be edited.
    """

    name: str
    facts: tuple[Fact, ...]
    patch: Patch | None = None

    @classmethod
    def of(
        cls,
        given: Source | Patch | str | Path | Sequence[Fact],
        number: int = 1,
        read: Callable[[str], Sequence[Fact]] = read_facts,
    ) -> Source:
        """A patch or its folder, a file of facts, or facts.

        Args:
            given: one of these; a Source is taken as it is.
            number: its place among the sources, for the name of one that has none.
            read: reads what is no folder.

        Raises:
            FactError, PatchError: it cannot be read.
        """
        if isinstance(given, Source):
            return given
        if isinstance(given, Patch):
            return cls(f"patch {number}", given.facts, given)
        if not isinstance(given, (str, Path)):
            return cls(f"facts {number}", tuple(given))
        if Path(given).is_dir():
            patch = Patch.load(given)
            return cls(str(given), patch.facts, patch)
        return cls(str(given), tuple(read(str(given))))


def without_beginnings(sources: Sequence[Source]) -> tuple[list[Source], list[str]]:
    """(the sources without patches that another one of them begins with, a note on each of these)."""
    kept: list[Source] = []
    notes: list[str] = []
    for i, one in enumerate(sources):
        whole = next((other for j, other in enumerate(sources) if _begins(other, one, same=j < i)), None)
        if whole is None:
            kept.append(one)
        else:
            notes.append(f"{whole.name} holds all edits of {one.name}, which is left out")
    return kept, notes


def _begins(source: Source, other: Source, *, same: bool) -> bool:
    """Whether a patch begins with all edits of another one, and has more of them; or the `same`, if that counts."""
    if source is other or source.patch is None or other.patch is None:
        return False
    more = len(source.patch.batches) - len(other.patch.batches)
    if more < 0 or (more == 0 and not same) or source.patch.base.fingerprint != other.patch.base.fingerprint:
        return False
    pairs = zip(source.patch.batches, other.patch.batches, strict=False)
    return all(one.facts == two.facts and one.digest == two.digest for one, two in pairs)


@dataclass(frozen=True, eq=False)
class Entry:
    """One fact of a source.

    Attributes:
        source, number: where it is, counted from 1.
        fact: it.
        batch: its batch in the patch, from 0; None for a fact that is still to be edited.
        origin: how it was written; None for a fact that is still to be edited.
    """

    source: str
    number: int
    fact: Fact
    batch: int | None = None
    origin: Origin | None = None

    @property
    def is_written(self) -> bool:
        return self.batch is not None

    @cached_property
    def subject(self) -> str:
        """What all forms of its subject's name share."""
        return same_subject_key(self.fact.subject)

    @cached_property
    def relation(self) -> str | None:
        """Its relation in the phrase book, e.g. "capital"; None if it is not recognised."""
        found = wordings_of(self.fact.prompt, subject=self.fact.subject, target=self.fact.target)
        return found.id if found else None

    @property
    def place(self) -> str:
        """Where it is, e.g. "facts.jsonl 3"."""
        return f"{self.source} {self.number}"


def entries_of(sources: Sequence[Source]) -> list[Entry]:
    """All facts: those of patches first, since they are there already."""
    found: list[Entry] = []
    for source in sorted(sources, key=lambda one: one.patch is None):
        written = enumerate(source.patch.batches) if source.patch else ()
        places = [(i, batch.origin) for i, batch in written for _ in batch.facts] or [(None, None)] * len(source.facts)
        for number, (fact, (batch, origin)) in enumerate(zip(source.facts, places, strict=True), 1):
            found.append(Entry(source.name, number, fact, batch, origin))
    return found


@dataclass(frozen=True)
class Mention:
    """A fact in a conflict: its source, its number there, and what it says."""

    source: str
    number: int
    prompt: str
    target: str


@dataclass(frozen=True)
class Conflict:
    """Facts that stand in each other's way.

    Attributes:
        kind: what is between them.
        facts: in order; the first one is there earlier.
        why: what is wrong, as a part of a sentence.
        advice: what to do.
        match: cosine of their keys, the largest of all pairs and layers; None where keys were not compared.
        layer: where that is.
    """

    kind: Kind
    facts: tuple[Mention, ...]
    why: str
    advice: str
    match: float | None = None
    layer: int | None = None

    @classmethod
    def of(
        cls, kind: Kind, entries: Sequence[Entry], why: str, match: float | None = None, layer: int | None = None
    ) -> Conflict:
        """A conflict of a kind, with that kind's advice."""
        mentions = tuple(Mention(one.source, one.number, one.fact.text, one.fact.target) for one in entries)
        return cls(kind, mentions, why, ADVICE[kind], match, layer)


@dataclass(frozen=True)
class Conflicts:
    """All that was found.

    Attributes:
        facts: how many were looked at.
        found: the most serious kinds first, in the order of the facts.
        notes: what was compared and how, and what was not.
    """

    facts: int
    found: tuple[Conflict, ...]
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[Kind, int]:
        """How many of each kind there are; kinds without any are left out."""
        count = Counter(one.kind for one in self.found)
        return {kind: count[kind] for kind in Kind if count[kind]}

    def as_dict(self) -> dict[str, Any]:
        """The findings as a JSON object."""
        return {"counts": self.counts, **asdict(self)}
