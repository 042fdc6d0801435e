"""How the error of distribution grows: with the number of critical layers, the size of a batch, and the number of batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch

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
    with frozen(lm.model), setting.editor.progress.task("growth of the error", 3) as bar:
        keys = read_keys(lm, batch.rows, setting.layers, batch.n)
        operators = setting.operators()
        measure = _Measure(setting, residuals, keys, operators)
        found = [measure.along("layers", setting.after(layer) + 1, 0, layer, slice(None)) for layer in setting.layers]
        bar()
        for size, repeat, columns in _subsets(batch.n):
            found.append(measure.along("facts", size, repeat, setting.layers[0], columns))
        bar()
        found += measure.along_batches(setting.layers[0])
        bar()
    return found


def _subsets(n: int) -> Iterator[tuple[int, int, slice]]:
    """(size, number, columns) of disjoint subsets of 1, 2, 5, 10, ... and all columns."""
    sizes = [m * 10**p for p in range(len(str(n))) for m in _SIZES if m * 10**p < n]
    for size in [*sizes, n]:
        for repeat in range(min(_REPEATS, n // size)):
            yield size, repeat, slice(repeat * size, (repeat + 1) * size)


class _Measure:
    """Errors and bounds at the layers of one analysis."""

    def __init__(
        self,
        setting: Setting,
        residuals: Residuals,
        keys: Mapping[int, Float[Tensor, "d_key n"]],
        operators: Mapping[int, GrowingOperator],
    ) -> None:
        self.setting, self.residuals, self.keys, self.operators = setting, residuals, keys, operators
        self.slack = getattr(setting.host.update, "slack", 1.0)
        self.device = setting.moments.device or setting.lm.device
        self.largest = {
            layer: largest_solver(G, self.slack, len(keys[layer]), self.device) for layer, G in operators.items()
        }

    def along(self, along: str, size: int, repeat: int, layer: int, columns: slice) -> Growth:
        """The error of one batch: these columns."""
        A = self._solve(layer, columns, self.operators[layer])
        found = self._bounds(layer, columns, A)
        update = float((self.residuals.computed(layer)[:, columns].double() @ A).norm())
        saturated = self._gap(layer, columns).norm() * self.largest[layer]
        return _row(along, size, repeat, layer, found.error, update, found, float(saturated))

    def along_batches(self, layer: int) -> list[Growth]:
        """The error after one batch, two, ...: of the sum of updates, with earlier keys in memory."""
        n, count = self.setting.batch.n, self.setting.batches
        G = self.operators[layer].fresh()
        wrong: Tensor | float = 0.0
        right: Tensor | float = 0.0
        total = Bounds(0.0, 0.0, 0.0, 0.0)
        saturated, found = 0.0, []
        for number in range(count):
            columns = slice(number * n // count, (number + 1) * n // count)
            A = self._solve(layer, columns, G)
            wrong = wrong + self._gap(layer, columns) @ A
            right = right + self.residuals.computed(layer)[:, columns].double() @ A
            total = total + self._bounds(layer, columns, A)
            saturated += float(self._gap(layer, columns).norm()) * self.largest[layer]
            sizes = float(torch.as_tensor(wrong).norm()), float(torch.as_tensor(right).norm())
            found.append(_row("batches", number + 1, 0, layer, *sizes, total, saturated))
            G.remember(self._keys(layer, columns))
        return found

    def _keys(self, layer: int, columns: slice) -> Tensor:
        return self.keys[layer][:, columns].to(self.device).double()

    def _solve(self, layer: int, columns: slice, G: GrowingOperator) -> Tensor:
        return solve(self._keys(layer, columns), G, self.slack).to(self.residuals.last.device)

    def _gap(self, layer: int, columns: slice) -> Tensor:
        """R* - R of these columns."""
        return (self.residuals.computed(layer) - self.residuals.distributed(layer))[:, columns].double()

    def _bounds(self, layer: int, columns: slice, A: Tensor) -> Bounds:
        own, last = self.residuals.computed(layer)[:, columns], self.residuals.last[:, columns]
        return bounds(own, last, A, self.residuals.shares[layer], self.setting.after(layer))


def _row(
    along: str, size: int, repeat: int, layer: int, error: float, update: float, of: Bounds, saturated: float
) -> Growth:
    return Growth(along, size, repeat, layer, error, update, of.direct, of.tightened, of.published, saturated)
