"""States of a text's first tokens are far longer than others; a target there is bounded by the length of an ordinary state."""

from dataclasses import replace

import pytest
import torch

from bluedit import Execution, Fact
from bluedit.forward import longest_units, observe, shortened
from bluedit.methods.descent import Momentum
from bluedit.methods.objective import Objective
from bluedit.methods.recipe import Recipe
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.model.state import frozen
from bluedit.progress import Progress
from bluedit.writing.keys import batch_rows
from bluedit.writing.targets import optimise_targets
from toys import FACTS, toy_llama, toy_tokenizer

SITES = (Site("block", 1), Site("block", 2))
FIRST = Fact("{} live in", subject="I", target="Paris")  # written at the token after the subject
OBJECTIVE = Objective(together=True, learning_rate=0.4, steps=6, clamp=0.5, stop_loss=0.0, weight_decay=0.0)


@pytest.fixture
def lm():
    found = EditableModel.of(toy_llama(), toy_tokenizer(), "llama")
    after = found.tokenizer(FIRST.text)["input_ids"][1]
    with torch.no_grad():
        found.model.get_input_embeddings().weight[after] *= 200
    return found


def rows_of(lm, *facts):
    return batch_rows(lm.tokenizer, facts, (), Recipe("plain")).rows


def test_ordinary_columns_have_no_bound(lm):
    assert longest_units(lm, rows_of(lm, *FACTS), SITES) is None


def test_the_bound_is_the_length_of_the_states_at_the_prompts_ends(lm):
    rows = rows_of(lm, FACTS[0], FIRST)
    found = longest_units(lm, rows, SITES)
    assert found.shape == (2, 2) and torch.isinf(found[:, 0]).all()
    (bare,) = [row for row in rows if row.fact == 1 and row.is_bare]
    assert bare.subject_last == 1
    ends = observe(lm, [replace(bare, subject_last=bare.target_start - 1)], SITES)
    torch.testing.assert_close(found[:, 1].double(), torch.stack([ends[site].norm() for site in SITES]).double())


def test_states_are_shortened_only_where_they_are_far_longer():
    states = torch.tensor([[[3.0, 4.0], [12.0, 16.0], [6.0, 8.0]]])
    found = shortened(states, torch.tensor([[torch.inf, 5.0, 5.1]]))
    torch.testing.assert_close(found, torch.tensor([[[3.0, 4.0], [3.0, 4.0], [6.0, 8.0]]]))


@pytest.mark.parametrize("descent", ["momentum", "adam"])
def test_a_vector_at_a_long_state_stays_as_short_as_others(lm, descent):
    rows = rows_of(lm, FACTS[0], FIRST)
    objective = replace(OBJECTIVE, descent=Momentum() if descent == "momentum" else "adam")
    with frozen(lm.model), Progress().task("", 0) as advance:
        found = optimise_targets(lm, rows, SITES[0], objective, Execution(), advance, later=SITES[1:])
    longest = longest_units(lm, rows, SITES)
    moved = torch.stack([(found.z - found.start).norm(dim=0), found.later[0].norm(dim=0)])
    long = observe(lm, [row for row in rows if row.fact == 1 and row.is_bare], SITES)
    for site, bound, delta in zip(SITES, longest[:, 1], moved[:, 1], strict=True):
        assert bound < long[site].norm() / 2, "the state itself is far longer"
        assert 0 < delta <= 0.5 * bound * (1 + 1e-5)
    assert (moved[:, 0] > 0).all()
