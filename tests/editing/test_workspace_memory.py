"""What stays in memory after an edit of a workspace: its factors and their part in the memory of keys, and nothing else."""

import gc

import torch
from editing_help import SETTINGS, make_editor

from bluedit import Fact, Workspace
from toys import fitting


def live() -> int:
    """Bytes of all tensors that hold memory."""
    gc.collect()
    kinds = (torch.Tensor, torch.nn.Parameter)
    found = [one.untyped_storage() for one in gc.get_objects() if type(one) in kinds]
    return sum({one.data_ptr(): one.nbytes() for one in found}.values())


def factors(workspace: Workspace) -> int:
    """Bytes of the factors and keys of the newest batch."""
    updates = workspace.editor.journal.batches[-1].updates
    return sum(getattr(one, part).nbytes for one in updates for part in ("R", "A", "keys", "reach"))


def test_memory_grows_by_the_factors(tmp_path, statistics):
    """Operators hold the keys once more, in float64; a copy of one weight for each entry would be several times as much."""
    workspace = Workspace.create(tmp_path / "w", make_editor(statistics=statistics, dtype=torch.float32))
    settings = fitting("memit-seq-blue", SETTINGS)
    held, own = [], []
    for names in ("AB", "CD", "EF", "GH", "IJ", "KL"):
        facts = [Fact("The library of {} is in", name, "Rome") for name in names]
        workspace.edit(facts, "memit-seq-blue", settings=settings, known="edit", report=False)
        held.append(live())
        own.append(factors(workspace))
    weight = workspace.editor.lm.projection(1).matrix().nbytes
    assert weight > own[-1]
    for before, after, size in zip(held[2:], held[3:], own[3:], strict=False):
        assert after - before <= 2.5 * size < weight, (held, own)
    for _ in range(4):
        workspace.undo()
    assert live() <= held[1] + weight
