"""The front: one number of a recipe at several values with the same targets, and what comes of it."""

import csv
import json
from dataclasses import replace

import pytest
from benchmark_help import BLUE, FACTS, SETTINGS, run, without_time

from bluedit.benchmark import Entry
from bluedit.benchmark.front import Point, front_charts, points_of
from bluedit.benchmark.page import write_page
from bluedit.benchmark.results import Row
from bluedit.benchmark.sweep import place_of, swept
from bluedit.editing.editor import Editor
from bluedit.editing.patch import Patch
from bluedit.errors import BenchmarkError, RecipeError
from bluedit.page.plots import write_plots

SUITES = ("generation", "locality")
SHORT = {
    "suites": SUITES,
    "facts": [replace(fact, neighbours=fact.neighbours[:1]) for fact in FACTS[:2]],
    "batch_size": 1,
}


@pytest.fixture(scope="module")
def made(lm, tmp_path_factory):
    """(folder, rows) of a front of one recipe, varied both ways, beside an entry that cannot be varied."""
    root = tmp_path_factory.mktemp("front")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLUEDIT_CACHE", str(root / "cache"))
        more = {"entries": (BLUE, "in-context"), "front": ("strength", "lambda"), "front_values": (0.5,), "at": (1, 2)}
        return root / "f", run(lm, root / "f", **SHORT, **more)


def test_each_value_is_an_entry_and_the_recipe_itself_comes_first(made):
    assert list(dict.fromkeys(row.entry for row in made[1])) == [
        f"{BLUE},strength=1", f"{BLUE},strength=0.5", f"{BLUE},lambda=1", f"{BLUE},lambda=0.5", "in-context",
    ]  # fmt: skip
    assert {row.facts for row in made[1]} == {1, 2}


def test_targets_are_optimised_once(made):
    """Two layers, two batches: the first entry's targets serve all."""
    assert len(list((made[0] / "targets").glob("*.safetensors"))) == 4
    settings = json.loads((made[0] / "config.json").read_text())["settings"]
    assert settings[f"{BLUE},lambda=0.5"]["targets"] == BLUE
    assert settings[f"{BLUE},lambda=0.5"]["preserve.lambda"] == 0.5


def test_strength_is_a_share_of_the_same_update(made):
    """The first batch has the same factors, and the weights show a part of them. (Later ones remember keys of the model as it is shown.)"""
    places = [made[0] / Entry(f"{BLUE},strength={value}", None).folder for value in ("1", "0.5")]
    whole, half = (Patch.load(place / "patch").batches[0].updates for place in places)
    assert all((a.R == b.R).all() and (a.A == b.A).all() for a, b in zip(whole, half, strict=True))
    one, other = (json.loads((place / "batches.json").read_text())["batches"][0]["norms"] for place in places)
    assert other == {layer: pytest.approx(norm / 2) for layer, norm in one.items()}


def test_the_recipe_itself_is_what_a_benchmark_without_a_front_gives(lm, made, tmp_path, monkeypatch):
    monkeypatch.setenv("BLUEDIT_CACHE", str(made[0].parent / "cache"))
    rows = without_time(run(lm, tmp_path / "r", **SHORT, entries=(BLUE,)))
    for name in ("strength", "lambda"):
        found = [row for row in without_time(made[1]) if row["entry"] == f"{BLUE},{name}=1"]
        assert [row["scores"] for row in found] == [pytest.approx(row["scores"], nan_ok=True) for row in rows]


def test_what_is_written_down(made):
    with (made[0] / "front.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    points = json.loads((made[0] / "front.json").read_text())
    assert [line["entry"] for line in lines] == [point["entry"] for point in points]
    assert {(point["sweep"], point["value"]) for point in points} == {
        ("strength", 1), ("strength", 0.5), ("lambda", 1), ("lambda", 0.5), ("", None),
    }  # fmt: skip
    by_entry = {row.entry: row.scores for row in made[1] if row.facts == 2}
    for point in (point for point in points if point["facts"] == 2):
        scores = by_entry[point["entry"]]
        assert point["said"] == scores["generated_unseen"]
        assert point["kl"] == pytest.approx((scores["passage_kl"] + scores["neighbour_kl"]) / 2)


def test_the_page_shows_it(made, tmp_path):
    page = write_page([made[0]], tmp_path / "page.html").read_text("utf-8")
    assert "The front at 2 facts: top left is best" in page and "The front at 1 facts" in page


def test_it_goes_on_and_refuses_other_numbers_of_facts(lm, made, monkeypatch):
    monkeypatch.setenv("BLUEDIT_CACHE", str(made[0].parent / "cache"))
    more = {"entries": (BLUE, "in-context"), "front": ("strength", "lambda"), "front_values": (0.5,)}
    assert without_time(run(lm, made[0], **SHORT, **more, at=(1, 2))) == without_time(made[1])
    with pytest.raises(BenchmarkError, match="holds another benchmark: at differ"):
        run(lm, made[0], **SHORT, **more, at=(2,))


def row(entry, facts, said, kl):
    scores = {"generated_unseen": said, "passage_kl": kl, "neighbour_kl": kl}
    return Row(entry, facts, 1, scores, scores, {}, None, {})


def test_which_points_are_best():
    rows = [row("unedited", 5, 0.0, 0.0), row("a:strength=1", 5, 0.5, 0.2), row("a:strength=0.5", 5, 0.5, 0.1)]
    rows += [row("b", 5, 0.9, 0.3), row("c", 5, 0.8, 0.4), row("b", 9, 0.1, 9.0), row("none", 5, float("nan"), 1.0)]
    points = points_of(rows)
    assert [(point.entry, point.facts) for point in points if point.best] == [("a:strength=0.5", 5), ("b", 5), ("b", 9)]
    charts = front_charts(points)
    assert [chart.id for chart in charts] == ["front-5"]
    assert [(one.name, list(one.points)) for one in charts[0].series] == [
        ("a, strength", [(0.1, 0.5), (0.2, 0.5)]), ("b", [(0.3, 0.9)]), ("c", [(0.4, 0.8)]),
    ]  # fmt: skip


def test_the_chart_becomes_files(tmp_path):
    pytest.importorskip("matplotlib")
    points = [Point("a:strength=1", "a", "strength", 1.0, 5, 0.5, 0.1), Point("b", "b", "", float("nan"), 5, 0.6, 0.2)]
    files = write_plots(front_charts(points), tmp_path, ["svg", "png"])
    assert [file.name for file in files] == ["front-5.svg", "front-5.png"] and all(
        file.stat().st_size for file in files
    )


def test_names_of_what_was_varied():
    assert place_of("memit:layers=1+2,strength=0.5") == ("memit:layers=1+2", "strength", 0.5)
    assert place_of("memit:lambda=1e-05") == ("memit", "lambda", 1e-05)
    assert place_of("memit") is None and place_of("memit:preserve.lambda=3") is None


def test_recipes_keep_their_filters_and_null_spaces_vary_their_own_weight(lm):
    editor = Editor(lm, tokens=480)
    found = {entry.name: entry.recipe for entry in swept(editor, [f"rect:{SETTINGS}"], ["strength"], [2.0])}
    assert found[f"rect:{SETTINGS},strength=2"].settings()["filters"] == "rect+strength"
    null = swept(editor, ["alphaedit:layers=1+2+3,preserve.l2=8"], ["lambda"], [0.25])
    assert null[1].recipe.settings()["preserve.l2"] == 2 and null[1].group == "alphaedit:layers=1+2+3,preserve.l2=8"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"front": ("strenght",)}, BenchmarkError, "sweep cannot be 'strenght'; did you mean 'strength'"),
        ({"front_values": (0.5, -1.0)}, BenchmarkError, "a front cannot have the value -1; values are above 0"),
        (
            {"suites": ("locality",)},
            BenchmarkError,
            "a front needs the suites generation and locality, and generation is missing",
        ),
        ({"at": (1, 3)}, BenchmarkError, "there are 2 facts, and measuring is asked for after 1, 3"),
        ({"entries": ("ft:layers=1+2",)}, BenchmarkError, "ft has no filters, so its strength cannot be varied"),
        ({"entries": ("ft:layers=1+2",), "front": ("lambda",)}, BenchmarkError, "ft has no lambda to vary"),
        ({"entries": ("emmet:layers=1+2",), "front": ("lambda",)}, BenchmarkError, "emmet has no lambda to vary"),
        ({"entries": ("memti",)}, RecipeError, "unknown recipe 'memti'"),
    ],
)
def test_what_cannot_be_is_said(lm, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        run(lm, tmp_path / "r", **{**SHORT, "entries": (BLUE,), "front": ("strength",), **changes})
    assert not (tmp_path / "r" / "config.json").exists()
