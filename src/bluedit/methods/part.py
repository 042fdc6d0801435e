"""Parts of a recipe: small frozen classes with validated options, registered by name."""

from __future__ import annotations

from typing import Any, ClassVar

from bluedit.errors import RecipeError, did_you_mean
from bluedit.options import Options


class Part(Options):
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
