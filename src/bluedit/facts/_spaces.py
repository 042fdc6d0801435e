"""The space between a prompt and its target, where the user decides it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

log = logging.getLogger(__name__)

_SPACES = " \u00a0"


def without_last_space(prompt: str) -> str:
    """A prompt without the spaces at its end; tabs and line breaks stay."""
    return prompt.rstrip(_SPACES) or prompt


def settle_space(prompt: str, target: str, joined: bool | None) -> tuple[str, str, bool | None, str]:
    """Move the space between prompt and target out of both: prompt, target, `joined`, and what contradicts it."""
    short, asked = without_last_space(prompt), ""
    if short != prompt:
        asked = "the prompt ends in a space"
        log.warning("the prompt %r ends in a space, which is moved before the target: %r", prompt, short)
    elif target[0] in _SPACES:
        asked = "the target begins with a space"
    fault = f"{asked}, but joined=True asks for none; drop one of them" if asked and joined else ""
    return short, target.strip(), False if asked else joined, fault


def settle_phrasings(prompt: str, phrasings: Sequence[str]) -> tuple[str, ...]:
    """The phrasings without spaces at their end, without repetitions and without the prompt itself."""
    kept: list[str] = []
    for phrasing in phrasings:
        short = without_last_space(phrasing) if isinstance(phrasing, str) else phrasing
        if short != phrasing:
            log.warning("the phrasing %r ends in a space, which is dropped", phrasing)
        if short not in (prompt, *kept):
            kept.append(short)
    return tuple(kept)
