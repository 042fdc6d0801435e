"""A patch without facts and keys: the same weights, and nothing to read."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest
import torch
from editing_help import bits, edit, same_bits
from export_help import saved, toy_patch

from bluedit import Editor, Patch
from bluedit.errors import ExportError
from bluedit.export.export import export_patch
from bluedit.export.patch_copy import stripped
from bluedit.model.loading import load
from toys import FACTS, files_in


@pytest.fixture
def made(tmp_path):
    base = saved(tmp_path / "base")
    return base, toy_patch(base)


def test_whoever_has_a_patch_can_copy_it():
    code = "from bluedit import Patch; from bluedit.export.export import forms; print('patch' in forms())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "True\n", done.stderr


def test_a_copy_for_a_named_model_is_checked_too(made, tmp_path):
    _, patch = made
    other = saved(tmp_path / "other", seed=1)
    with pytest.raises(ExportError, match="other weights"):
        export_patch(patch, "patch", tmp_path / "copy", model=str(other))
    assert not (tmp_path / "copy").exists()


def test_what_is_left(made, tmp_path):
    base, patch = made
    done = export_patch(patch, "patch", tmp_path / "bare", strip=True)
    assert done.notes[0].startswith("2 facts and their keys are left out.")
    content = b"".join(files_in(tmp_path / "bare").values())
    for fact in FACTS[:2]:
        for word in (fact.subject, fact.target, fact.prompt):
            assert word.encode() not in content
            assert json.dumps(word).encode().strip(b'"') not in content
    assert b"It rained." not in content and b"perplexity" not in content
    bare = Patch.load(tmp_path / "bare")
    assert bare.facts == () and bare.stripped == 2
    assert all(update.keys.shape == (48, 0) for batch in bare.batches for update in batch.updates)
    assert bare.state == patch.state  # the same weights
    one, two = Editor(load(str(base))), Editor(load(str(base)))
    one.apply(patch)
    two.apply(bare)
    assert same_bits(two.model, bits(one.model))
    two.undo()
    two.verify()
    assert stripped(bare).stripped == 2
    whole = export_patch(patch, "patch", tmp_path / "whole")
    assert (
        whole.notes == ()
        and files_in(tmp_path / "whole").keys()
        and Patch.load(tmp_path / "whole").facts == patch.facts
    )


@pytest.mark.parametrize("recipe", ["memit-seq-blue", "natural-blue"])
def test_later_edits_say_what_they_cannot_protect(recipe, made, caplog):
    base, patch = made
    editor = Editor(load(str(base)), tokens=480)
    editor.apply(stripped(patch))
    with caplog.at_level(logging.WARNING, logger="bluedit"):
        edit(editor, FACTS[2:3], recipe, settings={"layers": [1, 2, 3]})
    assert "2 facts were taken out of the patch that this edit stands on, so it cannot protect them" in caplog.text
    assert {fact.id for fact in editor.patch.facts} == {"3"} and editor.patch.stripped == 2
    assert torch.isfinite(editor.model.get_input_embeddings().weight).all()


def test_exports_of_a_stripped_patch_count_its_facts(made, tmp_path):
    _, patch = made
    export_patch(stripped(patch), "lora", tmp_path / "lora")
    text = (tmp_path / "lora" / "README.md").read_text("utf-8")
    assert "with 2 facts written" in text and "Rome" not in text
