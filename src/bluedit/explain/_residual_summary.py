"""What the analysis found, in sentences and as tables of means."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bluedit.explain._residual_numbers import Spread, grouped
from bluedit.explain._stages import Tables
from bluedit.explain.residual_data import COMPUTED, DISTRIBUTED


def summary_of(tables: Tables) -> list[str]:
    """A sentence for each question that was measured."""
    makers = (_contribution, _single, _geometry, _steps, _remaining, _passive, _growth, _shift)
    return [sentence for maker in makers for sentence in maker(tables)]


def mean(rows: Sequence[Any], value: Callable[[Any], float]) -> float:
    """Mean over rows that have a value; NaN if none has."""
    return Spread.of(map(value, rows)).mean


def _by_layer(rows: Sequence[Any], kind: str) -> dict[int, list[Any]]:
    return dict(sorted(grouped((row for row in rows if row.residual == kind), lambda row: row.layer).items()))


def _listed(values: Sequence[float], digits: int) -> str:
    return " / ".join(f"{value:.{digits}f}" for value in values)


def _contribution(tables: Tables) -> Iterator[str]:
    rows = tables.get("contributions", [])
    own = _by_layer(rows, COMPUTED)
    if not own:
        return
    layers = ", ".join(map(str, own))
    values = [mean(found, lambda row: row.gain) for found in own.values()]
    yield f"Added at layers {layers}, computed residuals raise the target's probability by {_listed(values, 2)}."
    shares = _by_layer(rows, DISTRIBUTED)
    if shares:
        values = [mean(found, lambda row: row.gain) for found in shares.values()]
        yield f"Distributed ones raise it by {_listed(values, 2)}."


def _single(tables: Tables) -> Iterator[str]:
    rows = tables.get("single_layer", [])
    for name in ("strict", "efficacy", "accuracy"):
        chosen = [row for row in rows if row.metric == name]
        own, shares = _by_layer(chosen, COMPUTED), _by_layer(chosen, DISTRIBUTED)
        if own:
            values = [100 * mean(found, lambda row: row.value) for found in own.values()]
            text = f"Writing one layer alone, {name} is {_listed(values, 1)} % with computed residuals"
            if shares:
                values = [100 * mean(found, lambda row: row.value) for found in shares.values()]
                text += f" and {_listed(values, 1)} % with distributed ones"
            yield text + "."


def _geometry(tables: Tables) -> Iterator[str]:
    far = grouped(tables.get("geometry", []), lambda row: row.distance)
    if len(far) < 2:
        return
    first = far[max(far)]
    yield (
        f"At the first layer the cosine between its own residual and the last layer's is {mean(first, lambda row: row.cosine):.2f}; its share has "
        f"{mean(first, lambda row: row.share * row.last / row.own):.2f} of the length it needs and is "
        f"{mean(first, lambda row: row.share_gap / row.own):.2f} lengths away from it."
    )


def _steps(tables: Tables) -> Iterator[str]:
    rows = tables.get("steps", [])
    layers = sorted(grouped(rows, lambda row: row.layer).items())
    if not layers:
        return
    after = [mean(own, lambda row: row.after) for _, own in layers]
    none = [100 * mean(own, lambda row: row.after == 0) for _, own in layers]
    every = [100 * mean(own, lambda row: row.after == row.most) for _, own in layers]
    yield (
        f"With the layers below written, targets take {_listed(after, 1)} steps of at most {rows[0].most}; "
        f"{_listed(none, 0)} % of the facts take none and {_listed(every, 0)} % take all."
    )


def _remaining(tables: Tables) -> Iterator[str]:
    parts = []
    for name, rows in grouped(tables.get("remaining", []), lambda row: row.schedule).items():
        last = max(row.write for row in rows)
        parts.append(f"{name} {100 * mean([row for row in rows if row.write == last], lambda row: row.share):.0f} %")
    if parts:
        yield f"Of the last layer's residual is left in the end: {', '.join(parts)}."


def _passive(tables: Tables) -> Iterator[str]:
    layers = sorted(grouped(tables.get("passive", []), lambda row: row.layer).items())
    if layers:
        values = [mean(own, lambda row: row.cosine) for _, own in layers]
        yield f"What a layer's residual causes at the last critical layer has a cosine of {_listed(values, 2)} with it."


def _growth(tables: Tables) -> Iterator[str]:
    found = [row for row in tables.get("growth", []) if row.along == "layers"]
    if not found:
        return
    first = max(found, key=lambda row: row.size)
    yield (
        f"At the first layer the error of distribution is {_ratio(first.error, first.update)} times the update itself. The published bound is "
        f"{_ratio(first.published, first.error)} times the error, the tightened one {_ratio(first.tightened, first.error)} times."
    )


def _ratio(one: float, other: float) -> str:
    return f"{one / other:.2f}" if other and math.isfinite(one / other) else "?"


def _shift(tables: Tables) -> Iterator[str]:
    parts = []
    for name, rows in grouped(tables.get("shift", []), lambda row: row.recipe).items():
        last = max(rows, key=lambda row: row.batches)
        parts.append(
            f"{name} {100 * last.shift:.2f} % (CKA {last.cka:.4f}, {100 * last.strict:.0f} % of the facts said)"
        )
    if parts:
        yield f"States of unrelated facts moved by: {', '.join(parts)}."
