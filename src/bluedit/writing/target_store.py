"""Targets kept on disk, so that methods that need the same z* share it and an interrupted experiment does not optimise twice.

A target is valid only for the exact weights, prompts, site and objective it was made with; its file name is a hash of all these.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from bluedit.methods.objective import Objective
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import text_fingerprint, weights_fingerprint
from bluedit.model.sites import Site
from bluedit.statistics.store import MomentStore
from bluedit.tensors import UNREADABLE, read_tensors, write_tensors
from bluedit.text.rows import Row
from bluedit.writing.target import Targets, TargetSource

log = logging.getLogger(__name__)
_PARTS = ("z", "start", "steps", "loss")


def _described(objective: Objective) -> dict[str, object]:
    return {**asdict(objective), "descent.kind": objective.descent.kind}


@dataclass
class TargetStore:
    """Targets in a folder.

    Attributes:
        folder: where they are.
        unedited: fingerprint of the unedited weights, which some objectives hold on to.
        spared: seconds that targets found here took when they were optimised; a fair timing adds them.
        statistics: the model's, for objectives whose descent depends on them.
        group, batch: see `share`.
    """

    folder: Path
    unedited: str
    statistics: MomentStore | None = None
    spared: float = 0.0
    group: str = ""
    batch: int = 0
    _asked: Counter[str] = field(default_factory=Counter)

    def share(self, group: str) -> None:
        """From now on targets are kept under the name of a group and of a batch instead of the model's weights: those that the first recipe of
        a group optimises are used by its others, too, though their weights differ. An empty name ends that."""
        self.group = group
        self.begin(0)

    def begin(self, batch: int) -> None:
        """What is asked for from now on belongs to this batch of the group's recipes."""
        self.batch = batch
        self._asked.clear()

    def get(
        self,
        lm: EditableModel,
        rows: Sequence[Row],
        site: Site,
        objective: Objective,
        optimise: Callable[[], Targets],
        *,
        later: Sequence[Site] = (),
    ) -> Targets:
        """The stored targets for the model's weights as they are, or those that `optimise` computes now. An unreadable file is replaced."""
        prompts = [
            (
                *(row.fact, row.kind, row.ids, row.subject_last, row.targets),
                *(part for part in (row.teacher, row.again, row.among) if part),
            )
            for row in rows
        ]
        # the weights that z* is optimised on are in the fingerprint, and norms are anchored afterwards
        asked = replace(objective, weights="current", norm_anchor=False)
        sites = [asdict(one) for one in (site, *later)]
        weights = f"group {self.group}" if self.group else weights_fingerprint(lm.model)
        text = [self.statistics.place.name] if objective.descent.curved and self.statistics else []
        name = text_fingerprint(weights, self.unedited, prompts, sites, _described(asked), *text)
        if self.group:  # a recipe may ask for the same targets again, when it has changed the weights
            self._asked[name] += 1
            name = text_fingerprint(name, self.batch, self._asked[name])
        file = self.folder / f"{name}.safetensors"
        try:
            if file.is_file():
                stored, _ = read_tensors(file, lm.device)
                self.spared += float(stored["seconds"])
                return Targets(*(stored[part] for part in _PARTS), later=stored.get("later"))
        except UNREADABLE as error:
            log.warning("stored targets are unreadable and are optimised again: %s", error)
        started = time.perf_counter()
        targets = optimise()
        seconds = torch.tensor(time.perf_counter() - started)
        tensors = {part: getattr(targets, part) for part in _PARTS}
        if targets.later is not None:
            tensors["later"] = targets.later
        try:
            write_tensors(file, tensors | {"seconds": seconds}, {})
        except OSError as error:
            log.warning("targets cannot be stored: %s", error)
        return targets


def as_target_source(targets: str | Path | TargetSource | None, statistics: MomentStore) -> TargetSource | None:
    """A store in a folder, or the source that is given; a store without statistics takes these, which are the model's."""
    if isinstance(targets, (str, Path)):
        return TargetStore(Path(targets), statistics.weights, statistics)
    if isinstance(targets, TargetStore) and targets.statistics is None:
        targets.statistics = statistics
    return targets
