"""Chat templates that fail are as if there were none; the others have a beginning."""

import logging

import pytest

from bluedit.text.chat import chat_head, has_chat
from bluedit.text.wordings import chat_form
from toys import toy_tokenizer


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{% for m in messages %}{{ m",
        "{{ messages[5].content }}",
        "{{ 1 + messages }}",
    ],
)
def test_a_template_that_fails_is_not_used_and_reported_once(template, caplog):
    tokenizer = toy_tokenizer()
    tokenizer.chat_template = template
    with caplog.at_level(logging.WARNING):
        assert not has_chat(tokenizer) and not has_chat(tokenizer)
    assert chat_form(tokenizer) is None and chat_head(tokenizer) is None
    assert caplog.text.count("chat template fails") == 1


def test_the_beginning_of_a_template():
    tokenizer = toy_tokenizer()
    assert chat_head(tokenizer) is None
    tokenizer.chat_template = "<s>{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    assert tokenizer.decode(chat_head(tokenizer)) == "<s><user>"
