"""How the error of distribution grows: with the number of critical layers, the size of a batch, and the number of batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bluedit.explain.bounds import Bounds, bounds, largest_solver
from bluedit.explain.residual_data import Growth
from bluedit.maths.preserve import GrowingOperator
from bluedit.maths.solve import solve
from bluedit.model.state import frozen
from bluedit.shapes import Float, Tensor
from bluedit.writing.keys import read_keys

if TYPE_CHECKING:
    from bluedit.explain._residual_setting import Setting
    from bluedit.explain._residual_vectors import Residuals

_REPEATS = 5  # subsets of one size, at most
_SIZES = (1, 2, 5)  # times powers of ten


def growth(setting: Setting, residuals: Residuals) -> list[Growth]:
    """The error |(R* - R) A| on the unedited model's keys and residuals, beside its bounds.

    Along layers: the critical layers are the last m, and the error is the first's. Along facts and batches: the first critical layer's.
    With several batches, the error is that of the sum, each batch being solved with the keys of all earlier ones in memory.
    """
    lm, batch = setting.lm, setting.batch
    layers: list[Growth] = []
    others: list[Growth] = []
    with frozen(lm.model), setting.editor.progress.task("growth of the error", len(setting.layers), "layers") as bar:
        keys = read_keys(lm, batch.rows, setting.layers, batch.n)
        for layer, G in setting.operators():
            measure = _Measure(setting, residuals, layer, keys[layer], G)
            layers.append(measure.along("layers", setting.after(layer) + 1, 0, slice(None)))
            if layer == setting.layers[0]:
                others = [measure.along("facts", *subset) for subset in _subsets(batch.n)]
                others += measure.along_batches()
            bar()
    return layers + others


def _subsets(n: int) -> Iterator[tuple[int, int, slice]]:
    """(size, number, columns) of disjoint subsets of 1, 2, 5, 10, ... and all columns."""
    sizes = [m * 10**p for p in range(len(str(n))) for m in _SIZES if m * 10**p < n]
    for size in [*sizes, n]:
        for repeat in range(min(_REPEATS, n // size)):
            yield size, repeat, slice(repeat * size, (repeat + 1) * size)


class _Measure:
    """Errors and bounds at one layer."""

    def __init__(
        self, setting: Setting, residuals: Residuals, layer: int, keys: Float[Tensor, "d_key n"], G: GrowingOperator
    ) -> None:
        self.setting, self.layer, self.G = setting, layer, G
        device = setting.moments.device or setting.lm.device
        self.keys = keys.to(device).double()
        self.own, self.last = residuals.computed(layer).double(), residuals.last.double()
        self.gap = (residuals.computed(layer) - residuals.distributed(layer)).double()
        self.share = residuals.shares[layer]
        self.largest = largest_solver(G, setting.update.slack, len(keys), device)

    def along(self, along: str, size: int, repeat: int, columns: slice) -> Growth:
        """The error of one batch: these columns."""
        A = self._solve(columns, self.G)
        found = self._bounds(columns, A)
        update = float((self.own[:, columns] @ A).norm())
        saturated = float(self.gap[:, columns].norm()) * self.largest
        return _row(along, size, repeat, self.layer, found.error, update, found, saturated)

    def along_batches(self) -> list[Growth]:
        """The error after one batch, two, ...: of the sum of updates, with earlier keys in memory."""
        n, count = self.setting.batch.n, self.setting.batches
        G = self.G.fresh()
        wrong = right = self.own.new_zeros(len(self.own), len(self.keys))
        total = Bounds(0.0, 0.0, 0.0, 0.0)
        saturated, found = 0.0, []
        for number in range(count):
            columns = slice(number * n // count, (number + 1) * n // count)
            A = self._solve(columns, G)
            wrong, right = wrong + self.gap[:, columns] @ A, right + self.own[:, columns] @ A
            total = total + self._bounds(columns, A)
            saturated += float(self.gap[:, columns].norm()) * self.largest
            sizes = float(wrong.norm()), float(right.norm())
            found.append(_row("batches", number + 1, 0, self.layer, *sizes, total, saturated))
            G.remember(self.keys[:, columns])
        return found

    def _solve(self, columns: slice, G: GrowingOperator) -> Tensor:
        return solve(self.keys[:, columns], G, self.setting.update.slack).to(self.own.device)

    def _bounds(self, columns: slice, A: Tensor) -> Bounds:
        return bounds(self.own[:, columns], self.last[:, columns], A, self.share, self.setting.after(self.layer))


def _row(
    along: str, size: int, repeat: int, layer: int, error: float, update: float, of: Bounds, saturated: float
) -> Growth:
    return Growth(along, size, repeat, layer, error, update, of.direct, of.tightened, of.published, saturated)
