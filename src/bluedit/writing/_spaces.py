"""Directions of a layer that writes spare: those that all names' keys share, and those of its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bluedit.maths.filters import Shield
from bluedit.methods.filters import WriteFilter
from bluedit.methods.keys import Keys, WholeKeys
from bluedit.methods.update import ClosedForm, Update
from bluedit.progress import Progress
from bluedit.shapes import Tensor
from bluedit.statistics.store import MomentStore
from bluedit.writing._space import Space
from bluedit.writing.weights import EditedWeights


@dataclass(eq=False)
class Spaces:
    """Spaces of the layers that recipes write, each direction computed once; they belong to the unedited model.

    Attributes:
        weights: of the model.
        moments: for the keys of well-known names.
        progress: where to report.
    """

    weights: EditedWeights
    moments: MomentStore
    progress: Progress
    _common: dict[tuple[int, Keys], Tensor] = field(default_factory=dict)
    _shields: dict[tuple[int, WriteFilter], Shield] = field(default_factory=dict)

    def of(self, update: Update, layers: Sequence[int]) -> Mapping[int, Space]:
        """The space of each layer that an update writes.

        Raises:
            StatisticsError: the statistics of names cannot be computed or stored.
        """
        keys = update.keys if isinstance(update, ClosedForm) else WholeKeys()
        if keys.common:
            self._learn(keys, layers)
        return {
            layer: Space(
                self._common.get((layer, keys)), tuple(self._shield(layer, one) for one in update.write_filters)
            )
            for layer in layers
        }

    def _learn(self, keys: Keys, layers: Sequence[int]) -> None:
        missing = [layer for layer in layers if (layer, keys) not in self._common]
        if missing:
            names = self.moments.of_names
            with self.weights.unedited():
                names.get(missing, self.progress)
            for layer in missing:
                self._common[layer, keys] = (
                    names.derived(layer, repr(keys), keys.directions)
                    if keys.stored
                    else keys.directions(names.read(layer))
                )

    def _shield(self, layer: int, one: WriteFilter) -> Shield:
        if (layer, one) not in self._shields:
            self._shields[layer, one] = one.shield(self.weights.original(layer).to(self.moments.lm.device))
        return self._shields[layer, one]
