"""What a model does with ordinary text and questions, kept by its weights, so that one that was measured before is not measured again."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bluedit.evaluate.bystanders import Heard, bystander_questions, questions_beside
from bluedit.files import remove_stale
from bluedit.model.fingerprint import text_fingerprint
from bluedit.tensors import UNREADABLE, read_tensors, write_tensors

if TYPE_CHECKING:
    from bluedit.facts.fact import Fact
    from bluedit.model.editable import EditableModel

log = logging.getLogger(__name__)
_VERSION = 1  # of what is measured, besides the bundled texts


@dataclass(frozen=True, eq=False)
class Ordinary:
    """Perplexity of the bundled passages, that of the bundled chat turns (None without a chat form), and answers to the bundled questions."""

    perplexity: float
    chat_perplexity: float | None = None
    heard: tuple[Heard, ...] = ()

    def beside(self, facts: Sequence[Fact]) -> Ordinary:
        """Without answers to questions that name a subject of these facts, which may change."""
        named = set(bystander_questions()) - set(questions_beside(facts))
        texts = {text for question in named for text in (question.plain, question.chat)}
        return replace(self, heard=tuple(one for one in self.heard if one.prompt not in texts))


@dataclass(eq=False)
class OrdinaryStore:
    """Keeps what was measured: the last state of the weights in memory, the unedited one on the disk.

    Attributes:
        lm: the model.
        unedited: fingerprint of its unedited weights.
        folder: where to store.
    """

    lm: EditableModel
    unedited: str
    folder: Path
    _last: tuple[str, Ordinary] | None = field(default=None, repr=False)

    def get(self, state: str, measure: Callable[[], Ordinary]) -> Ordinary:
        """What the model does with the weights it has now.

        Args:
            state: their fingerprint.
            measure: measures it; called if it is not known.
        """
        if self.lm.adapters is not None:  # they may be switched on and off, and no fingerprint shows it
            return measure()
        found = self.known(state)
        if found is None:
            found = measure()
            if state == self.unedited:
                self._write(found)
        self.keep(state, found)
        return found

    def known(self, state: str) -> Ordinary | None:
        """What was measured with the weights of this fingerprint; None if that is not kept."""
        if self.lm.adapters is not None:
            return None
        if self._last and self._last[0] == state:
            return self._last[1]
        return self._read() if state == self.unedited else None

    def unedited_perplexity(self) -> float | None:
        """Perplexity of the bundled passages with the unedited weights; None if it was not measured yet."""
        found = self.known(self.unedited)
        return found and found.perplexity

    def keep(self, state: str, found: Ordinary) -> None:
        """Keep what was measured with the weights of this fingerprint."""
        self._last = state, found

    @property
    def _identity(self) -> str:
        """What the figures depend on besides the weights, and these."""
        bundled = [
            resources.files("bluedit.evaluate").joinpath(name).read_text("utf-8")
            for name in ("bystanders.toml", "passages.txt")
        ]
        template = str(getattr(self.lm.tokenizer, "chat_template", ""))
        own = [self.unedited, self.lm.tokenizer_fingerprint, template, self.lm.max_length]
        return text_fingerprint(_VERSION, bundled, own)

    @property
    def _file(self) -> Path:
        return self.folder / f"ordinary-{self._identity}.safetensors"

    def _read(self) -> Ordinary | None:
        remove_stale(self.folder)
        if not self._file.is_file():
            return None
        try:
            tensors, metadata = read_tensors(self._file)
            figures = json.loads(metadata["figures"])
            heard = [
                Heard(form, prompt, text, first)
                for (form, prompt, text), first in zip(figures["heard"], tensors["first"], strict=True)
            ]
            chat = figures["chat"]
            return Ordinary(float(figures["perplexity"]), None if chat is None else float(chat), tuple(heard))
        except UNREADABLE as error:
            log.warning("%s is unreadable (%s); the model's ordinary answers are measured again", self._file, error)
            return None

    def _write(self, found: Ordinary) -> None:
        heard = [(one.form, one.prompt, one.text) for one in found.heard]
        figures = {"perplexity": found.perplexity, "chat": found.chat_perplexity, "heard": heard}
        first = torch.stack([one.first for one in found.heard]) if heard else torch.zeros(0)
        with suppress(OSError):  # it is only measured again next time
            write_tensors(self._file, {"first": first}, {"figures": json.dumps(figures)})
