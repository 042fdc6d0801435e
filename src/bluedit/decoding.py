"""Reading JSON into dataclasses. Everything is checked, and an error names the place of the fault."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from bluedit.files import DIGEST, json_digest, read_regular

T = TypeVar("T")
_DEEPEST = 20  # levels of lists and objects
_LARGEST = 1e305  # a perplexity is at most e^700


class Damage(ValueError):
    """What is wrong with a file, as part of a sentence."""


def read_json(file: Path) -> Any:
    """A JSON file's value: finite numbers, proper text, not nested too deeply.

    Raises:
        Damage: the file is missing or cannot be read, is no regular file, or is not JSON as bluedit writes it.
    """
    try:
        data = read_regular(file)
    except OSError as error:
        raise Damage(f"it cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise Damage(str(error)) from error
    return parse_json(data)


def read_digested(file: Path) -> dict[str, Any]:
    """A JSON object that was written with a digest of itself (`files.with_digest`). Raises Damage, as `read_json`, and if it was changed."""
    value = read_json(file)
    if not isinstance(value, dict) or value.get(DIGEST) != json_digest(value):
        raise Damage("it was changed after it was written")
    return value


def parse_json(text: str | bytes) -> Any:
    """A value from JSON text; see `read_json`. Raises Damage."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise Damage("it is nested too deeply") from error
    except ValueError as error:
        raise Damage(f"it is not JSON: {error}") from error
    _check(value)
    return value


def _refuse(name: str) -> Any:
    raise Damage(f"{name} is not a JSON number")


def _check(value: Any) -> None:
    level, here = 0, [value]
    while here:
        if level > _DEEPEST:
            raise Damage(f"it is nested more than {_DEEPEST} levels deep")
        below: list[Any] = []
        for item in here:
            if isinstance(item, dict):
                below += [*item, *item.values()]
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str):
                _check_text(item)
            elif isinstance(item, (int, float)) and not abs(item) <= _LARGEST:
                raise Damage(f"it holds a number larger than {_LARGEST:g}")
        level, here = level + 1, below


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Damage(f"{text[:40]!r} is not text: it holds half a surrogate pair") from None


def decode(kind: Any, value: Any, place: str = "") -> Any:
    """A JSON value as a `kind`: a dataclass, a tuple or Sequence, a Mapping, a union with None, str, int, float, bool or Any. Null is read as
    NaN where a float is due, because NaN is written as null.

    Args:
        place: where the value stands in its file, for messages.

    Raises:
        Damage: the value is of another type, lacks a key, has an unknown one, or is refused by the dataclass.
    """
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, value, place)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        return None if value is None else decode(inner, value, place)
    if origin is tuple and arguments[-1] is not Ellipsis:
        items = _typed(list, "a list", value, place)
        if len(items) != len(arguments):
            raise Damage(f"{place} has {len(items)} items and needs {len(arguments)}")
        return tuple(decode(kind, v, f"{place}[{i}]") for i, (kind, v) in enumerate(zip(arguments, items, strict=True)))
    if origin in (tuple, Sequence):
        items = _typed(list, "a list", value, place)
        return tuple(decode(arguments[0], item, f"{place}[{i}]") for i, item in enumerate(items))
    if origin is Mapping:
        items = _typed(dict, "an object", value, place)
        return {_key(arguments[0], k, place): decode(arguments[1], v, f"{place}[{k!r}]") for k, v in items.items()}
    return _SCALARS[kind](value, place)


def _dataclass(kind: type[T], value: Any, place: str) -> T:
    found = _typed(dict, "an object", value, place)
    fields = _fields(kind)
    missing = [n for n in fields if n not in found and n not in _optional(kind)]
    unknown = [n for n in found if n not in fields]
    if missing or unknown:
        what = f"lacks {missing[0]!r}" if missing else f"has the unknown key {unknown[0]!r}"
        raise Damage(f"{place or 'it'} {what}")
    start = f"{place}." if place else ""
    values = {name: decode(fields[name], inner, f"{start}{name}") for name, inner in found.items()}
    try:
        return kind(**values)
    except Damage as error:
        raise Damage(f"{start}{error}") from error


@cache
def _fields(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]


@cache
def _optional(kind: type) -> set[str]:
    """Fields that earlier versions did not write: they have a default."""
    every = dataclasses.fields(kind)  # pyright: ignore[reportArgumentType]
    return {f.name for f in every if {f.default, f.default_factory} != {dataclasses.MISSING}}


def _key(kind: type, key: str, place: str) -> Any:
    if kind is str:
        return key
    try:
        return kind(key)
    except ValueError:
        raise Damage(f"{place} has the key {key!r}, which is not a number") from None


def _typed(kind: type[T], name: str, value: Any, place: str) -> T:
    if not isinstance(value, kind):
        raise Damage(f"{place or 'it'} is {_shown(value)}, not {name}")
    return value


def _whole(value: Any, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Damage(f"{place} is {_shown(value)}, not a whole number")
    return value


def _number(value: Any, place: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Damage(f"{place} is {_shown(value)}, not a number")
    return float(value)


_SCALARS: dict[Any, Callable[[Any, str], Any]] = {
    int: _whole,
    float: _number,
    str: lambda value, place: _typed(str, "text", value, place),
    bool: lambda value, place: _typed(bool, "true or false", value, place),
}


def _shown(value: Any) -> str:
    """A wrong value in a message, cut short."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:40] + "..."
