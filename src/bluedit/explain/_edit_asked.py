"""What the model says to each text of a fact, and what each text's key receives of the change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluedit.evaluate.answers import score_encoded
from bluedit.evaluate.asked import Reply, ask
from bluedit.evaluate.data import Answer
from bluedit.evaluate.respondents import LiveRespondent
from bluedit.explain._edit_data import Asked, Lens, Role
from bluedit.explain._edit_lens import lens
from bluedit.explain._edit_texts import Text
from bluedit.forward import observe
from bluedit.model.sites import Place, Site
from bluedit.shapes import Float, Tensor

if TYPE_CHECKING:
    from bluedit.explain._edit_replay import Rewritten
    from bluedit.model.editable import EditableModel


@dataclass(frozen=True)
class Said:
    """What one text is answered with.

    Attributes:
        answers: scores of the new answer and of its rival, if it has one.
        reply: what the model writes.
        lenses: probability at each layer of these answers; empty for neighbours.
    """

    answers: Sequence[Answer]
    reply: Reply
    lenses: Sequence[tuple[float, ...]]


def heard(lm: EditableModel, texts: Sequence[Text]) -> list[Said]:
    """What the model says to each text on the weights as they are.

    Raises:
        FactError: a text is longer than the model's context.
    """
    pairs = [text.pairs(lm.tokenizer) for text in texts]
    scores = iter(score_encoded(lm, [pair for own in pairs for pair in own]))
    replies = ask(LiveRespondent(lm), [text.way for text in texts])
    lensed = [() if text.role is Role.NEIGHBOUR else own for text, own in zip(texts, pairs, strict=True)]
    seen = iter(lens(lm, [pair for own in lensed for pair in own]))
    return [
        Said([next(scores) for _ in own], reply, [next(seen) for _ in read])
        for own, reply, read in zip(pairs, replies, lensed, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class TextKeys:
    """The tokens of a text whose keys matter.

    Attributes:
        tokens: ids of the n tokens.
        keys: by layer, their keys.
    """

    tokens: Sequence[int]
    keys: dict[int, Float[Tensor, "d_key n"]]


def keys_of(lm: EditableModel, texts: Sequence[Text], layers: Sequence[int]) -> list[TextKeys]:
    """The tokens of each text whose keys matter, with their keys on the weights as they are, float64 on the CPU."""
    rows = [text.rows(lm.tokenizer) for text in texts]
    seen = observe(lm, [row for own in rows for row in own], [Site(Place.KEY, layer) for layer in layers])
    sizes = [len(own) for own in rows]
    parts = {layer: seen[Site(Place.KEY, layer)].double().cpu().T.split(sizes, dim=1) for layer in layers}
    return [
        TextKeys([row.ids[-1] for row in own], {layer: parts[layer][i] for layer in layers})
        for i, own in enumerate(rows)
    ]


def asked_of(lm: EditableModel, text: Text, own: TextKeys, seen: Rewritten, before: Said, after: Said) -> Asked:
    """One text with all that is known of it."""
    column = seen.column_for(text.place(lm.tokenizer))
    changes = column.changes
    place, received = column.received(own.keys)
    keys = {layer: own.keys[layer][:, place, None] for layer in changes}
    match = {layer: change.match(keys[layer]) for layer, change in changes.items()}
    (was, *rival_was), (now, *rival_now) = before.answers, after.answers
    lenses = [Lens(b, a, one.tokens) for b, a, one in zip(before.lenses, after.lenses, after.answers, strict=False)]
    return Asked(
        form=text.way.form,
        role=text.role,
        prompt=text.way.prompt,
        text=text.way.text,
        token=lm.tokenizer.decode([own.tokens[place]]).strip(),
        position=column.position,
        match={layer: None if found is None else float(found[0]) for layer, found in match.items()},
        delivered={layer: float(change.delivered(keys[layer])[0]) for layer, change in changes.items()},
        received=received,
        target_before=was.logprob,
        target_after=now.logprob,
        rival=text.rival_name,
        rival_before=rival_was[0].logprob if rival_was else None,
        rival_after=rival_now[0].logprob if rival_now else None,
        says_before=before.reply.text,
        says=after.reply.text,
        said=after.reply.said,
        kept=was.top == now.top if text.role is Role.NEIGHBOUR else None,
        lens=lenses[0] if lenses else None,
        rival_lens=lenses[1] if len(lenses) > 1 else None,
    )
