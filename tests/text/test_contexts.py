"""Prefixes: from the fixed list, or sampled from the model with a seed."""

import pytest

from bluedit.errors import RecipeError
from bluedit.text.contexts import NEUTRAL, make_prefixes
from bluedit.text.prompts import rows_of
from toys import FACTS


def test_neutral_prefixes(lm):
    assert make_prefixes(lm, "neutral", 0, 0) == ()
    assert make_prefixes(lm, "neutral", 3, 99) == NEUTRAL[:3]
    with pytest.raises(RecipeError) as caught:
        make_prefixes(lm, "neutral", 11, 0)
    assert (
        str(caught.value)
        == "contexts.count is 11; there are 10 neutral prefixes, so choose 0 to 10 or contexts.kind=sampled"
    )
    with pytest.raises(RecipeError, match=r"^unknown contexts.kind 'sample'; did you mean 'sampled'\?$"):
        make_prefixes(lm, "sample", 1, 0)


def test_sampled_prefixes(lm):
    one, again, other = (make_prefixes(lm, "sampled", 5, seed) for seed in (0, 0, 1))
    assert one == again != other
    assert len(one) == 5
    for prefix in one:
        assert prefix.endswith(".")
        assert not prefix.endswith("..")
        assert "\n" not in prefix
        assert "{" not in prefix and "}" not in prefix
    assert make_prefixes(lm, "sampled", 0, 0) == ()
    assert rows_of(lm.tokenizer, FACTS, one)
