"""Tables and numbers as HTML."""

from __future__ import annotations

from collections.abc import Collection, Sequence

_TEXT = ' class="text"'


def table(
    title: str, about: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], texts: Collection[str] = ()
) -> str:
    """A table under a heading. Heads and cells are HTML; the first column stays in view when the table is scrolled.

    Heads in `texts` stand above words, whose cells are `text_cell`s; others above numbers.
    """
    top = "".join(f'<th scope="col"{_TEXT if head in texts else ""}>{head}</th>' for head in heads)
    body = "".join(f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>' for name, cells in rows)
    return (
        f"<h3>{title}</h3>{f'<p>{about}</p>' if about else ''}"
        f'<div class="wide" tabindex="0" role="group" aria-label="{title}">'
        f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def text_cell(content: str) -> str:
    """A cell of words (HTML), which may take several lines."""
    return f"<td{_TEXT}>{content}</td>"


def signed(value: float, digits: int) -> str:
    """A difference with its sign."""
    return f"{round(value, digits) + 0.0:+,.{digits}f}".replace("-", "−")
