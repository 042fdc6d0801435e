"""What a reader must know of how an analysis was made, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bluedit.explain._residual_shift import FEWEST

if TYPE_CHECKING:
    from bluedit.explain._residual_setting import Setting


def notes_of(setting: Setting) -> Iterator[str]:
    """What is left out, and what is done otherwise than a reader may expect."""
    if not setting.distributes:
        yield (
            "This model normalises the MLP's output before adding it, so no layer can write another one's residual. What needs a distributed "
            "residual is left out: only computed residuals, steps, what they cause above, and the shift with BLUE are shown."
        )
    if setting.blue.objective.uses_unedited_weights:
        yield (
            "The recipe optimises targets on the unedited weights. Here, except for the shift, they are optimised on the weights as they are: "
            "steps after a write would say nothing otherwise."
        )
    n = len(setting.facts)
    if setting.most < n:
        yield (
            f"What is written by several schedules (steps, what is left) and in sequences of batches (shift) was measured on the first {setting.most} of the "
            f"{n} facts (--sample)."
        )
    if 0 < setting.fluent < n:
        yield f"Fluency was measured on text about the first {setting.fluent} of the {n} subjects (--fluent)."
    if len(setting.unrelated) < FEWEST:
        yield (
            f"The shift was not measured: of the bundled facts {len(setting.unrelated)} are about other subjects than the edited ones, and at least "
            f"{FEWEST} are needed; leave out some of the facts."
        )
    doubled = setting.batch.n - len(setting.facts)
    if doubled:
        yield (
            f"The subject of {doubled} of the facts begins its text, where no key can be stored, so that the fact is written at a second token, too. It has two "
            "residuals, which count as two in means over facts; in the tables they are two rows of one layer and fact."
        )
