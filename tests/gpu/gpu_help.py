"""An edit on a device, targets that two edits share, and the most memory that a piece of code takes."""

import gc
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bluedit import Editor, Execution
from bluedit.writing.target import Targets
from toys import FACTS, corpus_in, fitting, toy_tokenizer

SETTINGS = {
    "layers": [1, 2, 3],
    "preserve.lambda": 1,
    "preserve.unit": "energy",
    "preserve.threshold": 0.2,
    "preserve.l2": 1.0,
    "objective.clamp": 5.0,
    "objective.weight_decay": 0,
    "objective.steps": 4,
    "contexts.count": 1,
}


class Shared:
    """A source of targets: the first edit optimises them, the next ones get the same."""

    def __init__(self):
        self.found = {}

    def get(self, lm, rows, site, objective, optimise):
        kept = self.found.setdefault(site, None) or optimise()
        self.found[site] = kept
        float_type = torch.float64 if lm.dtype == torch.float64 else torch.float32
        z, start, loss = (t.to(lm.device, float_type) for t in (kept.z, kept.start, kept.loss))
        return Targets(z, start, kept.steps, loss)


def editor_of(model, folder, *, targets=None, execution=None):
    """Statistics come from a text, because a model in another precision would write itself another one."""
    folder.mkdir(exist_ok=True)
    return Editor(
        model,
        toy_tokenizer(),
        corpus=str(corpus_in(folder)),
        tokens=480,
        statistics=folder / "statistics",
        targets=targets,
        execution=execution or Execution(precision="full"),
    )


def edit(editor, recipe="memit-seq-blue", facts=FACTS, **settings):
    chosen = fitting(recipe, SETTINGS | settings)
    return editor.edit(facts, recipe, settings=chosen, known="edit", report=False)


def changes(made):
    """dW = R A of every update, in order, float64 on the CPU."""
    return [update.R.double() @ update.A.double() for batch in made.patch.batches for update in batch.updates]


class Peak:
    """`bytes`: the most memory taken at one time inside the `with` by tensors made there."""

    def __init__(self, device):
        self.bytes = 0
        self.on_cuda = device.type == "cuda"
        self.counter = None if self.on_cuda else _Counter()

    def __enter__(self):
        gc.collect()
        if self.on_cuda:
            _take_workspaces()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            self.counter.__enter__()
        return self

    def __exit__(self, *error):
        if self.on_cuda:
            torch.cuda.synchronize()
            self.bytes = torch.cuda.max_memory_allocated() - self.before
        else:
            self.counter.__exit__(*error)
            self.bytes = self.counter.most


def _take_workspaces():
    """cuBLAS takes a workspace for each thread that multiplies, and autograd has a thread of its own; it keeps both."""
    some = torch.ones(64, 64, device="cuda", requires_grad=True)
    (some @ some).sum().backward()


class _Counter(TorchDispatchMode):
    """Counts bytes of storages while they live; what kernels use inside is not seen."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.known = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outer = {t.untyped_storage() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        results = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage not in self.known and storage not in outer:
                    self._add(storage)
        return results

    def _add(self, storage):
        size = storage.nbytes()
        self.known.add(storage)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size):
        self.now -= size
