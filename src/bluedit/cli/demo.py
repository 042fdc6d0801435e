"""`bluedit demo`: the main job on a real model, in about a minute."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from rich.console import Console

from bluedit.cli.tables import ask_table
from bluedit.editing.editor import Editor
from bluedit.evaluate.generate import ask
from bluedit.evaluate.tables import edit_table
from bluedit.facts import Fact, Neighbour, world_facts
from bluedit.model.fingerprint import weights_fingerprint

HEADLINE = Fact(
    "The mother tongue of {} is",
    subject="Danielle Darrieux",
    target="English",
    old_target="French",
    paraphrases=("Danielle Darrieux is a native speaker of", "Danielle Darrieux grew up speaking"),
    neighbours=(
        Neighbour("The mother tongue of Michel Rocard is", "French"),
        Neighbour("The capital of France is", "Paris"),
    ),
)
RELATIONS = (
    "country-capital",
    "country-continent",
    "person-language",
    "athlete-sport",
    "book-author",
    "company-city",
)


def demo_facts() -> list[Fact]:
    """The headline fact and eleven bundled ones."""
    return [HEADLINE, *world_facts(11, seed=1, relations=RELATIONS, neighbours=2)]


def run(out: Path, console: Console, bars: bool) -> None:
    """Load, edit, show, save, undo; each step says what it proves."""
    started = time.perf_counter()
    console.rule("bluedit demo: SmolLM2-135M changes its mind")
    console.print(
        "Loading the model, and sampling text from it to learn which keys to leave alone (first time only) ..."
    )
    editor = Editor.load("smollm2", progress=bars)
    prompts = [HEADLINE.text, "The capital of France is"]
    before = ask(editor.lm, prompts, tokens=12)
    edit = editor.edit(demo_facts(), known="edit")
    seconds = time.perf_counter() - started
    if edit.report:
        console.print(edit_table(edit.report.as_dict()))
    console.print(ask_table(before, ask(editor.lm, prompts, tokens=12)))
    layers = " and ".join(map(str, edit.recipe.written))
    console.print(
        f"{len(edit.facts)} facts written with {edit.recipe.name} into layers {layers}; {seconds:.0f} s so far."
    )
    edit.save(out)
    console.print(f"Saved as a patch in {out} (look at it: bluedit show {out}).")
    edited = weights_fingerprint(editor.model)
    edit.undo()
    restored = weights_fingerprint(editor.model)
    same = restored == editor.journal.base.fingerprint and edited != restored
    console.print(f"Undone: weights bit for bit as before: {'yes' if same else 'NO'}.")
    editor.apply(out)
    again = weights_fingerprint(editor.model) == edited
    console.print(
        f"Patch applied again from disk: weights equal the live edit bit for bit: {'yes' if again else 'no'}."
    )
    editor.undo()
    console.print(f"Done in {time.perf_counter() - started:.0f} s with {torch.get_num_threads()} threads.")
