"""Wordings of facts as token rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bluedit.errors import FactError
from bluedit.facts.words import whole_names
from bluedit.methods.wordings import ChatForm, Wording
from bluedit.spacing import continuation
from bluedit.text.chat import has_chat, without_bos
from bluedit.text.prompts import encode, encode_exact, last_token_of, last_word_of
from bluedit.text.rows import Repeat, Row, RowKind


def chat_form(tokenizer: Any) -> ChatForm | None:
    """What puts a user's and an assistant's turn into a tokenizer's chat template; None if it has none (`has_chat`)."""
    if not has_chat(tokenizer):
        return None

    def form(user: str, assistant: str) -> tuple[str, str]:
        asked = [{"role": "user", "content": user}]
        before = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(
            [*asked, {"role": "assistant", "content": assistant}], tokenize=False, add_generation_prompt=False
        )
        reply = whole[len(before) :].rstrip("\n") if whole.startswith(before) else assistant
        return without_bos(tokenizer, before), reply

    return form


def wording_rows(
    tokenizer: Any, groups: Sequence[Sequence[Wording]], subject: str, index: int = 0, prefixes: Sequence[str] = ()
) -> list[Row]:
    """Rows of all texts that teach a fact; one that takes prefixes also comes after each of them, or, in a later group, after the first.

    Args:
        tokenizer: of the model.
        groups: the texts, see `Wordings.groups`; the rows are numbered by them.
        subject: what the fact is about.
        index: number of the fact.
        prefixes: sentences put before the texts.

    Raises:
        FactError: a text does not hold its subject, or the tokenizer makes no token of an answer.
    """
    rows: list[Row] = []
    names = tuple(dict.fromkeys((subject, *(wording.name for texts in groups for wording in texts if wording.name))))
    for group, texts in enumerate(groups):
        kind, after = (RowKind.TAUGHT, RowKind.TAUGHT) if group else (RowKind.BARE, RowKind.PREFIXED)
        before = prefixes[:1] if group else prefixes
        for wording in texts:
            rows.append(_row(tokenizer, wording, names, "", Row(index, kind, (), 0, group=group)))
            like = Row(index, after, (), 0, group=group)
            rows += [_row(tokenizer, wording, names, prefix, like) for prefix in before if wording.prefixed]
    return rows


def _row(tokenizer: Any, wording: Wording, names: Sequence[str], prefix: str, like: Row) -> Row:
    start, marker, rest = wording.template.partition("{}")
    if not marker:
        raise FactError(f"the wording {wording.template!r} does not hold its subject; write {{}} where it stands")
    named = (f"{prefix} " if prefix else "") + start + (wording.name or names[0])
    text, end = named + rest, len(named)
    before, offsets = encode(tokenizer, text)
    following = _following(text, wording)
    ids, targets = encode_exact(tokenizer, text, following)
    return replace(
        like,
        ids=(*ids, *targets[:-1]),
        again=_repeats(tokenizer, text + following, names, end, (*ids, *targets)) if like.group else (),
        subject_last=last_token_of(offsets, end),
        targets=tuple(targets),
        target_start=len(ids),
        word=last_word_of(before, offsets, text, end),
        name=wording.name,
    )


def _repeats(tokenizer: Any, text: str, names: Sequence[str], after: int, ids: tuple[int, ...]) -> tuple[Repeat, ...]:
    """Where one of a subject's names stands again, as a whole, after character `after`; none where the text has other tokens than `ids`."""
    whole, offsets = encode(tokenizer, text)
    if tuple(whole) != ids:
        return ()
    ends = sorted({end for name in names for start, end in whole_names(text, name) if start >= after})
    found = [Repeat(last_token_of(offsets, end), last_word_of(whole, offsets, text, end)) for end in ends]
    return tuple(repeat for repeat in found if repeat.at < len(ids) - 1)  # from the last token nothing is predicted


def _following(text: str, wording: Wording) -> str:
    """The answer as it continues the text, white space included."""
    if wording.exact:
        return wording.answer
    end = wording.answer[len(wording.answer.rstrip()) :]
    return continuation(text, wording.answer, wording.joined) + end
