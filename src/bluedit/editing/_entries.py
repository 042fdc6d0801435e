"""The entries of a workspace as people read them: their facts, which of them later entries replaced, and how two points differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from bluedit.editing._folder import read_origin
from bluedit.editing._history import BATCHES, Standing
from bluedit.editing._store import Store
from bluedit.editing.guard_text import guard_summary
from bluedit.errors import MALFORMED, PatchError, WorkspaceError, did_you_mean
from bluedit.facts.fact import Fact
from bluedit.facts.replacing import replaced_by
from bluedit.facts.subjects import same_subject_key
from bluedit.writing.batch import Batch


@dataclass(frozen=True)
class WorkspaceEntry:
    """One edit in a workspace.

    Attributes:
        number: its number, from 1.
        facts: what it wrote.
        recipe: name of the method.
        made: when it was made, or solved again, in UTC.
        standing: whether the model carries it now.
        replaced: those of its facts that a later standing entry wrote again, with that entry's number.
        said: how many of its facts the model said right after it; None if that was not measured.
        guard: what a guard decided, in a few words; empty without one.
    """

    number: int
    facts: tuple[Fact, ...]
    recipe: str
    made: str
    standing: bool
    replaced: tuple[tuple[Fact, int], ...]
    said: int | None
    guard: str = ""

    @property
    def current(self) -> tuple[Fact, ...]:
        """Its facts that no later entry replaced."""
        gone = {id(fact) for fact, _ in self.replaced}
        return tuple(fact for fact in self.facts if id(fact) not in gone)


@dataclass(frozen=True)
class Difference:
    """How two points of a workspace differ.

    Attributes:
        removed, added: entries that only the first or only the second one has; an entry that was solved again is in both.
        norms: Frobenius norm of the difference of the updates by layer, before filters.
    """

    removed: tuple[WorkspaceEntry, ...]
    added: tuple[WorkspaceEntry, ...]
    norms: dict[int, float]


def entries_of(store: Store, at: Sequence[Standing] | None = None) -> list[WorkspaceEntry]:
    """All entries that were ever made, oldest first, or only those that stood at some point.

    Raises:
        PatchError: a file of a batch is missing or damaged, or does not say what bluedit writes.
    """
    history = store.history
    standing = history.standing if at is None else at
    last = {one.entry: one for one in standing}
    chosen = [last.get(number, one) for number, one in sorted(history.written.items())] if at is None else list(at)
    batches = {}
    for one in {one.entry: one for one in [*chosen, *standing]}.values():
        with store.naming(one):
            batches[one.entry] = _batches(store.folder, one.batches)
    written = [(fact, one.entry) for one in standing for fact in _facts(batches[one.entry], one)]
    replaced: dict[int, list[tuple[Fact, int]]] = {number: [] for number in last}
    for (fact, entry), by in zip(written, replaced_by([fact for fact, _ in written]), strict=True):
        if by is not None and written[by][1] != entry:
            replaced[entry].append((fact, written[by][1]))
    try:
        return [_entry(one, batches[one.entry], replaced.get(one.entry)) for one in chosen]
    except MALFORMED as error:
        raise PatchError(
            f"an entry of the workspace {store.folder} does not say what bluedit writes ({type(error).__name__}: {error}); restore it from a copy"
        ) from error


def _entry(one: Standing, batches: Sequence[Batch], replaced: Sequence[tuple[Fact, int]] | None) -> WorkspaceEntry:
    """An entry for people; `replaced` as in `WorkspaceEntry`, or None for an entry that does not stand."""
    facts, origin = _facts(batches, one), batches[-1].origin
    said = sum(bool(fact["says_after"]) for fact in origin.report["facts"]) if origin.report else None
    made = str(origin.about.get("created", ""))
    stands, gone = replaced is not None, tuple(replaced or ())
    return WorkspaceEntry(one.entry, facts, origin.recipe, made, stands, gone, said, guard_summary(batches))


def superseded(store: Store, facts: Sequence[Fact]) -> list[dict[str, Any]]:
    """Which standing entries said something else, or the same, about these facts: {"entry", "prompt", "was"} for each."""
    now = [(fact, one.number) for one in entries_of(store, store.history.standing) for fact in one.current]
    by = replaced_by([*(fact for fact, _ in now), *facts])
    return [
        {"entry": entry, "prompt": facts[index - len(now)].text, "was": fact.target}
        for (fact, entry), index in zip(now, by, strict=False)
        if index is not None and index >= len(now)
    ]


def touching(entries: Iterable[WorkspaceEntry], subject: str) -> list[WorkspaceEntry]:
    """The entries with facts about a subject, which may be given by any of its names.

    Raises:
        WorkspaceError: there are none; close names are mentioned.
    """
    entries, key = list(entries), same_subject_key(subject)
    found = [one for one in entries if any(same_subject_key(name) == key for fact in one.facts for name in fact.names)]
    if not found:
        names = sorted({name for one in entries for fact in one.facts for name in fact.names})
        hint = f"; {did_you_mean(subject, names[:1000])}" if names else "; it has no entries yet"
        raise WorkspaceError(f"no entry is about {subject!r}{hint}")
    return found


def difference(store: Store, first: Sequence[Standing], second: Sequence[Standing]) -> Difference:
    """How the entries `second` differ from the entries `first`.

    Raises:
        PatchError: a file of a batch is missing or damaged.
    """
    removed = [one for one in first if one not in second]
    added = [one for one in second if one not in first]
    change: dict[int, torch.Tensor] = {}
    for sign, entries in ((-1, removed), (1, added)):
        for update in (u for one in entries for batch in store.batches_of(one) for u in batch.updates):
            product = sign * (update.R.double() @ update.A.double())
            change[update.layer] = change[update.layer] + product if update.layer in change else product
    norms = {layer: float(total.norm()) for layer, total in sorted(change.items())}
    return Difference(tuple(entries_of(store, removed)), tuple(entries_of(store, added)), norms)


@lru_cache(maxsize=4096)
def _batches(folder: Path, names: tuple[str, ...]) -> list[Batch]:
    return [read_origin(folder / BATCHES, name) for name in names]


def _facts(batches: Sequence[Batch], one: Standing) -> tuple[Fact, ...]:
    facts = tuple(fact for batch in batches for fact in batch.facts)
    if not 1 <= one.facts <= len(facts):
        raise PatchError(
            f"entry {one.entry} has {one.facts} facts, and its batches hold {len(facts)}; restore it from a copy"
        )
    return facts[: one.facts]
