"""Why one edited fact is said or not: what was written, what arrived, what each text receives of it, and what the model says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bluedit.editing.patch import Patch
from bluedit.errors import ExplainError, FactError
from bluedit.explain._edit_asked import Said, TextKeys, asked_of, heard, keys_of
from bluedit.explain._edit_columns import Columns
from bluedit.explain._edit_data import (
    FORMS,
    INTERFERES,
    Arrival,
    Asked,
    EditExplanation,
    Lens,
    Other,
    Position,
    Role,
    When,
    Written,
)
from bluedit.explain._edit_history import History
from bluedit.explain._edit_others import Others
from bluedit.explain._edit_page import charts_of, numbered, outcome, page_of, probability, shown
from bluedit.explain._edit_replay import Rewritten, rewrite, weight_of
from bluedit.explain._edit_sentence import sentence_of
from bluedit.explain._edit_tables import tables_of
from bluedit.explain._edit_texts import Text, texts_of
from bluedit.explain._replaying import batches_of, replaying
from bluedit.explain._stages import FIGURES
from bluedit.explain.residual_data import as_csv
from bluedit.facts.fact import Fact
from bluedit.files import write_file, write_json
from bluedit.methods.update import ClosedForm
from bluedit.options import whole_number
from bluedit.page import write_document
from bluedit.page.plots import check_plots, write_plots
from bluedit.text.wordings import chat_form

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor
    from bluedit.shapes import Tensor

__all__ = [
    "FORMS",
    "INTERFERES",
    "Arrival",
    "Asked",
    "EditExplanation",
    "Lens",
    "Other",
    "Position",
    "Role",
    "When",
    "Written",
    "explain_edit",
    "find_fact",
    "numbered",
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
_SPARED = (
    "Every write spared directions, or was solved for a part of the keys, so the patch does not tell the metric of the keys: no whitened "
    "match is given. Residuals are given as they were written, without what was spared of them."
)
_UNKNOWN = (
    "The patch was written with parts that are not known here: the schedule and the metric of the keys are left out, and with them what "
    "arrived. Import the module that defines the parts first."
)
_FILTERED = (
    "Filters changed the weights after they were written. What texts receive, and what all earlier and later edits add, is measured on the "
    "filtered weights; what single other edits add and take is given as it was before filters."
)
_TRAINED = "The weight was fine-tuned: there is no residual, and nothing that arrives of it."


def explain_edit(
    editor: Editor, fact: str | int, patch: Patch | str | Path | None = None, *, force: bool = False
) -> EditExplanation:
    """Explain one edited fact. The editor is as before afterwards: its weights, its journal, and what it can undo.

    Of several batches that wrote the fact (it was taught again, or held when its subject was edited again) the last one is explained.
    Keys and what was delivered are measured on the model as it was when that batch was complete, what the model says with the whole patch.

    Args:
        editor: of the unedited model, or one that carries edits; these count if the patch stands on them.
        fact: its number in `bluedit show`, its id, or a part of its prompt and target.
        patch: the edits, or the folder of a patch or workspace; None for those that the editor carries.
        force: take a patch of other weights.

    Raises:
        FactError: no fact or several are meant; the message lists them. Or a text is longer than the model's context.
        PatchError: the patch cannot be read, was made for other weights, or was written with parts that are not known here.
        EditError: another thread is editing the model, or `torch.inference_mode` is on.
    """
    loaded = Patch.load(patch) if isinstance(patch, (str, Path)) else patch or editor.patch
    number = find_fact(loaded.facts, fact)
    batches = batches_of(editor, loaded, force=force)
    history = History.of(batches, len(batches) - len(loaded.batches), loaded.facts[number - 1])
    found = replace(_explain(editor, history), number=number)
    return replace(found, sentence=sentence_of(found))


def find_fact(facts: Sequence[Fact], wanted: str | int) -> int:
    """Number of the fact that is meant, counted from 1: by its number, its id, or a part of "prompt => target".

    Of several facts with the same prompt and target the latest is meant.

    Raises:
        FactError: there is none, or several.
    """
    if not facts:
        raise FactError(
            "there is no edited fact to explain: nothing was edited, or all of it was undone; pass a patch with facts"
        )
    text = str(wanted).strip()
    if 1 <= (whole_number(text) or 0) <= len(facts):
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


def _explain(editor: Editor, history: History) -> EditExplanation:
    """The explanation without its sentence and the fact's number."""
    lm, columns = editor.lm, Columns.of(editor.lm, history)
    texts = texts_of(history.fact, columns.recipe.wordings, chat_form(lm.tokenizer))
    replayed = _replayed(editor, history, columns, texts)
    seen = replayed.seen
    asked = tuple(
        asked_of(lm, text, keys, seen, before, after)
        for text, keys, (before, after) in zip(texts, replayed.keys, replayed.said, strict=True)
    )
    others, moved = (), {}
    if not columns.trained:
        others, moved = Others(lm, history, columns, seen.main.changes, replayed.around).nearest()
    return EditExplanation(
        sentence="",
        number=0,
        fact=history.fact,
        model=lm.name,
        recipe=history.batch.origin.recipe,
        batch=history.place - history.below + 1,
        batches=len(history.batches) - history.below,
        writings=history.writings,
        written=seen.written,
        filters=seen.filters,
        arrivals=tuple(
            arrival
            for c, column in enumerate(seen.columns)
            for arrival in column.arrivals({layer: state[:, c] for layer, state in replayed.now.items()})
        ),
        asked=asked,
        others=others,
        moved_by=moved,
        reading_note=_note(columns, history, seen),
    )


@dataclass(frozen=True, eq=False)
class _Replayed:
    """What writing all batches again showed.

    Attributes:
        seen: of the fact's batch.
        keys: of each text, when that batch was complete.
        said: for each text what is said (before all batches, after all).
        now: by layer of a target, the hidden states (d_value x k) of the fact's columns after all batches.
        around: see `Others`.
    """

    seen: Rewritten
    keys: list[TextKeys]
    said: list[tuple[Said, Said]]
    now: dict[int, Tensor]
    around: dict[int, dict[When, Tensor]]


def _replayed(editor: Editor, history: History, columns: Columns, texts: Sequence[Text]) -> _Replayed:
    lm, batches, place = editor.lm, history.batches, history.place
    exact = history.filtered
    layers = columns.batch.layers if exact and not columns.trained else ()

    def weights_now() -> dict[int, Tensor]:
        return {layer: weight_of(lm, layer) for layer in layers}

    with (
        replaying(editor) as weights,
        editor.progress.task("explaining the edit", len(batches) + 2, "steps") as advance,
    ):
        before, unedited = heard(lm, texts), weights_now()
        advance()
        for earlier in batches[:place]:
            weights.repeat(earlier)
            advance()
        around = {layer: {When.EARLIER: weight - unedited[layer]} for layer, weight in weights_now().items()}
        seen = rewrite(weights, columns, exact=exact)
        keys, complete = keys_of(lm, texts, columns.batch.layers), weights_now()
        advance()
        for later in batches[place + 1 :]:
            weights.repeat(later)
            advance()
        for layer, weight in weights_now().items():
            around[layer][When.LATER] = weight - complete[layer]
        now = {layer: columns.values(layer) for layer in seen.main.targets}
        after = heard(lm, texts)
        advance()
    return _Replayed(seen, keys, list(zip(before, after, strict=True)), now, around)


def _note(columns: Columns, history: History, seen: Rewritten) -> str:
    """What could not be computed, and why."""
    if columns.trained:
        return _TRAINED
    if not columns.recipe.layers:
        return _UNKNOWN
    unknown = any(change.row is None for change in seen.main.changes.values())
    update = columns.recipe.update
    why = _EXACT if not isinstance(update, ClosedForm) or update.solved_as_recorded else _SPARED
    softened = f"A guard let {columns.kept:.0%} of the batch's change stay." if columns.kept < 1 else ""
    return " ".join(filter(None, [why if unknown else "", _FILTERED if history.filtered else "", softened]))


def write_edit(found: EditExplanation, folder: str | Path, plots: Sequence[str] = ()) -> Path:
    """Write an explanation into a folder: the page (edit.html), everything as JSON (edit.json), and its tables as CSV.

    Args:
        found: what `explain_edit` gave.
        folder: made if it is not there; files of an earlier explanation are replaced.
        plots: formats of `bluedit.page.plots.FORMATS`; every figure is written as figures/ID.FORMAT. Needs matplotlib.

    Returns:
        The page.

    Raises:
        ExplainError: the place cannot be written, a format is not known, or matplotlib is missing.
    """
    check_plots(plots)
    page = Path(folder) / "edit.html"
    try:
        write_json(page.with_suffix(".json"), found.as_dict())
        for name, (kind, rows) in tables_of(found).items():
            write_file(page.with_name(f"{name}.csv"), as_csv(kind, rows))
        write_plots(list(charts_of(found)) if plots else (), page.parent / FIGURES, plots)
        return write_document(page, page_of(found))
    except OSError as error:
        raise ExplainError(f"cannot write {page}: {error.strerror or error}; choose another place") from error
