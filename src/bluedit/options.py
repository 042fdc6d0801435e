"""Validated options: numbers within bounds, choices and flags, read from Python values or from text."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from bluedit.errors import RecipeError, did_you_mean


@dataclass(frozen=True)
class Option:
    """What one field of an options class accepts.

    Attributes:
        help: one line, without a full stop.
    """

    help: str

    def read(self, path: str, value: Any) -> Any:
        """The value of the field. Raises ValueError with a sentence that begins with `path` when it is not acceptable."""
        raise NotImplementedError

    @property
    def meaning(self) -> str:
        """The help with the accepted values."""
        return self.help


@dataclass(frozen=True)
class Number(Option):
    """A number with bounds, both included; `positive` also excludes zero."""

    whole: bool = False
    low: float = 0.0
    high: float = math.inf
    positive: bool = False

    def read(self, path: str, value: Any) -> float | int:
        kind = int if self.whole else float
        try:
            number = kind(value)
            if number == math.inf or isinstance(value, bool) or (self.whole and float(value) != number):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            what = "a whole number" if self.whole else "a number"
            raise ValueError(f"{path} must be {what}, not {value!r}") from None
        if not self.low <= number <= self.high or (self.positive and number <= 0):
            raise ValueError(f"{path} is {value}; it must be {self._bounds()}")
        return number

    def _bounds(self) -> str:
        if self.positive:
            return "above 0" if self.high == math.inf else f"above 0 and at most {self.high:g}"
        return f"at least {self.low:g}" if self.high == math.inf else f"between {self.low:g} and {self.high:g}"


@dataclass(frozen=True)
class Choice(Option):
    """One of a few words."""

    choices: tuple[str, ...] = ()

    def read(self, path: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise ValueError(f"{path} cannot be {value!r}; {did_you_mean(str(value), self.choices)}")
        return value

    @property
    def meaning(self) -> str:
        return f"{self.help} ({', '.join(self.choices)})"


@dataclass(frozen=True)
class Flag(Option):
    """True or false."""

    def read(self, path: str, value: Any) -> bool:
        found = {"true": True, "false": False}.get(str(value).lower())
        if found is None:
            raise ValueError(f"{path} cannot be {value!r}; choose true or false")
        return found

    @property
    def meaning(self) -> str:
        return f"{self.help} (false, true)"


@dataclass(frozen=True)
class Text(Option):
    """Any text."""

    def read(self, path: str, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{path} must be a text, not {value!r}")
        return value

    @property
    def meaning(self) -> str:
        return self.help


def number(default: float, help: str, low: float = 0.0, high: float = math.inf, *, positive: bool = False) -> Any:
    """A dataclass field for a number."""
    return option(default, Number(help, low=low, high=high, positive=positive))


def whole(default: int, help: str, low: float = 0.0, high: float = math.inf) -> Any:
    """A dataclass field for a whole number."""
    return option(default, Number(help, whole=True, low=low, high=high))


def choice(default: str, help: str, *choices: str) -> Any:
    """A dataclass field for one of a few words."""
    return option(default, Choice(help, choices))


def flag(default: bool, help: str) -> Any:
    """A dataclass field for true or false."""
    return option(default, Flag(help))


def option(default: Any, what: Option) -> Any:
    """A dataclass field with any kind of option."""
    return field(default=default, metadata={"option": what})


@dataclass(frozen=True)
class Options:
    """Base of frozen dataclasses whose fields are options: every value is checked when one is made.

    Raises:
        RecipeError: a value that its option does not accept; all of them together.
    """

    def __post_init__(self) -> None:
        faults = []
        for name, (attribute, what) in options_of(type(self)).items():
            try:
                object.__setattr__(self, attribute, what.read(f"{self.prefix()}{name}", getattr(self, attribute)))
            except ValueError as error:
                faults.append(str(error))
        if faults:
            raise RecipeError("\n".join(faults))

    @classmethod
    def prefix(cls) -> str:
        """What stands before the name of an option in its path and in messages."""
        return ""


def options_of(cls: Any) -> dict[str, tuple[str, Option]]:
    """(attribute, option) of every option of a class by its name; "lambda", say, is the attribute `lambda_`."""
    found = ((f.name, f.metadata.get("option")) for f in dataclasses.fields(cls))
    return {attribute.rstrip("_"): (attribute, what) for attribute, what in found if what is not None}


def whole_number(text: str) -> int | None:
    """The number that plain digits are, as people write the number of something; None for any other text, and for more than 18 digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
