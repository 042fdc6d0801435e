"""Conflicts that only a model shows: keys that are nearly parallel, and edits that it does not say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from bluedit.evaluate.asked import ask_facts
from bluedit.evaluate.respondents import LiveRespondent
from bluedit.explain._conflict_data import Conflict, Entry, Kind, Source
from bluedit.explain._edit_history import recipe_of
from bluedit.explain._edit_sentence import shortened
from bluedit.explain._replaying import batches_of, replaying
from bluedit.methods.recipe import Recipe
from bluedit.methods.subjects import Split
from bluedit.model.devices import solve_device
from bluedit.model.state import frozen
from bluedit.shapes import Float, Tensor
from bluedit.text.contexts import sampled_prefixes
from bluedit.writing.keys import batch_rows, read_keys

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor
    from bluedit.editing.patch import Patch
    from bluedit.maths.solve import PreservationOperator

WHITENED = 0.7
"""Whitened cosine from which two keys count as nearly parallel: a change that is written for one of them alone delivers about this share of
itself to the other. In SmolLM2-135M (layers 4 and 8, default recipe) different relations of one subject have 0.65 to 0.89, one relation of
two countries 0.46 and 0.62, and facts that have nothing in common about 0."""
PLAIN = 0.8
"""The same without statistics of the keys. There plain cosines are up to 0.1 higher."""
_COLUMNS = 1024  # of the matrix of cosines at a time


@dataclass(frozen=True, eq=False)
class Near:
    """Pairs of facts whose keys are nearly parallel.

    Attributes:
        pairs: (cosine, layer) of two facts, by their places in the list; the largest cosine over the layers.
        note: how keys were compared.
    """

    pairs: dict[tuple[int, int], tuple[float, int]]
    note: str


def near_keys(editor: Editor, entries: Sequence[Entry], recipe: Recipe) -> Near:
    """Compare the keys that a recipe would store for facts, on the unedited weights."""
    layers = recipe.written
    metrics = _metrics(editor, recipe, layers)
    device = solve_device(editor.lm.device, editor.execution.statistics_device) if metrics else "cpu"
    found, owners = _keys(editor, entries, recipe, layers)
    pairs: dict[tuple[int, int], tuple[float, int]] = {}
    for layer in layers:
        least = WHITENED if layer in metrics else PLAIN
        for one, other, cosine in _parallel(found[layer].to(device).double(), metrics.get(layer), least):
            i, j = sorted((owners[one], owners[other]))
            if i != j and cosine > pairs.get((i, j), (0.0, layer))[0]:
                pairs[i, j] = (cosine, layer)
    return Near(pairs, _note(layers, list(metrics)))


def _note(layers: Sequence[int], whitened: Sequence[int]) -> str:
    where = f"keys were compared at {_named(layers)} of the unedited model"
    if len(whitened) == len(layers):
        return f"{where}; cosines are whitened, and from {WHITENED:g} on keys count as nearly parallel"
    return (
        f"{where} by plain cosines from {PLAIN:g} on, since there are no key statistics of "
        f"{_named([layer for layer in layers if layer not in whitened])} yet; the first edit computes them"
    )


def _named(layers: Sequence[int]) -> str:
    """E.g. "layers 4, 8"."""
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"


def _metrics(editor: Editor, recipe: Recipe, layers: Sequence[int]) -> dict[int, PreservationOperator]:
    """G of the layers whose statistics are stored."""
    preserve = recipe.update.preserve
    if preserve is None:
        return {}
    moments = editor.moments
    stored = moments.stored(layers, beside=preserve.beside)
    return {layer: preserve.operator(C) for layer, C in moments.get(stored, beside=preserve.beside).items()}


def _keys(
    editor: Editor, entries: Sequence[Entry], recipe: Recipe, layers: Sequence[int]
) -> tuple[dict[int, Float[Tensor, "d_key columns"]], list[int]]:
    """(keys by layer, the entry of each column).

    Facts have columns of their own, also where a recipe would let them share one, and two where one of their texts starts with the subject.
    An edit has the wordings and prefixes that it was written with, a fact that is still to be edited those of the recipe.
    """
    lm = editor.lm
    written: dict[tuple[Recipe, tuple[str, ...]], list[int]] = {}
    with frozen(lm.model), editor.unedited():
        ours = (recipe, tuple(recipe.contexts.prefixes(lambda count, seed: sampled_prefixes(lm, count, seed))))
        for i, entry in enumerate(entries):
            how = (recipe_of(entry.origin), tuple(entry.origin.prefixes)) if entry.origin else ours
            written.setdefault(how, []).append(i)
        parts: list[dict[int, Tensor]] = []
        owners: list[int] = []
        for (how, prefixes), own in written.items():
            facts = [entries[i].fact for i in own]
            facts = facts if entries[own[0]].is_written else [how.wordings.extended(fact) for fact in facts]
            laid = batch_rows(lm.tokenizer, facts, prefixes, replace(how, subjects=Split()))
            parts.append(read_keys(lm, laid.rows, layers, laid.n))
            owners += [own[place] for (place,) in laid.owners]
    return {layer: torch.cat([part[layer] for part in parts], dim=1) for layer in layers}, owners


def _parallel(
    keys: Float[Tensor, "d_key n"], metric: PreservationOperator | None, least: float
) -> Iterator[tuple[int, int, float]]:
    """(i, j, cosine) of all pairs i < j with at least this cosine."""
    mapped = keys if metric is None else metric.apply(keys).to(keys)
    sizes = (keys * mapped).sum(dim=0).clamp(min=torch.finfo(keys.dtype).tiny).sqrt()
    for start in range(0, keys.shape[1], _COLUMNS):
        part = slice(start, start + _COLUMNS)
        cosines = (keys[:, part].T @ mapped) / sizes[part, None] / sizes
        for i, j in (cosines.triu(diagonal=start + 1) >= least).nonzero().tolist():
            yield start + i, j, float(cosines[i, j])


def unsaid(editor: Editor, source: Source, patches: Sequence[Patch] = (), *, force: bool = False) -> Iterator[Conflict]:
    """Edits of a patch that the model with this patch does not say at their prompt; each prompt with its latest target.

    Args:
        editor: of the model; it is as before afterwards.
        source: the patch.
        patches: others that it may stand on.
        force: take a patch of other weights.

    Raises:
        PatchError: the patch was made for other weights.
    """
    assert source.patch
    latest = {fact.text: (number, fact) for number, fact in enumerate(source.facts, 1)}
    batches = batches_of(editor, source.patch, patches, force=force)
    with replaying(editor) as weights:
        for batch in batches:
            weights.repeat(batch)
        replies = ask_facts(LiveRespondent(editor.lm), [fact for _, fact in latest.values()], only_prompts=True)
    for (number, fact), (reply,) in zip(latest.values(), replies, strict=True):
        if not reply.said:
            why = f"the model with this patch writes {shortened(reply.text)}"
            yield Conflict.of(Kind.UNSAID, [Entry(source.name, number, fact, 0)], why)
