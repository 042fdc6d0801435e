"""Prompts in a model's chat template."""

from __future__ import annotations

from typing import Any

from bluedit.model.editable import EditableModel
from bluedit.text.prompts import encode

_WORDS = "Fjords"


def in_chat(lm: EditableModel, prompt: str) -> str:
    """The prompt as a user's turn in the chat template, with the beginning of the answer."""
    message = [{"role": "user", "content": f"Complete the sentence in a few words: {prompt}"}]
    text = lm.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    return without_bos(lm.tokenizer, text)


def chat_head(tokenizer: Any) -> list[int] | None:
    """Token ids of the chat template up to where the user's words begin; None if the tokenizer has no template or puts them at the start."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    text = tokenizer.apply_chat_template([{"role": "user", "content": _WORDS}], tokenize=False)
    head, found, _ = without_bos(tokenizer, text).partition(_WORDS)
    return (encode(tokenizer, head)[0] or None) if found else None


def without_bos(tokenizer: Any, text: str) -> str:
    """The text without the leading special token that encoding adds again."""
    first = tokenizer("a")["input_ids"][:1]
    return text.removeprefix(tokenizer.bos_token) if first and first[0] == tokenizer.bos_token_id else text
