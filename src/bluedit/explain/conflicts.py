"""Facts that stand in each other's way, before and after they are edited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bluedit.editing.patch import Patch
from bluedit.errors import FactError
from bluedit.explain._conflict_data import (
    ADVICE,
    KINDS,
    Conflict,
    Conflicts,
    Entry,
    Kind,
    Mention,
    Source,
    entries_of,
    without_beginnings,
)
from bluedit.explain._conflict_keys import PLAIN, WHITENED, near_keys, unsaid
from bluedit.explain._conflict_texts import reported_unsaid, subject_groups, text_conflicts
from bluedit.explain._edit_history import recipe_of
from bluedit.facts.fact import Fact
from bluedit.methods.presets import DEFAULT

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor
    from bluedit.explain._conflict_keys import Near
    from bluedit.methods.recipe import Recipe

__all__ = [
    "ADVICE",
    "KINDS",
    "PLAIN",
    "WHITENED",
    "Conflict",
    "Conflicts",
    "Kind",
    "Mention",
    "Source",
    "find_conflicts",
]

_NO_MODEL = "keys were not compared, and whether edits are said is taken from reports; both need the model (--model)"


def find_conflicts(
    *given: Source | Patch | str | Path | Sequence[Fact],
    editor: Editor | None = None,
    recipe: str | Recipe | None = None,
    force: bool = False,
) -> Conflicts:
    """Look for facts that contradict, overwrite or repeat each other, share a subject, have nearly parallel keys, or are not said.

    Facts of patches count as earlier than facts that are still to be edited.

    Args:
        given: patches or their folders, files of facts, or facts.
        editor: of the model. With it, keys are compared and patches are asked; a patch may stand on edits that the editor carries, or on
            another patch that is given. The editor is as before afterwards.
        recipe: whose keys; None takes that of the last edit in the patches or, without a patch, the default.
        force: take patches of other weights.

    Raises:
        FactError: nothing was given, or facts that cannot be read.
        PatchError: a patch cannot be read, was made for other weights, or was written with parts that are not known here.
        RecipeError: the recipe is not known, or cannot be run on this model.
        EditError: another thread is editing the model, or `torch.inference_mode` is on.
    """
    sources, notes = without_beginnings([Source.of(one, number) for number, one in enumerate(given, 1)])
    entries = entries_of(sources)
    if not entries:
        raise FactError("there are no facts to compare; give a file of facts, a patch, or several of them")
    found = list(text_conflicts(entries))
    near = near_keys(editor, entries, _recipe(editor, sources, recipe)) if editor else None
    found += _subjects(entries, near, found)
    if near:
        found += _parallel(entries, near)
    found += _unsaid(editor, sources, found, force=force)
    order = list(Kind)
    found.sort(key=lambda one: order.index(one.kind))
    return Conflicts(len(entries), tuple(found), (*notes, near.note if near else _NO_MODEL))


def _recipe(editor: Editor, sources: Sequence[Source], wanted: str | Recipe | None) -> Recipe:
    """The recipe whose keys are compared."""
    patches = [source.patch for source in sources if source.patch and source.patch.batches]
    if wanted is None and patches:
        found = recipe_of(patches[-1].batches[-1].origin)
        if found.layers:
            return editor.recipe(found)
    return editor.recipe(wanted or DEFAULT)


def _subjects(entries: Sequence[Entry], near: Near | None, told: Sequence[Conflict]) -> Iterator[Conflict]:
    """Facts about one subject, except where `told` says all that is between them, or where they were written as one."""
    places = {id(entry): place for place, entry in enumerate(entries)}
    later = {(fact.source, fact.number) for one in told for fact in one.facts[1:]}
    for group in subject_groups(entries):
        if all((entry.source, entry.number) in later for entry in group[1:]) or all(map(_is_held, group)):
            continue
        own = [places[id(entry)] for entry in group]
        known = [near.pairs[i, j] for i in own for j in own if (i, j) in near.pairs] if near else []
        match, layer = max(known, default=(None, None), key=lambda one: one[0] or 0.0)
        cosine = "" if match is None else f" (cosine of keys {match:.2f} at layer {layer})"
        yield Conflict.of(Kind.SAME_SUBJECT, group, f"all are about {group[0].fact.subject!r}{cosine}", match, layer)


def _is_held(entry: Entry) -> bool:
    """Whether it is an edit whose recipe writes all facts about a subject together."""
    return entry.origin is not None and recipe_of(entry.origin).subjects.holds_earlier


def _unsaid(
    editor: Editor | None, sources: Sequence[Source], told: Sequence[Conflict], *, force: bool
) -> Iterator[Conflict]:
    """Edits that are not said, except those that a later edit has replaced."""
    replaced = {(one.facts[0].source, one.facts[0].number) for one in told if one.kind is Kind.REPLACED}
    patches = [source.patch for source in sources if source.patch]
    for source in sources:
        if source.patch:
            found = unsaid(editor, source, patches, force=force) if editor else reported_unsaid(source)
            yield from (one for one in found if (one.facts[0].source, one.facts[0].number) not in replaced)


def _parallel(entries: Sequence[Entry], near: Near) -> Iterator[Conflict]:
    """Pairs with nearly parallel keys that are not about one subject."""
    for (i, j), (match, layer) in sorted(near.pairs.items(), key=lambda item: -item[1][0]):
        if entries[i].subject != entries[j].subject:
            why = f"the cosine of their keys is {match:.2f} at layer {layer}"
            yield Conflict.of(Kind.PARALLEL, (entries[i], entries[j]), why, match, layer)
