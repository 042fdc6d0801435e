"""The page in a real browser: headless Chromium, nothing fetched."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from bluedit.benchmark.page import write_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH: the page's script is not tried"
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic", "--host-resolver-rules=MAP * ~NOTFOUND"),
)
COLOURS = """({ text: getComputedStyle(document.body).color, back: getComputedStyle(document.body).backgroundColor,
  marks: [...document.querySelectorAll(".mark")].map((mark) => getComputedStyle(mark).stroke),
  small: getComputedStyle(document.querySelector("small")).color,
  wide: document.documentElement.scrollWidth - innerWidth })"""
LIST = """({ prompts: [...document.querySelectorAll(".facts button")].map((b) => b.textContent), hash: location.hash,
  count: document.querySelector(".explorer [role=status]").textContent,
  controls: [...document.querySelectorAll(".controls :is(select, input)")].map((c) => c.value) })"""


@pytest.fixture
def browse(run, tmp_path):
    """browse(value, steps, address): load the page at the address, run the steps, and give an expression's value."""

    def browsed(value, steps="", address="", dark=False, width=1400):
        page = write_page([run], tmp_path / "page.html")
        steps = f"{{ {steps}; document.documentElement.dataset.probe = JSON.stringify({value}); }}"
        page.write_text(page.read_text("utf-8").replace("</body>", f"<script>{steps}</script></body>"), "utf-8")
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", scheme, f"--window-size={width},900"]
        done = subprocess.run(
            [*command, "--virtual-time-budget=2000", "--dump-dom", page.as_uri() + address],
            capture_output=True,
            timeout=100,
        )
        root = re.search(r"<html[^>]*>", done.stdout.decode("utf-8"))[0]
        data = {key: unescape(text) for key, text in re.findall(r'data-(\w+)="([^"]*)"', root)}
        assert "error" not in data, data["error"]
        assert data["ready"] == "1"
        return json.loads(data["probe"])

    return browsed


def luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """WCAG's ratio."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_it_can_be_read(browse, rename, dark):
    for recipe in ("memit", "memit-blue"):
        name = f"{recipe}:layers=1+2+3,objective.steps=3,objective.learning_rate=0.5,contexts.count=1,preserve.lambda=1"
        rename(recipe, name)
    found = browse(COLOURS, dark=dark, width=600)
    assert (luminance(found["back"]) < 0.05) is dark
    assert contrast(found["text"], found["back"]) > 10
    assert contrast(found["small"], found["back"]) > 4.5
    assert found["marks"] and all(contrast(mark, found["back"]) > 3 for mark in found["marks"])
    assert found["wide"] <= 0  # tables scroll within themselves


def test_an_address_holds_a_choice(browse):
    found = browse(LIST, address="#run=0&recipe=memit&passed=strict&words=SCRIPT")
    assert found["controls"] == ["memit", "strict", "passed", "SCRIPT"]
    assert found["count"] == "2 of 4 facts"  # by what the model says
    assert found["prompts"] == ["The capital of <!-- <script> is", "The capital of برج خليفة is"]


def test_the_same_number_leads_to_its_facts_every_time(browse):
    steps = """
    const link = document.querySelector('a[href="#run=0&recipe=memit&failed=strict"]');
    document.querySelector(".explorer").previousElementSibling.scrollIntoView = () => { window.led = (window.led ?? 0) + 1; };
    link.click();
    """
    assert browse("window.led", steps, "#run=0&recipe=memit&failed=strict") == 1


def test_choices_and_what_they_show(browse, scores):
    scores("memit", neighbour_kl=[0.1, 0.3, None, 0.2])
    steps = """
    const seen = [];
    const see = () => seen.push(LIST);
    const [recipe, metric, outcome, search] = document.querySelectorAll(".controls :is(select, input)");
    const choose = (control, value) => { control.value = value; control.dispatchEvent(new Event("input")); see(); };
    see();
    choose(outcome, "failed");
    choose(recipe, "unedited");
    choose(search, "TOWER");
    choose(search, "");
    choose(recipe, "memit");
    choose(metric, "neighbour_kl");
    explorers[0].set(new URLSearchParams("recipe=nobody&failed=nothing")); see();
    const open = document.querySelector(".facts button");
    const sides = () => [...document.querySelectorAll(".facts .wide tbody th")].map((cell) => cell.textContent);
    open.click(); seen.push(sides());
    open.click(); seen.push(sides());
    const told = () => [...document.querySelectorAll(".figures output")].map((output) => output.textContent);
    const key = document.querySelector(".legend button[data-s='1']");
    key.click(); seen.push(told());
    key.click(); seen.push(told());
    """
    every, failed, other, words, again, back, moved_most, unknown, opened, closed, lit, dark = browse(
        "seen", steps.replace("LIST", LIST)
    )
    assert every["controls"] == ["memit", "strict", "metric", ""] and every["hash"] == ""
    assert every["count"] == "4 of 4 facts" and every["prompts"][1] == "The capital of <!-- <script> is"
    assert failed["prompts"] == ["The capital of <b>0 is", "The capital of the \"Tower\" & 'co' is"]
    assert failed["hash"] == "#run=0&recipe=memit&failed=strict"
    assert len(other["prompts"]) == 4 == len(again["prompts"])
    assert words["count"] == "1 of 4 facts" and words["hash"] == "#run=0&recipe=unedited&failed=strict&words=TOWER"
    assert back == failed
    assert [every["prompts"].index(prompt) for prompt in moved_most["prompts"]] == [
        1,
        3,
        0,
        2,
    ]  # worst first, unknown last
    assert moved_most["hash"] == "#run=0&recipe=memit&metric=neighbour_kl"
    assert unknown == failed | {"hash": moved_most["hash"]}
    assert opened == ["unedited", "memit", "memit-blue"] and closed == []
    assert lit[0] == "memit: 0.0, 100.0" and set(dark) == {""}
