"""The explanation of an edit in plain words, made of its numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bluedit.explain._edit_data import INTERFERES, Arrival, Asked, EditExplanation, Role, When
from bluedit.facts.words import HALF_PAIR

ENOUGH = 0.5  # of what the prompt's own key receives: below it the key is at fault, above it the value
LITTLE = 0.5  # of the wanted residual
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_QUOTED = 40  # characters of an answer


def sentence_of(found: EditExplanation) -> str:
    """The plain answer: whether the fact is said, and what is wrong with the texts after which it is not."""
    prompt = found.asked[0]
    parts = [_prompt(found, prompt), *_groups(found, prompt), *_neighbours(found), *_later(found)]
    return HALF_PAIR.sub("?", " ".join(parts))


def _prompt(found: EditExplanation, prompt: Asked) -> str:
    if prompt.said:
        return "The fact is said."
    reasons = "; ".join(filter(None, [_lacking(found, prompt), _competition(found, prompt)]))
    return f"The fact is not said: {reasons}."


def _lacking(found: EditExplanation, prompt: Asked) -> str:
    """What is known of the write itself."""
    own = [one for one in found.arrivals if one.position is prompt.position]
    if not own:
        return ""
    least: Arrival = min(own, key=lambda one: one.now)
    where = f"of the wanted residual at layer {least.layer}"
    if least.arrived >= LITTLE > least.now:
        return f"{least.arrived:.2f} {where} had arrived, and later edits left {least.now:.2f}"
    if least.now < LITTLE:
        return f"only {least.now:.2f} {where} arrived"
    return f"{least.now:.2f} {where} arrived, but the value does not carry"


def _competition(found: EditExplanation, asked: Asked) -> str:
    """What is said instead, and of which other edit it is the answer, or by how much the rival is ahead."""
    if asked.ahead is not None and asked.ahead > 0:
        return f"the old answer stays {asked.ahead:.1f} nats ahead"
    others = (one for one in found.others if one.number is not None and one.target != found.fact.target)
    other = next((one for one in others if _names(asked.says, one.target)), None)
    whose = f", the answer of edit {other.number}" if other else ""
    return f"the model writes {shortened(asked.says)}{whose}"


def _names(text: str, answer: str) -> bool:
    """Whether a text holds an answer as whole words."""
    return re.search(rf"(?<!\w){re.escape(answer.strip())}(?!\w)", text, re.IGNORECASE) is not None


def _groups(found: EditExplanation, prompt: Asked) -> Iterator[str]:
    """A sentence on each kind of other texts."""
    for role, name, names in (
        (Role.TAUGHT, "taught wording", "taught wordings"),
        (Role.UNTAUGHT, "wording that was not taught", "wordings that were not taught"),
        (Role.PARAPHRASE, "paraphrase", "paraphrases"),
    ):
        group = [one for one in found.asked if one.role is role]
        if group:
            yield _group(found, group, name, names, prompt)


def _group(found: EditExplanation, group: Sequence[Asked], name: str, names: str, prompt: Asked) -> str:
    missed = [one for one in group if not one.said]
    if not missed:
        if len(group) == 1:
            return f"The {name} is said, too."
        return f"{'Both' if len(group) == 2 else f'All {_number(len(group))}'} {names} are said, too."
    if len(group) == 1:
        return f"The {name} is not: {_why(found, missed[0], prompt)}."
    if len(missed) == 1:
        return f"Of {_number(len(group))} {names} one is not: {_why(found, missed[0], prompt)}."
    if len(missed) == len(group):
        first = f"{'Neither' if len(group) == 2 else 'None'} of the {_number(len(group))} {names} is"
    else:
        first = f"Of {_number(len(group))} {names} {_number(len(missed))} are not"
    worst = max(missed, key=lambda one: -one.target_after if one.ahead is None else one.ahead)
    return f"{first}. The worst is {shortened(worst.prompt)}: {_why(found, worst, prompt)}."


def _why(found: EditExplanation, asked: Asked, prompt: Asked) -> str:
    """Whether the key or the value is at fault, and what stands against it."""
    against = _competition(found, asked)
    if asked.received is None or not prompt.received:
        return against
    if asked.received < ENOUGH * prompt.received:
        return (
            f"its key receives only {asked.received:.2f} of the change, the prompt's {prompt.received:.2f}; {against}"
        )
    return f"its key receives {asked.received:.2f} of the change but the value does not carry: {against}"


def _neighbours(found: EditExplanation) -> Iterator[str]:
    neighbours = [one for one in found.asked if one.role is Role.NEIGHBOUR]
    moved = [one for one in neighbours if not one.good]
    if not moved:
        return
    worst = max(moved, key=lambda one: abs(one.received or 0.0))
    number = f"{worst.received or 0.0:.2f} of the change"
    if len(moved) > 1:
        got = f"; the one that receives most gets {number}" if worst.received is not None else ""
        yield f"Of {_number(len(neighbours))} neighbours {_number(len(moved))} now begin their answers otherwise{got}."
        return
    who = "The neighbour" if len(neighbours) == 1 else f"Of {_number(len(neighbours))} neighbours one"
    got = f": at {worst.token!r} it receives {number}" if worst.received is not None else ""
    yield f"{who} now begins its answer otherwise{got}."


def _later(found: EditExplanation) -> Iterator[str]:
    """What other edits do to this one."""
    moved = found.moved_by.get(When.LATER, 0.0)
    if abs(moved) < INTERFERES:
        return
    nearest = next((one for one in found.others if one.when is When.LATER and abs(one.adds) >= INTERFERES), None)
    most = f"; the most of it comes from edit {nearest.number}, {shortened(nearest.prompt)}" if nearest else ""
    yield f"Later edits {'add' if moved > 0 else 'take away'} {abs(moved):.2f} of its residual at its key{most}."


def _number(count: int) -> str:
    return _WORDS[count] if count < len(_WORDS) else str(count)


def shortened(text: str) -> str:
    """A text in quotes, its beginning if it is long; "nothing" for an empty one."""
    line = " ".join(text.split())
    return repr(line if len(line) <= _QUOTED else line[: _QUOTED - 1].rstrip() + "…") if line else "nothing"
