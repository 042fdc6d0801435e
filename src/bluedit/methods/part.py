"""The base class of parts: small frozen dataclasses with validated options, registered by name."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any, ClassVar

from bluedit.errors import RecipeError, did_you_mean
from bluedit.options import Options

NO_PARTS = "none"


def part(default: Any, slot: type[Part]) -> Any:
    """A dataclass field that holds a part of a slot, or a tuple of them if the default is one."""
    return dataclasses.field(default=default, metadata={"slot": slot})


@cache
def slots_of(cls: Any) -> dict[str, type[Part]]:
    """The slot of every field of a class that holds parts."""
    return {f.name: f.metadata["slot"] for f in dataclasses.fields(cls) if "slot" in f.metadata}


class Composed(Options):
    """Options that may hold parts, each as an object or by name; both are checked when one is made.

    Raises:
        RecipeError: a value or a part that cannot be; all of them together.
    """

    def __post_init__(self) -> None:
        faults = []
        try:
            super().__post_init__()
        except RecipeError as error:
            faults.append(str(error))
        several = {f.name for f in dataclasses.fields(self) if isinstance(f.default, tuple)}
        for name, slot in slots_of(type(self)).items():
            try:
                value = filled(slot, () if name in several else None, getattr(self, name))
                object.__setattr__(self, name, value)
            except ValueError as error:
                faults.append(str(error))
        if faults:
            raise RecipeError("\n".join(faults))


class Part(Composed):
    """One part of a recipe.

    A slot is what a recipe has one of (a schedule, a preservation, ...); a subclass of the slot with `kind="name"` is one choice for it.
    Defining the class registers it, so `--set preserve=name` and tunings find it:

        @dataclass(frozen=True)
        class Ridge(Preserve, kind="ridge"):
            '''S = L2 I on the whole key space.'''
            l2: float = number(10.0, "weight of the identity", positive=True)

    Attributes:
        slot: name of the slot.
        kind: name of the choice; empty for a slot that has only one.
        choices: all registered choices of the slot by kind.
    """

    slot: ClassVar[str] = ""
    kind: ClassVar[str] = ""
    choices: ClassVar[dict[str, type[Part]]] = {}

    def __init_subclass__(cls, slot: str | None = None, kind: str | None = None, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if slot is not None:
            cls.slot, cls.choices = slot, {}
        if kind is not None:
            cls.kind = kind
            known = cls.choices.setdefault(kind, cls)
            if known is not cls and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise RecipeError(
                    f"{cls.slot}={kind} is already {known.__module__}.{known.__qualname__}; choose another kind"
                )
            cls.choices[kind] = cls

    @classmethod
    def prefix(cls) -> str:
        """What the paths of its options begin with."""
        return f"{cls.slot}."

    @classmethod
    def about(cls) -> str:
        """One line on what the part does: the first of its docstring."""
        return (cls.__doc__ or "").strip().split("\n")[0].rstrip(".")

    @classmethod
    def of_kind(cls, kind: str) -> type[Part]:
        """The choice of that name.

        Raises:
            ValueError: there is none; close matches are suggested.
        """
        if kind not in cls.choices:
            raise ValueError(f"{cls.slot} cannot be {kind!r}; {did_you_mean(str(kind), cls.choices)}")
        return cls.choices[kind]


def filled(slot: type[Part], now: Any, value: Any) -> Any:
    """What a field for parts holds after it is set to a part, the name of one, or several of either.

    Args:
        slot: of the field.
        now: what it holds: a tuple where it may hold several parts. A part of the asked kind that is there already stays.
        value: what it is set to.

    Raises:
        ValueError: not a part of the slot, nor the name of one.
    """
    if not isinstance(now, tuple):
        return _one(slot, (now,), value)
    if isinstance(value, str):
        value = [] if value == NO_PARTS else value.split("+")
    return tuple(_one(slot, now, each) for each in (value if isinstance(value, (list, tuple)) else [value]))


def _one(slot: type[Part], now: tuple[Part | None, ...], value: Any) -> Part:
    if isinstance(value, slot):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{slot.slot} must be the name of a part or a {slot.__name__}, not {value!r}")
    cls = slot.of_kind(value)
    return next((p for p in now if p is not None and p.kind == value), None) or cls()
