"""The entries of a benchmark: its rows, each a recipe or another approach with settings, or the unedited model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bluedit.benchmark.approach import Approach, Written, approaches
from bluedit.errors import BenchmarkError, RecipeError, did_you_mean
from bluedit.methods.recipe import Recipe
from bluedit.methods.schedules import Boundary

UNEDITED = "unedited"
LISTS: Mapping[str, tuple[str, ...]] = {
    "default": (UNEDITED, "memit-seq-blue"),
    # with BLUE, what it is often not compared with: memory alone, one layer alone, one target alone, fine-tuning, and not editing at all
    "honest": (
        *(
            UNEDITED,
            "memit-seq-blue",
            "memit-seq",
            "memit-seq:schedule=single",
            "memit-seq-replay",
            "natural-blue",
            "natural-joint",
        ),
        *("ft-local", "lora", "in-context", "retrieval"),
    ),
}  # ready-made lists of entries
TARGETS = "targets"  # folder of optimised targets, beside those of the entries
_LONGEST_NAME = 200  # characters of a folder's name; file systems allow 255 bytes


@dataclass(frozen=True)
class Entry:
    """One row of a benchmark.

    Attributes:
        name: what the row is called; its folder is named after it.
        recipe: a Recipe or another `Approach`, or the name of one; None for the unedited model.
        settings: options of it by path, e.g. {"preserve.lambda": 500}.
        group: entries of one group share the targets that its first one optimises; empty for none (see `bluedit.benchmark.sweep`).
    """

    name: str
    recipe: str | Recipe | Approach | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""

    @classmethod
    def of(cls, row: Entry | Recipe | Approach | str) -> Entry:
        """An entry for a recipe or another approach, or for text as in `parse`; an entry is returned as it is."""
        if isinstance(row, Entry):
            return row
        if isinstance(row, Approach):
            return cls(row.kind, row)
        return cls(row.name, row) if isinstance(row, Recipe) else cls.parse(row)

    @classmethod
    def parse(cls, text: str) -> Entry:
        """The entry for "unedited", "NAME" or "NAME:option=value,option=value" (layers as 4+8).

        Raises:
            RecipeError: an option without a value.
        """
        recipe, _, options = text.partition(":")
        settings = {}
        for item in filter(None, options.split(",")):
            key, equals, value = item.partition("=")
            if not equals:
                raise RecipeError(
                    f"{item!r} in {text!r} is not an option; write NAME:option=value,option=value (layers as 4+8)"
                )
            settings[key] = value
        return cls(text, None if text == UNEDITED else recipe, settings)

    @property
    def approach(self) -> Approach:
        """What it does, without the settings.

        Raises:
            RecipeError: neither a recipe nor another approach is called so.
        """
        from bluedit.methods.presets import PRESETS, preset

        if isinstance(self.recipe, Approach):
            return self.recipe
        if isinstance(self.recipe, Recipe):
            return Written(recipe=self.recipe)
        name = UNEDITED if self.recipe is None else self.recipe
        if name in approaches():
            return approaches()[name]()
        if name not in PRESETS:
            raise RecipeError(f"unknown recipe {name!r}; {did_you_mean(str(name), [*PRESETS, *approaches()])}")
        return Written(recipe=preset(name))

    @property
    def folder(self) -> str:
        """Name of the entry's folder within the benchmark's."""
        safe = "".join(c if c.isalnum() or c in "-.+" else "_" for c in self.name)
        if len(safe.encode()) <= _LONGEST_NAME:
            return safe
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:12]
        return f"{safe.encode()[: _LONGEST_NAME - 13].decode(errors='ignore')}-{digest}"


def entries_of(rows: Iterable[Entry | Recipe | Approach | str]) -> list[Entry]:
    """The entries of some rows, each once.

    Raises:
        RecipeError: an option without a value.
        BenchmarkError: there are none, a name that cannot be used, or two different entries with one name or one folder.
    """
    entries = [Entry.of(row) for row in rows]
    if not entries:
        raise BenchmarkError("there are no entries; name a recipe (--recipe), or 'unedited'")
    by_folder: dict[str, Entry] = {}
    for entry in entries:
        if not entry.folder.strip(".") or entry.folder.startswith(".") or entry.folder == TARGETS:
            raise BenchmarkError(f"an entry cannot be called {entry.name!r}; give it another name: Entry(name, recipe)")
        other = by_folder.setdefault(entry.folder, entry)
        if other != entry:
            raise BenchmarkError(
                f"two entries are called {other.name!r} and {entry.name!r}, which share a folder; "
                "give one of them another name: Entry(name, recipe)"
            )
    return list(by_folder.values())


def entry_list(name: str) -> tuple[str, ...]:
    """A ready-made list of entries. Raises BenchmarkError for an unknown one."""
    if name not in LISTS:
        raise BenchmarkError(f"unknown list of entries {name!r}; {did_you_mean(name, LISTS)}")
    return LISTS[name]


def family(name: str) -> tuple[str, bool]:
    """(an entry's name without the mark of its BLUE form, whether it is a BLUE form). A schedule among the settings decides; other settings stay in
    the name."""
    base, _, options = name.partition(":")
    settings = {key: value for key, _, value in (item.partition("=") for item in options.split(",") if item)}
    by_name = Boundary.kind if base.endswith("-blue") else ""
    blue = settings.get("schedule", by_name) == Boundary.kind
    if blue:
        base = base.removesuffix("-blue")
        settings.pop("schedule", None)
    rest = ",".join(f"{key}={value}" for key, value in settings.items())
    return base + (f":{rest}" if rest else ""), blue


def stem(name: str) -> str:
    """An entry's name without its settings."""
    return name.partition(":")[0]
