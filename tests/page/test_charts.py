"""Charts: what is drawn on the page, with axes, keys and help, and the same as files."""

import re
import sys

import pytest

from bluedit.errors import ExplainError
from bluedit.page import Axis, Bars, Chart, Dots, HeatMap, Line, document
from bluedit.page.plots import check_plots, formats_of, write_plots

NAN = float("nan")
CHART = Chart(
    "steps",
    "Steps & layers",
    Axis("layer", ticks=[(4, "4"), (5, "5"), (6, "six")]),
    Axis("steps", include=(0.0,)),
    (
        Line("mean <b>", [(4, 25.0), (5, NAN), (6, 0.5)], 0, spread=[(20.0, 30.0), (NAN, NAN), (0.0, 1.0)]),
        Dots("each", [(4, 20.0), (5, 1.0)], 1, hollow=True),
        Bars("share", [(4, 3.0), (5, 2.0)], 2, width=0.5),
    ),
    "What <em>this</em> shows.",
)


def labels(text):
    return re.findall(r">([^<>]+)</text>", text)


def test_a_chart_has_axes_a_key_and_help():
    text = CHART.html()
    assert labels(text) == ["steps", "0", "10", "20", "30", "4", "5", "six", "layer"]
    assert text.count('class="mark"') == 2 + 3  # the points that have a value, and the key
    assert text.count('class="spread"') == 2 and text.count('class="bar-mark"') == 2
    assert re.search(r'class="dots" stroke-linecap="square" d="M[\d.]+ [\d.]+h0M[\d.]+ [\d.]+h0"', text)
    assert text.count("<button") == 3 and "mean &lt;b&gt;" in text and "Steps &amp; layers" in text
    assert "<p>What <em>this</em> shows.</p>" in text and 'id="steps"' in text
    assert "<title>mean &lt;b&gt;: 25.0, 0.5</title>" in text


def test_a_logarithmic_axis_leaves_out_what_is_not_positive():
    chart = Chart(
        "x", "x", Axis("a", log=True), Axis("b", log=True), (Line("l", [(0, 1), (1, 10), (100, 0), (10, 1000)]),)
    )
    assert chart.html().count('class="mark"') == 2 + 1
    assert Chart("x", "x", Axis("a"), Axis("b", log=True), (Line("l", [(1, 0.0)]),)).html() == ""
    interval = Line("l", [(1, 1.0), (2, 10.0)], spread=[(0.0, 2.0), (5.0, 20.0)])
    assert 'class="spread"' in Chart("x", "x", Axis("a"), Axis("b", log=True), (interval,)).html()


def test_a_logarithmic_axis_without_a_round_value_has_its_ends():
    chart = Chart("x", "x", Axis("a"), Axis("b", log=True), (Line("l", [(0, 3.0), (1, 3.1)]),))
    assert labels(chart.html())[:3] == ["b", "2.73", "3.41"] and not chart.is_empty
    round_one = Chart("x", "x", Axis("a"), Axis("b", log=True), (Line("l", [(0, 4.8), (1, 5.2)]),))
    assert labels(round_one.html())[:2] == ["b", "5"]


def test_shares_are_in_percent():
    found = labels(
        Chart("x", "x", Axis("a"), Axis("said", percent=True, include=(0, 1)), (Dots("d", [(1, 0.5)]),)).html()
    )
    assert found[0] == "said, %" and "100" in found


def test_charts_are_written_as_files(tmp_path):
    pytest.importorskip("matplotlib")
    files = write_plots([CHART], tmp_path, ("png", "svg", "pdf"))
    assert [file.name for file in files] == ["steps.png", "steps.svg", "steps.pdf"]
    starts = [file.read_bytes()[:5] for file in files]
    assert starts == [b"\x89PNG\r", b"<?xml", b"%PDF-"]
    again = write_plots([CHART], tmp_path / "again", ("png", "svg", "pdf"))
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in files]
    assert b"Date" not in files[2].read_bytes() and b"<dc:date" not in files[1].read_bytes()


def test_figures_that_cannot_be_written(monkeypatch):
    with pytest.raises(ExplainError, match="unknown format of figures 'pgn'; did you mean 'png'"):
        check_plots(["pgn"])
    check_plots([])
    assert formats_of(" png,svg,") == ["png", "svg"] and formats_of("") == []
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ExplainError,
        match=r"need matplotlib, which is not installed; pip install 'bluedit\[plots\]', or leave out --plots",
    ):
        check_plots(["png"])


def test_a_document_holds_its_data_safely():
    text = document("a & b", "<p>in</p>", "<p>body</p>", data={"x": "</script><!--"}, scripts=["let y = 1;"])
    assert (
        "<title>a &amp; b</title>" in text
        and "</script><!--" not in text.partition('id="data">')[2].partition("</script>")[0]
    )
    assert text.index("let y = 1;") < text.index('dataset.ready = "1"')
    assert "http" not in text.replace("http-equiv", "")  # nothing is fetched


MAP = HeatMap(
    "m", "A & B", ["first", "last"], ["0", "1", "2"], [[0.0, 0.5, NAN], [-0.25, 1.0, 0.1]], "effect", "layer", "How."
)


def test_a_heat_map_has_a_cell_for_each_value_and_a_key():
    text = MAP.html()
    cells = re.findall(r'class="cell (above|below)"[^>]* fill-opacity="([\d.]+)"><title>(.*?)</title>', text)
    named = {told: (side, float(strength)) for side, strength, told in cells}
    assert named["first, layer 1: 0.5"] == ("above", 0.5) and named["last, layer 0: -0.25"] == ("below", 0.25)
    assert named["last, layer 1: 1"] == ("above", 1.0) and "first, layer 2: nan" not in named
    assert len(cells) == 5 + 11  # and the key, on both sides of zero
    assert labels(text)[:2] == ["first", "last"] and labels(text)[-2:] == ["-1", "1"] and "A &amp; B" in text
    assert HeatMap("m", "x", ["a"], ["0"], [[NAN]], "", "").html() == ""
    assert not HeatMap("m", "x", ["a"], ["0", "1"], [[-0.001, 1.0]], "", "").negative


def test_heat_maps_are_written_as_files(tmp_path):
    pytest.importorskip("matplotlib")
    files = write_plots([MAP, CHART], tmp_path, ("png", "pdf"))
    assert [file.name for file in files] == ["m.png", "m.pdf", "steps.png", "steps.pdf"]
    assert all(file.stat().st_size > 1000 for file in files)
