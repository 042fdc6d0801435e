"""Model cards: where an export comes from, what was changed and what that did to the model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluedit.export.base import BaseModel, Edits
from bluedit.facts.replacing import different
from bluedit.markdown import table
from bluedit.model.loading import EMBEDDED

log = logging.getLogger(__name__)
CARD = "README.md"
BASE_CARD = "BASE_MODEL_README.md"
_LICENCE = ("license", "license_name", "license_link")
_SHOWN_FACTS = 50


@dataclass(frozen=True)
class Licence:
    """The licence fields of a model's card, as the hub names them; empty if they are not known."""

    fields: Mapping[str, Any]

    @classmethod
    def of(cls, base: BaseModel) -> Licence:
        """From the card in the model's folder, else from the metadata of its GGUF file."""
        if base.name in EMBEDDED:
            return cls({"license": EMBEDDED[base.name].licence})
        if (base.folder / CARD).is_file():
            from huggingface_hub import ModelCard

            try:
                data = ModelCard.load(base.folder / CARD, ignore_metadata_errors=True).data.to_dict()
            except (ValueError, OSError) as error:
                log.warning("the card of %s cannot be read (%s), so its licence is not known", base.name, error)
                data = {}
            return cls({name: data[name] for name in _LICENCE if data.get(name)})
        if base.gguf is not None:
            from bluedit.export.gguf_file import read_text

            stated = read_text(base.gguf, "general.license")
            return cls({"license": stated} if stated else {})
        return cls({})

    def __str__(self) -> str:
        named = self.fields.get("license_name") or self.fields.get("license")
        return f"`{named}`, as for the base model" if named else "that of the base model; its files do not state it"


@dataclass(frozen=True)
class About:
    """What a card says besides what the edits say themselves.

    Attributes:
        title: the first heading.
        relation: to the base model: the hub's `base_model_relation`.
        library: that loads it: the hub's `library_name`.
        base_model: hub id of the base; empty if it has none.
        facts: whether the facts are listed, or only counted.
        use: how to load it, as Markdown.
        notes: sentences on precision and the like.
    """

    title: str
    relation: str
    library: str
    base_model: str
    facts: bool
    use: str
    notes: Sequence[str] = ()


def card(edits: Edits, base: BaseModel, about: About) -> str:
    """The card of an export, as Markdown with the hub's metadata."""
    from huggingface_hub import ModelCardData

    licence = Licence.of(base)
    fields: dict[str, Any] = dict(licence.fields)
    if about.base_model:
        fields |= {"base_model": about.base_model, "base_model_relation": about.relation}
    data = ModelCardData(library_name=about.library, tags=["bluedit", "knowledge-editing"], **fields).to_yaml()
    parts = [
        f"---\n{data}\n---",
        f"# {about.title}",
        f"{_name(base, about)} with {_count(edits)} written into its weights by bluedit "
        f"(knowledge editing by locate-then-edit). Changed: {', '.join(_weights(edits)) or 'the projections of layers ' + str(edits.layers)}.",
        f"Licence: {licence}.",
        "## How to load it",
        about.use,
        *(["## Precision", *about.notes] if about.notes else []),
        "## How it was made",
        _edits_table(edits),
        *(["## Facts", _facts(edits)] if about.facts and edits.facts else []),
        "## What to expect",
        "An edit changes what a model says, not what is true. Texts that state a fact in very different words may still get the old "
        "answer, and other answers may have moved. The weights tell what was edited to whoever has the base model as well.",
    ]
    return "\n\n".join(parts) + "\n"


def check_described(edits: Edits) -> None:
    """Raises one of the errors `MALFORMED` if what edits say about themselves cannot be put on a card."""
    _weights(edits)
    _edits_table(edits)


def fact_count(edits: Edits) -> int:
    """How many different facts edits wrote, also where a patch was stripped of them."""
    return len(different(edits.facts)) + sum(batch.stripped for batch in edits.batches)


def _count(edits: Edits) -> str:
    number = fact_count(edits)
    return f"{number} fact{'' if number == 1 else 's'}"


def _name(base: BaseModel, about: About) -> str:
    if about.base_model:
        return f"[{about.base_model}](https://huggingface.co/{about.base_model})"
    return Path(base.name).name


def _weights(edits: Edits) -> list[str]:
    names: dict[int, str] = {}
    for origin in edits.origins:
        names |= {int(layer): name for layer, name in dict(origin.about.get("modules") or {}).items()}
    return [f"`{names[layer]}.weight`" for layer in edits.layers if layer in names]


def _edits_table(edits: Edits) -> str:
    """One row an edit: recipe, paper, facts said, and drift."""
    rows = []
    for number, origin in enumerate(edits.origins, 1):
        report = origin.report or {}
        facts = report.get("facts") or ()
        said = f"{sum(bool(fact['says_after']) for fact in facts)} of {len(facts)}" if facts else "not measured"
        versions = dict(origin.about.get("versions") or {})
        rows.append(
            (
                str(number),
                origin.recipe or "unknown",
                origin.paper or "–",
                said,
                _drift(report),
                str(origin.about.get("created") or "–")[:10],
                str(versions.get("bluedit", "–")),
            )
        )
    return table(("edit", "recipe", "paper", "facts said", "perplexity of ordinary text", "made", "bluedit"), rows)


def _drift(report: Mapping[str, Any]) -> str:
    before, after = report.get("perplexity_before"), report.get("perplexity_after")
    if not before or not after:
        return "not measured"
    return f"{before:.2f} before, {after:.2f} after ({after / before - 1:+.2%})"


def _facts(edits: Edits) -> str:
    facts = different(edits.facts)
    text = table(("prompt", "answer"), facts[:_SHOWN_FACTS])
    more = len(facts) - _SHOWN_FACTS
    return text + (f"\n{more} more." if more > 0 else "")
