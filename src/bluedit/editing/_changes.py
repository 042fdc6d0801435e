"""How a workspace changes: its folder and its model together, so that either both change or neither does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bluedit.editing._carrier import Carrier
from bluedit.editing._entries import superseded
from bluedit.editing._history import Standing
from bluedit.editing._store import Store
from bluedit.editing.guard import guarding_of
from bluedit.errors import GuardError, ModelError, RecipeError, WorkspaceError
from bluedit.facts.fact import Fact
from bluedit.methods.recipe import Recipe

if TYPE_CHECKING:
    from bluedit.editing.edit import Edit
    from bluedit.editing.editor import Editor
    from bluedit.evaluate.health import FactHealth


class Changes:
    """Changes the folder and the model of a workspace.

    Attributes:
        store: the folder.
        base: the model it was made for.
        carrier: the model with its edits; None until it is needed.

    Args:
        undo: takes back an entry by its number, for `Edit.undo`.
        load: loads the model.
    """

    def __init__(
        self, store: Store, editor: Editor | None, undo: Callable[[int], Any], load: Callable[[], Editor]
    ) -> None:
        self.store, self.base = store, store.base
        self._undo, self._load = undo, load
        self.carrier = self._carrier_of(editor) if editor else None

    @contextmanager
    def changing(self, task: str) -> Iterator[None]:
        """Inside the `with` this process alone changes the workspace. If it fails, the model is what the journal says."""
        with self.store.owned(task):
            if self.carrier:
                self.carrier.check()
            try:
                yield
            except BaseException:
                self.store.read()
                if self.carrier:
                    self.carrier.recover(self.store.history.standing)
                raise

    def edit(
        self,
        kind: str,
        facts: Sequence[Fact] | Fact,
        recipe: str | Recipe,
        batch_size: int | None,
        options: Mapping[str, Any],
    ) -> Edit:
        """Write facts on top of what stands, and record that, or that a guard refused it."""
        history = self.store.history
        self.loaded().carry(history.standing)
        number = 1 + max(history.written, default=0)
        try:
            done, one = self._written(number, facts, recipe, batch_size, options)
        except GuardError as error:
            self.store.record("refused", len(history.standing), guard=dict(error.record))
            raise
        replaced = superseded(self.store, done.facts)
        self.store.record(kind, len(history.standing), [one], supersedes=replaced)
        return done

    def heal(self, health: Mapping[int, Sequence[FactHealth]], options: Mapping[str, Any]) -> list[Edit]:
        """Write facts again that are not said, with each recipe those that it wrote. Raises GuardError; entries made before it stay."""
        lost: dict[str, tuple[Recipe, list[Fact]]] = {}
        standing = {one.entry: one for one in self.store.history.standing}
        for number, found in health.items():
            recipe = self.recipe_of(standing[number])
            lost.setdefault(repr(recipe), (recipe, []))[1].extend(one.fact for one in found if not one.said)
        done: list[Edit] = []
        for recipe, facts in lost.values():
            try:
                done += [self.edit("heal", facts, recipe, None, options)] if facts else []
            except GuardError as error:
                if not done:
                    raise
                made = ", ".join(str(one.entry) for one in self.store.history.standing[-len(done) :])
                raise GuardError(f"{error}. Entries that were healed before it stay: {made}", error.record) from error
        return done

    def _written(
        self,
        number: int,
        facts: Sequence[Fact] | Fact,
        recipe: str | Recipe,
        batch_size: int | None,
        options: Mapping[str, Any],
    ) -> tuple[Edit, Standing]:
        """An edit of the model as it is, and its record; its batches are on disk, but no event names them yet."""
        carrier = self.loaded()
        done = carrier.editor.edit(facts, recipe, batch_size=batch_size, **options)
        names = self.store.write(done.patch.batches)
        one = carrier.keep(number, names, len(done.facts), batch_size)
        done.undone_by(lambda: self._undo(number))
        return done, one

    def solve_again(self, one: Standing) -> tuple[Edit, Standing]:
        """Write an entry again on top of what is carried, with its own recipe, seeds and guard.

        Raises:
            WorkspaceError: parts of its recipe are not known here, or its guard refuses it.
        """
        batches = self.store.batches_of(one)
        facts = [fact for batch in batches for fact in batch.facts][: one.facts]
        options = {"known": "edit", "report": batches[-1].origin.report is not None}
        try:
            guarded = guarding_of(batches)
            return self._written(one.entry, facts, self.recipe_of(one), one.batch_size, options | guarded)
        except GuardError as error:
            raise WorkspaceError(f"entry {one.entry} cannot be written again: {error}") from error

    def recipe_of(self, one: Standing) -> Recipe:
        """The recipe that an entry was written with. Raises WorkspaceError if it has parts that are not known here."""
        origin = self.store.batches_of(one)[0].origin
        named = Recipe(origin.recipe or "unknown", origin.paper, tuning=origin.tuning)
        try:
            return named.override(origin.settings, f"the recipe {named.name}")
        except RecipeError as error:
            raise WorkspaceError(
                f"entry {one.entry} cannot be written again, because parts of its recipe are not known here: {error}; import the module "
                "that defines them first"
            ) from error

    def go_to(self, kind: str, number: int, **about: Any) -> None:
        """Let the entries stand that stood after an event."""
        now, wanted = self.store.history.standing, self.store.history.at(number)
        keep = next(
            (i for i, (a, b) in enumerate(zip(now, wanted, strict=False)) if a != b), min(len(now), len(wanted))
        )
        self.store.record(kind, keep, wanted[keep:], **about)
        self.follow()

    def follow(self) -> None:
        """Let the model carry what stands, if it is loaded."""
        if self.carrier:
            self.carrier.carry(self.store.history.standing)

    def loaded(self) -> Carrier:
        """The model, loaded now if it is not yet. Raises ModelError if it cannot be."""
        if self.carrier is None:
            try:
                editor = self._load()
            except ModelError as error:
                raise ModelError(
                    f"{error}. If the workspace's model was moved, say where it is now: bluedit -C DIR --base PLACE ... (in Python "
                    "Workspace.open(folder, model=PLACE))"
                ) from error
            self.carrier = self._carrier_of(editor)
        return self.carrier

    def _carrier_of(self, editor: Editor) -> Carrier:
        found = editor.journal.base.fingerprint
        if found != self.base.fingerprint:
            raise WorkspaceError(
                f"the workspace {self.store.folder} was made for {self.base.model} with fingerprint {self.base.fingerprint}, and this model has "
                f"{found}; it has changed since, or it is another one"
            )
        return Carrier(editor, self.store.batches_of)
