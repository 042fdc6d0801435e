"""The figures and the page of `locate`."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bluedit.explain._locate_trace import by_layer
from bluedit.explain._residual_numbers import grouped, spreads
from bluedit.explain._stages import Tables
from bluedit.explain.locate_data import ATTENTION, KINDS, LAST_OF_SUBJECT, MLP, ROLES, STATE, Layer
from bluedit.page import Axis, Chart, HeatMap, Line, document, table, write_document

PAGE = "locate.html"
_TITLES = {STATE: "States", MLP: "MLP outputs", ATTENTION: "Attention outputs"}
_INTRODUCTION = (
    "<p>Where a model keeps its facts, and at which layer a new one is best written. Causal tracing (ROME, arXiv 2202.05262, section 2.1) adds noise "
    "to the subject of facts that the model knows and puts single activations back. The layer probe writes new facts into one layer at a time and "
    "measures what comes of it; the layers to edit follow from it rather than from tracing (arXiv 2301.04213).</p>"
)


def charts_of(tables: Tables) -> list[HeatMap | Chart]:
    """All figures that have something to show."""
    effects, targets, layers = (tables.get(name, []) for name in ("effects", "targets", "layers"))
    found: list[HeatMap | Chart] = []
    if effects:
        found += [_map(effects, kind) for kind in KINDS if any(row.kind == kind for row in effects)]
        found.append(_at_subject(effects))
    if layers:
        found += [_shares(layers), _drift(layers)]
    if targets:
        found += [_line("steps", "Steps of the search", "steps", targets, lambda row: row.steps)]
        found += [
            _line("length", "Length of the vector", "|delta| / |h|", targets, lambda row: row.length),
            _line("cost", "Cost of a write", "change of an ordinary token / |h|", targets, lambda row: row.cost),
            _line("match", "How much a key stands apart", "k^T C^-1 k / d_key", targets, lambda row: row.match),
        ]
    return found


def _map(effects: Sequence[Any], kind: str) -> HeatMap:
    own = [row for row in effects if row.kind == kind]
    means = {role: by_layer(own, kind, role) for role in ROLES}
    layers = sorted({row.layer for row in own})
    rows = [role for role in ROLES if means[role]]
    window = "" if kind == STATE else " The layer is the middle of the window that is put back."
    return HeatMap(
        f"effect-{kind}",
        f"{_TITLES[kind]}: average indirect effect",
        rows,
        [str(layer) for layer in layers],
        [[means[role].get(layer, math.nan) for layer in layers] for role in rows],
        "probability",
        "layer",
        f"By how much the answer's probability rises when this activation is put back into the noisy run, mean over facts.{window}",
    )


def _at_subject(effects: Sequence[Any]) -> Chart:
    lines = []
    for number, kind in enumerate(KINDS):
        own = [row for row in effects if row.kind == kind and row.role == LAST_OF_SUBJECT]
        points, quartiles = spreads(own, lambda row: row.layer, lambda row: row.effect)
        lines += [Line(_TITLES[kind], points, number, spread=quartiles)] if points else []
    return Chart(
        "effect-at-subject",
        "At the subject's last token",
        Axis("layer"),
        Axis("indirect effect (probability)", include=(0.0,)),
        lines,
        "The same numbers at the token where editing methods write. Bars are quartiles over facts.",
    )


def _shares(layers: Sequence[Layer]) -> Chart:
    names = ("strict", "strict_paraphrase", "generalisation", "specificity")
    lines = [
        Line(name.replace("_", " "), [(row.layer, getattr(row, name)) for row in layers], number)
        for number, name in enumerate(names)
    ]
    return Chart(
        "shares",
        "What an edit of one layer does",
        Axis("layer"),
        Axis("share", percent=True, include=(0.0, 1.0)),
        lines,
        "All probed facts written into this layer alone, each with a target that was optimised there.",
    )


def _drift(layers: Sequence[Layer]) -> Chart:
    points = [(row.layer, row.passage_kl) for row in layers]
    return Chart(
        "drift",
        "What the same edit does to ordinary text",
        Axis("layer"),
        Axis("KL of the next token, nats", include=(0.0,)),
        [Line("KL(unedited || edited)", points, 1)],
        "Mean over the tokens of bundled passages.",
    )


def _line(id: str, title: str, axis: str, rows: Sequence[Any], value: Callable[[Any], float]) -> Chart:
    points, quartiles = spreads(rows, lambda row: row.layer, value)
    return Chart(
        id, title, Axis("layer"), Axis(axis, include=(0.0,)), [Line("mean", points, 0, spread=quartiles)], _ABOUT[id]
    )


_ABOUT = {
    "steps": "Evaluations until the loss was low enough, or the recipe's limit.",
    "length": "How long a vector the target needs, in units of the hidden state. The clamp bounds it.",
    "cost": "How much the smallest exact write of one fact changes the output at an ordinary token: |delta| / sqrt(k^T C^-1 k), root mean "
    "square, in units of the fact's hidden state. Low is good.",
    "match": "1 is what a key of ordinary text has. The larger, the less a write under this key touches other text.",
}


def write_page(folder: Path, tables: Tables, about: Mapping[str, Any], summary: Sequence[str]) -> Path:
    """Write the page into the folder.

    Raises:
        OSError: the folder cannot be written.
    """
    lead = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in summary)
    figures = "".join(chart.html() for chart in charts_of(tables))
    pretty = html.escape(json.dumps({k: v for k, v in about.items() if "facts" not in k}, indent=1, ensure_ascii=False))
    main = (
        f"<section><h2>What was found</h2>{lead}<p>The same numbers fact by fact: results.json and the CSV files beside this page.</p></section>"
        f'<section><h2>Figures</h2><div class="charts">{figures}</div></section>{_layers(tables.get("layers", []))}'
        f"{_facts(tables.get('traced', []))}<section><details><summary>Settings</summary><pre>{pretty}</pre></details></section>"
    )
    return write_document(folder / PAGE, document(f"Layers of {about['model']}", _INTRODUCTION, main))


def _layers(layers: Sequence[Layer]) -> str:
    """The probe as a table."""
    if not layers:
        return ""
    shares = ("efficacy", "generalisation", "specificity", "strict", "strict_paraphrase")
    heads = ["layer", "score", *(f"{name.replace('_', ' ')}, %" for name in shares), "perplexity, %", "KL, nats"]
    rows = []
    for row in layers:
        numbers = [f"{100 * getattr(row, name):.1f}" for name in shares]
        drift = [f"{100 * (row.perplexity / row.perplexity_before - 1):+.2f}", f"{row.passage_kl:.4f}"]
        cells = [f"<td>{cell if cell != 'nan' else ''}</td>" for cell in (f"{row.score:.1f}", *numbers, *drift)]
        rows.append((str(row.layer), cells))
    return f"<section><h2>The layer probe</h2>{table('By layer', '', heads, rows)}</section>"


def _facts(traced: Sequence[Any]) -> str:
    items = "".join(
        f"<li>{html.escape(row.prompt)} <b>{html.escape(row.answer)}</b> {row.clean:.2f} → {row.noisy:.2f}</li>"
        for row in traced
    )
    about = f"{len(traced)} traced facts, numbered from 0, with the answer's probability without and with noise"
    return (
        f'<section><details><summary>{about}</summary><ol start="0">{items}</ol></details></section>' if traced else ""
    )


def summary_of(tables: Tables) -> list[str]:
    """What was found, a sentence each."""
    said = []
    if traced := tables.get("traced", []):
        clean, noisy = (sum(getattr(row, name) for row in traced) / len(traced) for name in ("clean", "noisy"))
        said.append(
            f"Noise on the subject lowers the answer's probability from {clean:.2f} to {noisy:.2f} (mean over {len(traced)} facts)."
        )
        effects = tables["effects"]
        for kind, own in grouped(effects, lambda row: row.kind).items():
            best = _peak(own, kind)
            if best:
                role, layer, value = best
                said.append(f"{_TITLES[kind]} carry most at layer {layer}, {role}: {value:.2f} comes back.")
    if layers := tables.get("layers", []):
        ordered = sorted(layers, key=lambda row: -row.score)
        shown = ", ".join(f"{row.layer} ({row.score:.1f})" for row in ordered[:5])
        said.append(f"Layers by the score of an edit there: {shown}.")
    return said


def _peak(effects: Sequence[Any], kind: str) -> tuple[str, int, float] | None:
    """(role, layer, effect) of the largest mean effect at a token of the subject."""
    found = [
        (role, layer, value)
        for role in ROLES[: ROLES.index(LAST_OF_SUBJECT) + 1]
        for layer, value in by_layer(effects, kind, role).items()
    ]
    return max(found, key=lambda one: one[2], default=None)
