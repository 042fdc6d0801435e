"""Loading tasks of lm-evaluation-harness, with errors that say which file is wrong and why."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from lm_eval.defaults import DEFAULT_OTHER_SEED  # pyright: ignore[reportMissingImports]
from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

from bluedit.benchmark._harness_guards import bars, seeded, without_notices
from bluedit.errors import BenchmarkError, did_you_mean


def load_tasks(names: str | Sequence[str], include: str | Path | None = None, *, progress: bool = False) -> list[Any]:
    """lm-eval's tasks (and groups of tasks) with their data.

    Args:
        names: of tasks, groups or tags, or paths of task files.
        include: a folder with task files. Its names take precedence over lm-eval's own; if it has all the names, the thousands of tasks
            of lm-eval, which take a quarter of a minute to read, are not read.
        progress: whether bars may be drawn.

    Raises:
        BenchmarkError: unknown names, a broken task file, or data that cannot be loaded.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise BenchmarkError("no tasks were given; name tasks of lm-eval, or task files of your own")
    if include is not None and not Path(include).is_dir():
        raise BenchmarkError(f"there is no folder {include} of task files; make it, or name a task file as the task")
    with without_notices(), bars(progress), seeded():
        manager = TaskManager(include_path=include, include_defaults=False)
        if any(not Path(n).is_file() and n not in (*manager.all_subtasks, *manager.all_tags) for n in names):
            manager = TaskManager(include_path=include)
        unknown = [n for n in names if not Path(n).is_file() and n not in manager.all_tasks]
        if unknown:
            raise BenchmarkError(_unknown(unknown[0], manager.all_tasks, include))
        return [part for name in names for part in _load_task(manager, name)]


def joined(tasks: Sequence[Any]) -> dict[str, Any]:
    """Loaded tasks as `lm_eval.evaluate` takes them."""
    found: Any = TaskManager(include_defaults=False).load(list(tasks))  # a typed dictionary of lm-eval's own
    return found


def _load_task(manager: TaskManager, name: str) -> list[Any]:
    """A group as itself, a tag as its tasks."""
    try:
        found: Any = manager.load([name])
    except Exception as error:  # yaml, datasets and the task file's own functions raise exceptions of many types
        entry = manager.task_index.get(name)
        file = f" ({entry.yaml_path})" if entry and entry.yaml_path else ""
        raise BenchmarkError(f"the task {name}{file} cannot be loaded: {reason(error)}") from error
    return list(found["groups"].values())[:1] or list(found["tasks"].values())


@contextmanager
def with_shots(tasks: Iterable[Any], shots: int | None) -> Iterator[None]:
    """Set the number of examples as lm-eval's own command does; afterwards each task has its own number again."""
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


def name_of(task: Any) -> str:
    """A loaded task's name."""
    return getattr(task, "task_name", None) or getattr(task, "name", None) or str(task)


def reason(error: BaseException) -> str:
    """The first cause of an exception from other packages, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _unknown(name: str, known: Sequence[str], include: str | Path | None) -> str:
    """Why a task is unknown: a mistyped name, or a task file that lm-eval could not read."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = did_you_mean(name, close) if close else "'lm-eval ls tasks' lists those of lm-eval"
    if include is None:
        return f"there is no task {name!r} in lm-eval, and no such file; {hint}. --include names a folder with tasks of your own"
    broken = "; ".join(_broken_files(Path(include)))
    unread = f". Not readable in {include}: {broken}" if broken else ""
    return f"there is no task {name!r} in {include} or in lm-eval; {hint}{unread}"


def _broken_files(folder: Path) -> list[str]:
    """Task files that lm-eval skips without a word, each with the reason."""
    broken = []
    for file in sorted(folder.rglob("*.yaml")):
        try:
            tree = yaml.compose(file.read_text("utf-8"))  # composing does not resolve lm-eval's own tags (!function)
        except (OSError, ValueError, yaml.YAMLError) as error:
            broken.append(f"{file.relative_to(folder)} ({reason(error)})")
            continue
        keys = [key.value for key, _ in tree.value] if isinstance(tree, yaml.MappingNode) else []
        if not {"task", "group", "class", "include"} & set(keys):
            broken.append(f"{file.relative_to(folder)} (it has no line 'task: NAME')")
    return broken
