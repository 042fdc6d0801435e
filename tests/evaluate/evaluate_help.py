"""What the tests of measuring share."""

from contextlib import contextmanager

import torch


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
