"""What a write delivers where a block changes its MLP's output before adding it: the target is met, and is not if that is ignored."""

from dataclasses import replace

import pytest
from editing_help import Recorder

from bluedit import Editor, Fact
from bluedit.evaluate.answers import score
from bluedit.model.editable import EditableModel
from bluedit.writing.keys import batch_rows, read_values
from families import FAMILIES
from toys import toy_tokenizer

FACT = Fact("The library of {}", subject="London", target="Rome")
SETTINGS = {
    "schedule": "single",
    "layers": [1],
    "preserve.lambda": 1e-6,
    "objective.clamp": 20.0,
    "objective.weight_decay": 0,
    "objective.steps": 15,
    "objective.learning_rate": 1.0,
    "contexts.count": 0,
}


def written(kind, statistics, *, naive=False, **settings):
    """(share of the residual that is still missing at the target, log-probability of the new answer) after a write of one fact."""
    (family,) = (f for f in FAMILIES if f.kind == kind)
    trace = Recorder()
    lm = EditableModel.of(family.make(), toy_tokenizer())
    anatomy = replace(lm.anatomy, additive=True, scales=()) if naive else lm.anatomy
    editor = Editor(lm.model, lm.tokenizer, tokens=256, trace=trace, statistics=statistics, anatomy=anatomy)
    recipe = editor.recipe("memit-seq", SETTINGS | settings)
    editor.edit([FACT], recipe, known="edit", report=False)
    (site, targets) = trace.targets[-1]
    found = read_values(editor.lm, batch_rows(editor.lm.tokenizer, [FACT], (), recipe).rows, site, 1)
    missing = (targets.z - found).norm() / (targets.z - targets.start).norm()
    return float(missing), score(editor.lm, [(FACT.text, FACT.target)])[0].mean_logprob


@pytest.mark.parametrize("kind", ["gemma2", "gemma3_text", "olmo2", "glm4", "exaone4"])
def test_a_target_behind_a_norm_is_met_at_the_projection(kind, tmp_path):
    """A residual wanted after the norm, written as if the norm were not there, misses its target."""
    missing, said = written(kind, tmp_path)
    naively_missing, naively_said = written(kind, tmp_path, naive=True)
    assert missing < 1e-2 and naively_missing > 0.2
    assert said > naively_said


@pytest.mark.parametrize("kind", ["granite", "minicpm3"])
@pytest.mark.parametrize(
    "schedule", [{}, {"schedule": "spread", "layers": [0, 1]}, {"schedule": "boundary", "layers": [0, 1]}]
)
def test_a_multiple_of_the_output_is_divided_out(kind, schedule, tmp_path):
    missing, _ = written(kind, tmp_path, **schedule)
    naively_missing, _ = written(kind, tmp_path, naive=True, **schedule)
    assert missing < 2e-2 and naively_missing > 0.1
