"""Prompts that end in well-known names."""

from bluedit.facts.world import world_facts
from bluedit.methods.wordings import Natural
from bluedit.text.names import name_rows
from bluedit.text.wordings import wording_rows


def test_wordings_take_turns_and_end_with_the_name(lm):
    expected = []
    for i, fact in enumerate(world_facts()[:40]):
        texts = wording_rows(lm.tokenizer, Natural().groups(Natural().extended(fact), None), fact.subject)
        row = texts[i % len(texts)]
        if not row.at_start and row.subject_last < lm.max_length:
            expected.append(list(row.ids[: row.subject_last + 1]))
    assert len(expected) > 20
    assert name_rows(lm)[: len(expected)] == expected
