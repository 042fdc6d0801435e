"""What happens to a batch that breaks a rule of the guard. Each way is a class that registers itself by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bluedit.methods.part import Part


class Case(Protocol):
    """A batch that was written and breaks a rule."""

    def soften(self) -> bool:
        """Write only a share of the change, if some share breaks no rule. Returns whether there is one."""
        ...

    def bisect(self) -> None:
        """Leave out the facts that do the harm, and keep the others in smaller batches."""
        ...

    def take_back(self) -> None:
        """Take the batch back, bit for bit, and go on without it."""
        ...

    def refuse(self) -> None:
        """End the edit; nothing of it stays. Raises GuardError."""
        ...

    def keep(self) -> None:
        """Keep the batch all the same, and say so."""
        ...


class Ending(Protocol):
    """A whole edit that does not say enough of its facts, after its recipe wrote them again."""

    def refuse(self) -> None:
        """End the edit; nothing of it stays. Raises GuardError."""
        ...

    def warn(self) -> None:
        """Keep it all the same, and say so."""
        ...

    def write_again(self) -> None:
        """Write the edit again without the facts that are not said."""
        ...


class Action(Part, slot="on_violation"):
    """What happens when a rule is broken."""

    def resolve(self, case: Case) -> None:
        """A batch breaks a rule."""
        raise NotImplementedError

    def resolve_again(self, case: Case) -> None:
        """A batch breaks a rule, and its facts were written before: without it they are as they were then."""
        case.take_back()

    def conclude(self, ending: Ending) -> None:
        """The edit as a whole does not say enough of its facts."""
        ending.write_again()


@dataclass(frozen=True)
class Soften(Action, kind="soften"):
    """Write a share of the change; if no share will do, leave out the facts that do the harm."""

    def resolve(self, case: Case) -> None:
        if not case.soften():
            case.bisect()

    def resolve_again(self, case: Case) -> None:
        if not case.soften():
            case.take_back()


@dataclass(frozen=True)
class Bisect(Action, kind="bisect"):
    """Leave out the facts that do the harm."""

    def resolve(self, case: Case) -> None:
        case.bisect()


@dataclass(frozen=True)
class Reject(Action, kind="reject"):
    """Refuse the whole edit."""

    def resolve(self, case: Case) -> None:
        case.refuse()

    def conclude(self, ending: Ending) -> None:
        ending.refuse()


@dataclass(frozen=True)
class Warn(Action, kind="warn"):
    """Keep the batch and say so."""

    def resolve(self, case: Case) -> None:
        case.keep()

    def resolve_again(self, case: Case) -> None:
        case.keep()

    def conclude(self, ending: Ending) -> None:
        ending.warn()
