"""Prompts in a model's chat template."""

from __future__ import annotations

import logging
from typing import Any

from bluedit.model.editable import EditableModel
from bluedit.text.prompts import encode

_WORDS = "Fjords"
_REPORTED: set[str] = set()  # templates that were said to be faulty
log = logging.getLogger(__name__)


def has_chat(tokenizer: Any) -> bool:
    """Whether a tokenizer has a chat template that takes a user's turn and an answer. One that fails is reported once, and not used."""
    if not getattr(tokenizer, "chat_template", None):
        return False
    turns = [{"role": "user", "content": _WORDS}, {"role": "assistant", "content": _WORDS}]
    try:
        tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception as error:  # a template is a program of the model's maker and may raise anything
        template = str(tokenizer.chat_template)
        if template not in _REPORTED:
            _REPORTED.add(template)
            log.warning("the model's chat template fails, so nothing is taught or asked in chat: %s", error)
        return False
    return True


def in_chat(lm: EditableModel, prompt: str) -> str:
    """The prompt as a user's turn in the chat template, with the beginning of the answer."""
    message = [{"role": "user", "content": f"Complete the sentence in a few words: {prompt}"}]
    text = lm.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    return without_bos(lm.tokenizer, text)


def chat_head(tokenizer: Any) -> list[int] | None:
    """Token ids of the chat template up to where the user's words begin; None if there is none (`has_chat`) or they are at the start."""
    if not has_chat(tokenizer):
        return None
    text = tokenizer.apply_chat_template([{"role": "user", "content": _WORDS}], tokenize=False)
    head, found, _ = without_bos(tokenizer, text).partition(_WORDS)
    return (encode(tokenizer, head)[0] or None) if found else None


def without_bos(tokenizer: Any, text: str) -> str:
    """The text without the leading special token that encoding adds again."""
    first = tokenizer("a")["input_ids"][:1]
    return text.removeprefix(tokenizer.bos_token) if first and first[0] == tokenizer.bos_token_id else text
