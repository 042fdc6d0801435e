"""What the parts of the page share: names and values of metrics, and tables, as HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from bluedit.evaluate.metrics import METRICS, NUMBER, OF_A_MODEL, SCORE, Metric

COLUMNS: Mapping[str, Metric] = {SCORE: OF_A_MODEL[SCORE], **METRICS, "perplexity": OF_A_MODEL["perplexity"]}


def table(title: str, about: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table under a heading. Heads and cells are HTML; the first column stays in view when the table is scrolled."""
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    body = "".join(f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>' for name, cells in rows)
    return (
        f"<h3>{title}</h3>{f'<p>{about}</p>' if about else ''}"
        f'<div class="wide" tabindex="0" role="group" aria-label="{title}">'
        f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def head(name: str) -> str:
    """A column's head: the metric's name, and an arrow towards the better values."""
    metric = COLUMNS[name]
    return f'<span title="{html.escape(metric.definition)}">{label(name)}\N{NO-BREAK SPACE}{metric.arrow}</span>'


def label(name: str) -> str:
    """A metric's name as words."""
    return html.escape(name.replace("_", " "))


def shown(value: float, name: str) -> str:
    """A metric's value; empty where there is none. A large number without a unit is shortened."""
    if COLUMNS[name].unit is NUMBER and value >= 1000:
        return f"{value:,.0f}" if value < 1e7 else f"{value:.0e}"
    return COLUMNS[name].shown(value)


def signed(value: float, digits: int) -> str:
    """A difference with its sign."""
    return f"{round(value, digits) + 0.0:+,.{digits}f}".replace("-", "−")
