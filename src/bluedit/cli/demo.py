"""`bluedit demo`: edit a real model, show what changed, save the patch, and undo the edit, in about a minute."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bluedit.cli.common import count
from bluedit.cli.output import print_tables, progress, say

if TYPE_CHECKING:
    from bluedit.editing.edit import Edit
    from bluedit.editing.editor import Editor
    from bluedit.facts import Fact

_FOLDER = Path("demo-patch")
_RELATIONS = (
    "country-capital",
    "country-continent",
    "person-language",
    "athlete-sport",
    "book-author",
    "company-city",
)


def demo(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the patch. An earlier demo-patch is replaced."),
    ] = _FOLDER,
) -> None:
    """Edit five facts of a small model, show the change, undo it.

    It takes about a minute.
    """
    from bluedit.cli.tables import ask_table
    from bluedit.editing.editor import Editor
    from bluedit.editing.patch import check_place
    from bluedit.evaluate.generate import ask
    from bluedit.evaluate.tables import edit_table

    again = out == _FOLDER
    check_place(out, force=again)
    started = time.perf_counter()
    say(
        "Loading SmolLM2-135M, and sampling text from it to learn what an edit must leave alone (only the first time) ..."
    )
    editor = Editor.load("smollm2", progress=progress())
    chosen = demo_facts()
    question = f"What is the mother tongue of {chosen[0].subject}?"
    prompts = [chosen[0].text, chosen[0].paraphrases[1], f"Question: {question}\nAnswer:", "The capital of France is"]
    before = [*ask(editor.lm, prompts, tokens=12), *ask(editor.lm, [question], tokens=20, chat=True)]
    edit = editor.edit(chosen, known="edit")
    if edit.report:
        print_tables(edit_table(edit.report.as_dict()))
    after = [*ask(editor.lm, prompts, tokens=12), *ask(editor.lm, [question], tokens=20, chat=True)]
    say("\nWhat the model says, without and with the edit; the last question is asked in chat:\n")
    print_tables(ask_table(before, after))
    layers = ", ".join(map(str, edit.recipe.written))
    seconds = time.perf_counter() - started
    say(
        f"\n{count(len(edit.facts), 'fact')} written with {edit.recipe.name} into layers {layers}; {seconds:.0f} s so far."
    )
    edit.save(out, force=again)
    say(f"Saved as a patch in {out}; look at it with: bluedit show {shlex.quote(str(out))}")
    _undo_and_repeat(editor, edit, out)
    say(f"Done in {time.perf_counter() - started:.0f} s.")


def demo_facts() -> list[Fact]:
    """BLUE's own example and four bundled facts."""
    from bluedit.facts import Fact, Neighbour, world_facts

    first = Fact(
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
    return [first, *world_facts(4, seed=1, relations=_RELATIONS, neighbours=2)]


def _undo_and_repeat(editor: Editor, edit: Edit, folder: Path) -> None:
    """Show that undo and the saved patch give exactly the same weights."""
    from bluedit.model.fingerprint import weights_fingerprint

    edited = weights_fingerprint(editor.model)
    edit.undo()
    restored = weights_fingerprint(editor.model)
    same = restored == editor.journal.base.fingerprint and restored != edited
    say(f"Undone. Every weight is bit for bit as before: {'yes' if same else 'NO'}.")
    editor.apply(folder)
    again = weights_fingerprint(editor.model) == edited
    say(f"Patch applied again from disk. Every weight is bit for bit as after the edit: {'yes' if again else 'NO'}.")
    editor.undo()
