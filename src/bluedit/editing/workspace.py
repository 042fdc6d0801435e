"""A workspace: a folder that keeps every edit of a model, so that edits can be looked at, taken back and brought back later."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from bluedit.editing import _store
from bluedit.editing._changes import Changes
from bluedit.editing._entries import Difference, WorkspaceEntry, difference, entries_of, touching
from bluedit.editing._history import Event, check_new, create
from bluedit.editing._store import Store
from bluedit.editing._verify import Problem, faults_of_files, faults_of_weights
from bluedit.editing.checks import corpus_from_anywhere
from bluedit.editing.edit import Edit
from bluedit.editing.editor import Editor
from bluedit.editing.guard import Action, Guarding, Rules
from bluedit.editing.patch import Patch
from bluedit.errors import WorkspaceError
from bluedit.evaluate.health import FactHealth, fact_health
from bluedit.facts.fact import Fact
from bluedit.methods.presets import DEFAULT
from bluedit.methods.recipe import Recipe
from bluedit.options import whole_number
from bluedit.writing.writer import versions

_NAME = re.compile(r"(?!\d+$)\w[\w.-]{0,99}")


def is_workspace(folder: str | Path) -> bool:
    """Whether a folder is a workspace. What is in it is not checked."""
    return _store.is_workspace(Path(folder))


class Workspace:
    """A model's edits in a folder. The model itself is only read: its edited weights exist in memory, made from the batches in the folder.

    Every change is on disk, or nothing of it is, whenever the process ends. One process at a time may change a workspace; another one is told
    who does. `create` and `open` make workspaces.
    """

    def __init__(self, store: Store, editor: Editor | None = None, model: str | None = None, **options: Any) -> None:
        self.folder = store.folder
        self.base = store.base
        self._store = store
        shared = {"corpus": store.about["corpus"], "tokens": store.about["tokens"]}
        load = partial(Editor.load, model or self.base.model, dtype=self.base.dtype, **(shared | options))
        self._changes = Changes(store, editor, self.undo, load)

    @classmethod
    def create(
        cls,
        folder: str | Path,
        model: str | Editor = "smollm2",
        *,
        dtype: str | None = None,
        corpus: str = "self",
        tokens: int | None = None,
        **options: Any,
    ) -> Workspace:
        """Make a workspace for a model.

        Args:
            folder: a new or empty one.
            model: its name, see `Editor.load`, or an Editor without edits for a model that cannot be loaded by name.
            dtype: type of the weights.
            corpus, tokens: text for key statistics, see `Editor`; all edits of the workspace use the same.
            options: others of `Editor.load`.

        Raises:
            WorkspaceError: something is in the folder already, or the place is not writable.
            ModelError: the model cannot be loaded or edited.
            StatisticsError: the corpus cannot be read, or no tokens are to be.
        """
        folder = Path(folder).absolute()
        check_new(folder)
        editor = model
        if not isinstance(editor, Editor):
            editor = Editor.load(str(model), dtype=dtype, corpus=corpus, tokens=tokens, **options)
        elif len(editor.journal):
            raise WorkspaceError("the editor has edits already; a workspace begins with the unedited model")
        about = {
            "base": asdict(editor.journal.base),
            "corpus": corpus_from_anywhere(editor.moments),
            "tokens": editor.moments.tokens,
            "versions": versions(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        create(folder, about)
        return cls(Store(folder), editor)

    @classmethod
    def open(
        cls, folder: str | Path, *, editor: Editor | None = None, break_lock: bool = False, **options: Any
    ) -> Workspace:
        """Open a workspace. The model is loaded when it is needed first.

        Args:
            editor: one without edits for its model, if that cannot be loaded by its name.
            break_lock: take the lock from a process that has it, once.
            options: of `Editor.load`: device, trust_remote_code, execution, progress, ...; and `model`, its name or place if that is another
                one now than when the workspace was made.

        Raises:
            WorkspaceError: it is no workspace, it is damaged, or the editor's model is another one.
        """
        return cls(Store(Path(folder).absolute(), break_lock=break_lock), editor, **options)

    @property
    def editor(self) -> Editor:
        """The editor of the model with all standing entries. Change the model through the workspace, not through this.

        Raises:
            WorkspaceError: the model is not the one that the workspace was made for.
        """
        return self._changes.loaded().carry(self._store.history.standing)

    @property
    def patch(self) -> Patch:
        """All standing entries as one patch of the unedited model; loads no model."""
        return Patch(self.base, self._store.standing_batches())

    def entry_patch(self, entry: int | str | None = None) -> Patch:
        """One entry as a patch of the model before it, as it was written last; without a number, all standing ones. Loads no model.

        Raises:
            WorkspaceError: there is no such entry.
        """
        if entry is None:
            return self.patch
        history = self._store.history
        one = history.written.get(whole_number(str(entry)) or 0)
        if one is None:
            raise WorkspaceError(f"there is no entry {entry!r}; there are {len(history.written)}, numbered from 1")
        return Patch(self.base, self._store.batches_of(one))

    @property
    def events(self) -> tuple[Event, ...]:
        """All that was done, oldest first."""
        return self._store.history.events

    @property
    def standing(self) -> tuple[int, ...]:
        """Numbers of the entries that the model carries, oldest first; reads no batch."""
        return tuple(one.entry for one in self._store.history.standing)

    @property
    def tags(self) -> dict[str, int]:
        """The named points: the number of the event by name."""
        return self._store.history.tags

    def edit(
        self,
        facts: Sequence[Fact] | Fact,
        recipe: str | Recipe = DEFAULT,
        *,
        batch_size: int | None = None,
        **options: Any,
    ) -> Edit:
        """Make the model say the facts' targets, and record it as a new entry. See `Editor.edit` for the arguments.

        A fact that an earlier entry wrote (the same subject and prompt) is replaced; the last event's `about["supersedes"]` says so.

        Raises:
            WorkspaceError: another process is changing the workspace, or it cannot be written; nothing was changed.
            FactError, RecipeError, ModelError, StatisticsError, EditError: as `Editor.edit`.
        """
        with self._changes.changing("edit"):
            return self._changes.edit("edit", facts, recipe, batch_size, options)

    def undo(self, entry: int | None = None) -> list[Edit]:
        """Take back an entry: the newest one bit for bit, loading no model.

        Entries that stand on an older one are solved again, in order, with their recipes and seeds, as if it had never been. Their weights
        change, and whether their facts are said may change. `redo` brings everything back bit for bit.

        Args:
            entry: its number; None for the newest.

        Returns:
            The later entries as they were solved again.

        Raises:
            WorkspaceError: no such entry stands, or a later one cannot be solved again; nothing was changed.
        """
        with self._changes.changing("undo"):
            standing = self._store.history.standing
            place = self._place(entry)
            number, later = standing[place].entry, standing[place + 1 :]
            if later:
                self._changes.loaded().carry(standing[:place])
            again = [self._changes.solve_again(one) for one in later]
            self._store.record("undo", place, [one for _, one in again], entry=number)
            self._changes.follow()
            return [done for done, _ in again]

    def redo(self) -> None:
        """Bring back what the last undo took back, bit for bit. Raises WorkspaceError if there is none, or an entry was made since."""
        with self._changes.changing("redo"):
            before = self._store.history.undone
            if before is None:
                raise WorkspaceError(
                    "there is nothing to redo: nothing was undone, or something else was done since; 'checkout' goes to any earlier event"
                )
            self._changes.go_to("redo", before)

    def tag(self, name: str) -> None:
        """Give the state as it is now a name. Raises WorkspaceError for a name that is taken or is only digits."""
        if not _NAME.fullmatch(name):
            raise WorkspaceError(
                f"{name!r} is not a valid name: use letters, digits, '.', '-' and '_', and not only digits"
            )
        with self._changes.changing("tag"):
            if name in self.tags:
                raise WorkspaceError(f"the name {name!r} is taken by event {self.tags[name]}; choose another one")
            self._store.record("tag", len(self._store.history.standing), name=name)

    def checkout(self, point: str | int) -> None:
        """Go to a named point, or to the state after an event (0: unedited), bit for bit. Nothing is lost: later events stay in the journal.

        Raises:
            WorkspaceError: there is no such name or event.
        """
        with self._changes.changing("checkout"):
            self._changes.go_to("checkout", self._store.history.number_of(point), point=str(point))

    def log(self) -> list[WorkspaceEntry]:
        """All entries that were ever made, oldest first. Loads no model. Raises PatchError if a file is missing or damaged."""
        self._store.read()
        return entries_of(self._store)

    def find(self, subject: str) -> list[WorkspaceEntry]:
        """Entries with facts about a subject, whatever its case, article or possessive. Raises WorkspaceError if there are none."""
        return touching(self.log(), subject)

    def diff(self, first: str | int, second: str | int | None = None) -> Difference:
        """How a second point (the present, if None) differs from a first one; points as for `checkout`. Loads no model."""
        end = len(self.events) if second is None else self._store.history.number_of(second)
        history = self._store.history
        return difference(self._store, history.at(self._store.history.number_of(first)), history.at(end))

    def verify(self, *, model: bool = True) -> list[Problem]:
        """Compute every digest again and compare. An empty list means that all is as it was written.

        Args:
            model: also write all standing entries into the model again, and compare its weights after each.

        Raises:
            WorkspaceError: the journal itself is damaged; the message says from which event on.
        """
        found = faults_of_files(self._store, self.base)
        return found or faults_of_weights(self._changes.loaded(), self._store.read().standing) if model else found

    def health(self) -> dict[int, list[FactHealth]]:
        """For each standing entry, whether the model still says its facts, apart from those that later entries replaced."""
        editor = self.editor
        current = {one.number: one.current for one in self.log() if one.standing}
        asked = iter(fact_health(editor.lm, [fact for facts in current.values() for fact in facts], editor.progress))
        return {number: [next(asked) for _ in facts] for number, facts in current.items()}

    def heal(
        self,
        *,
        report: bool = True,
        guard: Rules = None,
        protect: Sequence[Fact] | Fact = (),
        on_violation: str | Action = "soften",
        skip_failed: bool = False,
    ) -> list[Edit]:
        """Write facts again that the model no longer says, as new entries: one for each recipe that they were written with.

        Options as for `Editor.edit`. The guards that the facts were written under do not count.

        Raises:
            GuardError: the guard refuses an entry; those before it stay, and the message says which.
        """
        how = {"guard": guard, "protect": protect, "on_violation": on_violation, "skip_failed": skip_failed}
        Guarding.of(**how)
        with self._changes.changing("heal"):
            return self._changes.heal(self.health(), {"known": "edit", "report": report, **how})

    def _place(self, entry: int | None) -> int:
        """Index of a standing entry."""
        numbers = [one.entry for one in self._store.history.standing]
        if not numbers:
            raise WorkspaceError("there is nothing to undo: the workspace has no entries, or all were undone")
        if entry is None:
            return len(numbers) - 1
        if entry not in numbers:
            was = " any more; it was undone" if entry in self._store.history.written else ""
            raise WorkspaceError(
                f"entry {entry} is not a standing entry{was}. Standing entries: {', '.join(map(str, numbers))}"
            )
        return numbers.index(entry)
