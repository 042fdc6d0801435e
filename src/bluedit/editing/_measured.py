"""Measuring an edit. If that fails, the edit stays made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from bluedit.errors import BluEditError
from bluedit.evaluate.report import Details, Measurement, Report, compare, measure, measure_ordinary
from bluedit.facts.fact import Fact

if TYPE_CHECKING:
    from bluedit.editing.edit import Edit
    from bluedit.editing.editor import Editor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Before:
    """The model before an edit, or why it could not be measured."""

    measurement: Measurement | None
    error: str | None = None

    @classmethod
    def of(cls, editor: Editor, facts: Sequence[Fact]) -> Before:
        """Measure an editor's model before an edit. Raises BluEditError if the facts cannot be asked; nothing has been changed yet."""
        try:
            lm, bars = editor.lm, editor.progress
            ordinary = editor.ordinary.get(editor.journal.state, partial(measure_ordinary, lm, bars))
            return cls(measure(lm, facts, bars, ordinary))
        except BluEditError:
            raise
        except Exception as error:  # whatever goes wrong, only the report is lost
            return cls(None, _told(error))

    def report_on(self, edit: Edit, editor: Editor, details: Callable[[], Details]) -> None:
        """Measure the model as it is now, and put the report into the edit and the journal, or why there is none.

        Args:
            details: gives how the facts were written, see `compare`.
        """
        edit.report, edit.report_error = self._compared(editor, edit.facts, details)
        if edit.report:
            *rest, last = edit.patch.batches
            origin = replace(last.origin, report=edit.report.as_dict())
            edit.patch = replace(edit.patch, batches=(*rest, replace(last, origin=origin)))
            editor.journal.describe(edit.patch.batches)

    def _compared(
        self, editor: Editor, facts: Sequence[Fact], details: Callable[[], Details]
    ) -> tuple[Report | None, str | None]:
        """(report, why there is none) about the facts that were written."""
        error = self.error
        if self.measurement is not None:
            try:
                now = measure(editor.lm, facts, editor.progress, before=self.measurement.ordinary)
                editor.ordinary.keep(editor.journal.state, now.ordinary)
                return compare(editor.lm, self.measurement.only(facts), now, details()), None
            except Exception as found:  # the edit is made; whatever goes wrong, only the report is lost
                error = _told(found)
        log.warning("the edit was made, but its report failed: %s", error)
        return None, error


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, BluEditError) else f"{type(error).__name__}: {error}"
