"""Options of a recipe by path: "schedule" names a part, "schedule.power" an option of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from bluedit.errors import RecipeError, did_you_mean
from bluedit.methods.part import NO_PARTS, Composed, Part, filled, slots_of
from bluedit.options import Option, options_of


@dataclass(frozen=True)
class Known:
    """Every slot, and every option of every registered part."""

    slots: dict[str, type[Part]]
    options: dict[str, list[tuple[Option, Any]]]  # with the classes that have it


def known(cls: Any) -> Known:
    """What a recipe class can be composed of, with the parts registered so far."""
    slots: dict[str, type[Part]] = {}
    options: dict[str, list[tuple[Option, Any]]] = {}

    def walk(holder: Any) -> None:
        for name, (_, what) in options_of(holder).items():
            options.setdefault(holder.prefix() + name, []).append((what, holder))
        for name, slot in slots_of(holder).items():
            if slot.choices:
                slots[name] = slot
            for choice in slot.choices.values() or [slot]:
                walk(choice)

    walk(cls)
    return Known(slots, options)


def options_in(root: Any) -> dict[str, Any]:
    """The kind of every part and the value of every option that these parts have, by path."""
    found: dict[str, Any] = {}
    for holder, _ in _holders(root):
        for name, slot in slots_of(type(holder)).items():
            value = getattr(holder, name)
            if slot.choices:
                found[name] = kinds(value)
        for name, (attribute, _) in options_of(type(holder)).items():
            found[holder.prefix() + name] = getattr(holder, attribute)
    return found


def kinds(value: Any) -> str:
    """The kind of a part, or the kinds of several, as text."""
    return "+".join(p.kind for p in value) or NO_PARTS if isinstance(value, tuple) else value.kind


Trail = tuple[tuple[str, int | None], ...]  # attributes, with the place in a tuple, from the root to a part


def _holders(node: Any, trail: Trail = ()) -> Iterator[tuple[Any, Trail]]:
    """A recipe or part and all parts in it, each with the path to it."""
    yield node, trail
    for name in slots_of(type(node)):
        value = getattr(node, name)
        inner = enumerate(value) if isinstance(value, tuple) else [(None, value)]
        for index, found in inner:
            yield from _holders(found, (*trail, (name, index)))


def _changed(node: Any, trail: Trail, attribute: str, value: Any) -> Any:
    """A copy of `node` in which the part at the end of the trail has another value of an attribute."""
    if not trail:
        return replace(node, **{attribute: value})
    (name, index), *rest = trail
    held = getattr(node, name)
    inner = _changed(held if index is None else held[index], tuple(rest), attribute, value)
    whole = inner if index is None else (*held[:index], inner, *held[index + 1 :])
    return replace(node, **{name: whole})


def with_option(root: Any, path: str, value: Any) -> Any:
    """A copy with one option changed. Raises ValueError when the chosen parts do not have it, RecipeError when the value is refused."""
    for holder, trail in _holders(root):
        for name, (attribute, _) in options_of(type(holder)).items():
            if holder.prefix() + name == path:
                return _changed(root, trail, attribute, value)
    mine = options_in(root)
    owners = [cls for _, cls in known(type(root)).options.get(path, ())]
    if not owners:
        raise ValueError(f"unknown option {path!r}; {did_you_mean(path, mine)}")
    slot = owners[0].slot
    here = f"this recipe has {slot}={mine[slot]}" if slot in mine else f"this recipe has no {slot}"
    kind = " or ".join(f"{slot}={cls.kind}" if cls.kind else slot for cls in owners)
    raise ValueError(f"{path!r} belongs to {kind}, and {here}; {did_you_mean(path, mine)}")


def with_part(root: Any, path: str, value: Any) -> Any:
    """A copy with another part in a slot; a part that is of that kind already stays. Raises ValueError when it cannot be."""
    for holder, trail in _holders(root):
        slot = slots_of(type(holder)).get(path)
        if slot is not None:
            return _changed(root, trail, path, filled(slot, getattr(holder, path), value))
    raise ValueError(f"this recipe has no part {path!r}; {did_you_mean(path, options_in(root))}")


class Adjustable(Composed):
    """A frozen dataclass of options and parts that can be changed by path, and listed."""

    def override(self, values: Mapping[str, Any], source: str = "--set") -> Self:
        """A copy with parts and options replaced by path: {"preserve": "null-space", "preserve.threshold": 0.02}.

        Parts are replaced first, whatever the order; a part that is of the asked kind already keeps its numbers.

        Raises:
            RecipeError: a path that the chosen parts do not have (the nearest one is named) or a value out of range; all of them together.
        """
        faults: list[str] = []
        changed = self
        slots = known(type(self)).slots
        for path, value in sorted(values.items(), key=lambda item: item[0] not in slots):
            try:
                changed = with_part(changed, path, value) if path in slots else with_option(changed, path, value)
            except ValueError as error:
                faults.append(f"{source}: {error}")
            except RecipeError as error:
                faults += [f"{source}: {line}" for line in str(error).split("\n")]
        if faults:
            order = list(values)
            faults.sort(key=lambda fault: next((i for i, path in enumerate(order) if path in fault), len(order)))
            raise RecipeError("\n".join(faults))
        return changed

    def settings(self) -> dict[str, Any]:
        """Kinds of parts and values of options by path, as JSON can write them; `override` reads them back."""
        found = options_in(self)
        return {path: list(value) if isinstance(value, tuple) else value for path, value in found.items()}
