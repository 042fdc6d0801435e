"""One HTML file with its style, scripts and data in it. A policy in the page keeps it from fetching anything."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from bluedit.files import write_file

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def document(title: str, header: str, main: str, *, data: Any = None, scripts: Sequence[str] = ()) -> str:
    """A whole page.

    When all scripts have run, the root element has `data-ready="1"`; if one failed, it has `data-error` with the message.

    Args:
        title: plain text, for the window and the top of the page.
        header: HTML under the title.
        main: HTML of the page.
        data: what scripts find as JSON in the element with id "data".
        scripts: sources of further scripts; the one that highlights series of charts is always there.
    """
    files = resources.files("bluedit.page")
    style, highlight = (files.joinpath(name).read_text("utf-8") for name in ("page.css", "highlight.js"))
    content = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    content = content.replace("<", "\\u003c")  # neither </script> nor <!-- may occur in a script
    ready = 'document.documentElement.dataset.ready = "1";'
    sources = "".join(f"<script>{source}</script>" for source in (*scripts, highlight, ready))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<script>addEventListener('error', (e) => { document.documentElement.dataset.error = e.message; });</script>"
        f"<title>{html.escape(title)}</title><style>{style}</style></head><body>"
        f"<header><h1>{html.escape(title)}</h1>{header}</header><main>{main}</main>"
        f'<script type="application/json" id="data">{content}</script>{sources}</body></html>'
    )


def write_document(out: Path, text: str) -> Path:
    """Write a page whole or not at all.

    Raises:
        OSError: the place cannot be written.
    """
    write_file(out, text.encode())
    return out
