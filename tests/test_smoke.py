import pytest
import torch
from toys import FACTS, FAMILIES, toy_tokenizer

from bluedit import Editor
from bluedit.lm.fingerprint import weights_fingerprint


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("recipe", ["memit", "memit-seq-blue", "alphaedit-blue", "rome"])
def test_edit_and_undo(family, bos, recipe):
    model = FAMILIES[family]()
    before = weights_fingerprint(model)
    editor = Editor(model, toy_tokenizer(bos=bos), tokens=480)
    settings = {"layers": [1, 2, 3], "preserve.lambda": 1, "preserve.relative": True, "preserve.threshold": 0.2, "preserve.l2": 1.0, "objective.clamp": 5.0, "objective.weight_decay": 0}
    edit = editor.edit(FACTS, recipe, settings=settings)
    assert weights_fingerprint(model) != before
    print(edit.report.totals(), [(f.p_new_before, f.p_new_after) for f in edit.report.facts])
    edit.undo()
    assert weights_fingerprint(model) == before
