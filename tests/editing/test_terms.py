"""Further terms of the objective in whole edits: with several wordings, in turns, on two layers together."""

from dataclasses import replace

import pytest
import torch

from bluedit import Editor, Fact
from bluedit.errors import RecipeError
from bluedit.methods.objective import Objective
from bluedit.methods.presets import preset
from bluedit.writing.keys import batch_rows
from toys import FACTS, toy_llama, toy_tokenizer

SETTINGS = {"layers": [1, 2], "objective.steps": 4, "reteach": 0}
TERMS = {"objective.teacher": 0.5, "objective.others": 2, "objective.variance": 5.0}
AT_ONCE = {"objective.rotate": False}


def matrix(statistics, name="natural-blue", **more):
    editor = Editor(toy_llama(), toy_tokenizer(), tokens=480, statistics=statistics)
    edit = editor.edit(FACTS[:2], name, settings=SETTINGS | more, known="edit", report=False)
    assert all(torch.isfinite(update.R).all() for batch in edit.patch.batches for update in batch.updates)
    return editor.lm.projection(2).matrix().clone()


@pytest.mark.parametrize("term", TERMS)
def test_a_term_changes_what_is_written(term, statistics):
    more = {term: TERMS[term]}
    assert not torch.equal(matrix(statistics, **AT_ONCE), matrix(statistics, **AT_ONCE, **more))


def test_terms_together_with_two_facts_about_one_subject(statistics):
    assert not torch.equal(matrix(statistics, **AT_ONCE), matrix(statistics, **AT_ONCE, **TERMS))
    in_turns = {path: weight for path, weight in TERMS.items() if path != "objective.variance"}
    assert not torch.equal(matrix(statistics), matrix(statistics, **in_turns))


def test_weights_of_zero_leave_the_objective_alone(statistics):
    weightless = {"objective.others": 3, "objective.others_factor": 0.0}
    assert torch.allclose(matrix(statistics), matrix(statistics, **weightless), atol=1e-6)


def test_prefixes_that_name_subject_and_answers(statistics):
    recipe = preset("memit-seq").override({"contexts": "mentioning"})
    prefixes = recipe.contexts.prefixes(lambda _count, _seed: ())
    fact = Fact("The capital of {} is", subject="France", target="Rome", old_target="Paris")
    tokenizer = toy_tokenizer()
    rows = batch_rows(tokenizer, [fact], prefixes, recipe).rows
    texts = [tokenizer.decode(row.ids[: row.target_start]) for row in rows if row.kind == "prefixed"]
    assert texts == [
        "This text is about France. The capital of France is",
        "We were talking about Rome. The capital of France is",
        "Someone had asked about Paris. The capital of France is",
    ]
    last = [tokenizer.decode(row.ids[row.subject_last]) for row in rows if row.kind == "prefixed"]
    assert all(text.endswith("e") for text in last)
    assert replace(fact, old_target=None).named_in("About {old}.") == "About Rome."
    named = matrix(statistics, "memit-seq-blue", contexts="mentioning")
    assert not torch.equal(named, matrix(statistics, "memit-seq-blue"))


def test_variance_needs_several_contexts_at_once(statistics):
    with pytest.raises(RecipeError, match="has one of them; set"):
        matrix(statistics, **{"objective.variance": 1.0})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Objective(others=7), "objective.others is 7; it must be between 0 and 6"),
        (lambda: Objective(teacher=-1), "objective.teacher is -1; it must be at least 0"),
        (lambda: Objective(variance_layers=0), "objective.variance_layers is 0; it must be at least 1"),
    ],
)
def test_numbers_that_cannot_be(make, message):
    with pytest.raises(RecipeError) as caught:
        make()
    assert str(caught.value) == message
