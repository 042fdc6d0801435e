"""Looking for damage in a workspace: every digest is computed again and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bluedit.editing._carrier import Carrier
from bluedit.editing._history import Standing
from bluedit.editing._store import Store
from bluedit.editing.patch import Base, chained
from bluedit.errors import EditError, PatchError


@dataclass(frozen=True)
class Problem:
    """Something in a workspace that was changed after it was written.

    Attributes:
        entry: the number of the entry; None if it is the model itself.
        what: a sentence.
    """

    entry: int | None
    what: str


def faults_of_files(store: Store, base: Base) -> list[Problem]:
    """Batches that are missing or damaged, and entries whose fingerprint does not follow from their batches. Loads no model.

    Raises:
        WorkspaceError: the journal itself is damaged.
    """
    history = store.read()
    found: dict[tuple[int, str], Problem] = {}
    states: dict[Standing, str] = {}
    for event in history.events:
        for place, one in enumerate(event.add, event.keep):
            if one in states:
                continue
            before = history.at(event.number)[:place]
            start = states.get(before[-1], before[-1].state) if before else base.fingerprint
            try:
                states[one] = chained(start, store.read_batches(one))
            except PatchError as error:
                states[one] = one.state
                found[one.entry, str(error)] = Problem(one.entry, str(error))
            if states[one] != one.state:
                what = f"its fingerprint is {states[one]}, and {one.state} was written down"
                found[one.entry, what] = Problem(one.entry, what)
    return list(found.values())


def faults_of_weights(carrier: Carrier, standing: Sequence[Standing]) -> list[Problem]:
    """Write all standing entries into the unedited model again, and compare its weights after each."""
    carrier.carry(standing)
    found = []
    try:
        carrier.editor.verify()
    except EditError as error:
        found.append(Problem(None, str(error)))
    carrier.reset()
    for one in standing:
        carrier.apply(one)
        if carrier.weights() != one.weights:
            what = (
                "the weights are not bit for bit those after the edit (another device, or another number of threads?)"
            )
            found.append(Problem(one.entry, what))
    return found
