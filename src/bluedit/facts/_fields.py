"""Typed access to one record of a file: faults and notes are collected, so that all of them can be reported together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bluedit.errors import FactError, did_you_mean
from bluedit.facts.words import HALF_PAIR

_JSON_NAMES = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


def json_name(value: object) -> str:
    """The JSON type of a value in words: "a list", "a number"."""
    return _JSON_NAMES.get(type(value), "a number")


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
