"""Prefixes sampled from the model."""

from bluedit.text.contexts import sampled_prefixes
from bluedit.text.prompts import rows_of
from toys import FACTS


def test_sampled_prefixes(lm):
    one, again, other = (sampled_prefixes(lm, 5, seed) for seed in (0, 0, 1))
    assert one == again != other
    assert len(one) == 5
    for prefix in one:
        assert prefix.endswith(".")
        assert not prefix.endswith("..")
        assert "\n" not in prefix
        assert "{" not in prefix and "}" not in prefix
    assert rows_of(lm.tokenizer, FACTS, one)
