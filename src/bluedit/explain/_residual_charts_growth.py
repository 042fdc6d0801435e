"""The figures on growth and shift, and the line that all figures share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bluedit.explain._residual_numbers import grouped, spreads
from bluedit.explain._stages import Tables
from bluedit.page import Axis, Chart, Dots, Line, Series


def line_of(
    name: str,
    rows: Sequence[Any],
    key: Callable[[Any], float],
    value: Callable[[Any], float],
    colour: int = 0,
    *,
    hollow: bool = False,
    spread: bool = True,
) -> Line:
    """Means of a value over rows of one key, with quartiles if wanted."""
    points, quartiles = spreads(rows, key, value)
    return Line(name, points, colour, hollow, quartiles if spread else ())


def _growth(tables: Tables, along: str, title: str, x: Axis, about: str) -> Iterator[Chart]:
    rows = [row for row in tables.get("growth", []) if row.along == along]

    def line(name: str, value: Callable[[Any], float], colour: int, *, hollow: bool = False) -> Line:
        return line_of(name, rows, lambda row: row.size, value, colour, hollow=hollow, spread=along == "facts")

    yield Chart(
        f"growth-{along}",
        title,
        x,
        Axis("Frobenius norm", log=True),
        [
            line("error", lambda row: row.error, 0),
            line("update with own residuals", lambda row: row.update, 8),
            line("|R* - R| |A|", lambda row: row.direct, 2, hollow=True),
            line("tightened bound", lambda row: row.tightened, 4, hollow=True),
            line("published bound", lambda row: row.published, 1, hollow=True),
            line("|R* - R| times the largest |A|", lambda row: row.saturated, 3, hollow=True),
        ],
        about,
    )


def _growth_layers(tables: Tables) -> Iterator[Chart]:
    sizes = sorted({row.size for row in tables.get("growth", []) if row.along == "layers"})
    yield from _growth(
        tables,
        "layers",
        "Error of the first critical layer's weight by the number of critical layers",
        Axis("critical layers, counted from the last", [(size, str(size)) for size in sizes]),
        "The error is |dW* - dW|, with the layer's own residuals against their share of the last layer's, for all facts at once. The published "
        "bound (Theorem 4.1) grows with the count of layers; the tightened one replaces L - l by (L - l)/(L - l + 1), which is below 1, so that what "
        "grows with distance is |R* - R_L| alone. docs/theory.md derives all bounds.",
    )


def _growth_facts(tables: Tables) -> Iterator[Chart]:
    yield from _growth(
        tables,
        "facts",
        "Error of the first critical layer's weight by the size of the batch",
        Axis("facts in the batch", log=True),
        "Subsets of the facts, each solved by itself; bars are quartiles over subsets of one size. Where error and update rise together, their ratio "
        "says which part of the update is wrong. The largest |A| that least squares allows does not depend on the batch.",
    )


def _growth_batches(tables: Tables) -> Iterator[Chart]:
    sizes = sorted({row.size for row in tables.get("growth", []) if row.along == "batches"})
    yield from _growth(
        tables,
        "batches",
        "Error of the first critical layer's weight by the number of batches",
        Axis("batches in a row", [(size, str(size)) for size in sizes]),
        "Batches of the same size, each solved with the keys of all earlier ones in memory; the error is that of the sum of updates, the bounds are "
        "sums of the batches' bounds. Residuals are those of the unedited model, so only the solver's memory is at work.",
    )


def _over_batches(rows: Sequence[Any], value: Callable[[Any], float]) -> list[Series]:
    return [
        line_of(name, own, lambda row: row.batches, value, place, hollow=place == 1, spread=False)
        for place, (name, own) in enumerate(sorted(grouped(rows, lambda row: row.recipe).items(), reverse=True))
    ]


def _batches(rows: Sequence[Any]) -> Axis:
    return Axis("batches written", [(number, str(number)) for number in sorted({row.batches for row in rows})])


def _shift(tables: Tables) -> Iterator[Chart]:
    rows = tables.get("shift", [])
    yield Chart(
        "shift",
        "Shift of facts that were not edited",
        _batches(rows),
        Axis("mean |h' - h| / |h|", percent=True, include=(0.0,)),
        _over_batches(rows, lambda row: row.shift),
        "At the output of the last critical block, at the subject's last token of unrelated true facts. The less their states move, the less of what "
        "the model knew is disturbed.",
    )


def _similarity(tables: Tables) -> Iterator[Chart]:
    rows = tables.get("shift", [])
    series: list[Series] = []
    for line in _over_batches(rows, lambda row: row.cosine):
        series.append(Line(f"{line.name}: cosine", line.points, line.colour, line.hollow))
    for line in _over_batches(rows, lambda row: row.cka):
        series.append(Line(f"{line.name}: CKA", line.points, line.colour + 2, line.hollow))
    yield Chart(
        "similarity",
        "Likeness of these states before and after",
        _batches(rows),
        Axis("cosine, or linear CKA", include=(1.0,)),
        series,
        "Cosine compares each state with itself before; CKA compares how all of them lie to each other and does not change when they turn or move "
        "together.",
    )


def _plane(tables: Tables) -> Iterator[Chart]:
    by_recipe = grouped(tables.get("places", []), lambda row: row.recipe)
    yield Chart(
        "plane",
        "The same states in their plane",
        Axis("first principal component of the unedited states"),
        Axis("second"),
        [
            Dots(name or "unedited", [(row.x, row.y) for row in rows], (8, 1, 0)[place % 3], hollow=place == 1)
            for place, (name, rows) in enumerate(by_recipe.items())
        ],
        "Each point is an unrelated fact after the last batch. A cloud that moves away from the unedited one as a whole has shifted; the numbers "
        "above are measured in all dimensions.",
    )


GROWTH = (_growth_layers, _growth_facts, _growth_batches)
SHIFT = (_shift, _similarity, _plane)
