"""Which texts a model continues with their targets: the same answers however they are padded, with little padding."""

import torch

from bluedit.forward import says_targets
from bluedit.model.editable import EditableModel
from bluedit.text.rows import Row
from toys import toy_llama, toy_tokenizer

LENGTHS = (3, 40, 5, 3, 4, 60, 6, 3, 5, 4)


def rows_of(lm):
    """Texts of different lengths; the model says the targets of every second one."""
    drawn = torch.Generator().manual_seed(0)
    rows = []
    for i, length in enumerate(LENGTHS):
        ids = torch.randint(3, lm.model.config.vocab_size, (length,), generator=drawn)
        first = int(lm.model(input_ids=ids[None]).logits[0, -1].argmax())
        target = first if i % 2 else (first + 1) % lm.model.config.vocab_size
        rows.append(Row(0, "taught", tuple(ids.tolist()), 0, (target,), length))
    return rows


def test_answers_are_those_of_each_row_and_little_is_padded(monkeypatch):
    lm, ran = EditableModel.of(toy_llama(), toy_tokenizer(), "toy"), []
    rows = rows_of(lm)
    pad = EditableModel.pad
    monkeypatch.setattr(
        EditableModel,
        "pad",
        lambda self, some, **how: ran.append(pad(self, some, **how)[0].numel()) or pad(self, some, **how),
    )
    assert says_targets(lm, rows) == [i % 2 == 1 for i in range(len(rows))]
    assert sum(ran) < 2 * sum(LENGTHS)
