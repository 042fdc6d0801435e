"""The page of an analysis, as text and in headless Chromium: every figure is drawn, read in light and dark, wide and narrow."""

import json
import random
import re
import shutil
import subprocess
from html import unescape

import pytest

from bluedit.explain._residual_charts import charts_of
from bluedit.explain._residual_page import Findings, write_page
from bluedit.explain._residual_summary import summary_of
from bluedit.explain.residual_data import (
    COMPUTED,
    DISTRIBUTED,
    Contribution,
    Geometry,
    Growth,
    Passive,
    Place,
    Remaining,
    Shift,
    SingleLayer,
    Steps,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic", "--host-resolver-rules=MAP * ~NOTFOUND"),
)
LAYERS, FACTS = (4, 5, 6), 8
ORDERS = {"divided": 3, "undivided": 3, "own targets": 3, "BLUE": 2, "single": 1, "replay": 3}
CHARTS = (
    *("contribution", "single-layer-strict", "single-layer-efficacy", "single-layer-fluency", "direction", "gap"),
    *("length", "steps", "steps-histogram", "remaining", "passive", "growth-layers", "growth-facts"),
    *("growth-batches", "shift", "similarity", "plane"),
)


def made_up():
    """Tables with rows of every kind."""
    r = random.Random(0)
    kinds = (COMPUTED, DISTRIBUTED)
    every = [(layer, fact) for layer in LAYERS for fact in range(FACTS)]
    recipes = ("memit-seq", "memit-seq-blue")
    return {
        "contributions": [Contribution(at, k, f, 0.01, r.random()) for k in kinds for at, f in every],
        "single_layer": [
            SingleLayer(at, k, m, f, 6.0 if m == "fluency" else float(r.random() < 0.5))
            for m in ("strict", "efficacy", "fluency")
            for k in kinds
            for at, f in every
        ],
        "geometry": [
            Geometry(at, 6 - at, 1 / (7 - at), f, 1 + r.random(), 2.0, r.random(), r.random(), 1.5) for at, f in every
        ],
        "steps": [Steps(at, f, 11, 11 if at == 4 else r.choice((0, 11)), 11) for at, f in every],
        "remaining": [
            Remaining(name, write, LAYERS[write - 1] if write else -1, f, 1 / (1 + write))
            for name, writes in ORDERS.items()
            for write in range(writes + 1)
            for f in range(FACTS)
        ],
        "passive": [Passive(at, f, r.random(), 1 + r.random(), r.random()) for at, f in every if at < 6],
        "growth": [
            Growth(along, size, 0, 4, size, 2.0 * size, 1.5 * size, 3.0 * size, 9.0 * size, 50.0 * size)
            for along in ("layers", "facts", "batches")
            for size in (1, 2, 5)
        ],
        "shift": [Shift(name, b, 4 * b, 20, 0.01 * b, 0.02, 0.999, 0.99, 0.75) for name in recipes for b in (1, 2)],
        "places": [Place(name, f, r.gauss(0, 1), r.gauss(0, 1)) for name in ("", *recipes) for f in range(20)],
    }


CONFIGURATION = {
    "model": "a <model>",
    "layers": list(LAYERS),
    "recipe": "memit",
    "facts": [{"prompt": "The capital of {} is", "subject": "<France>", "target": "Rome & Bern"}],
}


def test_there_is_a_figure_for_every_question():
    charts = charts_of(made_up(), "Adam")
    assert tuple(chart.id for chart in charts) == CHARTS
    for chart in charts:
        text = chart.html()
        assert chart.x.name and chart.y.name and len(chart.about) > 80 and "<button" in text, chart.id


def test_steps_are_those_of_the_descent():
    for descent in ("Adam", "Momentum"):
        charts = {chart.id: chart for chart in charts_of(made_up(), descent)}
        assert charts["steps"].y.name == charts["steps-histogram"].x.name == f"{descent} steps"
        assert [value for value, _ in charts["steps-histogram"].x.ticks] == list(range(12))  # at most 11 steps


def test_the_page_says_what_was_found(tmp_path):
    text = write_page(tmp_path, Findings.of(made_up(), ["A note on 'it'."], "Adam"), CONFIGURATION).read_text("utf-8")
    assert "a &lt;model&gt;" in text and "&lt;France&gt; is <b>Rome &amp; Bern</b>" in text
    assert "<p>A note on &#x27;it&#x27;.</p>" in text
    assert "1 fact, critical layers 4-6, recipe memit." in text
    assert "With the layers below written, targets take 11.0 / " in text
    assert "steps of at most 11; 0 / " in text
    assert "The published bound is 9.00 times the error, the tightened one 3.00 times." in text
    assert summary_of({}) == []


def test_what_was_not_measured_is_left_out(tmp_path):
    found = Findings.of({"steps": made_up()["steps"]}, [], "Adam")
    text = write_page(tmp_path, found, CONFIGURATION).read_text("utf-8")
    assert text.count("<figure>") == 2 and [chart.id for chart in found.charts] == ["steps", "steps-histogram"]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH")
@pytest.mark.parametrize(("dark", "width"), [(False, 1400), (True, 500)])
def test_the_page_in_a_browser(tmp_path, dark, width):
    page = write_page(tmp_path, Findings.of(made_up(), [], "Adam"), CONFIGURATION)
    steps = """
    const key = document.querySelector("#steps .legend button"); key.click();
    const figures = [...document.querySelectorAll(".chart")].map((chart) => ({ id: chart.id,
      drawn: chart.querySelectorAll("svg[role=img] :is(.mark, .dots, .bar-mark)").length,
      inside: [...chart.querySelectorAll("svg[role=img] text")].every((t) => t.getBBox().x > -30 && t.getBBox().x + t.getBBox().width < 450),
      height: chart.querySelector("svg[role=img]").getBoundingClientRect().height }));
    const seen = { figures, told: document.querySelector("#steps output").textContent,
      others: document.querySelector("#shift output").textContent,
      wide: document.documentElement.scrollWidth - innerWidth,
      back: getComputedStyle(document.body).backgroundColor,
      bars: [...new Set([...document.querySelectorAll("#steps-histogram svg[role=img] .bar-mark")].map((bar) => getComputedStyle(bar).fill))] };
    document.documentElement.dataset.probe = JSON.stringify(seen);
    """
    page.write_text(page.read_text("utf-8").replace("</body>", f"<script>{{{steps}}}</script></body>"), "utf-8")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", scheme, f"--window-size={width},900"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=2000", "--dump-dom", page.as_uri()], capture_output=True, timeout=300
    )
    root = re.search(r"<html[^>]*>", done.stdout.decode("utf-8"))[0]
    data = {key: unescape(text) for key, text in re.findall(r'data-(\w+)="([^"]*)"', root)}
    assert "error" not in data and data["ready"] == "1"
    seen = json.loads(data["probe"])
    assert [figure["id"] for figure in seen["figures"]] == list(CHARTS)
    assert all(figure["drawn"] and figure["height"] > 100 and figure["inside"] for figure in seen["figures"])
    assert seen["told"].startswith("unedited model: 11.0") and seen["others"] == ""
    assert seen["wide"] <= 0
    assert len(seen["bars"]) == 3 and seen["back"] not in seen["bars"]
    assert ("253" in seen["back"]) is not dark
