"""Where the subject stands in a taught text: at `{}`, or in a phrasing at another name of it in braces, "The {Danish} capital is"."""

from __future__ import annotations

import re

_BRACES = re.compile(r"\{([^{}]+)\}")


def other_name(template: str) -> tuple[str, str]:
    """A template with `{}` for the subject, and the other name that it has in braces there; empty for the subject's own.

    Beside `{}`, other braces are text. So they are where a template without `{}` has several pairs of them.
    """
    found = [] if "{}" in template else list(_BRACES.finditer(template))
    if len(found) != 1:
        return template, ""
    (name,) = found
    return f"{template[: name.start()]}{{}}{template[name.end() :]}", name[1]


def filled(template: str, subject: str) -> str:
    """The text of a template: with the subject, or with the other name that it has in braces."""
    text, name = other_name(template)
    return text.replace("{}", name or subject)
