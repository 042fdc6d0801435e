"""Typed access to one record of a file: faults and notes are collected, so that all of them can be reported together."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from bluedit.errors import FactError, did_you_mean
from bluedit.facts.words import HALF_PAIR

_LIST = re.compile(r"""\[\s*(?:["'“”‘’„«]|\{\s*["'])""")  # how the text of a list of texts, or of objects, begins
_UNREADABLE = (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError)
_SHOWN = 60  # characters of a value in a message
_JSON_NAMES = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


def json_name(value: object) -> str:
    """The JSON type of a value in words: "a list", "a number"."""
    return _JSON_NAMES.get(type(value), "a number")


class Repeats:
    """Keys that stand twice in one JSON object with different values. JSON keeps the last value without a word.

    `pairs` is for `json.loads(object_pairs_hook=...)`.
    """

    def __init__(self) -> None:
        self._found: dict[
            int, tuple[dict[str, Any], str]
        ] = {}  # by identity; the object is kept, so that no other gets its id

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """The object of these keys and values."""
        made = dict(pairs)
        if len(made) < len(pairs):
            values: dict[str, list[Any]] = {}
            for key, value in pairs:
                values.setdefault(key, []).append(value)
            faults = [_repeated(key, found) for key, found in values.items() if any(v != found[0] for v in found)]
            self._found |= {id(made): (made, "; ".join(faults))} if faults else {}
        return made

    def within(self, value: object, *, deep: bool = True) -> str:
        """What is wrong in a value and, if `deep`, in the objects inside it; empty if nothing is."""
        faults, left = [], [value] if self._found else []
        while left:
            one = left.pop()
            if isinstance(one, dict):
                faults += [self._found[id(one)][1]] if id(one) in self._found else []
                left += one.values() if deep else ()
            elif isinstance(one, list) and deep:
                left += one
        return "; ".join(faults)


def _repeated(key: str, values: list[Any]) -> str:
    shown = " and ".join(repr(value)[:_SHOWN] for value in values)
    plain = not any(isinstance(value, dict | list) for value in values)
    return f"the key {key!r} occurs {len(values)} times{f', with {shown}' if plain else ''}; keep one of them"


def list_in(cell: str) -> list[Any] | None:
    """The list that a cell of a table holds, as JSON or as Python writes it; None if the cell does not begin like one.

    Raises:
        ValueError: it begins like a list and cannot be read as one.
    """
    cell = cell.strip()
    try:
        return json.loads(cell) if cell.startswith("[") else None
    except (ValueError, RecursionError):
        if not _LIST.match(cell):
            return None
    found = _python_list(cell)
    if found is None:
        raise ValueError(f"begins like a list and cannot be read as one: {cell[:_SHOWN]!r}")
    return found


def _python_list(cell: str) -> list[str] | None:
    """A list of texts as Python writes it. Texts without a comma between them, as numpy writes them, are not read as one text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a backslash that Python would not write so
            found = ast.literal_eval(cell)
        written = sum(token.type == tokenize.STRING for token in tokenize.generate_tokens(io.StringIO(cell).readline))
    except (*_UNREADABLE, Warning):
        return None
    texts = isinstance(found, list) and all(isinstance(one, str) for one in found)
    return found if texts and written == len(found) else None


class Fields:
    """The values of one record.

    Values that are missing or of the wrong type are noted in `faults`, which `check` raises. What was read leniently is
    noted in `notes`, for the log.
    """

    def __init__(self, record: Mapping[str, object], within: str = "", parent: Fields | None = None) -> None:
        self.record = record
        self.within = within
        self.faults: list[str] = [] if parent is None else parent.faults
        self.notes: list[str] = [] if parent is None else parent.notes

    def has(self, key: str) -> bool:
        """Whether the record has a value other than null (or NaN, which tables have in its place) under `key`."""
        value = self.record.get(key)
        return value is not None and value == value

    def text(self, key: str) -> str:
        """A text that is required."""
        if not self.has(key):
            self.faults.append(f"{self._name(key)} is missing")
            return ""
        return self._as_text(self.record[key], self.within + key)

    def maybe(self, key: str) -> str | None:
        """A text that may be missing or null."""
        return self._as_text(self.record[key], self.within + key) if self.has(key) else None

    def trimmed(self, key: str) -> str | None:
        """A text that may be missing, null or blank, without the space around it."""
        return (self.maybe(key) or "").strip() or None

    def filled(self, key: str) -> str | None:
        """A text as it stands, that may be missing, null or blank."""
        text = self.maybe(key)
        return text if text and text.strip() else None

    def items(self, key: str) -> list[Any]:
        """A list of anything; missing or null is the empty list."""
        value = self.record[key] if self.has(key) else []
        if not isinstance(value, list):
            self.faults.append(f"{self._name(key)} must be a list, not {json_name(value)}")
            return []
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts; missing or null is the empty list."""
        return [self._as_text(v, f"{self.within}{key}[{i}]") for i, v in enumerate(self.items(key))]

    def one_or_more(self, key: str) -> list[str]:
        """A text or a list of texts; missing or null is the empty list."""
        return [self.text(key)] if isinstance(self.record.get(key), str) else self.texts(key)

    def listed(self, key: str, how: str = '["one", "two"]') -> list[Any] | None:
        """The list that a text holds, as where a list was put into a cell of a table; None if there is none.

        Args:
            how: how to write a list, for the fault of a text that begins like one and cannot be read.
        """
        value = self.record.get(key)
        try:
            return list_in(value) if isinstance(value, str) else None
        except ValueError as error:
            self.faults.append(f"{self._name(key)} {error}; write {how}")
            return []

    def several(self, key: str) -> list[str]:
        """The texts of a list, a text, or a text that holds a list; blank ones are left out."""
        found = self.listed(key)
        texts = self.one_or_more(key) if found is None else Fields({key: found}, self.within, self).texts(key)
        return [text for text in texts if text.strip()]

    def lists_of_texts(self, key: str) -> list[list[str]]:
        """A list of lists of texts; missing or null is the empty list."""
        inner = {f"{key}[{i}]": value for i, value in enumerate(self.items(key))}
        fields = Fields(inner, self.within, self)
        return [fields.texts(name) for name in inner]

    def objects(self, key: str) -> list[Fields]:
        """The fields of each object in a list; missing or null is the empty list."""
        found = []
        for i, value in enumerate(self.items(key)):
            if isinstance(value, dict):
                found.append(self.inner(value, f"{key}[{i}]"))
            else:
                self.faults.append(f"{self._name(f'{key}[{i}]')} must be an object, not {json_name(value)}")
        return found

    def section(self, key: str) -> Fields:
        """The fields of the required object under `key`."""
        value = self.record.get(key)
        if isinstance(value, dict):
            return self.inner(value, key)
        wrong = "is missing" if value is None else f"must be an object, not {json_name(value)}"
        self.faults.append(f"{self._name(key)} {wrong}")
        return Fields({})

    def inner(self, value: Mapping[str, object], name: str) -> Fields:
        """The fields of an object inside this record; faults and notes go to the same lists."""
        return Fields(value, f"{self.within}{name}.", self)

    def label(self, key: str) -> str:
        """A name: text or a whole number; empty if there is none."""
        value = self.record.get(key)
        return str(value) if type(value) is int else self.maybe(key) or ""

    def flag(self, key: str) -> bool | None:
        """True, False, or None if it is missing or null."""
        value = self.record.get(key)
        if value is None or isinstance(value, bool):
            return value
        self.faults.append(f"{self._name(key)} must be true or false, not {json_name(value)}")
        return None

    def known(self, choices: Iterable[str]) -> None:
        """Note every key that is not among `choices`."""
        choices = list(choices)
        unknown = [key for key in self.record if key not in choices]
        self.faults += [f"unknown key {self._name(key)} ({did_you_mean(key, choices)})" for key in unknown]

    def check(self) -> None:
        """Raise all faults as one FactError."""
        if self.faults:
            raise FactError("; ".join(self.faults))

    def _name(self, key: str) -> str:
        return repr(self.within + key)

    def _as_text(self, value: object, name: str) -> str:
        if not isinstance(value, str):
            self.faults.append(f"{name!r} must be text, not {json_name(value)}")
            return ""
        if HALF_PAIR.search(value):
            self.faults.append(f"{name!r} has half a surrogate pair in {value!r}; write the character itself")
        return value
