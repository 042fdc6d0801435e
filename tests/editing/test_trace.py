"""Watching an edit: a trace is told of targets, writes and batches in order, with shapes and numbers that fit together."""

from dataclasses import replace

import pytest
import torch
from editing_help import OTHER, Recorder, bits, edit, make_editor, original, same_bits, weight

from bluedit.model.sites import Site
from bluedit.writing.loop import reach
from toys import FACTS

D_VALUE, D_KEY = 32, 48


def traced(statistics, family="llama", **options):
    trace = Recorder()
    return make_editor(family, statistics=statistics, trace=trace, **options), trace


@pytest.mark.parametrize(
    ("recipe", "settings", "events"),
    [
        ("memit-seq-blue", {}, ["target 1", "write 1", "target 3", "write 3", "batch"]),
        ("memit", {}, ["target 3", "write 1", "write 2", "write 3", "batch"]),
        ("memit", {"schedule": "single"}, ["target 1", "write 1", "batch"]),
        ("rome", {}, ["target 1", "write 1", "batch"] * 3),
        ("nse", {"rounds.lower": 0.0}, ["target 3", *["write 1", "write 2", "write 3"] * 2, "batch"]),
        ("ft", {}, ["batch"]),
    ],
)
def test_events_come_in_the_order_of_the_loop(recipe, settings, events, statistics):
    editor, trace = traced(statistics)
    made = edit(editor, FACTS, recipe, settings=settings)
    assert trace.events == events
    assert [batch.facts for batch in trace.batches] == [batch.facts for batch in made.patch.batches]
    for told, kept in zip(trace.batches, made.patch.batches, strict=True):
        assert told.updates == kept.updates and told.digest == kept.digest


@pytest.mark.parametrize("recipe", ["memit", "alphaedit-blue", "rect-seq-blue", "nse", "emmet", "pmet-blue"])
def test_shapes_and_numbers_fit_together(recipe, statistics):
    editor, trace = traced(statistics)
    made = edit(editor, FACTS, recipe)
    n = len(FACTS)
    targets = {site.layer: found for site, found in trace.targets}
    assert [write.step for write in trace.writes if not write.number] == list(made.recipe.steps())
    for write, update in zip(trace.writes, made.patch.batches[0].updates, strict=True):
        assert write.missing.shape == write.residual.shape == write.R.shape == (D_VALUE, n)
        assert (write.keys.shape, write.A.shape) == ((D_KEY, n), (n, D_KEY))
        assert write.due.shape == write.reach.shape == (n,) and write.due.dtype == torch.bool
        expected = torch.where(write.due, write.step.share * write.missing, 0.0)
        assert torch.equal(write.residual, expected)
        assert torch.equal(write.R, write.residual), "nothing comes back of an earlier batch here"
        assert torch.equal(write.reach, reach(write.residual, write.R, write.A, write.keys))
        delivered = write.R @ write.A @ write.keys
        shares = (delivered * write.residual).sum(0)[write.due] / (write.residual**2).sum(0)[write.due]
        assert torch.allclose(write.reach[write.due], shares)
        assert (update.layer, update.R.shape) == (write.step.layer, write.R.shape)
        for part in ("R", "A", "reach"):
            assert torch.equal(getattr(update, part), getattr(write, part))
        z = targets[write.step.target]
        assert z.z.shape == z.start.shape == (D_VALUE, n)
        assert z.steps.shape == z.loss.shape == (n,)


def test_the_first_residual_is_what_the_target_adds(statistics):
    editor, trace = traced(statistics)
    edit(editor, FACTS, "memit-seq-blue")
    assert [site for site, _ in trace.targets] == [Site("block", 1), Site("block", 3)]
    for (_, targets), write in zip(trace.targets, trace.writes, strict=True):
        assert torch.allclose(write.missing, targets.z - targets.start, rtol=1e-6, atol=1e-9)
        assert (write.missing.norm(dim=0) > 0.1 * targets.start.norm(dim=0)).all()


def test_a_spread_write_leaves_less_to_the_next(statistics):
    editor, trace = traced(statistics)
    edit(editor, FACTS, "memit", settings={"preserve.lambda": 1e-6, "contexts.count": 0})
    missing = [float(write.missing.norm()) for write in trace.writes]
    assert missing[0] > missing[1] > missing[2]
    assert torch.allclose(trace.writes[-1].reach, torch.ones(3).double(), atol=1e-2)


def test_feedback_shows_as_a_residual_that_makes_up_for_what_comes_back(statistics):
    """R' = R + D K, where D is what the filter dropped: the weight then gets R' A - D."""
    editor, trace = traced(statistics)
    edit(editor, FACTS[0], "rect-seq-blue")
    first = trace.writes[0]
    D = weight(editor, 1) - original(editor, 1) - first.R @ first.A
    trace.writes.clear()
    edit(editor, OTHER[1], "rect-seq-blue")
    second = trace.writes[0]
    assert D.norm() > 0.1 * (first.R @ first.A).norm()
    assert torch.allclose(second.R - second.residual, D @ second.keys, rtol=1e-8, atol=1e-10)
    assert torch.allclose(second.residual, second.missing)
    assert torch.equal(second.reach, reach(second.residual, second.residual, second.A, second.keys))


def test_rounds_are_numbered_and_say_which_facts_are_due(statistics):
    editor, trace = traced(statistics)
    everything = edit(editor, FACTS, "nse", settings={"rounds.lower": 0.0})
    lengths = trace.writes[3].missing.norm(dim=0) / trace.targets[0][1].start.norm(dim=0)
    editor.undo()
    trace.writes.clear()
    middle = float(lengths.sort().values[1:].mean())  # one fact is further from its target than this
    edit(editor, FACTS, "nse", settings={"rounds.lower": middle})
    assert [write.number for write in trace.writes] == [0, 0, 0, 1, 1, 1]
    assert [int(write.due.sum()) for write in trace.writes] == [3, 3, 3, 1, 1, 1]
    for write in trace.writes[3:]:
        assert torch.equal(write.due, lengths > middle)
        for part in (write.residual.T, write.A, write.reach):
            assert not part[~write.due].any() and part[write.due].any()
    assert len(everything.patch.batches[0].updates) == 6


def test_watching_changes_nothing(statistics):
    (watched, _), alone = traced(statistics, "gpt2"), make_editor("gpt2", statistics=statistics)
    for editor in (watched, alone):
        edit(editor, FACTS, "alphaedit", batch_size=2)
    assert same_bits(watched.model, bits(alone.model))


class Doubled:
    """Targets twice as far from where they start."""

    def get(self, lm, rows, site, objective, optimise):
        targets = optimise()
        return replace(targets, z=2 * targets.z - targets.start)


def test_a_trace_sees_the_targets_of_a_source(statistics):
    (usual, told), (other, told_other) = traced(statistics), traced(statistics, targets=Doubled())
    for editor in (usual, other):
        edit(editor, FACTS, "memit")
    (_, expected), (_, found) = told.targets[0], told_other.targets[0]
    assert torch.equal(found.z, 2 * expected.z - expected.start)
    assert torch.allclose(told_other.writes[0].R, 2 * told.writes[0].R, rtol=1e-6, atol=1e-9)
