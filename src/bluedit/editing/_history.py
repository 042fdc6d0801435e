"""The history of a workspace on disk: `workspace.json`, and `journal.jsonl` with one line for each event.

Each event says how the list of standing entries changed: the first `keep` stay, `add` follows them. So the list at any event is known, and
nothing is ever deleted. Each line carries a digest of itself and of the line before it; the first one is chained to `workspace.json`, and
the last line says how many there are. The file is replaced in one rename.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bluedit.decoding import decode, read_json
from bluedit.editing._folder import hash_of
from bluedit.errors import WorkspaceError
from bluedit.files import as_json, read_regular, write_file, write_folder
from bluedit.options import whole_number
from bluedit.places import check_new_folder

FORMAT = 1
_UNCHANGED = ("tag", "refused")  # events after which the same entries stand
ABOUT, JOURNAL, BATCHES = "workspace.json", "journal.jsonl", "batches"


@dataclass(frozen=True)
class Standing:
    """An entry as it was written into the model.

    Attributes:
        entry: its number; it keeps it when it is written again on top of something else.
        batches: names of its batches in the folder of batches.
        facts: how many of the batches' facts, from the first, are its own; the rest are earlier facts that were taught again.
        batch_size: facts that were written at once; None for all.
        state: chained fingerprint of the model with it; see `Patch.state`.
        weights: fingerprint of the edited weights with it.
    """

    entry: int
    batches: tuple[str, ...]
    facts: int
    batch_size: int | None
    state: str
    weights: str


@dataclass(frozen=True)
class Event:
    """Something that was done.

    Attributes:
        number: from 1.
        kind: edit, heal, undo, redo, tag, checkout, or refused for an edit that a guard did not let pass.
        time: when, in UTC.
        keep: how many of the entries that stood before it stay.
        add: what stands on these after it.
        about: more for the reader; of a tag its "name".
    """

    number: int
    kind: str
    time: str
    keep: int
    add: tuple[Standing, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def check(self, before: Sequence[Event]) -> None:
        """Raise ValueError if it cannot follow on these events."""
        if self.number != len(before) + 1:
            raise ValueError("it was changed after it was written")
        standing = before[-1].keep + len(before[-1].add) if before else 0
        if not 0 <= self.keep <= standing:
            raise ValueError(f"it keeps {self.keep} of {standing} entries")
        if self.kind == "redo" and History(tuple(before)).undone is None:
            raise ValueError("it is a redo, and nothing was undone before it")
        if self.kind == "tag" and not isinstance(self.about.get("name"), str):
            raise ValueError("it is a tag without a name")
        if not isinstance(self.about.get("guard", {}), dict):
            raise ValueError("what it says of a guard cannot be used")


@dataclass(frozen=True)
class History:
    """All events of a workspace, oldest first."""

    events: tuple[Event, ...] = ()

    def at(self, number: int) -> tuple[Standing, ...]:
        """The entries that stood after an event; after event 0 there are none."""
        found: tuple[Standing, ...] = ()
        for event in self.events[:number]:
            found = found[: event.keep] + event.add
        return found

    @property
    def standing(self) -> tuple[Standing, ...]:
        """The entries that stand now."""
        return self.at(len(self.events))

    @property
    def written(self) -> dict[int, Standing]:
        """Every entry that was ever made, as it was written last."""
        return {one.entry: one for event in self.events for one in event.add}

    @property
    def tags(self) -> dict[str, int]:
        """Event number by name."""
        return {event.about["name"]: event.number for event in self.events if event.kind == "tag"}

    @property
    def undone(self) -> int | None:
        """Number of the event before the last undo that was not redone; None if there is none, or something else was done since."""
        found: list[int] = []
        for event in self.events:
            if event.kind == "undo":
                found.append(event.number - 1)
            elif event.kind == "redo":
                found.pop()
            elif event.kind not in _UNCHANGED:
                found.clear()
        return found[-1] if found else None

    def number_of(self, point: str | int) -> int:
        """Number of the event that a name or a number means. Raises WorkspaceError if there is none."""
        if str(point) in self.tags:
            return self.tags[str(point)]
        if (number := whole_number(str(point))) is not None and number <= len(self.events):
            return number
        known = f"event numbers go from 0 to {len(self.events)}"
        hint = f", and names are: {', '.join(sorted(self.tags))}" if self.tags else ""
        raise WorkspaceError(f"there is no point {str(point)!r} in this workspace: {known}{hint}")

    def and_then(self, kind: str, keep: int, add: Sequence[Standing] = (), **about: Any) -> History:
        """This history with one more event."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return History((*self.events, Event(len(self.events) + 1, kind, now, keep, tuple(add), about)))


def check_new(folder: Path) -> None:
    """Check that a workspace can be made at a place; also called before its model is loaded.

    Raises:
        WorkspaceError: something is there already, or the place is not writable.
    """
    try:
        check_new_folder(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            what = "is a workspace already" if (folder / ABOUT).exists() else "exists and is not empty"
            raise WorkspaceError(f"{folder} {what}; choose a new or empty folder for the workspace")
    except OSError as error:
        raise _cannot_make(folder, error) from error


def _cannot_make(folder: Path, error: OSError) -> WorkspaceError:
    return WorkspaceError(f"no workspace can be made at {folder}: {error.strerror or error}; choose another place")


def create(folder: Path, about: Mapping[str, Any]) -> None:
    """Make the folder of a workspace, whole or not at all.

    Raises:
        WorkspaceError: as `check_new`.
    """
    check_new(folder)
    try:
        content = {"format": FORMAT, **about}
        content["digest"] = _digest("", content)

        def write(new: Path) -> None:
            (new / BATCHES).mkdir()
            write_file(new / ABOUT, as_json(content))
            write_file(new / JOURNAL, _lines(History(), content["digest"]))

        write_folder(folder, write)
    except OSError as error:
        raise _cannot_make(folder, error) from error


def read_about(folder: Path) -> dict[str, Any]:
    """What `workspace.json` says. Raises WorkspaceError if it is missing, damaged or newer than this bluedit."""
    file = folder / ABOUT
    if not file.is_file():
        raise WorkspaceError(
            f"{folder} is not a workspace: it contains no {ABOUT}; make one with: bluedit init {shlex.quote(str(folder))}"
        )
    try:
        content = dict(read_json(file))
        version, digest = content["format"], content.pop("digest")
    except (ValueError, KeyError, TypeError) as error:
        raise WorkspaceError(f"{file} is unreadable ({error}); restore it from a copy") from error
    if version != FORMAT:
        raise WorkspaceError(f"{folder} has format {version}, and this bluedit reads format {FORMAT}; use a newer one")
    if digest != _digest("", content):
        raise WorkspaceError(f"{file} was changed after it was written; restore it from a copy")
    tokens = content.get("tokens")
    if not isinstance(content.get("corpus"), str) or not (tokens is None or type(tokens) is int):
        raise WorkspaceError(f"{file} does not say which text key statistics come from; restore it from a copy")
    return content | {"digest": digest}


def read_history(folder: Path, anchor: str) -> History:
    """The journal, with every digest checked.

    Args:
        anchor: the digest of `workspace.json`.

    Raises:
        WorkspaceError: it is missing or damaged, and from which event on.
    """
    file = folder / JOURNAL
    events: list[Event] = []
    try:
        *lines, last = read_regular(file).decode("utf-8").rstrip("\n").split("\n")
        digest = anchor
        for line in lines:
            content = json.loads(line)
            found = content.pop("digest")
            digest = _digest(digest, content)
            if found != digest:
                raise ValueError("it was changed after it was written")
            event = decode(Event, content)
            event.check(events)
            events.append(event)
        if json.loads(last) != {"events": len(events), "digest": digest}:
            raise ValueError("events after it are missing")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WorkspaceError(
            f"{file} is damaged at event {len(events) + 1} ({error}); restore it from a copy. The events before it are whole"
        ) from error
    return History(tuple(events))


def write_history(folder: Path, anchor: str, history: History) -> None:
    """Replace the journal. Raises OSError; the old one is then unchanged."""
    write_file(folder / JOURNAL, _lines(history, anchor))


def _lines(history: History, digest: str) -> bytes:
    lines = []
    for event in history.events:
        content = asdict(event)
        digest = _digest(digest, json.loads(json.dumps(content)))
        lines.append(json.dumps(content | {"digest": digest}, ensure_ascii=False))
    lines.append(json.dumps({"events": len(history.events), "digest": digest}))
    return ("\n".join(lines) + "\n").encode()


def _digest(before: str, content: Mapping[str, Any]) -> str:
    return hash_of(
        before.encode(), json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    )
