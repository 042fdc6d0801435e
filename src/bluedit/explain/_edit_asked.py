"""What the model says to each text of a fact, and what each text's key receives of the change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bluedit.evaluate.answers import score_encoded
from bluedit.evaluate.data import Answer
from bluedit.evaluate.generate import continuations
from bluedit.explain._edit_data import Asked, Lens
from bluedit.explain._edit_lens import lens
from bluedit.explain._edit_texts import Text
from bluedit.facts.fact import Fact
from bluedit.forward import observe
from bluedit.model.sites import Place, Site
from bluedit.shapes import Tensor

if TYPE_CHECKING:
    from bluedit.explain._edit_replay import Rewritten
    from bluedit.model.editable import EditableModel

Keys = tuple[list[int], dict[int, Tensor]]  # last token of each row, keys (d_key x rows) by layer
_ROOM = 24  # tokens of an answer


class Heard:
    """What the model says to each text on the weights as they are: scores, greedy text of some forms, and the lens of all but neighbours."""

    def __init__(self, lm: EditableModel, texts: Sequence[Text], continued: Sequence[str]) -> None:
        pairs = [text.pairs(lm.tokenizer) for text in texts]
        flat = [pair for own in pairs for pair in own]
        scores = iter(score_encoded(lm, flat))
        self.answers = [[next(scores) for _ in own] for own in pairs]
        written = iter(continuations(lm, [text.prompt for text in texts if text.form in continued], _ROOM))
        self.written = [next(written) if text.form in continued else "" for text in texts]
        seen = iter(lens(lm, [pair for text, own in zip(texts, pairs, strict=True) for pair in own if _lensed(text)]))
        self.lenses = [[next(seen) for _ in own if _lensed(text)] for text, own in zip(texts, pairs, strict=True)]

    def of(self, i: int) -> tuple[list[Answer], str, list[tuple[float, ...]]]:
        return self.answers[i], self.written[i].strip(), self.lenses[i]


def _lensed(text: Text) -> bool:
    return text.form != "neighbour"


def keys_of(lm: EditableModel, text: Text, layers: Sequence[int]) -> Keys:
    """The tokens of a text whose keys matter, with their keys."""
    rows = text.rows(lm.tokenizer)
    seen = observe(lm, rows, [Site(Place.KEY, layer) for layer in layers])
    keys = {layer: seen[Site(Place.KEY, layer)].double().cpu().T for layer in layers}
    return [row.ids[-1] for row in rows], keys


def asked_of(
    lm: EditableModel,
    fact: Fact,
    text: Text,
    keys: Keys,
    seen: Rewritten,
    before: tuple[list[Answer], str, list[tuple[float, ...]]],
    after: tuple[list[Answer], str, list[tuple[float, ...]]],
) -> Asked:
    """One text with all that is known of it."""
    tokens, states = keys
    place, received = _received(seen, states)
    match = {layer: change.match(states[layer][:, place, None]) for layer, change in seen.changes.items()}
    delivered = {
        layer: float(change.delivered(states[layer][:, place, None])[0]) for layer, change in seen.changes.items()
    }
    (was, *rival_was), says_before, lens_before = before
    (now, *rival_now), says, lens_after = after
    scored = [now, *rival_now]
    lenses = [Lens(b, a, one.tokens) for b, a, one in zip(lens_before, lens_after, scored, strict=False)]
    return Asked(
        form=text.form,
        prompt=text.shown,
        text=text.prompt,
        token=lm.tokenizer.decode([tokens[place]]).strip(),
        match={layer: None if found is None else float(found[0]) for layer, found in match.items()},
        delivered=delivered,
        received=received,
        target_before=was.logprob,
        target_after=now.logprob,
        rival=text.rival_name,
        rival_before=rival_was[0].logprob if rival_was else None,
        rival_after=rival_now[0].logprob if rival_now else None,
        says_before=says_before,
        says=says,
        said=text.said(says, fact.target) if _lensed(text) else was.top == now.top,
        lens=lenses[0] if lenses else None,
        rival_lens=lenses[1] if len(lenses) > 1 else None,
    )


def _received(seen: Rewritten, keys: dict[int, Tensor]) -> tuple[int, float | None]:
    """(the row that receives most of the change, its share of the residual over all layers)."""
    whole = sum(change.weight for change in seen.changes.values())
    if not whole:
        return -1, None
    shares = sum(change.weight / whole * change.delivered(keys[layer]) for layer, change in seen.changes.items())
    place = int(shares.abs().argmax())  # pyright: ignore[reportAttributeAccessIssue]
    return place, float(shares[place])  # pyright: ignore[reportIndexIssue]
