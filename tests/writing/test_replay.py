"""Replay: the later layers' targets are observed with the first one's in place."""

import pytest
import torch

from bluedit import Editor
from bluedit.model.sites import Place, Site
from bluedit.writing.trace import Trace
from toys import FACTS, toy_llama, toy_tokenizer

SETTINGS = {"layers": [1, 2, 3], "objective.steps": 6, "contexts.count": 1}


class Kept(Trace):
    def __init__(self):
        self.targets = {}

    def on_target(self, site, targets):
        self.targets[site] = targets


def edit(recipe, **settings):
    trace = Kept()
    tokenizer = toy_tokenizer()
    editor = Editor(toy_llama(), tokenizer, tokens=600, trace=trace, progress=False)
    editor.edit(FACTS[:2], recipe, settings=SETTINGS | settings, known="edit", report=False)
    return editor, trace.targets


@pytest.mark.parametrize(("every", "layers"), [(False, [1, 3]), (True, [1, 2, 3])])
def test_one_target_is_optimised(every, layers):
    editor, targets = edit("memit-seq-replay", **{"schedule.every": every})
    assert [site.layer for site in targets] == layers == list(editor.patch.layers)
    assert all((targets[Site(Place.BLOCK, layer)].steps == 0).all() for layer in layers[1:])
    assert (targets[Site(Place.BLOCK, 1)].steps > 0).any()


def test_partial_strength_writes_a_share_of_the_first_residual():
    whole, targets = edit("memit-seq-blue")
    part, again = edit("memit-seq-blue", **{"schedule.first": 0.75})
    first = Site(Place.BLOCK, 1)
    assert torch.equal(targets[first].z, again[first].z)
    R, less = (editor.patch.batches[0].updates[0].R for editor in (whole, part))
    torch.testing.assert_close(less, 0.75 * R)
