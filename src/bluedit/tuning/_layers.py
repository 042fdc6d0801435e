"""Which layers the search may choose from: up to the last layer at which tracing still finds facts, those where the probe's edits score best."""

from __future__ import annotations

import logging
from pathlib import Path

from bluedit.errors import ExplainError
from bluedit.explain.locate_data import LAST_OF_SUBJECT, STATE
from bluedit.explain.locating import Location, Tracing, locate
from bluedit.tuning._request import LEAST, Request
from bluedit.tuning._space import Space, layer_choices

_DEEPEST = 0.6  # of the depth, where nothing was traced
_SAMPLES = 3
log = logging.getLogger(__name__)


def space_of(request: Request, folder: Path) -> Space:
    """The choices of layers, from tracing and probing; the results of both are kept in the folder."""
    lm, base = request.editor.lm, request.base
    probed = probed_layers(lm.anatomy.n_layers, base.written, _reach(request, folder), request.effort.probed)
    found = _locate(
        request, folder / "probe", Tracing(count=0), layers=probed, probe_count=max(LEAST, len(request.search) // 2)
    )
    return Space(base, layer_choices(base, found.best, lm.anatomy.n_layers))


def probed_layers(depth: int, base: tuple[int, ...], last: int, most: int) -> list[int]:
    """At most `most` layers up to `last`, evenly, and those that the base writes."""
    last = min(max(last, max(base)), depth - 1)
    step = max(1, -(-(last + 1) // most))
    return sorted({*range(step - 1, last + 1, step), *base})


def _reach(request: Request, folder: Path) -> int:
    """The last layer at which a fact is still found at its subject: restoring its state there has at least half of the largest effect."""
    depth = request.editor.lm.anatomy.n_layers
    guess = round(_DEEPEST * (depth - 1))
    if not request.effort.traced:
        return guess
    try:
        found = _locate(
            request,
            folder / "tracing",
            Tracing(request.effort.traced, samples=_SAMPLES, seed=request.effort.seed),
            probe_count=0,
        )
    except ExplainError as error:
        log.warning("layers are probed down to %d of %d, because nothing could be traced: %s", guess, depth, error)
        return guess
    effects: dict[int, list[float]] = {}
    for row in found.tables["effects"]:
        if (row.kind, row.role) == (STATE, LAST_OF_SUBJECT):
            effects.setdefault(row.layer, []).append(row.effect)
    means = {layer: sum(values) / len(values) for layer, values in effects.items()}
    high = max(means.values(), default=0.0)
    return max((layer for layer, value in means.items() if value >= high / 2 > 0), default=guess)


def _locate(request: Request, folder: Path, tracing: Tracing, **options: object) -> Location:
    editor = request.editor
    moments = editor.moments
    return locate(
        editor.lm,
        folder,
        tracing=tracing,
        probe=request.search,
        recipe=request.base,
        corpus=moments.corpus.name,
        tokens=moments.tokens,
        statistics=moments.folder,
        execution=editor.execution,
        progress=editor.progress,
        **options,  # pyright: ignore[reportArgumentType]
    )
