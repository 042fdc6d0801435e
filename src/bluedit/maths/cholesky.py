"""The Cholesky factor of a large matrix, stored without its zero half."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bluedit.shapes import Float, Tensor

_BLOCK = 1024  # rows: large enough for matrix products at full speed


@dataclass(frozen=True, eq=False)
class Cholesky:
    """L of S = L L^T, float64, in block rows: `rows` holds L[i:j, :j] for each block in order.

    Half of L is zero, and for a d_key of 14336 that half takes as much memory as ten thousand remembered keys.
    """

    rows: tuple[Tensor, ...]

    @classmethod
    def of(cls, S: Float[Tensor, "d d"]) -> Cholesky:
        """The factor of a symmetric matrix; only its lower half is read.

        Raises:
            ValueError: S is not positive definite.
        """
        rows: list[Tensor] = []
        for start in range(0, len(S), _BLOCK):
            end = min(start + _BLOCK, len(S))
            row = S[start:end, :end].to(torch.float64, copy=True)
            for above in rows:
                stop = above.shape[1]
                first = stop - len(above)
                part = row[:, first:stop] - row[:, :first] @ above[:, :first].T
                row[:, first:stop] = torch.linalg.solve_triangular(above[:, first:].T, part, upper=True, left=False)
            corner = row[:, start:] - row[:, :start] @ row[:, :start].T
            row[:, start:], info = torch.linalg.cholesky_ex(corner)
            if int(info):
                raise ValueError("the matrix is not positive definite")
            rows.append(row)
        return cls(tuple(rows))

    def __len__(self) -> int:
        return self.rows[-1].shape[1]

    def solve(self, B: Float[Tensor, "d n"]) -> Float[Tensor, "d n"]:
        """S^-1 B."""
        X = B.T.to(torch.float64, copy=True).contiguous()  # few long rows: twice as fast as a tall, thin matrix
        for row in self.rows:
            before, end = row.shape[1] - len(row), row.shape[1]
            mine = X[:, before:end].addmm_(X[:, :before], row[:, :before].T, alpha=-1.0)
            mine.copy_(torch.linalg.solve_triangular(row[:, before:].T, mine, upper=True, left=False))
        for row in reversed(self.rows):
            before, end = row.shape[1] - len(row), row.shape[1]
            mine = X[:, before:end]
            mine.copy_(torch.linalg.solve_triangular(row[:, before:], mine, upper=False, left=False))
            X[:, :before].addmm_(mine, row[:, :before], alpha=-1.0)
        return X.T

    def times(self, X: Float[Tensor, "d n"]) -> Float[Tensor, "d n"]:
        """S X."""
        inner = torch.zeros_like(X)
        for row in self.rows:
            inner[: row.shape[1]].addmm_(row.T, X[row.shape[1] - len(row) : row.shape[1]])
        return torch.cat([row @ inner[: row.shape[1]] for row in self.rows])
