"""How many files the facts and the recipe of `bluedit edit` pass through on their way to the weights."""

from __future__ import annotations

import sys
from pathlib import Path

from cli_help import FACT, edit

import bluedit
from bluedit.facts.fact import Fact
from bluedit.methods.recipe import Recipe
from bluedit.writing.context import WriteContext

ROOT = str(Path(bluedit.__file__).parent)


def holds(value, kinds):
    return isinstance(value, kinds) or (isinstance(value, list | tuple) and any(holds(one, kinds) for one in value))


def files_given(call, *groups):
    """For each group of classes, the files of bluedit with a function that was called with such an object or a list of them."""
    found = [set() for _ in groups]

    def look(frame, event, _):
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(ROOT):
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        values = [frame.f_locals.get(name) for name in names if name != "self"]
        for files, kinds in zip(found, groups, strict=True):
            if any(holds(value, kinds) for value in values):
                files.add(code.co_filename.removeprefix(ROOT + "/"))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(before)
    return found


def test_a_fact_passes_through_at_most_10_files_and_a_recipe_through_8(model, tmp_path):
    facts, recipe = files_given(
        lambda: edit(model, tmp_path / "patch", "-f", FACT, "--no-report"), Fact, (Recipe, WriteContext)
    )
    facts -= {"facts/records.py"}  # which saves the facts afterwards
    assert {"cli/edit.py", "editing/editor.py", "writing/edit_run.py"} <= facts
    assert len(facts) <= 10, sorted(facts)
    assert {"writing/writer.py", "writing/loop.py"} <= recipe
    # those that make the recipe of its name, and the one that holds it in a context; not the file of Recipe's own settings
    recipe |= {"methods/presets.py", "editing/editor.py", "writing/edit_run.py"}
    recipe -= {"methods/paths.py"}
    assert len(recipe) <= 8, sorted(recipe)
