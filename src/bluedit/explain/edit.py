"""Why one edited fact is said or not: what was written, what arrived, what each text receives of it, and what the model says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bluedit.editing.patch import Patch
from bluedit.errors import ExplainError, FactError
from bluedit.explain._edit_asked import Heard, Keys, asked_of, keys_of
from bluedit.explain._edit_data import FORMS, INTERFERES, Arrival, Asked, EditExplanation, Lens, Other, Written
from bluedit.explain._edit_others import Others
from bluedit.explain._edit_page import outcome, page_of, probability, shown
from bluedit.explain._edit_replay import Column, Rewritten, recipe_of, replaying, rewrite
from bluedit.explain._edit_sentence import sentence_of
from bluedit.explain._edit_texts import Text, texts_of
from bluedit.facts.fact import Fact
from bluedit.files import write_json
from bluedit.page import write_document
from bluedit.text.wordings import chat_form
from bluedit.writing.keys import batch_rows

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor
    from bluedit.model.editable import EditableModel
    from bluedit.shapes import Tensor
    from bluedit.writing.batch import Batch

__all__ = [
    "FORMS",
    "INTERFERES",
    "Arrival",
    "Asked",
    "EditExplanation",
    "Lens",
    "Other",
    "Written",
    "explain_edit",
    "find_fact",
    "outcome",
    "probability",
    "shown",
    "write_edit",
]

_NAMED = 20  # facts in one error message
_EXACT = (
    "The recipe meets its keys exactly (slack 0) and wrote several facts at once, so the patch does not tell the metric of the keys: "
    "no whitened match is given."
)
_UNKNOWN = (
    "The patch was written with parts that are not known here: the schedule and the metric of the keys are left out, and with them what "
    "arrived. Import the module that defines the parts first."
)
_TRAINED = "The weight was fine-tuned: there is no residual, and nothing that arrives of it."


def explain_edit(
    editor: Editor, fact: str | int, patch: Patch | str | Path | None = None, *, force: bool = False
) -> EditExplanation:
    """Explain one edited fact. The model and the editor are as before afterwards.

    Keys and what was delivered are measured on the model as it was when the fact's batch was complete, what the model says with the
    whole patch.

    Args:
        editor: of the unedited model, or one that carries the edits.
        fact: its number in `bluedit show`, its id, or a part of its prompt and target.
        patch: the edits, or their folder; None for those that the editor carries.
        force: take a patch of other weights.

    Raises:
        FactError: no fact or several are meant; the message lists them.
        PatchError: the patch cannot be read, or was made for other weights.
    """
    loaded = Patch.load(patch) if isinstance(patch, (str, Path)) else patch or editor.patch
    number = find_fact(loaded.facts, fact)
    with _carrying(editor, loaded, force=force):
        batches = editor.journal.batches
        place, index = _place_of(batches, len(editor.patch.facts) - len(loaded.facts) + number - 1)
        found = _explain(editor, batches, place, index)
    found = replace(found, number=number)
    return replace(found, sentence=sentence_of(found))


def find_fact(facts: Sequence[Fact], wanted: str | int) -> int:
    """Number of the fact that is meant, counted from 1: by its number, its id, or a part of "prompt => target".

    Of several facts with the same prompt and target the latest is meant.

    Raises:
        FactError: there is none, or several.
    """
    if not facts:
        raise FactError("there is no edited fact to explain: this editor has made no edit; pass a patch")
    text = str(wanted).strip()
    if text.isdecimal() and 1 <= int(text) <= len(facts):
        return int(text)
    by_id = {fact.id: number for number, fact in enumerate(facts, 1) if fact.id}
    if text in by_id:
        return by_id[text]
    lines = [f"{fact.text} => {fact.target}" for fact in facts]
    found = {line: number for number, line in enumerate(lines, 1) if text and text.casefold() in line.casefold()}
    if len(found) == 1:
        return next(iter(found.values()))
    meant = found or {line: number for number, line in enumerate(lines, 1)}
    shown = [f"{number}: {line}" for line, number in sorted(meant.items(), key=lambda item: item[1])]
    more = [f"and {len(shown) - _NAMED} more"] if len(shown) > _NAMED else []
    what = f"{len(found)} facts hold {text!r}" if found else f"no fact has the number or id {text!r} or holds this text"
    raise FactError("\n".join([f"{what}; choose one by its number:", *shown[:_NAMED], *more]))


@contextmanager
def _carrying(editor: Editor, patch: Patch, *, force: bool) -> Iterator[None]:
    """Inside the `with` the editor carries the patch; what it did not carry before is taken back."""
    carried = bool(len(editor.journal)) and editor.journal.state == patch.state
    if carried:
        yield
        return
    editor.apply(patch, force=force)
    try:
        yield
    finally:
        editor.undo()


def _place_of(batches: Sequence[Batch], index: int) -> tuple[int, int]:
    """(batch, fact in it) of the fact `index` of all."""
    for place, batch in enumerate(batches):
        if index < len(batch.facts):
            return place, index
        index -= len(batch.facts)
    raise AssertionError("more facts than the batches hold")


def _explain(editor: Editor, batches: Sequence[Batch], place: int, index: int) -> EditExplanation:
    lm, batch = editor.lm, batches[place]
    fact = batch.facts[index]
    column = Column.of(lm, batch, index)
    texts = texts_of(fact, column.recipe.wordings, chat_form(lm.tokenizer))
    before, after, seen, keys, now = _replayed(editor, batches, place, column, texts)
    asked = tuple(
        asked_of(lm, fact, text, own, seen, before.of(i), after.of(i))
        for i, (text, own) in enumerate(zip(texts, keys, strict=True))
    )
    others, moved = (), {}
    if column.number is not None:
        others, moved = Others(seen.changes, place, column.number, lambda b: _owners(lm, b)).nearest(batches)
    return EditExplanation(
        sentence="",
        number=0,
        fact=fact,
        model=lm.name,
        recipe=batch.origin.recipe,
        batch=place + 1,
        batches=len(batches),
        written=seen.written,
        arrivals=seen.arrivals(now),
        asked=asked,
        others=others,
        moved_by=moved,
        reading_note=_note(column, seen),
    )


def _replayed(
    editor: Editor, batches: Sequence[Batch], place: int, column: Column, texts: Sequence[Text]
) -> tuple[Heard, Heard, Rewritten, list[Keys], dict[int, Tensor]]:
    """(what is said before and after, the fact's batch, keys of the texts after it, hidden states now) from writing all batches again."""
    lm = editor.lm
    with (
        replaying(editor) as weights,
        editor.progress.task("explaining the edit", len(batches) + 2, "steps") as advance,
    ):
        before = Heard(lm, texts, ("prompt", "neighbour"))
        advance()
        for earlier in batches[:place]:
            weights.repeat(earlier)
            advance()
        seen = rewrite(weights, column)
        keys = [keys_of(lm, text, column.batch.layers) for text in texts]
        for later in batches[place + 1 :]:
            weights.repeat(later)
            advance()
        now = {layer: column.value(lm, layer) for layer in seen.targets}
        after = Heard(lm, texts, tuple(FORMS))
        advance()
    return before, after, seen, keys, now


def _owners(lm: EditableModel, batch: Batch) -> Sequence[Sequence[int]]:
    return batch_rows(lm.tokenizer, batch.written, batch.origin.prefixes, recipe_of(batch.origin)).owners


def _note(column: Column, seen: Rewritten) -> str:
    if column.number is None:
        return _TRAINED
    if not column.recipe.layers:
        return _UNKNOWN
    return _EXACT if any(change.row is None for change in seen.changes.values()) else ""


def write_edit(found: EditExplanation, folder: str | Path) -> Path:
    """Write an explanation as a page (edit.html) and as JSON (edit.json) into a folder; gives the page.

    Raises:
        ExplainError: the place cannot be written.
    """
    page = Path(folder) / "edit.html"
    try:
        write_json(page.with_suffix(".json"), found.as_dict())
        return write_document(page, page_of(found))
    except OSError as error:
        raise ExplainError(f"cannot write {page}: {error.strerror or error}; choose another place") from error
