"""A benchmark's folder: whose it is, what is finished in it, and the rows of its table."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from bluedit.benchmark.plan import UNEDITED, Benchmark
from bluedit.benchmark.runs import FORMAT
from bluedit.errors import BenchmarkError
from bluedit.evaluate.ability import SHOTS, read_items
from bluedit.evaluate.data import SAMPLED_TEXT
from bluedit.facts.records import fact_record
from bluedit.files import write_json
from bluedit.methods.recipe import Recipe
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import text_fingerprint, tokenizer_fingerprint, weights_fingerprint
from bluedit.text.corpus import Corpus

log = logging.getLogger(__name__)

_LOCK = ".lock"
_NOT_COMPARED = ("order", "format", "settings", "source", "device", "threads")


def place_of(run: str) -> str:
    """The folder of a recipe within a run."""
    return "".join(c if c.isalnum() or c in "-.+" else "_" for c in run)


def config_of(lm: EditableModel, benchmark: Benchmark, recipes: Mapping[str, Recipe]) -> dict[str, Any]:
    """Everything that a run's numbers depend on, and what they were made with."""
    shown = asdict(benchmark)
    facts = [fact_record(fact) for fact in benchmark.facts]
    drop = ("facts", "recipes", "passages", "targets", "abilities", "then_finetune")
    return {k: v for k, v in shown.items() if k not in drop} | {
        "model": lm.name,
        "weights": weights_fingerprint(lm.model),
        "tokenizer": tokenizer_fingerprint(lm.tokenizer),
        "facts": len(facts),
        "facts_fingerprint": text_fingerprint(facts),
        "passages_fingerprint": text_fingerprint(list(benchmark.text)),
        "corpus_fingerprint": Corpus(benchmark.corpus).fingerprint(benchmark.tokens or 0),
        "abilities": {task: text_fingerprint(read_items(task, file)) for task, file in benchmark.abilities.items()},
        "settings": {run: recipe.settings() for run, recipe in recipes.items()},
        "order": list(dict.fromkeys(benchmark.recipes)),
        "format": FORMAT,
        "device": str(lm.device),
        "threads": torch.get_num_threads(),
        "shots": SHOTS,
        "sampling": asdict(SAMPLED_TEXT),
        "versions": {name: version(name) for name in ("bluedit", "torch", "transformers")},
    }


@contextmanager
def claimed(folder: Path, config: Mapping[str, Any]) -> Iterator[list[str]]:
    """Make the folder this benchmark's, or make sure that it is, keep other processes out of it, and yield its recipes so far. More may
    be added to it later.

    A folder in which no batch is finished may become another benchmark's.

    Raises:
        BenchmarkError: it holds something else, or another process is at work in it; nothing in it is changed.
    """
    config = _as_found(folder, dict(json.loads(json.dumps(config))))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / _LOCK, timeout=0):
            write_json(folder / "config.json", config)
            yield config["order"]
    except Timeout:
        raise BenchmarkError(
            f"another bluedit benchmark is at work in {folder}; let it finish, or choose another folder"
        ) from None


def _as_found(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration, with what the folder's own adds to it."""
    file = folder / "config.json"
    if not file.is_file():
        if folder.exists() and (not folder.is_dir() or any(map(_foreign, folder.iterdir()))):
            raise BenchmarkError(f"{folder} holds other things than a benchmark; choose a new or empty folder")
        return config
    try:
        found = dict(json.loads(file.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise BenchmarkError(f"{file} is unreadable ({error}); choose another folder, or delete this one") from error
    if "format" not in found:
        raise BenchmarkError(f"{file} is not of a benchmark; choose a new or empty folder")
    if found["format"] != FORMAT:
        raise BenchmarkError(
            f"{folder} was written by another version of bluedit; choose another folder, or run it with that version"
        )
    settings = found.get("settings", {})
    wrong = [key for key in config if key not in _NOT_COMPARED and found.get(key) != config[key]]
    wrong += [f"settings of {run}" for run, now in config["settings"].items() if settings.get(run, now) != now]
    begun = any(folder.glob("*/batches.json"))
    if wrong and begun:
        raise BenchmarkError(
            f"{folder} holds another benchmark: {', '.join(wrong)} differ; choose another folder, or ask for the same as before"
        )
    if wrong:
        return config
    for key in ("device", "threads"):
        if begun and found.get(key) != config[key]:
            log.warning(
                "%s was begun with %s %s, now it is %s; last digits may differ",
                folder,
                key,
                found.get(key),
                config[key],
            )
    order = list(dict.fromkeys([*found.get("order", ()), *config["order"]]))
    return config | {"order": order, "settings": settings | config["settings"]}


def _foreign(file: Path) -> bool:
    """Whether a file beside no config.json is none of ours; a killed run may have left its targets, a half-written configuration and its lock."""
    return file.name not in ("targets", _LOCK) and not file.name.startswith(".config.json.")


def read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise BenchmarkError(
            f"{file} is unreadable ({error}); delete the folder {file.parent} to run it again"
        ) from error


def read_log(place: Path) -> list[dict[str, Any]]:
    file = place / "batches.json"
    return read_json(file) if file.is_file() else []


def note_failure(folder: Path, run: str, error: Exception | None) -> None:
    """Keep, for the page, why a recipe was given up; forget it when it was not."""
    file = folder / place_of(run) / "failed.json"
    if error:
        write_json(file, {"recipe": run, "why": str(error)})
    else:
        file.unlink(missing_ok=True)


def rows_of(folder: Path, order: Sequence[str]) -> list[dict[str, Any]]:
    """The table's rows: one for each measurement of each recipe whose log can be read."""
    logs = []
    for run in order:
        with suppress(BenchmarkError):  # told when the recipe's turn was
            logs.append(read_log(folder / place_of(run)))
    return [_row(entries[: number + 1]) for entries in logs for number, entry in enumerate(entries) if "all" in entry]


def _row(log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    facts = sum(entry["facts"] for entry in log)
    edited = log[0]["recipe"] != UNEDITED
    reach: dict[int, list[float]] = {}
    for entry in log:
        for layer, value in entry["reach"]:
            reach.setdefault(layer, []).append(value)
    return {
        "recipe": log[0]["recipe"],
        "facts": facts,
        "batches": len(log) if edited else 0,
        **log[-1]["all"],
        "first_batch": log[-1]["first"],
        "abilities": log[-1].get("abilities", {}),
        "seconds_per_edit": sum(entry["seconds"] for entry in log) / facts if edited else None,
        "reach": {layer: sum(v) / len(v) for layer, v in sorted(reach.items())},
    }
