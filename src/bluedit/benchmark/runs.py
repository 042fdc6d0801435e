"""A benchmark's folder, read for the page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluedit.benchmark.entry import family
from bluedit.errors import BenchmarkError

FORMAT = 2  # of a run's folder; 1 measured the gap to teacher forcing, and sampled text, in another way
NAN = float("nan")


@dataclass(frozen=True)
class Recipe:
    """What a run's folder holds of one recipe; `hidden` and `finetuned` are None where there is no such file."""

    name: str
    log: Sequence[Mapping[str, Any]]
    facts: Sequence[Mapping[str, Any]]
    hidden: Mapping[str, Any] | None = None
    finetuned: Mapping[str, Any] | None = None

    def value(self, name: str) -> float:
        """A metric after the last batch; NaN where there is none."""
        return number(self.log[-1]["all"].get(name))

    def column(self, name: str) -> list[float]:
        """A metric fact by fact."""
        return [number(fact.get(name)) for fact in self.facts]

    def course(self, part: str, name: str) -> list[float | None]:
        """A metric after each batch, over "all" facts so far or the "first" batch; None where it was not measured."""
        return [entry.get(part, {}).get(name) for entry in self.log]


@dataclass(frozen=True)
class Run:
    """A benchmark's folder, read; `unfinished` recipes are those that were asked for and have no result yet, `failed` says why some were
    given up."""

    folder: Path
    config: Mapping[str, Any]
    recipes: Sequence[Recipe]
    failed: Mapping[str, str]

    @property
    def unfinished(self) -> list[str]:
        done = {r.name for r in self.recipes}
        return [name for name in self.config.get("order") or () if name not in done]

    @property
    def edited(self) -> list[Recipe]:
        return [r for r in self.recipes if r.name != "unedited"]

    def unedited(self, name: str) -> float:
        """What a metric was before all edits; NaN where that was not measured."""
        return next((r.value(name) for r in self.recipes if r.name == "unedited"), NAN)

    def names(self, among: Iterable[str]) -> list[str]:
        """Those metrics that were measured with any recipe."""
        return [name for name in among if any(not math.isnan(r.value(name)) for r in self.recipes)]

    def pairs(self) -> list[tuple[Recipe, Recipe]]:
        """(plain, with BLUE) of each recipe that was run both ways: with the same settings in its name or, where a recipe has one
        form of each kind only, with whatever settings these have."""
        plain = {r.name: r for r in self.edited if not family(r.name)[1]}
        blue = {family(r.name)[0]: r for r in self.edited if family(r.name)[1]}
        pairs = {name: (plain[name], blue[name]) for name in plain if name in blue}
        for stem in {_stem(name) for name in plain}:
            (one, *more), others = [n for n in plain if _stem(n) == stem], [n for n in blue if _stem(n) == stem]
            if not more and len(others) == 1:
                pairs[one] = (plain[one], blue[others[0]])
        return [pairs[name] for name in plain if name in pairs]

    def apart(self, one: Recipe, other: Recipe) -> dict[str, tuple[Any, Any]]:
        """Settings other than the schedule in which two recipes differ, but for those that their Gram has no use for."""
        settings = self.config.get("settings", {})
        mine, theirs = settings.get(one.name, {}), settings.get(other.name, {})
        idle = "preserve.l2" if mine.get("preserve.gram") == "C" else "preserve.lambda"
        return {
            key: (mine[key], theirs[key])
            for key in mine
            if key in theirs and key not in ("schedule", idle) and mine[key] != theirs[key]
        }


def read_run(folder: Path) -> Run:
    """Read what is finished of a benchmark; it may still be running.

    Raises:
        BenchmarkError: not a run, nothing finished in it yet, or damaged.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise BenchmarkError(
            f"{folder} is no benchmark run: it holds no config.json; 'bluedit benchmark --out {folder}' makes one"
        )
    try:
        config = _read(file)
        if "format" not in config:
            raise BenchmarkError(f"{folder} is no benchmark run: its config.json is of something else")
        if config["format"] != FORMAT:
            raise BenchmarkError(
                f"{folder} was written by another version of bluedit; make the page with that version, or run the benchmark anew"
            )
        _ = [config[key] for key in ("model", "facts", "batch_size")]  # what no page can be without
        found = [_read_recipe(place) for place in sorted(folder.iterdir()) if (place / "facts.json").is_file()]
        recipes = [r for r in found if r and sum(e["facts"] for e in r.log) == len(r.facts)]
        order = list(config.get("order") or ())  # as first asked for
        failed = {f["recipe"]: str(f["why"]) for f in map(_read, folder.glob("*/failed.json")) if f["recipe"] in order}
        asked = [[(f["fact"]["prompt"], f["fact"]["subject"], f["fact"]["target"]) for f in r.facts] for r in recipes]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise damaged(folder, f"{type(error).__name__}: {error}") from error
    if not recipes:
        raise BenchmarkError(f"no recipe of {folder} is finished yet; let 'bluedit benchmark' come to its end first")
    for recipe, facts in zip(recipes, asked, strict=True):
        if facts != asked[0]:
            raise damaged(folder, f"other facts in {recipe.name} than in {recipes[0].name}")
    place = {r.name: order.index(r.name) if r.name in order else len(order) for r in recipes}
    return Run(folder, config, sorted(recipes, key=lambda r: place[r.name]), failed)


def _read_recipe(place: Path) -> Recipe | None:
    if not (place / "batches.json").is_file():  # facts.json is written first
        return None
    log, facts = _read(place / "batches.json"), _read(place / "facts.json")
    more = [_read(file) if file.is_file() else None for file in (place / "hidden.json", place / "finetuned.json")]
    return Recipe(log[-1]["recipe"], log, facts, *more)


def _stem(name: str) -> str:
    return name.partition(":")[0]


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file.relative_to(file.parent.parent)}: {error}") from error


def damaged(folder: Path, why: str) -> BenchmarkError:
    """What is said of a run that cannot be shown."""
    return BenchmarkError(
        f"the run {folder} is damaged ({why}); delete the folder of the recipe that is damaged, or the whole run, "
        "and run the same benchmark again"
    )


def number(value: Any) -> float:
    """A value as a number; NaN where there is none."""
    return NAN if value is None else float(value)


def known(*values: float | None) -> bool:
    """Whether all of them are finite numbers."""
    return all(value is not None and math.isfinite(value) for value in values)
