"""The page of a benchmark: whole, well formed, nothing fetched, and honest intervals."""

import json
import math
import re
from html.parser import HTMLParser

import pytest

from bluedit.errors import BenchmarkError
from bluedit.report.page import read_run, write_page
from bluedit.report.sections import interval

NAN = float("nan")
VOID = {"meta", "input", "br"}


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


def written(run):
    """The page without its data and script."""
    return (
        write_page([run], run.parent / "page.html").read_text("utf-8").partition('<script type="application/json"')[0]
    )


def rows(page, title):
    """Cells of a table's rows by their heads, as text."""
    body = re.search(rf"<h3>{title}</h3>.*?<tbody>(.*?)</tbody>", page, re.S)[1]
    plain = [
        [re.sub("<[^>]*>", " ", cell).strip() for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", body)
    ]
    return {" ".join(cells[0].split()): [" ".join(cell.split()) for cell in cells[1:]] for cells in plain}


def test_the_page_is_whole_and_needs_no_network(run, tmp_path):
    page = write_page([run, run], tmp_path / "page.html").read_text("utf-8")
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert {"table", "svg", "script", "style", "details", "nav"} <= set(parser.seen)
    assert not re.search(r"https?://(?!arxiv)|(src|srcset|action)=|url\(|@import", page)
    assert "default-src 'none'" in page
    assert "<b>0" not in page.partition('<script type="application/json"')[0]
    assert "toy &amp; co: 4 facts in batches of 2" in page


def test_what_the_script_is_given(run, tmp_path):
    page = write_page([run], tmp_path / "page.html").read_text("utf-8")
    data = re.search(r'id="data">(.*?)</script>', page, re.S)[1]
    assert "<" not in data  # "<!-- <script>" in a prompt would swallow the rest of the page
    found = json.loads(data)[0]
    assert [r["name"] for r in found["recipes"]] == ["unedited", "memit", "memit-blue"]
    assert found["facts"][1] == ["The capital of <!-- <script> is", "Rome"]
    assert found["recipes"][1]["says"][0] == " Rome</script>"
    assert found["recipes"][1]["scores"]["strict"] == [0, 1, 0, 1]
    assert found["recipes"][1]["scores"]["specificity"] == [None] * 4


def test_the_best_is_marked_and_blue_is_compared(run):
    page = written(run)
    assert "<b>memit</b> has the highest score of 79.0 (efficacy 90.0," in page
    assert "perplexity went from 20.00 to 21.00" in page
    best = '<td class="best"><a href="#run=0&amp;recipe=memit-blue&amp;failed=strict">100.0</a></td>'
    assert page.count(best) == 1
    assert rows(page, "Results")["memit-blue"] == ["79.0", "90.0", "80.0", "70.0", "100.0", "21.00 +5.0 %", "1.50"]
    assert rows(page, "What BLUE changes")["strict ↑"] == ["+50.0 [+0.0, +100.0]"]
    assert "specificity ↑" not in rows(page, "What BLUE changes")  # nothing to compare


@pytest.mark.parametrize(("values", "kind"), [((0.0, 1.0), "better"), ((1.0, 0.0), "worse")])
def test_sure_differences_are_better_or_worse(run, change, values, kind):
    for recipe, value in zip(("memit", "memit-blue"), values, strict=True):
        change(recipe, "facts.json", lambda facts, v=value: [f.update(neighbour_kl=1 - v, efficacy=v) for f in facts])
        change(recipe, "batches.json", lambda log, v=value: log[-1]["all"].update(neighbour_kl=1 - v))
    page = written(run)
    assert len(re.findall(rf'<td class="{kind}">', page)) == 2
    sign = "+" if kind == "better" else "−"
    assert rows(page, "What BLUE changes")["efficacy ↑"][0].startswith(f"{sign}100.0")
    other = "−" if kind == "better" else "+"
    assert rows(page, "What BLUE changes")["neighbour kl ↓"][0].startswith(f"{other}1.000")


def test_recipes_with_other_settings_are_no_pair(run, change):
    change("memit-blue", "batches.json", lambda log: log[-1].update(recipe="memit-blue:layers=4+8"))
    page = written(run)
    assert "What BLUE changes" not in page
    assert "<p>Not finished yet: memit-blue.</p>" in page  # as asked for; what was found is another


def test_a_metric_that_only_one_recipe_has(run, change):
    change("memit", "facts.json", lambda facts: [f.update(generated=1.0) for f in facts])
    change("memit", "batches.json", lambda log: log[-1]["all"].update(generated=0.25, generated_chat=NAN))
    page = written(run)
    assert rows(page, "Teacher-forced and generated") == {"memit": ["100.0", "25.0", "+75.0"]}
    assert "arxiv.org/abs/2502.11177" in page
    assert "generated ↑" not in rows(page, "What BLUE changes")


def test_what_is_absent_is_not_shown(run):
    page = written(run)
    for title in ("Teacher-forced", "Drift of hidden states", "Fine-tuned afterwards", "Growth", "Further metrics"):
        assert title not in page


def test_drift_on_passages_and_growth(run, change):
    for recipe in ("memit", "memit-blue"):
        change(recipe, "batches.json", lambda log: log[-1]["all"].update(passage_kl=0.0123, passage_same=0.98))
        change(
            recipe, "batches.json", lambda log: [e.update(norms={"4": 0.01, "8": 0.02 * i}) for i, e in enumerate(log)]
        )
    page = written(run)
    assert rows(page, "Results")["memit"][-3:] == ["0.012", "98.0", "1.50"]
    assert "passage kl" not in rows(page, "Results")
    assert "<title>memit: 1.00, 2.00</title>" in page


def test_hidden_states(run):
    cloud = {
        "layer": 7,
        "shift": 0.123,
        "before": [[0, 0], [2, 1]],
        "after": [[1, 0], [3, NAN]],
        "explained": [0.2, 0.1],
    }
    for recipe in ("unedited", "memit", "memit-blue"):
        (run / recipe / "hidden.json").write_text(json.dumps(cloud))
    page = written(run)
    assert page.count('<figure class="cloud">') == 2  # the unedited model does not drift
    assert "<b>memit</b> shift 0.12</figcaption>" in page
    assert "after layer 7" in page and "(20 % and 10 % of their variance)" in page


@pytest.mark.parametrize(
    "how", [{"steps": 50, "learning_rate": 1e-5}, {"training": {"steps": 50, "learning_rate": 1e-5}}]
)
def test_fine_tuned_afterwards(run, how):
    found = how | {
        "tokens": 51200,
        "before": {"strict": 1.0, "perplexity": 20.5},
        "after": {"strict": 0.5, "perplexity": 19},
    }
    (run / "memit" / "finetuned.json").write_text(json.dumps(found))
    page = written(run)
    assert rows(page, "Fine-tuned afterwards") == {"memit": ["100.0 → 50.0", "20.50 → 19.00"]}
    assert "after 50 steps, 51,200 tokens of ordinary text, learning rate 1e-05." in page


def test_collapsed_models_are_shown(run, change):
    change("memit", "batches.json", lambda log: log[-1]["all"].update(perplexity=1e7, specificity=NAN))
    page = written(run)
    assert rows(page, "Results")["memit"][3] == ""
    assert rows(page, "Results")["memit"][-2] == "10,000,000 +49,999,900 %"
    change("memit", "batches.json", lambda log: log[-1]["all"].update(perplexity=math.inf))
    assert rows(written(run), "Results")["memit"][-2] == "inf"


def test_intervals():
    low, mean, high = interval([1.0] * 50 + [0.0] * 50, [0.0] * 100)
    assert mean == 0.5 and 0.38 < low < 0.45 and 0.55 < high < 0.62
    assert interval([1.0, math.nan], [0.0, 1.0]) == (1.0, 1.0, 1.0)
    assert all(math.isnan(v) for v in interval([math.nan], [1.0]))


def test_a_run_that_is_going_on(run, change):
    """facts.json is written before batches.json, so a recipe is finished when the latter knows of all facts."""
    change("memit-blue", "batches.json", lambda log: log.pop())
    assert [r.name for r in read_run(run).recipes] == ["unedited", "memit"]
    (run / "memit" / "batches.json").unlink()
    assert [r.name for r in read_run(run).recipes] == ["unedited"]
    assert "Not finished yet: memit, memit-blue." in written(run)


def test_what_cannot_be_shown(run, change, tmp_path):
    with pytest.raises(
        BenchmarkError, match=r"is no benchmark run: it holds no config\.json; 'bluedit benchmark --out"
    ):
        read_run(tmp_path)
    change("memit-blue", "facts.json", lambda facts: facts[0]["fact"].update(target="Oslo"))
    with pytest.raises(BenchmarkError, match=r"is damaged \(other facts in memit-blue than in memit\)"):
        read_run(run)
    for text in ("[", "[]", "{}"):
        (run / "memit" / "batches.json").write_text(text)
        with pytest.raises(BenchmarkError, match="is damaged"):
            read_run(run)
    config = json.loads((run / "config.json").read_text())
    for wrong, message in (
        (config | {"format": 99}, "written by another version"),
        ([], "is damaged"),
        ({"facts": 2}, "is damaged"),
    ):
        (run / "config.json").write_text(json.dumps(wrong))
        with pytest.raises(BenchmarkError, match=message):
            read_run(run)
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(BenchmarkError, match="is damaged"):
        read_run(run)
    for place in ("memit", "memit-blue", "unedited"):
        (run / place / "facts.json").unlink()
    with pytest.raises(BenchmarkError, match=r"no recipe of .* is finished yet"):
        read_run(run)
