"""The page of a benchmark: whole, well formed, nothing fetched, and honest intervals."""

import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from bluedit.benchmark.page import write_page
from bluedit.benchmark.page._comparison import interval, score_interval
from bluedit.benchmark.reading import read_benchmark
from bluedit.benchmark.record import FORMAT, FineTuned, write
from bluedit.errors import BenchmarkError
from bluedit.evaluate.data import Ability, HiddenDrift, Training

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


def test_the_page_is_made_without_torch(run, tmp_path):
    code = (
        "import sys; from pathlib import Path; from bluedit.benchmark.page import write_page; "
        "write_page([Path(sys.argv[1])], Path(sys.argv[2])); print(*{'torch', 'transformers'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code, str(run), str(tmp_path / "page.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert "What BLUE changes" in (tmp_path / "page.html").read_text("utf-8")


def test_the_page_is_whole_and_needs_no_network(run, tmp_path):
    page = write_page([run, run], tmp_path / "page.html").read_text("utf-8")
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert {"table", "svg", "script", "style", "details", "nav"} <= set(parser.seen)
    assert not re.search(r"https?://(?!arxiv)|(src|srcset|action)=|url\(|@import", page)
    assert "default-src 'none'" in page
    assert "<b>0" not in page.partition('<script type="application/json"')[0]
    assert "run: toy &amp; co, 4 facts in batches of 2" in page


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


def test_the_best_is_marked_and_blue_is_compared(run, metrics):
    assert 'class="best"' not in written(run), "where all are equal nothing is best"
    metrics("memit", strict=0.5)
    page = written(run)
    assert (
        "<b>memit-blue</b> has the highest share of strict answers of 100.0 (efficacy 90.0, specificity 70.0)" in page
    )
    assert "the perplexity of ordinary text went from 20.00 to 21.00" in page
    best = '<td class="best"><a href="#run=0&amp;recipe=memit-blue&amp;failed=strict">100.0</a></td>'
    assert page.count(best) == 1
    assert rows(page, "Results")["memit-blue"] == ["100.0", "21.00 +5.0 %", "79.0", "90.0", "80.0", "70.0", "1.50"]
    assert rows(page, "What BLUE changes")["strict ↑"] == ["+50.0 [+0.0, +100.0]"]
    assert "specificity ↑" not in rows(page, "What BLUE changes")  # nothing to compare


@pytest.mark.parametrize(("values", "kind"), [((0.0, 1.0), "better"), ((1.0, 0.0), "worse")])
def test_clear_differences_are_better_or_worse(run, metrics, scores, values, kind):
    for recipe, value in zip(("memit", "memit-blue"), values, strict=True):
        scores(recipe, neighbour_kl=1 - value, efficacy=value)
        metrics(recipe, neighbour_kl=1 - value)
    page = written(run)
    assert len(re.findall(rf'<td class="{kind}">', page)) == 2
    sign = "+" if kind == "better" else "−"
    assert rows(page, "What BLUE changes")["efficacy ↑"][0].startswith(f"{sign}100.0")
    other = "−" if kind == "better" else "+"
    assert rows(page, "What BLUE changes")["neighbour kl ↓"][0].startswith(f"{other}1.000")


def test_recipes_with_other_settings_are_a_pair_if_there_is_only_one_and_the_page_says_how_they_differ(
    run, change, rename
):
    name = "memit-blue:objective.clamp=0.5"
    rename("memit-blue", name)
    settings = {"schedule": "spread", "schedule.power": 1.0, "objective.clamp": 0.75}
    change(
        ".",
        "config.json",
        lambda c: c.update(
            settings={
                "memit": settings,
                name: {"schedule": "boundary", "objective.clamp": 0.5},
            }
        ),
    )
    page = written(run)
    assert rows(page, "What BLUE changes")["strict ↑"] == ["+50.0 [+0.0, +100.0]"]
    assert f"<li>memit and {name}: objective.clamp 0.75 and 0.5</li>" in page
    assert "<p>Not finished yet: memit-blue.</p>" in page  # it was asked for, and what was found is another entry
    place = run / "other"
    shutil.copytree(run / "memit-blue", place)
    rename("other", "memit-blue:layers=4+8")
    assert "What BLUE changes" not in written(run), "with two of them the pair is ambiguous"
    rename("other", "memit-blue")
    assert "objective.clamp 0.75" not in written(run), "the one of the same name is the pair"


def test_in_how_many_recipes_blue_is_clearly_better(run, scores, metrics):
    """The sentence counts the intervals that exclude 0."""
    for recipe in ("unedited", "memit", "memit-blue"):
        metrics(recipe, strict=None)
    assert "With BLUE the score was clearly higher" not in written(run), "specificity is not known of any fact"
    for recipe, value in (("memit", 0.0), ("memit-blue", 1.0)):
        scores(recipe, efficacy=0.5 + value / 2, specificity=0.5)
    page = written(run)
    assert "With BLUE the score was clearly higher in 1 of the 1 recipes run both ways" in page
    assert rows(page, "What BLUE changes")["score ↑"] == ["+15.0 [+15.0, +15.0]"]
    scores("memit-blue", efficacy=[0.0, 0.0, 1.0, 1.0])
    assert "in 0 of the 1 recipes run both ways (within chance in 1)" in written(run)
    scores("memit-blue", efficacy=0.25)
    assert "in 0 of the 1 recipes run both ways (clearly lower in 1)" in written(run)


def test_an_entry_that_was_given_up(run):
    (run / "memit-blue" / "batches.json").unlink()
    (run / "memit-blue" / "failed.json").write_text(json.dumps({"entry": "memit-blue", "why": "a <NaN> came"}))
    page = written(run)
    assert "<p>Given up: memit-blue: a &lt;NaN&gt; came</p>" in page and "Not finished yet" not in page
    (run / "memit" / "failed.json").write_text(json.dumps({"entry": "of an earlier benchmark", "why": "it failed"}))
    assert "an earlier benchmark" not in written(run)


def test_general_ability_at_every_time_it_was_asked(run, change):
    def set_f1(log):
        for one, value in zip(log["batches"], (0.5, 0.333), strict=True):
            one["measured"]["abilities"] = {"sst2": {"task": "sst2", "accuracy": 0.5, "f1": value, "items": 8}}

    change("memit", "batches.json", set_f1)
    after = {"sst2": Ability("sst2", 0.25, 0.2, 8), "rte": Ability("rte", 0.75, 0.6, 8)}
    write(FineTuned(Training(), {}, {}, after), run / "memit")
    found = rows(written(run), "General ability")
    assert found["memit, 2 facts"] == ["50.0 50.0", "", ""] and found["memit, 4 facts"][0] == "50.0 33.3"
    assert found["memit, fine-tuned afterwards"] == ["25.0 20.0", "75.0 60.0", "50.0 40.0"]
    assert found["unedited"][0] == "50.0 40.0"


def test_zsre_has_a_trade_off_of_its_own(run, metrics):
    for recipe in ("unedited", "memit", "memit-blue"):
        metrics(recipe, specificity=None, locality_same=0.9, rephrase_accuracy=0.4)
    page = written(run)
    assert "<title>memit: locality same 90.0, rephrase accuracy 40.0</title>" in page


def test_several_lengths_of_fine_tuning(run):
    for recipe, steps in (("memit", 2), ("memit-blue", 50)):
        write(FineTuned(Training(steps), {"strict": 1.0}, {"strict": 0.5}, {}), run / recipe)
    assert set(rows(written(run), "Fine-tuned afterwards")) == {
        "memit after 2 steps, 2,048 tokens of ordinary text, learning rate 2e-05",
        "memit-blue after 50 steps, 51,200 tokens of ordinary text, learning rate 2e-05",
    }


def test_a_metric_that_only_one_entry_has(run, metrics, scores):
    scores("memit", generated=1.0)
    metrics("memit", accuracy=0.5, strict=0.2, generated=0.25)
    page = written(run)
    assert rows(page, "Teacher-forced and generated") == {"memit": ["50.0", "20.0", "25.0", "+25.0"]}
    assert "arxiv.org/abs/2502.11177" in page
    assert "generated ↑" not in rows(page, "What BLUE changes")


def test_what_is_absent_is_not_shown(run):
    page = written(run)
    for title in (
        "Teacher-forced",
        "Drift of hidden states",
        "Fine-tuned afterwards",
        "Change of the",
        "Further metrics",
    ):
        assert title not in page


def test_drift_on_passages_and_growth(run, metrics, change):
    def grow(log):
        for i, one in enumerate(log["batches"]):
            one["norms"] = {"4": 0.01, "8": 0.02 * i}

    for recipe in ("memit", "memit-blue"):
        metrics(recipe, passage_kl=0.0123, passage_same=0.98)
        change(recipe, "batches.json", grow)
    page = written(run)
    assert rows(page, "Results")["memit"][1:3] == ["0.012", "98.0"]
    assert "passage kl" not in rows(page, "Results")
    assert "<title>memit: 1.00, 2.00</title>" in page


def test_hidden_states(run):
    cloud = HiddenDrift(7, 0.123, [(0, 0), (2, 1)], [(1, 0), (3, NAN)], [0.2, 0.1])
    for recipe in ("unedited", "memit", "memit-blue"):
        write(cloud, run / recipe)
    page = written(run)
    assert page.count('<figure class="cloud">') == 2  # the unedited model does not drift
    assert "<b>memit</b> shift 0.12</figcaption>" in page
    assert "after layer 7" in page and "(20 % and 10 % of their variance)" in page


def test_fine_tuned_afterwards(run):
    before, after = {"strict": 1.0, "perplexity": 20.5}, {"strict": 0.5, "perplexity": 19.0}
    write(FineTuned(Training(50, 1e-5), before, after, {}), run / "memit")
    page = written(run)
    assert rows(page, "Fine-tuned afterwards") == {"memit": ["100.0 → 50.0", "20.50 → 19.00"]}
    assert "after 50 steps, 51,200 tokens of ordinary text, learning rate 1e-05." in page


def test_collapsed_models_are_shown(run, metrics):
    metrics("memit", perplexity=1e7, specificity=None)
    page = written(run)
    assert rows(page, "Results")["memit"][-2] == ""
    assert rows(page, "Results")["memit"][1] == "1e+07"
    metrics("memit", perplexity=2e4)
    assert rows(written(run), "Results")["memit"][1] == "20,000 +99,900 %"
    metrics("memit", perplexity=math.exp(700))
    assert rows(written(run), "Results")["memit"][1] == "1e+304"


def test_intervals():
    low, mean, high = interval([1.0] * 50 + [0.0] * 50, [0.0] * 100)
    assert mean == 0.5 and 0.38 < low < 0.45 and 0.55 < high < 0.62
    assert interval([1.0, math.nan], [0.0, 1.0]) == (1.0, 1.0, 1.0)
    assert all(math.isnan(v) for v in interval([math.nan], [1.0]))


def test_the_interval_of_a_harmonic_mean():
    one, other = [[1.0] * 9, [0.5] * 9, [0.5] * 8 + [NAN]], [[0.5] * 9] * 3
    assert score_interval(one, other) == pytest.approx((0.1, 0.1, 0.1))
    low, mean, high = score_interval([[1.0] * 50 + [0.0] * 50, [1.0] * 100, [1.0] * 100], [[0.0] * 100] * 3)
    assert mean == pytest.approx(0.75) and 0.65 < low < 0.72 and 0.78 < high < 0.85
    assert all(math.isnan(v) for v in score_interval([[NAN]] * 3, [[1.0]] * 3))
    rare = [1.0, 0.5] + [NAN] * 18  # many draws have none of the two
    bounds = score_interval([[0.6] * 20, [0.6] * 20, rare], [[0.9] * 20, [0.9] * 20, rare])
    assert all(math.isfinite(v) for v in bounds)


def test_a_benchmark_that_is_still_running(run, change):
    """facts.json is written before batches.json, so an entry is finished when the latter counts all facts."""
    change("memit-blue", "batches.json", lambda log: log["batches"].pop())
    assert [entry.name for entry in read_benchmark(run).entries] == ["unedited", "memit"]
    (run / "memit" / "batches.json").unlink()
    assert [entry.name for entry in read_benchmark(run).entries] == ["unedited"]
    assert "Not finished yet: memit, memit-blue." in written(run)


def test_what_cannot_be_shown(run, change, tmp_path):
    message = r"is not a benchmark: it holds no config\.json; make one with: bluedit benchmark --out "
    with pytest.raises(BenchmarkError, match=message):
        read_benchmark(tmp_path)
    change("memit-blue", "facts.json", lambda found: found["facts"][0]["fact"].update(target="Oslo"))
    with pytest.raises(
        BenchmarkError, match=r"is damaged \(other facts in memit-blue than in memit\); delete the folder"
    ):
        read_benchmark(run)
    config = json.loads((run / "config.json").read_text())
    for wrong, message in (
        (config | {"format": 2}, "written by another version of bluedit; use that version"),
        ([], r"config\.json is not the configuration of a benchmark"),
        ({"format": FORMAT, "facts": 2}, r"config\.json is damaged \(it lacks 'model'\)"),
        ({"model_type": "llama"}, r"config\.json is not the configuration of a benchmark"),
    ):
        (run / "config.json").write_text(json.dumps(wrong))
        with pytest.raises(BenchmarkError, match=message):
            read_benchmark(run)
    (run / "config.json").write_text(json.dumps(config))
    for place in ("memit", "memit-blue", "unedited"):
        (run / place / "facts.json").unlink()
    with pytest.raises(
        BenchmarkError, match=r"no entry of .* is finished yet; let 'bluedit benchmark' come to its end"
    ):
        read_benchmark(run)


def test_a_page_that_cannot_be_written(run, tmp_path):
    with pytest.raises(BenchmarkError, match=r"^cannot write .*: Is a directory; choose another place"):
        write_page([run], tmp_path)
