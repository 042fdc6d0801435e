"""The entries of a benchmark: its rows, each a recipe with settings, or the unedited model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bluedit.errors import BenchmarkError, RecipeError
from bluedit.methods.recipe import Recipe
from bluedit.methods.schedules import Boundary

UNEDITED = "unedited"
TARGETS = "targets"  # folder of optimised targets, beside those of the entries
_LONGEST_NAME = 200  # characters of a folder's name; file systems allow 255 bytes


@dataclass(frozen=True)
class Entry:
    """One row of a benchmark.

    Attributes:
        name: what the row is called; its folder is named after it.
        recipe: name of a recipe, or a Recipe; None for the unedited model.
        settings: options of the recipe by path, e.g. {"preserve.lambda": 500}.
    """

    name: str
    recipe: str | Recipe | None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, row: Entry | Recipe | str) -> Entry:
        """An entry for a recipe, or for text as in `parse`; an entry is returned as it is."""
        if isinstance(row, Entry):
            return row
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
                raise RecipeError(f"{item!r} in {text!r} is not an option; write NAME:option=value,option=value")
            settings[key] = value
        return cls(text, None if text == UNEDITED else recipe, settings)

    @property
    def folder(self) -> str:
        """Name of the entry's folder within the benchmark's."""
        safe = "".join(c if c.isalnum() or c in "-.+" else "_" for c in self.name)
        if len(safe.encode()) <= _LONGEST_NAME:
            return safe
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:12]
        return f"{safe.encode()[: _LONGEST_NAME - 13].decode(errors='ignore')}-{digest}"


def entries_of(rows: Iterable[Entry | Recipe | str]) -> list[Entry]:
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
