"""Token rows of facts: the position of the subject's last token, and the token ids of the target.

Positions come from the tokenizer's character offsets in the full text. Token ids of a target are those the tokenizer gives after the
prompt; nothing is decoded and encoded again. Special tokens are added as the tokenizer adds them at inference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bluedit.errors import FactError, ModelError
from bluedit.facts.fact import Fact
from bluedit.facts.words import HALF_PAIR
from bluedit.spacing import UNSPACED, continuation
from bluedit.text.rows import Row, RowKind

OTHER_TEXTS = (  # none of them is what the metrics subject_kl and subject_same ask
    "The name {} refers to",
    "Many people think of {} as",
    "The history of {} began in",
    "One place that is linked with {} is",
    "A friend of mine compared {} with",
    "The language most often linked with {} is",
)

__all__ = [
    "OTHER_TEXTS",
    "UNSPACED",
    "continuation",
    "drift_row",
    "encode",
    "encode_answer",
    "encode_exact",
    "last_token_of",
    "other_rows",
    "rows_of",
    "subject_row",
    "teacher_ids",
]


def encode(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids as at inference (with leading special tokens, without trailing ones) and their character offsets.

    Raises:
        ModelError: the tokenizer gives no character offsets.
        FactError: the text holds half a surrogate pair.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} gives no character offsets, which bluedit needs to find the subject; "
            "load the fast tokenizer (AutoTokenizer does so by default)"
        )
    if HALF_PAIR.search(text):
        raise FactError(f"{text[:120]!r} has half a surrogate pair; give it as UTF-8 text")
    encoded = tokenizer(
        text, return_offsets_mapping=True, return_special_tokens_mask=True, truncation=False, padding=False
    )
    ids, offsets, special = encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"]
    end = len(ids)
    while end and special[end - 1] and offsets[end - 1][0] == offsets[end - 1][1]:
        end -= 1
    return list(ids[:end]), [tuple(o) for o in offsets[:end]]


def encode_answer(tokenizer: Any, prompt: str, answer: str, joined: bool | None = None) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of the answer that follows it, joined or after a space (see `continuation`).

    Raises:
        FactError: the tokenizer makes no token of the answer.
    """
    return encode_exact(tokenizer, prompt, continuation(prompt, answer, joined))


def encode_exact(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of the text that follows it as it stands.

    Raises:
        FactError: the tokenizer makes no token of the answer.
    """
    prompt_ids, _ = encode(tokenizer, prompt)
    whole_ids, _ = encode(tokenizer, prompt + answer)
    if whole_ids[: len(prompt_ids)] == prompt_ids:
        answer_ids = whole_ids[len(prompt_ids) :]
    else:
        answer_ids = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
    if not answer_ids:
        raise FactError(f"the tokenizer makes no token of {answer.strip()!r} after {prompt!r}; choose another target")
    return prompt_ids, answer_ids


def last_token_of(offsets: Sequence[tuple[int, int]], end: int) -> int:
    """Index of the last token that covers character `end - 1`.

    Raises:
        FactError: no token covers it.
    """
    covering = [i for i, (start, stop) in enumerate(offsets) if start <= end - 1 < stop]
    if not covering:
        raise FactError(
            f"no token covers the subject's last character (position {end - 1}); check the subject for characters the tokenizer drops"
        )
    return covering[-1]


def last_word_of(ids: Sequence[int], offsets: Sequence[tuple[int, int]], text: str, end: int) -> tuple[int, ...]:
    """Token ids of the word that ends before character `end`, up to the token of its last character. Raises FactError as `last_token_of`."""
    last = last_token_of(offsets, end)
    start = end - len(text[:end].split()[-1])
    first = next(i for i, (_, stop) in enumerate(offsets) if stop > start)
    return tuple(ids[first : last + 1])


def subject_row(tokenizer: Any, fact: Fact, index: int, prefix: str = "") -> Row:
    """The row of a fact's prompt after `prefix`, with its target."""
    template = f"{prefix} {fact.prompt}" if prefix else fact.prompt
    text = template.replace("{}", fact.subject)
    end = template.index("{}") + len(fact.subject)
    before, offsets = encode(tokenizer, text)
    ids, targets = encode_answer(tokenizer, text, fact.target, fact.joined)
    return Row(
        fact=index,
        kind=RowKind.PREFIXED if prefix else RowKind.BARE,
        ids=(*ids, *targets[:-1]),
        subject_last=last_token_of(offsets, end),
        targets=tuple(targets),
        target_start=len(ids),
        word=last_word_of(before, offsets, text, end),
    )


def drift_row(tokenizer: Any, subject: str, index: int, earliest: int = 0) -> Row:
    """ "{subject} is a" up to the subject's last token, or up to token `earliest` if that comes later.

    The KL term of the objective compares next-token distributions there (ROME, section 3.1).
    """
    ids, offsets = encode(tokenizer, f"{subject} is a")
    at = max(last_token_of(offsets, len(subject)), min(earliest, len(ids) - 1))
    return Row(fact=index, kind=RowKind.DRIFT, ids=tuple(ids[: at + 1]), subject_last=at)


def other_rows(tokenizer: Any, subject: str, index: int, count: int) -> list[Row]:
    """The first `count` texts about a subject that concern none of its facts in particular, as drift rows of group 1.

    The KL term compares next-token distributions at their ends. The subject is never the first token of these texts.
    """
    rows = []
    for template in OTHER_TEXTS[:count]:
        ids, offsets = encode(tokenizer, template.replace("{}", subject))
        at = last_token_of(offsets, template.index("{}") + len(subject))
        rows.append(Row(fact=index, kind=RowKind.DRIFT, ids=tuple(ids), subject_last=at, group=1))
    return rows


def teacher_ids(tokenizer: Any, statement: str, prompt: str, row: Row) -> tuple[int, ...]:
    """Token ids of a bare prompt after "Imagine that" and the fact as a statement, with the target tokens of its row."""
    ids, _ = encode(tokenizer, f"Imagine that {statement}. {prompt}")
    return (*ids, *row.targets[:-1])


def rows_of(tokenizer: Any, facts: Sequence[Fact], prefixes: Sequence[str], *, drift: bool = False) -> list[Row]:
    """All rows of all facts: the bare prompt, one row for each prefix and, on request, the drift row."""

    def of_one(index: int, fact: Fact) -> Iterator[Row]:
        for prefix in ("", *prefixes):
            yield subject_row(tokenizer, fact, index, prefix)
        if drift:
            yield drift_row(tokenizer, fact.subject, index)

    return [row for index, fact in enumerate(facts) for row in of_one(index, fact)]
