"""Edited models in EleutherAI's lm-evaluation-harness: a model named "bluedit" for it, and its tasks from Python. Needs the extra `harness` of bluedit."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bluedit.editing.editor import Editor
from bluedit.errors import BenchmarkError, BluEditError, did_you_mean
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import weights_fingerprint
from bluedit.model.loading import load
from bluedit.model.state import frozen

if any(importlib.util.find_spec(name) is None for name in ("lm_eval", "accelerate")):
    raise BenchmarkError(
        "lm-evaluation-harness tasks need the packages lm-eval and accelerate; run: pip install lm-eval accelerate"
    )

from lm_eval.api.registry import register_model  # pyright: ignore[reportMissingImports]
from lm_eval.evaluator import evaluate  # pyright: ignore[reportMissingImports]
from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]

from bluedit.benchmark._harness_guards import bars, seeded, without_notices
from bluedit.benchmark._harness_tasks import joined, load_tasks, name_of, reason, with_shots

__all__ = ["ASKING", "HarnessModel", "evaluate_tasks", "load_tasks"]

_HFLM: Any = HFLM  # its decorator hides its type
ASKING = (  # arguments of HFLM that apply to a model that is loaded already
    "batch_size",
    "max_batch_size",
    "max_length",
    "truncation",
    "logits_cache",
    "softmax_dtype",
    "mixed_precision_dtype",
    "add_bos_token",
    "prefix_token_id",
    "think_end_token",
    "enable_thinking",
    "chat_template_args",
)


class HarnessModel(_HFLM):
    """A model for lm-eval, optionally with a patch. lm-eval knows it as "bluedit" once this module is imported.

    Args:
        model: anything that `bluedit.model.loading.load` takes; or an Editor or EditableModel, which is used as it is.
        patch: folder of a patch to apply to the model after loading.
        dtype, device: as for `load`.
        force: apply the patch to other weights than it was made for.
        asking: arguments of lm-eval's `HFLM` that apply to a loaded model; their names are in `ASKING`.

    Raises:
        BenchmarkError: an unknown argument, or a patch for a model that is loaded already.
        ModelError, PatchError: the model cannot be loaded, or the patch does not fit it.
    """

    def __init__(
        self,
        model: str | Editor | EditableModel = "smollm2",
        patch: str | Path | None = None,
        *,
        dtype: str | torch.dtype | None = None,
        device: str | None = "auto",
        force: bool = False,
        **asking: Any,
    ) -> None:
        _check_arguments(asking)
        self.patch = None if patch is None else str(patch)
        if isinstance(model, (Editor, EditableModel)):
            if patch is not None:
                raise BenchmarkError(
                    "the model is loaded already; apply the patch to it with Editor(model).apply(patch)"
                )
            self.lm = model.lm if isinstance(model, Editor) else model
        else:
            # lm-eval's command asks for cuda:0 unless its user names a device
            missing = device is not None and device.startswith("cuda") and not torch.cuda.is_available()
            self.lm = load(str(model), dtype=dtype, device="auto" if device is None or missing else device)
            if self.patch is not None:
                Editor(self.lm).apply(self.patch, force=force)
        with without_notices():
            # a copy, because lm-eval gives the tokenizer a padding token
            super().__init__(self.lm.model, backend="causal", tokenizer=copy.deepcopy(self.lm.tokenizer), **asking)

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval stores with its results."""
        return {
            "model_name": self.lm.name,
            "model_num_parameters": self.lm.model.num_parameters(),
            "model_dtype": str(self.lm.dtype),
            "patch": self.patch,
            "weights_fingerprint": weights_fingerprint(self.lm.model),
        }


register_model("bluedit")(HarnessModel)


def evaluate_tasks(
    model: Editor | EditableModel | HarnessModel,
    tasks: str | Sequence[Any],
    *,
    include: str | Path | None = None,
    limit: float | None = None,
    shots: int | None = None,
    batch_size: int | str = 8,
    progress: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Run tasks of lm-eval on a model with the weights it has now. Model and tokenizer are unchanged afterwards.

    Args:
        model: the model; make a HarnessModel of it first to set more than the batch size.
        tasks: names as for `load_tasks`, or what it returned.
        include: a folder with task files.
        limit: number of items of each task; below 1, a share of them.
        shots: examples before each question, except in tasks whose file says 0; None means the task's own number.
        batch_size: texts per forward pass.
        progress: whether bars may be drawn.
        options: further arguments of `lm_eval.evaluate`, e.g. apply_chat_template=True or log_samples=True.

    Returns:
        lm-eval's own result: "results" by task and metric, "n-samples", "configs", "versions", ...

    Raises:
        BenchmarkError: the tasks cannot be loaded or run.
    """
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    loaded = load_tasks(names, include, progress=progress) if all(isinstance(name, str) for name in names) else names
    lm = model.lm if isinstance(model, (Editor, HarnessModel)) else model
    with frozen(lm.model), bars(progress), seeded():
        harness = model if isinstance(model, HarnessModel) else HarnessModel(lm, batch_size=batch_size)
        try:
            together = joined(loaded)
            with with_shots(together["tasks"].values(), shots):
                results: Any = evaluate(harness, together, **{"limit": limit, "log_samples": False, **options})
        except (BluEditError, MemoryError):
            raise
        except Exception as error:  # templates, metrics and data raise exceptions of many types
            raise BenchmarkError(f"lm-eval cannot run {', '.join(map(name_of, loaded))}: {reason(error)}") from error
        config = {**harness.get_model_info(), "batch_size": harness.batch_size, "limit": limit}
    return {**results, "config": config, "lm_eval_version": version("lm_eval")}


def _check_arguments(asking: dict[str, Any]) -> None:
    """Refuse unknown arguments. lm-eval ignores those that do not apply to a loaded model, so with a mistyped `patch` the unedited model would be
    measured."""
    own = ("model", "patch", "dtype", "device", "force")
    wrong = [name for name in asking if name not in ASKING]
    if wrong:
        raise BenchmarkError(
            f"the harness model has no argument {wrong[0]!r}; {did_you_mean(wrong[0], (*own, *ASKING))}"
        )
