"""What the tests of measuring share."""

from contextlib import contextmanager

import torch

from bluedit.evaluate.data import Answer, Drift


@contextmanager
def other_weights(lm):
    """As if the model had been edited since."""
    matrix = lm.projection(1).matrix()
    kept = matrix.clone()
    with torch.no_grad():
        matrix.mul_(-3.0)
    try:
        yield
    finally:
        matrix.copy_(kept)


def next_tokens(lm, prompt, answer):
    """(log p of every token at each place of the answer, the answer's tokens), from one forward pass without a mask."""
    before = lm.tokenizer(prompt)["input_ids"]
    space = "" if prompt.endswith(" ") else " "
    after = lm.tokenizer(space + answer, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = lm.model(torch.tensor([before + after])).logits[0]
    return logits.log_softmax(dim=-1)[len(before) - 1 : -1], after


def answer(mean, said=False, tokens=2, first=(0, 0), accuracy=0.0):
    """An answer with this mean log-probability per token."""
    return Answer(mean * tokens, tokens, said, 0, first, accuracy)


class CannedModel:
    """A model with canned answers: it scores pairs with `score` and continues prompts with `says`, and keeps what it was asked."""

    def __init__(self, score=None, says=None, chat=None):
        self._score, self._says, self._chat = score, says, chat
        self.scored, self.continued = [], []

    def score(self, pairs):
        self.scored += pairs
        return [self._score(*pair) for pair in pairs]

    score_unedited = score

    def score_after(self, beginning, pairs):
        return self.score([(beginning + prompt, answer) for prompt, answer in pairs])

    def continuations(self, prompts, tokens):
        self.continued += [(prompt, tokens) for prompt in prompts]
        return [self._says(prompt) for prompt in prompts]

    def answer_length(self, prompt, answer, joined=None):
        return len(answer.split())

    def in_chat(self, prompt):
        return None if self._chat is None else self._chat(prompt)

    def next_token_drift(self, prompts):
        return dict.fromkeys(prompts, Drift(0.0, 1.0, 1.0, 1.0))

    def passage_drift(self, texts, tokens):
        return {"passage_kl": 0.0, "passage_same": 1.0}

    def chat_drift(self):
        return {}
