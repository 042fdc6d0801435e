"""Edited models in EleutherAI's lm-evaluation-harness: its model "bluedit", and its tasks from Python. Needs bluedit's extra `harness`."""

from __future__ import annotations

import copy
import difflib
import importlib.util
import io
import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

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
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED  # pyright: ignore[reportMissingImports]
from lm_eval.evaluator import evaluate  # pyright: ignore[reportMissingImports]
from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]
from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

_HFLM: Any = HFLM  # its decorator hides its type
ASKING = (
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
    """A model with a patch, as lm-eval asks it. Known there as "bluedit" once this module is imported.

    Args:
        model: anything `bluedit.model.loading.load` takes; or an Editor or EditableModel, which is asked as it is.
        patch: folder of a patch to write into the model that is loaded.
        dtype, device: as for `load`.
        force: write the patch into other weights than it was made for.
        asking: lm-eval's own arguments of `HFLM` on how a loaded model is asked; the names of `ASKING`.

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
                    "the model is loaded already; write the patch into it with Editor(model).apply(patch)"
                )
            self.lm = model.lm if isinstance(model, Editor) else model
        else:
            # lm-eval's command asks for cuda:0 when its user named no device
            missing = device is not None and device.startswith("cuda") and not torch.cuda.is_available()
            self.lm = load(str(model), dtype=dtype, device="auto" if device is None or missing else device)
            if self.patch is not None:
                Editor(self.lm).apply(self.patch, force=force)
        with _without_notices():
            # lm-eval gives the tokenizer a padding token
            super().__init__(self.lm.model, backend="causal", tokenizer=copy.deepcopy(self.lm.tokenizer), **asking)

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes beside its results."""
        return {
            "model_name": self.lm.name,
            "model_num_parameters": self.lm.model.num_parameters(),
            "model_dtype": str(self.lm.dtype),
            "patch": self.patch,
            "weights_fingerprint": weights_fingerprint(self.lm.model),
        }


register_model("bluedit")(HarnessModel)


def load_tasks(names: str | Sequence[str], include: str | Path | None = None, *, progress: bool = False) -> list[Any]:
    """lm-eval's tasks (and groups of tasks) with their data.

    Args:
        names: of tasks, groups or tags, or paths of task files.
        include: a folder with task files; its names come before lm-eval's own. When it has all of them, lm-eval's own thousands
            (a quarter of a minute) are not read.
        progress: whether bars may be drawn.

    Raises:
        BenchmarkError: unknown names, a broken task file, or data that cannot be had.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise BenchmarkError("no tasks were given; name tasks of lm-eval, or task files of your own")
    if include is not None and not Path(include).is_dir():
        raise BenchmarkError(f"there is no folder {include} of task files; make it, or name a task file as the task")
    with _without_notices(), _bars(progress), _seeded():
        manager = TaskManager(include_path=include, include_defaults=False)
        if any(not Path(n).is_file() and n not in (*manager.all_subtasks, *manager.all_tags) for n in names):
            manager = TaskManager(include_path=include)
        unknown = [n for n in names if not Path(n).is_file() and n not in manager.all_tasks]
        if unknown:
            raise BenchmarkError(_unknown(unknown[0], manager.all_tasks, include))
        return [part for name in names for part in _load_task(manager, name)]


def _load_task(manager: TaskManager, name: str) -> list[Any]:
    """A group as itself, a tag as its tasks."""
    try:
        found: Any = manager.load([name])
    except Exception as error:  # yaml, datasets and the task file's own functions raise their many kinds
        entry = manager.task_index.get(name)
        file = f" ({entry.yaml_path})" if entry and entry.yaml_path else ""
        raise BenchmarkError(f"the task {name}{file} cannot be loaded: {_reason(error)}") from error
    return list(found["groups"].values())[:1] or list(found["tasks"].values())


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
    """Ask a model, with the weights it has now, the tasks of lm-eval. Model and tokenizer are left as they were.

    Args:
        model: what is asked; make a HarnessModel of it first to set more than the batch size.
        tasks: names, as for `load_tasks`, or what that returned.
        include: a folder with task files.
        limit: items of each task; below 1, their share.
        shots: solved items before each question, except in tasks whose file says 0; None means the task's own number.
        batch_size: texts at once.
        progress: whether bars may be drawn.
        options: further arguments of `lm_eval.evaluate`, e.g. apply_chat_template=True or log_samples=True.

    Returns:
        lm-eval's own result: "results" by task and metric, "n-samples", "configs", "versions", ...

    Raises:
        BenchmarkError: the tasks cannot be loaded or asked.
    """
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    wanted = load_tasks(names, include, progress=progress) if all(isinstance(name, str) for name in names) else names
    lm = model.lm if isinstance(model, (Editor, HarnessModel)) else model
    with frozen(lm.model), _bars(progress), _seeded():
        asked = model if isinstance(model, HarnessModel) else HarnessModel(lm, batch_size=batch_size)
        try:
            loaded: Any = TaskManager(include_defaults=False).load(wanted)
            with _shots(loaded["tasks"].values(), shots):
                results: Any = evaluate(asked, loaded, **{"limit": limit, "log_samples": False, **options})
        except (BluEditError, MemoryError):
            raise
        except Exception as error:  # templates, metrics and data raise their many kinds
            raise BenchmarkError(f"lm-eval cannot run {', '.join(map(_name, wanted))}: {_reason(error)}") from error
        config = {**asked.get_model_info(), "batch_size": asked.batch_size, "limit": limit}
    return {**results, "config": config, "lm_eval_version": version("lm_eval")}


@contextmanager
def _shots(tasks: Iterable[Any], shots: int | None) -> Iterator[None]:
    """Shots as lm-eval's own command sets them; the tasks have their own number again afterwards."""
    numbers = [(task, task.get_config("num_fewshot")) for task in tasks]
    try:
        for task, own in numbers:
            if own is None or (shots is not None and own != 0):
                task.set_config(key="num_fewshot", value=shots or 0)
            task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
        yield
    finally:
        for task, own in numbers:
            task.set_config(key="num_fewshot", value=own)


def _name(task: Any) -> str:
    return getattr(task, "task_name", None) or getattr(task, "name", None) or str(task)


def _check_arguments(asking: dict[str, Any]) -> None:
    """lm-eval itself passes over arguments that mean nothing for a loaded model: a mistyped patch would measure the unedited model."""
    own = ("model", "patch", "dtype", "device", "force")
    wrong = [name for name in asking if name not in ASKING]
    if wrong:
        raise BenchmarkError(
            f"the harness model has no argument {wrong[0]!r}; {did_you_mean(wrong[0], (*own, *ASKING))}"
        )


def _unknown(name: str, known: Sequence[str], include: str | Path | None) -> str:
    """What is wrong with a name: mistyped, or its task file cannot be read."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = did_you_mean(name, close) if close else "'lm-eval ls tasks' lists those of lm-eval"
    if include is None:
        return f"there is no task {name!r} in lm-eval, and no such file; {hint}. --include names a folder with tasks of your own"
    broken = "; ".join(_broken_files(Path(include)))
    unread = f". Not readable in {include}: {broken}" if broken else ""
    return f"there is no task {name!r} in {include} or in lm-eval; {hint}{unread}"


def _broken_files(folder: Path) -> list[str]:
    """Task files that lm-eval passes over in silence, with the reason."""
    broken = []
    for file in sorted(folder.rglob("*.yaml")):
        try:
            tree = yaml.compose(file.read_text("utf-8"))  # lm-eval's own tags (!function) need no meaning here
        except (OSError, ValueError, yaml.YAMLError) as error:
            broken.append(f"{file.relative_to(folder)} ({_reason(error)})")
            continue
        keys = [key.value for key, _ in tree.value] if isinstance(tree, yaml.MappingNode) else []
        if not {"task", "group", "class", "include"} & set(keys):
            broken.append(f"{file.relative_to(folder)} (it has no line 'task: NAME')")
    return broken


def _reason(error: BaseException) -> str:
    """An error of somebody else's code in one line: what first went wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@contextmanager
def _without_notices() -> Iterator[None]:
    """Without notices (lm-eval: that a model is loaded already; datasets: what an error says again), unless the user asked for talk."""
    levels = (
        {}
        if logging.getLogger().isEnabledFor(logging.INFO)
        else {"lm_eval": logging.ERROR, "datasets": logging.CRITICAL}
    )
    before = {name: logging.getLogger(name).level for name in levels}
    try:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _bars(wanted: bool) -> Iterator[None]:
    """lm-eval and datasets draw bars whether anybody watches or not; a log is not touched."""
    if wanted:
        yield
        return
    with redirect_stderr(io.StringIO()):
        yield


@contextmanager
def _seeded() -> Iterator[None]:
    """lm-eval's seeds of the global generators, which some tasks draw from; the caller's own draws go on as if nothing had been."""
    own, numpys = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            random.seed(DEFAULT_RANDOM_SEED)
            np.random.seed(DEFAULT_OTHER_SEED)
            torch.manual_seed(DEFAULT_OTHER_SEED)
            yield
    finally:
        random.setstate(own)
        np.random.set_state(numpys)
