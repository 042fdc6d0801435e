"""What the tests of the report share: a model with canned texts, and a tokenizer with a chat template."""

import torch

from bluedit.evaluate._respondent import Written, never
from toys import toy_tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{% if m.role == 'assistant' %}</s>{% endif %}{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


class CannedRespondent:
    """Continues prompts with `says`, and keeps what it was asked."""

    def __init__(self, says, chat=None):
        self._says, self.chat = says, chat
        self.prompts, self.rooms, self.expected = [], [], ()

    def answer_length(self, prompt, answer, joined=None):
        return len(answer.split())

    def write(self, prompts, rooms, ended=never, *, first=False, expected=()):
        self.prompts += prompts
        self.rooms += rooms
        self.expected = expected
        return [Written(self._says(prompt), torch.zeros(1) if first else None) for prompt in prompts]


def chat_tokenizer(*, bos=False):
    tokenizer = toy_tokenizer(bos=bos)
    tokenizer.chat_template = TEMPLATE if bos else TEMPLATE.removeprefix("{{ bos_token }}")
    return tokenizer
