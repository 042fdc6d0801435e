"""The page of an explained edit: its figures, and in a real browser that it opens without an error."""

import re
import shutil
import subprocess

import pytest
from editing_help import edit, make_editor

from bluedit.explain._edit_page import charts_of, page_of
from bluedit.explain.edit import explain_edit
from bluedit.facts import Fact
from toys import FACTS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND"),
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    editor = make_editor(statistics=tmp_path_factory.mktemp("statistics"))
    spoiled = Fact("The <b>capital</b> of {} is", "</script>", "Rome & Co", old_target="<i>Paris</i>")
    edit(editor, [spoiled, *FACTS], "memit-seq-blue", batch_size=2)
    return [explain_edit(editor, number) for number in (1, 2)]


def test_figures_have_axes_and_help(found):
    charts = list(charts_of(found[1]))
    assert [chart.id for chart in charts] == ["lens", "texts", "received"]
    assert all(chart.about and chart.x.name and chart.y.name and chart.html() for chart in charts)
    lens = charts[0]
    assert [one.name for one in lens.series] == [
        *("English, unedited", "English, edited"),
        *("French, unedited", "French, edited"),
    ]
    after = found[1].asked[0].lens
    assert lens.series[1].points[-1] == (4.0, pytest.approx(after.after[-1] ** (1 / after.tokens)))


def test_texts_of_facts_are_no_markup(found):
    page = page_of(found[0])
    assert "<b>capital</b>" not in page
    assert "<i>Paris</i>" not in page
    assert "&lt;b&gt;capital&lt;/b&gt;" in page


def test_what_the_model_says_stands_to_the_left(found):
    says = page_of(found[1]).split("<h3>What the model says</h3>")[1].split("</table>")[0]
    assert says.count('<th scope="col" class="text">') == 2
    assert says.count('<td class="text">') == 2 * len(found[1].asked)


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH")
def test_it_opens_without_an_error_and_draws_every_figure(found, tmp_path):
    for number, one in enumerate(found):
        page = tmp_path / f"{number}.html"
        page.write_text(page_of(one), "utf-8")
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [str(CHROMIUM), *FLAGS, profile, "--window-size=400,900", "--dump-dom", page.as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
        assert 'data-ready="1"' in dom
        assert "data-error" not in re.search(r"<html[^>]*>", dom)[0]
        assert len(re.findall(r'<svg viewBox="0 0 420', dom)) == len(list(charts_of(one)))
