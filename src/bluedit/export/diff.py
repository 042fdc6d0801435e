"""What two checkpoints differ in: which tensors, by how much, and the rank of the difference. Any two of one architecture, edited or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bluedit.export.base import BaseModel
from bluedit.options import whole_number
from bluedit.progress import Progress
from bluedit.shapes import Tensor

_CHUNK = 2**24  # elements that are widened at once
_MOST = 0.99  # share of the squared norm, for the number of directions that hold it


@dataclass(frozen=True)
class Difference:
    """A tensor that differs.

    Attributes:
        name, shape, dtype: of the tensor in the second checkpoint.
        relative: |B - A| / |A|, Frobenius; infinite where A is zero.
        largest: largest difference of an element.
        changed: share of elements that differ.
        rank: number of singular values of B - A above the rounding noise of the tensor's dtype; None for what is no matrix.
        directions: number of singular vectors that hold 99 % of |B - A|^2.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    relative: float
    largest: float
    changed: float
    rank: int | None
    directions: int | None


@dataclass(frozen=True)
class Comparison:
    """Two checkpoints side by side.

    Attributes:
        differing: tensors that differ, in order of names.
        same: number of tensors that are equal, number for number.
        only_first, only_second: tensors that only one of them has.
        reshaped: tensors of other shapes: (name, first shape, second shape).
    """

    differing: tuple[Difference, ...]
    same: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def equal(self) -> bool:
        """Whether they hold the same tensors with the same numbers."""
        return not (self.differing or self.only_first or self.only_second or self.reshaped)


def diff(first: str, second: str, *, progress: Progress | None = None) -> Comparison:
    """Compare the weights of two models, given by name as for `Editor.load`. One tensor of each is in memory at a time.

    Tensors of other dtypes are compared by their numbers.

    Raises:
        ModelError: a checkpoint cannot be found or read.
    """
    one, two = (BaseModel(name).weights for name in (first, second))
    shared = sorted(one.places.keys() & two.places.keys(), key=lambda name: (two.places[name], name))
    differing, reshaped, same = [], [], 0
    with (progress or Progress()).task("comparing", len(shared), "tensors") as advance:
        for name in shared:
            shapes = one.shape(name), two.shape(name)
            if shapes[0] != shapes[1]:
                reshaped.append((name, *shapes))
            else:
                found = _compare(name, one.tensor(name), two.tensor(name))
                same += found is None
                differing += [found] if found else []
            advance()
    return Comparison(
        tuple(sorted(differing, key=lambda each: _natural(each.name))),
        same,
        tuple(sorted(one.places.keys() - two.places.keys(), key=_natural)),
        tuple(sorted(two.places.keys() - one.places.keys(), key=_natural)),
        tuple(sorted(reshaped)),
    )


def _natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    numbers = [(part, whole_number(part)) for part in name.split(".")]
    return tuple((number is not None, number or 0, part) for part, number in numbers)


def _compare(name: str, a: Tensor, b: Tensor) -> Difference | None:
    """None if all numbers are equal. NaN equals NaN."""
    if a.dtype == b.dtype and torch.equal(a, b):
        return None
    square = size = largest = 0.0
    changed = 0
    for x, y in zip(_chunks(a), _chunks(b), strict=True):
        moved = torch.where((x == y) | (x.isnan() & y.isnan()), 0.0, y - x)
        square += float(moved.square().sum())
        size += float(x.square().sum())
        largest = max(largest, float(moved.abs().max()))
        changed += int((moved != 0).sum())
    if not changed:
        return None
    relative = (square / size) ** 0.5 if size else float("inf")
    rank, directions = _ranks(a, b) if b.dim() == 2 and square < float("inf") else (None, None)
    dtype = str(b.dtype).removeprefix("torch.")
    return Difference(name, tuple(b.shape), dtype, relative, largest, changed / b.numel(), rank, directions)


def _chunks(tensor: Tensor) -> Iterator[Tensor]:
    for part in tensor.reshape(-1).split(_CHUNK):
        yield part.double()


def _ranks(a: Tensor, b: Tensor) -> tuple[int, int]:
    """(rank above the noise, directions that hold most), from the Gram matrix of the shorter side, which is summed up in pieces."""
    a, b = (a, b) if b.shape[0] <= b.shape[1] else (a.T, b.T)
    gram = torch.zeros(b.shape[0], b.shape[0], dtype=torch.float64)
    noise = 0.0
    step = max(1, _CHUNK // b.shape[0])
    for x, y in zip(a.split(step, dim=1), b.split(step, dim=1), strict=True):
        x, y = x.double(), y.double()
        gram.addmm_(y - x, (y - x).T)
        noise += float(_ulp(y, b.dtype).square().sum())
    squares = torch.linalg.eigvalsh(gram).clamp(min=0).flip(0)
    # rounding errors are independent: as a matrix of standard deviation s their largest singular value is about s (sqrt(m) + sqrt(n))
    s = (noise / 12 / b.numel()) ** 0.5
    floor = max(2 * s * (b.shape[0] ** 0.5 + b.shape[1] ** 0.5), float(squares[0].sqrt()) * 1e-7)
    held = (squares.cumsum(0) < _MOST * squares.sum()).sum()
    return int((squares.sqrt() > floor).sum()), int(held) + 1


def _ulp(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The distance to the next number of a dtype."""
    if not dtype.is_floating_point:
        return torch.zeros_like(values)
    info = torch.finfo(dtype)
    return torch.exp2(values.abs().clamp(min=info.tiny).log2().floor()) * info.eps
