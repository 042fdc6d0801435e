"""What one batch leaves for the next: the keys of earlier edits are preserved, on statistics of the unedited weights."""

from dataclasses import replace

import pytest
import torch
from editing_help import (
    OTHER,
    SETTINGS,
    Recorder,
    bits,
    changed,
    dense,
    edit,
    make_editor,
    moments_of,
    same_bits,
)

from bluedit import Editor, Fact, Patch
from bluedit.text.prompts import rows_of
from bluedit.writing import keys as keys_module
from bluedit.writing.keys import keys_after, read_keys
from bluedit.writing.memory import Memory
from toys import FACTS


def recorded(family="llama", **options):
    """An editor and a trace that keeps the keys of every write."""
    trace = Recorder()
    return make_editor(family, trace=trace, **options), trace


def parts(editor, statistics, recipe, layer):
    """(S without memory, U) of a recipe, from the definition."""
    with editor.unedited():
        C = moments_of(editor, [layer], statistics)[layer].matrix
    if recipe.startswith("memit"):
        return SETTINGS["preserve.lambda"] * C, torch.eye(len(C), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(C)
    null = values.cumsum(0) <= SETTINGS["preserve.threshold"] * values.sum()
    assert 0 < int(null.sum()) < len(C)
    return SETTINGS["preserve.l2"] * torch.eye(len(C), dtype=torch.float64), vectors[:, null]


def close(found, expected):
    return torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("recipe", ["alphaedit-blue", "memit-seq", "memit-seq-blue", "memit", "memit-blue"])
@pytest.mark.parametrize(("edits", "family"), [(1, "llama"), (3, "gpt2")])
def test_later_batches_preserve_the_keys_of_earlier_ones(family, recipe, edits, statistics):
    """Three batches, in one edit or each in its own, against the equation written out."""
    editor, trace = recorded(family, statistics=statistics)
    few = {"objective.steps": 2}
    for facts in [FACTS] if edits == 1 else FACTS:
        edit(editor, facts, recipe, batch_size=1, settings=few)
    batches = editor.patch.batches
    writes = iter(trace.writes)
    memory: dict[int, list[torch.Tensor]] = {}
    has_memory = not recipe.removesuffix("-blue").endswith("memit")
    for number, batch in enumerate(batches):
        for update in batch.updates:
            K = next(writes).keys.double()
            base, U = parts(editor, statistics, recipe, update.layer)
            earlier = torch.cat(memory[update.layer], dim=1) if number else None
            remembering, forgetting = dense(base, U, earlier, K), dense(base, U, None, K)
            assert close(update.A, remembering if has_memory else forgetting)
            if number:
                assert not close(update.A, forgetting if has_memory else remembering), "memory makes no difference here"
        for update in batch.updates:
            memory.setdefault(update.layer, []).append(update.keys)
    assert len(batches) == 3


@pytest.mark.parametrize(
    ("recipe", "again"),
    [("memit-seq-blue", 0), ("memit", 0), ("rect-seq-blue", 1), ("nse", 1)],
    ids=["two layers", "all layers", "filtered", "in rounds"],
)
def test_the_stored_keys_are_those_of_the_edited_model(statistics, recipe, again, monkeypatch):
    """They are read again only where something changed a layer after the next one's keys were read."""
    read = []
    monkeypatch.setattr(keys_module, "keys_after", lambda *given: read.append(given) or keys_after(*given))
    editor = make_editor(statistics=statistics)
    rounds = {"rounds.lower": 0.0, "rounds.upper": 1e9} if recipe == "nse" else {}
    (batch,) = edit(editor, FACTS[:2], recipe, settings=rounds).patch.batches
    assert len(read) == again
    rows = rows_of(editor.lm.tokenizer, FACTS[:2], batch.origin.prefixes)
    layers = sorted({update.layer for update in batch.updates})
    assert len(layers) == (2 if "blue" in recipe else 3)
    now = read_keys(editor.lm, rows, layers, 2)
    for update in batch.updates:
        assert torch.equal(update.keys, now[update.layer])


def test_edits_by_another_recipe_are_remembered_too(statistics):
    editor, trace = recorded(statistics=statistics)
    first = edit(editor, FACTS[0], "memit")
    trace.writes.clear()
    second = edit(editor, FACTS[1], "alphaedit-blue")
    for write, update in zip(trace.writes, second.patch.batches[0].updates, strict=True):
        earlier = next(u.keys for u in first.patch.batches[0].updates if u.layer == update.layer)
        base, U = parts(editor, statistics, "alphaedit-blue", update.layer)
        assert close(update.A, dense(base, U, earlier, write.keys.double()))
        assert not close(update.A, dense(base, U, None, write.keys.double()))


def test_a_layer_that_earlier_edits_did_not_write_remembers_the_keys_they_have_there(statistics):
    editor, trace = recorded(statistics=statistics)
    first = edit(editor, FACTS[:2], settings={"layers": [1]})
    prefixes = first.patch.batches[0].origin.prefixes
    assert prefixes
    there = read_keys(editor.lm, rows_of(editor.lm.tokenizer, FACTS[:2], prefixes), (3,), 2)[3]
    trace.writes.clear()
    (update,) = edit(editor, FACTS[2], settings={"layers": [3]}).patch.batches[0].updates
    K = trace.writes[0].keys.double()
    base, U = parts(editor, statistics, "alphaedit-blue", 3)
    assert close(update.A, dense(base, U, there, K))
    assert not close(update.A, dense(base, U, None, K))


def test_merged_facts_count_once_at_layers_they_were_not_written_to(statistics):
    """Two facts of one subject have one key where MEMIT-Merge writes them, and elsewhere too."""
    editor = make_editor(statistics=statistics)
    twice = [FACTS[0], Fact("{} lives in", FACTS[0].subject, "Berlin"), FACTS[1]]
    made = edit(editor, twice, "memit-seq", settings={"layers": [1], "schedule": "single", "subjects": "merge"})
    (batch,) = made.patch.batches
    memory = Memory(editor.lm)
    keys = memory._keys_of(batch, 3)
    assert keys.shape == batch.updates[0].keys.shape == (48, 2)
    again = memory._keys_of(replace(batch, updates=(replace(batch.updates[0], layer=2),)), 1)
    assert torch.allclose(again, batch.updates[0].keys)


def test_undone_edits_are_forgotten(statistics):
    editor, clean = make_editor(statistics=statistics), make_editor(statistics=statistics)
    edit(editor, FACTS[:2]).undo()
    for each in (editor, clean):
        edit(each, FACTS[2])
    assert same_bits(editor.model, bits(clean.model))


def test_statistics_are_those_of_the_unedited_weights(tmp_path):
    editor, fresh = (make_editor(statistics=tmp_path / name) for name in ("one", "two"))
    edit(editor, FACTS, settings={"layers": [1], "objective.clamp": 50.0})
    state = bits(editor.model)
    edit(editor, OTHER[1], settings={"layers": [3]})  # layer 3's statistics are first needed on edited weights
    assert set(changed(editor.model, state)) == {"model.layers.3.mlp.down_proj.weight"}
    found = moments_of(editor, [3], tmp_path / "one")[3].matrix  # as it was stored
    expected = moments_of(fresh, [3], tmp_path / "two")[3].matrix
    assert torch.equal(found, expected)
    editor.undo()
    edited = Editor(editor.model, editor.lm.tokenizer, tokens=480)
    assert not torch.allclose(moments_of(edited, [3], tmp_path / "three")[3].matrix, expected), (
        "the first edit is too small to tell"
    )


# prefixes belong to the batch


@pytest.mark.parametrize(
    "layers", [([1], [1], [1, 3]), ([1], [3], [1, 2, 3]), ([1, 3], [1, 3], [1, 3]), ([2], [1, 3], [1, 3])]
)
@pytest.mark.parametrize("recipe", ["memit-seq", "memit-seq-blue", "rect-seq-blue"])
def test_edits_with_other_prefixes_go_on_from_a_saved_patch(recipe, layers, statistics, tmp_path):
    """A third edit preserves the keys of both, read with the prefixes of each, whether or not they were saved in between."""
    live = make_editor(statistics=statistics)
    for number, fact in enumerate(FACTS[:2]):
        edit(live, fact, recipe, settings={"layers": layers[number], "contexts.count": number + 1})
    assert [len(batch.origin.prefixes) for batch in live.patch.batches] == [1, 2]
    live.patch.save(tmp_path / "patch")
    fresh = make_editor(statistics=statistics)
    fresh.apply(tmp_path / "patch")
    for editor in (live, fresh):
        edit(editor, FACTS[2], recipe, settings={"layers": layers[2], "contexts.count": 3})
    assert same_bits(fresh.model, bits(live.model))
    mixed_up = make_editor(statistics=statistics)
    first, second = Patch.load(tmp_path / "patch").batches
    other = replace(first, origin=replace(first.origin, prefixes=second.origin.prefixes))
    mixed_up.apply(Patch(live.journal.base, (other, second)))
    edit(mixed_up, FACTS[2], recipe, settings={"layers": layers[2], "contexts.count": 3})
    read_again = set(live.edits[2].recipe.written) - set(live.edits[0].recipe.written)
    assert same_bits(mixed_up.model, bits(live.model)) == (not read_again), "prefixes matter where keys are read again"


@pytest.mark.parametrize(
    "settings",
    [
        {"subjects": "unit"},
        {"subjects": "unit", "layers": [2]},
        {"subjects": "merge"},
        {"wordings": "natural"},
        {"reteach": 2},
        {"filters": "rect+prune", "filters.rect.feedback": True},
    ],
)
def test_any_parts_go_on_from_a_saved_patch(settings, statistics, tmp_path):
    """Whatever one edit leaves for the next is in the patch: a third edit gives the same bits on a fresh copy."""
    live, fresh = (make_editor(statistics=statistics) for _ in range(2))
    few = {"objective.steps": 2}
    edit(live, FACTS[:2], "memit-seq-blue", settings=few | settings)
    edit(live, OTHER, "memit-seq-blue", settings=few | settings)
    live.patch.save(tmp_path / "patch")
    fresh.apply(tmp_path / "patch")
    assert same_bits(fresh.model, bits(live.model))
    for editor in (live, fresh):
        edit(editor, FACTS[2], "memit-seq-blue", settings=few | settings | {"layers": [1, 2, 3]})
    assert same_bits(fresh.model, bits(live.model))
