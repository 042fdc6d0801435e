"""Tunings as files: what `bluedit tune` writes, and what is kept for a model's weights in the user's folder."""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluedit.decoding import decode
from bluedit.errors import RecipeError
from bluedit.files import read_bounded, write_file
from bluedit.methods.tunings import Tuning

FORMAT = 1
_MOST = 2**24  # bytes of a file
BUNDLED = "bundled"
"""Instead of a file: the numbers that come with bluedit, whatever was found for the model."""


@dataclass(frozen=True)
class TuningFile:
    """A tuning with what it rests on.

    Attributes:
        tuning: the numbers. `match` has the shape of the model that they were measured on.
        weights: fingerprint of its weights.
        confidence: low, fair or high.
        evidence: figures, facts and versions.
    """

    tuning: Tuning
    weights: str
    confidence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        """Replace or create the file at once.

        Raises:
            OSError: the place cannot be written.
        """
        content = {
            "format": FORMAT,
            "name": self.tuning.name,
            "source": self.tuning.source,
            "confidence": self.confidence,
            "weights": self.weights,
            "match": dict(self.tuning.match),
            "set": dict(self.tuning.set),
            "parts": [{"when": dict(when), "set": dict(numbers)} for when, numbers in self.tuning.parts],
            "evidence": dict(self.evidence),
        }
        write_file(file, as_toml(content).encode())

    @classmethod
    def read(cls, file: Path) -> TuningFile:
        """Read a file.

        Raises:
            RecipeError: it cannot be read, or is no tuning.
        """
        try:
            content = tomllib.loads(read_bounded(file, _MOST).decode("utf-8"))
            if content.get("format") != FORMAT:
                raise RecipeError(
                    f"{file} has format {content.get('format')}, and this version reads {FORMAT}; run bluedit tune again"
                )
            found = decode(_Content, content)
            parts = tuple((part.when, part.set) for part in found.parts)
            tuning = Tuning(found.name, found.source, found.match, found.set, parts)
            return cls(tuning, found.weights, found.confidence, found.evidence)
        except OSError as error:
            raise RecipeError(f"cannot read the tuning {file}: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise RecipeError(
                f"{file} is not a tuning that bluedit can read ({type(error).__name__}: {error}); give a tuning.toml that bluedit tune has written"
            ) from error


@dataclass(frozen=True)
class _Part:
    when: Mapping[str, Any]
    set: Mapping[str, Any]


@dataclass(frozen=True)
class _Content:
    """What a file holds."""

    format: int
    name: str
    source: str
    confidence: str
    weights: str
    match: Mapping[str, Any]
    set: Mapping[str, Any]
    parts: tuple[_Part, ...]
    evidence: Mapping[str, Any] = field(default_factory=dict)


def user_folder() -> Path:
    """Where what a user has made is kept: $BLUEDIT_DATA, else the user's data folder. Unlike the cache it cannot be computed again for nothing.

    Raises:
        RecipeError: there is neither of them.
    """
    if explicit := os.environ.get("BLUEDIT_DATA"):
        return Path(explicit)
    if shared := os.environ.get("XDG_DATA_HOME"):
        return Path(shared) / "bluedit"
    try:
        return Path.home() / ".local" / "share" / "bluedit"
    except RuntimeError:
        raise RecipeError("this user has no home folder; set BLUEDIT_DATA to a folder for tunings") from None


def kept_file(weights: str) -> Path:
    """Where the tuning for these weights is kept, whether or not there is one."""
    return user_folder() / "tunings" / f"{weights}.toml"


def read_tuning(chosen: str | Path | Tuning | None, weights: str, config: Any) -> Tuning | None:
    """The tuning that was asked for, or the one that is kept for these weights; None leaves it to the bundled ones.

    Args:
        chosen: a tuning, a file, BUNDLED, or None for what is kept.
        weights: fingerprint of the model's weights.
        config: the model's.

    Raises:
        RecipeError: the file cannot be read, or was made for a model of another shape.
    """
    if isinstance(chosen, Tuning):
        return chosen
    if chosen == BUNDLED:
        return None
    try:
        file = kept_file(weights) if chosen is None else Path(chosen)
    except RecipeError:  # nowhere to keep any
        return None
    if chosen is None and not os.path.isfile(file):  # noqa: PTH113 - says no where there is no permission
        return None
    found = TuningFile.read(file)
    if not found.tuning.fits(config):
        wrong = [f"{key} {getattr(config, key, None)}, not {value}" for key, value in found.tuning.match.items()]
        raise RecipeError(
            f"the tuning {file} was made for a model of another shape: this one has {'; '.join(wrong)}. Leave it out (tuning='{BUNDLED}', --tuning {BUNDLED}), or tune this model"
        )
    return found.tuning


def as_toml(content: Mapping[str, Any]) -> str:
    """A mapping as TOML: values first, then tables, then lists of tables. None is left out."""
    return "\n".join(_lines(content, ())).strip() + "\n"


def _lines(content: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    tables = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    lists = {
        key: value
        for key, value in content.items()
        if isinstance(value, (list, tuple)) and value and all(isinstance(one, Mapping) for one in value)
    }
    plain = {key: value for key, value in content.items() if key not in tables and key not in lists}
    found = [f"{_key(key)} = {_value(value)}" for key, value in plain.items() if value is not None]
    for key, value in tables.items():
        found += ["", f"[{_name((*path, key))}]", *_lines(value, (*path, key))]
    for key, values in lists.items():
        for value in values:
            found += ["", f"[[{_name((*path, key))}]]", *_inline(value)]
    return found


def _inline(content: Mapping[str, Any]) -> list[str]:
    """The entries of one table of a list, with inner tables on one line."""
    return [f"{_key(key)} = {_value(value)}" for key, value in content.items() if value is not None]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return json.dumps(value, ensure_ascii=False)


def _name(path: tuple[str, ...]) -> str:
    return ".".join(map(_key, path))


def _key(key: str) -> str:
    return (
        key
        if key.isascii() and key.replace("_", "").replace("-", "").isalnum()
        else json.dumps(key, ensure_ascii=False)
    )
