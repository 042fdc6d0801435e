"""From facts to token rows: where the subject ends, where the target starts.

Positions come from the tokenizer's character offsets on the full text. Token ids of a target are those the tokenizer gives
after the prompt; nothing is decoded and encoded again. Special tokens are added as the tokenizer adds them at inference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from bluedit.errors import FactError, ModelError
from bluedit.facts.fact import Fact
from bluedit.text.rows import Row

UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # scripts written without spaces between words: Thai, kana, CJK
_NO_SPACE_BEFORE = tuple(" \t\n.,;:!?)]}'’”%")


def continuation(prompt: str, answer: str) -> str:
    """`answer` as it continues `prompt`: with a leading space unless the prompt ends in white space or no space belongs there."""
    answer = answer.strip()
    if not prompt or prompt[-1].isspace() or answer.startswith(_NO_SPACE_BEFORE) or _unspaced(answer[0]):
        return answer
    return " " + answer


def _unspaced(character: str) -> bool:
    return re.match(f"[{UNSPACED}]", character) is not None


def encode(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids as at inference (leading special tokens included, trailing ones dropped) with their character offsets.

    Raises:
        ModelError: the tokenizer knows no character offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} gives no character offsets, which bluedit needs to find the subject; "
            "load the fast tokenizer (AutoTokenizer does so by default)"
        )
    encoded = tokenizer(
        text, return_offsets_mapping=True, return_special_tokens_mask=True, truncation=False, padding=False
    )
    ids, offsets, special = encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"]
    end = len(ids)
    while end and special[end - 1] and offsets[end - 1][0] == offsets[end - 1][1]:
        end -= 1
    return list(ids[:end]), [tuple(o) for o in offsets[:end]]


def encode_answer(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of the answer that follows it.

    Raises:
        FactError: the tokenizer makes no token of the answer.
    """
    prompt_ids, _ = encode(tokenizer, prompt)
    whole_ids, _ = encode(tokenizer, prompt + continuation(prompt, answer))
    if whole_ids[: len(prompt_ids)] == prompt_ids:
        answer_ids = whole_ids[len(prompt_ids) :]
    else:
        answer_ids = tokenizer(continuation(prompt, answer), add_special_tokens=False)["input_ids"]
    if not answer_ids:
        raise FactError(f"the tokenizer makes no token of {answer!r} after {prompt!r}; choose another target")
    return prompt_ids, list(answer_ids)


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


def subject_row(tokenizer: Any, fact: Fact, index: int, prefix: str = "") -> Row:
    """The row of a fact's prompt after `prefix`, with its target."""
    template = f"{prefix} {fact.prompt}" if prefix else fact.prompt
    text = template.replace("{}", fact.subject)
    end = template.index("{}") + len(fact.subject)
    _, offsets = encode(tokenizer, text)
    ids, targets = encode_answer(tokenizer, text, fact.target)
    return Row(
        fact=index,
        kind="prefixed" if prefix else "bare",
        ids=(*ids, *targets[:-1]),
        subject_last=last_token_of(offsets, end),
        targets=tuple(targets),
        target_start=len(ids),
    )


def drift_row(tokenizer: Any, fact: Fact, index: int, earliest: int = 0) -> Row:
    """ "{subject} is a" up to the subject's last token, or up to token `earliest` if that comes later.

    The KL term of the objective compares next-token distributions there (ROME, section 3.1).
    """
    ids, offsets = encode(tokenizer, f"{fact.subject} is a")
    at = max(last_token_of(offsets, len(fact.subject)), min(earliest, len(ids) - 1))
    return Row(fact=index, kind="drift", ids=tuple(ids[: at + 1]), subject_last=at)


def rows_of(tokenizer: Any, facts: Sequence[Fact], prefixes: Sequence[str], *, drift: bool = False) -> list[Row]:
    """All rows of all facts: bare, one per prefix and, on request, the drift row."""

    def of_one(index: int, fact: Fact) -> Iterator[Row]:
        for prefix in ("", *prefixes):
            yield subject_row(tokenizer, fact, index, prefix)
        if drift:
            yield drift_row(tokenizer, fact, index)

    return [row for index, fact in enumerate(facts) for row in of_one(index, fact)]
