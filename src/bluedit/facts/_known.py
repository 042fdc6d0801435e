"""Facts that a model knows, as ROME's causal tracing (arXiv 2202.05262, section 2.1) uses them."""

from __future__ import annotations

from bluedit.facts._build import build
from bluedit.facts._fields import Fields
from bluedit.facts.fact import Fact


def read_known(fields: Fields) -> list[Fact]:
    """A full prompt with its subject, and the true answer, which becomes the target."""
    prompt, subject, answer = fields.text("prompt"), fields.text("subject"), fields.text("attribute").strip()
    return [build(fields, prompt, subject, answer, id=fields.label("known_id"))]
