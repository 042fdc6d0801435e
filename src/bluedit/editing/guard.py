"""A guard: rules that are checked before a batch is kept, and what happens when one is broken."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bluedit.editing.rules import Rule
from bluedit.editing.violations import Action, Soften
from bluedit.errors import FactError, RecipeError, did_you_mean
from bluedit.facts.fact import Fact
from bluedit.facts.records import fact_record, read_record
from bluedit.methods.part import filled
from bluedit.writing.batch import Batch

DEFAULT_GUARD = "default"


class Guard:
    """Rules that are checked before a batch is kept.

    Args:
        rules: rules, or their names with or without a limit: "perplexity", "perplexity=0.03". "default" is all rules that need nothing
            else, with their default limits; so is no rule at all. Of two rules of one kind the later one counts.

    Raises:
        RecipeError: an unknown rule (the nearest one is named), or a limit out of range; all of them together.
    """

    def __init__(self, *rules: Rule | str) -> None:
        found: dict[str, Rule] = {}
        faults: list[str] = []
        for rule in rules or (DEFAULT_GUARD,):
            try:
                found |= {one.kind: one for one in _read(rule)}
            except (ValueError, RecipeError) as error:
                faults.append(str(error))
        if faults:
            raise RecipeError("\n".join(faults))
        self.rules = tuple(found.values())

    def __repr__(self) -> str:
        return f"Guard({', '.join(map(repr, self.rules))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Guard) and self.rules == other.rules

    def __hash__(self) -> int:
        return hash(self.rules)


def _read(rule: Rule | str) -> list[Rule]:
    if isinstance(rule, Rule):
        return [rule]
    if not isinstance(rule, str):
        raise ValueError(f"guard must be rules or their names, not {rule!r}")
    kind, equals, limit = (part.strip() for part in rule.partition("="))
    if kind == DEFAULT_GUARD and not equals:
        return [cls() for cls in _kinds().values() if cls.by_default]
    if kind not in _kinds():
        raise ValueError(f"guard has no rule {kind!r}; {did_you_mean(kind, [*_kinds(), DEFAULT_GUARD])}")
    if equals and not limit:
        raise ValueError(f"guard {rule!r} has no limit after the '='; leave the '=' out for the default one")
    return [_kinds()[kind](limit=limit)] if equals else [_kinds()[kind]()]  # pyright: ignore[reportCallIssue]


def _kinds() -> dict[str, type[Rule]]:
    return Rule.choices  # pyright: ignore[reportReturnType]


Rules = Guard | Rule | str | Sequence[Rule | str] | None
"""What `Editor.edit` takes as a guard."""


@dataclass(frozen=True)
class LeftOut:
    """A fact that an edit was asked for and did not write.

    Attributes:
        why: the reason, without a full stop.
    """

    fact: Fact
    why: str


@dataclass(frozen=True)
class Guarding:
    """What an edit is asked to watch.

    Attributes:
        guard: the rules; None for none.
        protect: facts whose answers must not change.
        action: what happens when a rule is broken.
        skip_failed: leave out facts that cannot be written, instead of refusing the edit.
    """

    guard: Guard | None = None
    protect: tuple[Fact, ...] = ()
    action: Action = Soften()
    skip_failed: bool = False

    @classmethod
    def of(
        cls,
        guard: Rules,
        protect: Sequence[Fact] | Fact,
        on_violation: str | Action,
        *,
        skip_failed: bool,
    ) -> Guarding:
        """From the arguments of `Editor.edit`. Protected facts alone mean the default guard; with them the rule for them is there.

        Raises:
            RecipeError: an unknown rule or action, or a limit out of range.
            FactError: protected facts that are none, or a rule for them without any.
        """
        try:
            action: Any = filled(Action, None, on_violation)
        except ValueError as error:
            raise RecipeError(str(error)) from None
        protect = (protect,) if isinstance(protect, Fact) else tuple(protect or ())
        if not all(isinstance(fact, Fact) for fact in protect):
            raise FactError("protect must be a list of Fact; read a file of them with read_facts")
        given: list[Any] = list(guard) if isinstance(guard, (list, tuple)) else [] if guard is None else [guard]
        rules = [rule for one in given for rule in (one.rules if isinstance(one, Guard) else [one])]
        if not rules and not protect:
            return cls(None, (), action, skip_failed)
        found = Guard(*rules)
        about_protected = _kinds()["protected"]
        has = any(isinstance(rule, about_protected) for rule in found.rules)
        if has and not protect:
            raise FactError(
                "the guard's rule 'protected' needs facts whose answers must not change: protect=[...] (--protect FILE)"
            )
        if protect and not has:
            found = Guard(*found.rules, about_protected())
        return cls(found, protect, action, skip_failed)

    def check(self, texts: Collection[str]) -> None:
        """Raises FactError if a fact is to be protected and changed; `texts` are the prompts of those that are changed."""
        for fact in self.protect:
            if fact.text in texts:
                raise FactError(f"the fact {fact.text!r} is to be changed and protected; take it out of one of the two")

    def record(self) -> dict[str, Any]:
        """For JSON; `guarding_of` reads it back."""
        rules = {rule.kind: rule.limit for rule in self.guard.rules} if self.guard else {}
        found: dict[str, Any] = {"rules": rules, "on_violation": self.action.kind, "skip_failed": self.skip_failed}
        return found | ({"protect": [fact_record(fact) for fact in self.protect]} if self.protect else {})


def guarding_of(batches: Sequence[Batch]) -> dict[str, Any]:
    """The arguments of `Editor.edit` that an edit was guarded with, from its batches; none without a guard.

    Raises:
        RecipeError: a rule that is not known here.
    """
    record: Mapping[str, Any] = (batches[-1].guard or {}).get("asked") or {}
    rules = [f"{kind}={limit}" for kind, limit in record.get("rules", {}).items()]
    if not rules and not record.get("skip_failed"):
        return {}
    return {
        "guard": Guard(*rules) if rules else None,
        "protect": [read_record(dict(fact)) for fact in record.get("protect", ())],
        "on_violation": record["on_violation"],
        "skip_failed": record["skip_failed"],
    }
