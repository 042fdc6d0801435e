"""The values of a record, with their types checked and all faults noted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bluedit.errors import FactError, did_you_mean

_JSON_NAMES = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


def json_name(value: object) -> str:
    """What a JSON value is, in words: "a list", "a number"."""
    return _JSON_NAMES.get(type(value), "a number")


class Fields:
    """The typed values of one record of a file. What is missing or of the wrong type is collected; `check` raises it."""

    def __init__(self, record: Mapping[str, object], within: str = "", faults: list[str] | None = None) -> None:
        self.record = record
        self.within = within
        self.faults: list[str] = [] if faults is None else faults

    def text(self, key: str) -> str:
        """A text that must be there."""
        if self._absent(key):
            self.faults.append(f"'{self.within}{key}' is missing")
            return ""
        return self._as_text(self.record[key], self.within + key)

    def maybe(self, key: str) -> str | None:
        """A text that may be missing or null."""
        return None if self._absent(key) else self._as_text(self.record[key], self.within + key)

    def trimmed(self, key: str) -> str | None:
        """A text that may be missing, null or blank, without the space around it."""
        return (self.maybe(key) or "").strip() or None

    def items(self, key: str) -> list[Any]:
        """A list of anything; missing or null is the empty list."""
        value = [] if self._absent(key) else self.record[key]
        if not isinstance(value, list):
            self.faults.append(f"'{self.within}{key}' must be a list, not {json_name(value)}")
            return []
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts; missing or null is the empty list."""
        return [self._as_text(v, f"{self.within}{key}[{i}]") for i, v in enumerate(self.items(key))]

    def lists_of_texts(self, key: str) -> list[list[str]]:
        """A list of lists of texts; missing or null is the empty list."""
        inner = {f"{key}[{i}]": value for i, value in enumerate(self.items(key))}
        fields = Fields(inner, self.within, self.faults)
        return [fields.texts(name) for name in inner]

    def objects(self, key: str) -> list[Fields]:
        """The fields of each object in a list; missing or null is the empty list."""
        found = []
        for i, value in enumerate(self.items(key)):
            if isinstance(value, dict):
                found.append(self.inner(value, f"{key}[{i}]"))
            else:
                self.faults.append(f"'{self.within}{key}[{i}]' must be an object, not {json_name(value)}")
        return found

    def section(self, key: str) -> Fields:
        """The fields of the object under `key`, which must be there."""
        value = self.record.get(key)
        if isinstance(value, dict):
            return self.inner(value, key)
        wrong = "is missing" if value is None else f"must be an object, not {json_name(value)}"
        self.faults.append(f"'{self.within}{key}' {wrong}")
        return Fields({}, faults=[])

    def inner(self, value: Mapping[str, object], name: str) -> Fields:
        """The fields of an object that stands inside this record; faults go to the same list."""
        return Fields(value, f"{self.within}{name}.", self.faults)

    def label(self, key: str) -> str:
        """A name: text or a whole number; empty where there is none."""
        value = self.record.get(key)
        return str(value) if type(value) is int else self.maybe(key) or ""

    def known(self, choices: Iterable[str]) -> None:
        """Note every key that is not among `choices`."""
        choices = list(choices)
        unknown = [key for key in self.record if key not in choices]
        self.faults += [f"unknown key '{self.within}{key}' ({did_you_mean(key, choices)})" for key in unknown]

    def check(self) -> None:
        """Raise all that was noted as one FactError."""
        if self.faults:
            raise FactError("; ".join(self.faults))

    def _absent(self, key: str) -> bool:
        return self.record.get(key) is None

    def _as_text(self, value: object, name: str) -> str:
        if not isinstance(value, str):
            self.faults.append(f"'{name}' must be text, not {json_name(value)}")
            return ""
        if any("\ud800" <= c <= "\udfff" for c in value):
            self.faults.append(f"'{name}' has half a surrogate pair in {value!r}; write the character itself")
        return value
