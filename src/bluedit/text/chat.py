"""Prompts in a model's chat form."""

from __future__ import annotations

from bluedit.model.editable import EditableModel


def in_chat(lm: EditableModel, prompt: str) -> str:
    """The prompt in the chat template, without the leading special token that encoding adds again."""
    message = [{"role": "user", "content": f"Complete the sentence in a few words: {prompt}"}]
    text = lm.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    first = lm.tokenizer("a")["input_ids"][0]
    return text.removeprefix(lm.tokenizer.bos_token) if first == lm.tokenizer.bos_token_id else text
