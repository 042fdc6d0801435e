"""Progress: nothing by default, bars on request, and rich only where bars are drawn."""

import subprocess
import sys

from bluedit.cli.output import progress
from bluedit.progress import BarProgress, LineProgress, Progress, as_progress


def test_rich_is_not_imported_before_bars_are_drawn():
    code = "import sys, bluedit.progress as p; p.as_progress(True); print([m for m in ('rich', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_as_progress():
    mine = Progress()
    assert as_progress(mine) is mine
    assert type(as_progress(False)) is Progress and isinstance(as_progress(True), BarProgress)


def test_a_title_cannot_steer_the_terminal(capsys, monkeypatch):
    """A model or a file may be called anything."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a terminal
    monkeypatch.setenv("COLUMNS", "200")
    with BarProgress().task("loading m\x1b[2J\x9b [/b]", 1) as advance:
        advance()
    found = capsys.readouterr().err
    assert r"loading m\x1b[2J\x9b [/b]" in found and "\x9b" not in found


def test_nested_tasks_share_a_display_that_disappears(capsys):
    bars = BarProgress()
    with bars.task("outer", 2) as outer:
        outer()
        display = bars._bars
        with bars.task("inner", 3, "facts") as inner:
            inner(3)
            assert bars._bars is display and [task.description for task in display.tasks] == ["outer", "inner"]
        assert [task.completed for task in display.tasks] == [1]
    assert bars._bars is None
    assert capsys.readouterr().out == ""


def test_lines_for_a_log_name_the_tasks_that_run(capsys):
    lines = LineProgress(seconds=0.0)
    with lines.task("tuning", 0, "trials") as outer:
        outer()
        with lines.task("editing m\x1b[2J", 3, "facts") as inner:
            inner(2)
    assert capsys.readouterr().err.splitlines() == [
        "0:00  tuning: 1 trials",
        r"0:00  tuning: 1 trials, editing m\x1b[2J: 2 of 3 facts",
    ]


def test_lines_come_once_a_minute_and_short_work_has_none(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr("bluedit.progress.monotonic", lambda: now)
    with LineProgress().task("asking", 200, "prompts") as advance:
        for _ in range(130):
            now += 1.0
            advance()
    assert capsys.readouterr().err.splitlines() == [
        "1:00  asking: 60 of 200 prompts",
        "2:00  asking: 120 of 200 prompts",
    ]
    with LineProgress().task("asking", 2) as advance:
        now += 59.0
        advance()
    assert capsys.readouterr() == ("", "")


def test_a_log_that_is_closed_stops_nothing(monkeypatch, tmp_path):
    closed = (tmp_path / "log").open("w")
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    with LineProgress(seconds=0.0).task("asking", 1) as advance:
        advance()


def test_commands_draw_bars_in_a_terminal_and_write_lines_elsewhere(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert isinstance(progress(), BarProgress)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    assert isinstance(progress(), LineProgress)
