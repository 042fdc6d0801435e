"""Figures: every value is drawn once, names are escaped, and recipes can be told apart."""

import re

import pytest

from bluedit.benchmark.entry import family
from bluedit.benchmark.page import _figures as figures
from bluedit.methods.presets import PRESETS


def labels(text):
    return re.findall(r">([^<>]+)</text>", text)


def test_lines_have_gaps_and_one_mark_a_value():
    text = figures.lines("x", {"a": [0.1, None, 0.3], "b & c": [0.2, 0.2, float("nan")]})
    assert text.count('class="mark"') == 4 and "<title>b &amp; c: " in text
    assert labels(text) == ["%", "10", "15", "20", "25", "30", "1", "2", "3", "batch"]
    assert figures.lines("x", {"a": [None, 0.1], "b": [None]}) == ""  # a line needs two


def test_far_apart_values_have_a_logarithmic_axis():
    text = figures.lines("x", {"a": [20, 2000], "b": [20.0, 21.0]}, "perplexity", percent=False, base=19.0)
    assert labels(text) == ["perplexity", "30", "100", "300", "1,000", "1", "2", "batch"]
    assert "<title>unedited: 19</title>" in text
    collapsed = labels(figures.lines("x", {"a": [20.0, 1e43]}, "perplexity", percent=False))
    assert len(collapsed) < 12
    near = figures.lines("x", {"a": [20.0, 21.0]}, "perplexity", percent=False)
    assert "21.0" in labels(near)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_equal_values_have_an_axis(value):
    found = [float(v) for v in labels(figures.lines("x", {"a": [value, value]}))[1:-3]]
    assert len(found) > 1 and 0 <= min(found) <= 100 * value <= max(found) <= 100


def test_many_batches_have_few_ticks():
    assert len(labels(figures.lines("x", {"a": [0.5] * 95 + [0.4]}))) < 20


def test_scatter():
    text = figures.scatter("x", {"a": (0.5, 0.5), "b": (float("nan"), 1.0)}, "s", "g")
    assert text.count('class="mark"') == 1 and "<title>a: s 50.0, g 50.0</title>" in text
    assert figures.scatter("x", {"b": (float("nan"), 1.0)}, "s", "g") == ""


def test_recipes_can_be_told_apart():
    names = ["unedited", *PRESETS, "memit:layers=[4]"]
    look = figures.looks(names)
    seen = {(one.colour, one.shape, one.hollow) for one in look.values()}
    assert len(seen) == len(names)
    assert look["memit"].hollow and not look["memit-blue"].hollow
    assert (look["memit"].colour, look["memit"].shape) == (look["memit-blue"].colour, look["memit-blue"].shape)
    assert not figures.looks(["ft", "ft-local"])["ft"].hollow
    assert figures.legend(look).count("<button") == len(names)


def test_families():
    assert family("memit-seq-blue:layers=[4]") == ("memit-seq:layers=[4]", True)
    assert family("memit") == ("memit", False)
    assert family("memit:layers=4+8,schedule=boundary") == ("memit:layers=4+8", True)
    alone = "memit-blue:schedule=single"  # the name says BLUE, what ran is not
    assert family(alone) == (alone, False)


def test_clouds_share_their_axes():
    text = figures.clouds({"a<b": ([[0, 0]], [[1, 1]], "near"), "b": ([[0, 0]], [[10, 5]], "far")})
    before = re.findall(r'class="before" d="([^"]*)"', text)
    after = re.findall(r'class="after" d="([^"]*)"', text)
    assert before[0] == before[1] and after[0] != after[1]
    assert "<b>a&lt;b</b> near" in text
    assert figures.clouds({"a": ([], [], "")}) == "" == figures.clouds({})
    many = figures.clouds({"a": ([[i, i] for i in range(1000)], [[0, 0]], "")})
    assert len(re.findall("h0", many)) < 500
