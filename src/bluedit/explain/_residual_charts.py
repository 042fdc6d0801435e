"""The figures of the analysis, as charts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import sqrt
from typing import Any

from bluedit.evaluate.metrics import METRICS
from bluedit.explain._residual_charts_growth import GROWTH, SHIFT, line_of
from bluedit.explain._residual_numbers import grouped
from bluedit.explain._stages import Tables
from bluedit.explain.residual_data import COMPUTED, DISTRIBUTED
from bluedit.page import Axis, Bars, Chart, Series

_LOOK = {COMPUTED: (0, False), DISTRIBUTED: (1, True)}
_ORDERS = ("divided", "undivided", "own targets", "BLUE", "single", "replay")
_SPREAD = "Marks are means over the facts, the thick bars reach from the first to the third quartile."
_TICKS = 13  # on a figure's axis, at most
_METRICS = ("strict", "efficacy", "generalisation", "specificity", "accuracy", "rephrase_accuracy", "fluency")


def charts_of(tables: Tables, descent: str) -> list[Chart]:
    """All figures for which there are rows, in the order of the page; `descent` is whose steps were counted."""
    counted = f"{descent} steps"
    makers = (
        _contribution,
        _single_layer,
        _cosine,
        _gaps,
        _lengths,
        partial(_steps, counted),
        partial(_histogram, counted),
        _remaining,
        _passive,
        *GROWTH,
        *SHIFT,
    )
    found = [chart for maker in makers for chart in maker(tables)]
    return [chart for chart in found if not chart.is_empty]


def _layers(rows: Sequence[Any]) -> list[tuple[float, str]]:
    return [(layer, str(layer)) for layer in sorted({row.layer for row in rows})]


def _by_kind(rows: Sequence[Any], value: Callable[[Any], float], *, spread: bool) -> list[Series]:
    return [
        line_of(kind, own, lambda row: row.layer, value, *_LOOK[kind][:1], hollow=_LOOK[kind][1], spread=spread)
        for kind, own in grouped(rows, lambda row: row.residual).items()
    ]


def _contribution(tables: Tables) -> Iterator[Chart]:
    rows = tables.get("contributions", [])
    yield Chart(
        "contribution",
        "What a residual contributes where it is added",
        Axis("layer", _layers(rows)),
        Axis("gain in probability of the target", percent=True, include=(0.0, 1.0)),
        _by_kind(rows, lambda row: row.gain, spread=True),
        "Each residual is added to the unedited model at one layer, and the probability of the target (its tokens' geometric mean) is compared "
        "with and without it, over the bare prompt and the prefixed ones. If the share that distribution gives a layer were what the "
        f"layer needs, both lines would be equal. {_SPREAD}",
    )


def _single_layer(tables: Tables) -> Iterator[Chart]:
    by_metric = grouped(tables.get("single_layer", []), lambda row: row.metric)
    for name in (name for name in _METRICS if name in by_metric):
        metric, rows = METRICS[name], by_metric[name]
        words = name.replace("_", " ")
        yield Chart(
            f"single-layer-{name.replace('_', '-')}",
            f"Only one layer is written: {words}",
            Axis("layer that is written", _layers(rows)),
            Axis(words if metric.is_share else f"{words}, {metric.unit}", percent=metric.is_share),
            _by_kind(rows, lambda row: row.value, spread=False),
            f"{words.capitalize()}: {metric.definition}. One layer is written by the recipe's solver, with its own residual or with its share "
            "of the last layer's. A computed line far above the distributed one says that the layer could have carried the fact and was "
            "given the wrong vector. At the last layer both are the same.",
        )


def _cosine(tables: Tables) -> Iterator[Chart]:
    rows = tables.get("geometry", [])
    yield Chart(
        "direction",
        "Direction: the last layer's residual against each layer's own",
        Axis("critical layers after this one", _distances(rows)),
        Axis("cosine", include=(0.0, 1.0)),
        [line_of("cosine", rows, lambda row: row.distance, lambda row: row.cosine)],
        f"1 means that the last layer's residual points where the layer's own does; 0 that they have nothing in common. {_SPREAD}",
    )


def _distances(rows: Sequence[Any]) -> list[tuple[float, str]]:
    return [(distance, str(distance)) for distance in sorted({row.distance for row in rows})]


def _gaps(tables: Tables) -> Iterator[Chart]:
    rows = tables.get("geometry", [])
    yield Chart(
        "gap",
        "Size of the mistake: how far the share is from the layer's own residual",
        Axis("critical layers after this one", _distances(rows)),
        Axis("distance over length of own residual", include=(0.0, 1.0)),
        [
            line_of(
                "|share - own| / |own|",
                rows,
                lambda row: row.distance,
                lambda row: row.share_gap / row.own,
                1,
                hollow=True,
            ),
            line_of("|last - own| / |own|", rows, lambda row: row.distance, lambda row: row.whole_gap / row.own, 2),
            line_of(
                "best share of all", rows, lambda row: row.distance, lambda row: sqrt(max(0.0, 1 - row.cosine**2)), 8
            ),
        ],
        "At 1 the share is no nearer to what the layer needs than no residual at all. Of the first two lines the lower one says whether dividing brings the "
        f"last layer's residual nearer to the layer's own, or takes it farther away. The best of all multiples of the last layer's residual is still the sine of the angle away: "
        f"what no share can mend. {_SPREAD}",
    )


def _lengths(tables: Tables) -> Iterator[Chart]:
    rows = tables.get("geometry", [])
    yield Chart(
        "length",
        "Length of the share against the layer's own residual",
        Axis("critical layers after this one", _distances(rows)),
        Axis("ratio of lengths", include=(0.0, 1.0)),
        [
            line_of(
                "|share| / |own|",
                rows,
                lambda row: row.distance,
                lambda row: row.share * row.last / row.own,
                1,
                hollow=True,
            ),
            line_of("|last| / |own|", rows, lambda row: row.distance, lambda row: row.last / row.own, 2),
        ],
        "The whole residual of the last layer is often longer than an earlier layer's own, since hidden states grow with depth; its share is "
        f"often much shorter. {_SPREAD}",
    )


def _steps(counted: str, tables: Tables) -> Iterator[Chart]:
    rows = tables.get("steps", [])
    yield Chart(
        "steps",
        "Steps that a target takes, before and after the layers below were written",
        Axis("layer", _layers(rows)),
        Axis(counted, include=(0.0, float(max((row.most for row in rows), default=1)))),
        [
            line_of("unedited model", rows, lambda row: row.layer, lambda row: row.unedited, 8),
            line_of("layers below written", rows, lambda row: row.layer, lambda row: row.after, 0),
        ],
        "If a layer needs no step after the layers below have been written with their own targets, nothing is left for it to do: why BLUE writes "
        f"two layers only. The mean hides the form of the distribution, which the next figure shows. {_SPREAD}",
    )


def _histogram(counted: str, tables: Tables) -> Iterator[Chart]:
    by_layer = grouped(tables.get("steps", []), lambda row: row.layer)
    width = 0.8 / max(1, len(by_layer))
    series = []
    for place, (layer, rows) in enumerate(sorted(by_layer.items())):
        offset = (place - (len(by_layer) - 1) / 2) * width
        counts = {steps: len(own) / len(rows) for steps, own in grouped(rows, lambda row: row.after).items()}
        series.append(
            Bars(f"layer {layer}", [(s + offset, c) for s, c in sorted(counts.items())], place % 8, width=width)
        )
    yield Chart(
        "steps-histogram",
        "How the steps are distributed, layers below written",
        Axis(counted, _step_ticks(max((row.most for row in tables.get("steps", [])), default=1))),
        Axis("facts", percent=True, include=(0.0,)),
        series,
        "A fact that the lower layers already make the model say needs 0 steps; one that does not take uses all of them. Two heaps at the ends mean "
        "that a mean of, say, 6 steps describes no fact.",
    )


def _step_ticks(most: int) -> list[tuple[float, str]]:
    """Ticks from 0 to a number of steps, no more than there is room for."""
    return [(steps, str(steps)) for steps in range(0, most + 1, most // _TICKS + 1)]


def _remaining(tables: Tables) -> Iterator[Chart]:
    by_order = grouped(tables.get("remaining", []), lambda row: row.schedule)
    rows = tables.get("remaining", [])
    series = [
        line_of(name, own, lambda row: row.write, lambda row: row.share, _ORDERS.index(name), hollow=name == "divided")
        for name, own in by_order.items()
    ]
    yield Chart(
        "remaining",
        "What is left of the last layer's residual after each write",
        Axis("writes", [(write, str(write)) for write in sorted({row.write for row in rows})]),
        Axis("remaining share", percent=True, include=(0.0, 1.0)),
        series,
        "The distance of the last critical layer's value from its target (optimised on the unedited model) over the distance at the start. "
        "Divided is the recipe's own schedule; undivided gives each layer all that is still missing; with own targets, with BLUE "
        "and with a single layer the writes aim at other targets, so they need not end at 0 to make the model say the fact; replay gives each layer "
        "what the first layer's target causes there. Where the recipe writes some facts again or filters the update, one more point shows the end. "
        f"{_SPREAD}",
    )


def _passive(tables: Tables) -> Iterator[Chart]:
    rows = tables.get("passive", [])
    yield Chart(
        "passive",
        "What a layer's own residual causes at the last critical layer",
        Axis("layer where it is added", _layers(rows)),
        Axis("cosine, or ratio of lengths", include=(0.0, 1.0)),
        [
            line_of("cosine with itself at its layer", rows, lambda row: row.layer, lambda row: row.cosine, 0),
            line_of("cosine with the last layer's own", rows, lambda row: row.layer, lambda row: row.wanted, 2),
            line_of(
                "length, over that at its layer", rows, lambda row: row.layer, lambda row: row.gain, 3, hollow=True
            ),
        ],
        "Dividing a residual is right only if the layers between hand it on as it is, that is if it is an eigenvector of their Jacobian "
        "(arXiv 2605.00358): the first cosine would be 1. The second says how much of what arrives is what the last layer would have asked for "
        f"itself. {_SPREAD}",
    )
