"""The page of a benchmark: whole, well formed, nothing fetched, and honest intervals."""

import json
import math
import re
from html.parser import HTMLParser

import pytest

from bluedit.errors import BenchmarkError
from bluedit.report import figures
from bluedit.report.page import interval, read_run, write_page

VOID = {"meta", "input", "br"}


def fact(i, **scores):
    return {
        "fact": {"prompt": "The capital of {} is", "subject": f"<b>{i}", "target": "Rome"},
        "says": " Rome</script>",
    } | scores


def entry(name, strict, ppl):
    every = {
        "efficacy": 0.9,
        "generalisation": 0.8,
        "specificity": 0.7,
        "strict": strict,
        "perplexity": ppl,
        "score": 0.79,
    }
    return {
        "recipe": name,
        "facts": 2,
        "seconds": 3.0,
        "reach": [],
        "all": every,
        "first": every,
        "abilities": {"sst2": {"accuracy": 0.5}},
    }


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"model": "toy & co", "facts": 4, "batch_size": 2, "order": ["unedited", "memit", "memit-blue"]}
    (folder / "config.json").write_text(json.dumps(config))
    for name, values in (("memit", (0.0, 1.0)), ("memit-blue", (1.0, 1.0)), ("unedited", (0.0, 0.0))):
        place = folder / name
        place.mkdir()
        log = [entry(name, v, 20.0 + i) for i, v in enumerate(values)]
        (place / "batches.json").write_text(json.dumps(log[-1:] if name == "unedited" else log))
        facts = [
            fact(i, efficacy=1.0, generalisation=1.0, specificity=float("nan"), strict=v)
            for i, v in enumerate(values * 2)
        ]
        (place / "facts.json").write_text(json.dumps(facts))
    return folder


class Balanced(HTMLParser):
    """Every tag that is opened is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_network(run, tmp_path):
    page = write_page([run, run], tmp_path / "page.html").read_text("utf-8")
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert {"table", "svg", "script", "style", "details"} <= set(parser.seen)
    assert not re.search(r"https?://(?!arxiv)", page.replace("http://www.w3.org", ""))
    assert "<b>0" not in page.partition('<script type="application/json"')[0]
    data = re.search(r'id="data">(.*?)</script>', page, re.S)
    found = json.loads(data[1])
    assert [r["name"] for r in found[0]["recipes"]] == ["unedited", "memit", "memit-blue"]
    assert found[0]["recipes"][1]["facts"][0]["says"] == " Rome</script>"
    assert "specificity" not in found[0]["recipes"][1]["facts"][0]["scores"]
    assert "toy &amp; co: 4 facts in batches of 2" in page


def test_the_best_is_marked_and_blue_is_compared(run, tmp_path):
    page = write_page([run], tmp_path / "page.html").read_text("utf-8")
    assert page.count("BLUE minus plain") == 1
    rows = re.findall(r"<tr><td>memit-blue</td>(.*?)</tr>", page)
    assert '<td class="best">100.0</td>' in rows[0]
    assert "<td>+50.0 <small>[+0.0, +100.0]</small></td>" in page


def test_intervals():
    low, mean, high = interval([1.0] * 50 + [0.0] * 50, [0.0] * 100)
    assert mean == 0.5 and 0.38 < low < 0.45 and 0.55 < high < 0.62
    assert interval([1.0, math.nan], [0.0, 1.0]) == (1.0, 1.0, 1.0)
    assert all(math.isnan(v) for v in interval([math.nan], [1.0]))


def test_what_cannot_be_shown(run, tmp_path):
    with pytest.raises(
        BenchmarkError, match=r"is no benchmark run: it holds no config\.json; 'bluedit benchmark --out"
    ):
        read_run(tmp_path)
    (run / "memit" / "batches.json").write_text("[")
    with pytest.raises(BenchmarkError, match="is damaged"):
        read_run(run)
    for place in ("memit", "memit-blue", "unedited"):
        (run / place / "facts.json").unlink()
    with pytest.raises(BenchmarkError, match=r"no recipe of .* is finished yet"):
        read_run(run)


def test_figures_have_gaps_and_one_mark_a_value():
    text = figures.lines("x", {"a": [0.1, None, 0.3], "b & c": [0.2, 0.2, 0.2]})
    assert text.count("<circle") == 5 and "b &amp; c" in text
    assert figures.lines("x", {"a": [None]}) == ""
    assert figures.scatter("x", {"a": (0.5, 0.5)}, "s", "g").count("<circle") == 1
    assert figures.bars("x", {"a": {"t": 0.5}, "b": {"t": 1.0}}).count("<rect") == 4  # two bars, two in the legend
