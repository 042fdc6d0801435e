"""A second moment, batches of keys and residuals, and the papers' equations written out densely."""

import torch

from bluedit.maths.moment import SecondMoment
from bluedit.maths.preserve import Factored, Preservation, Projected, null_space

D_KEY, D_VALUE, LAMBDA, L2, THRESHOLD = 24, 16, 7.0, 0.8, 0.05


def close(found, expected, tolerance=1e-8):
    assert found.dtype == expected.dtype == torch.float64
    assert (found - expected).norm() <= tolerance * expected.norm(), float((found - expected).norm() / expected.norm())


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment(null=8, seed=0):
    """C with `null` eigenvalues below THRESHOLD and the others above it."""
    Q = torch.linalg.qr(normal(D_KEY, D_KEY, seed=seed)).Q
    values = torch.cat([torch.linspace(0.001, 0.04, null), torch.linspace(0.2, 3.0, D_KEY - null)]).double()
    return SecondMoment(Q @ torch.diag(values) @ Q.T, 1000, 3)


def projector(C):
    values, vectors = torch.linalg.eigh(C)
    chosen = [torch.outer(vectors[:, i], vectors[:, i]) for i in range(len(values)) if values[i] < THRESHOLD]
    return torch.stack(chosen).sum(0)


def gram(batches):
    return sum((K @ K.T for K in batches), torch.zeros(D_KEY, D_KEY, dtype=torch.float64))


def memit_dense(K, R, C, M):
    return R @ K.T @ torch.linalg.inv(LAMBDA * C + M + K @ K.T)


def alphaedit_dense(K, R, P, M):
    return torch.linalg.solve(P @ (K @ K.T + M) + L2 * torch.eye(D_KEY, dtype=torch.float64), P @ K @ R.T).T


def memit_operator(C):
    return Preservation(Factored(C.cholesky(), LAMBDA))


def alphaedit_operator(C):
    return Preservation(Projected(*null_space(C, THRESHOLD, unit="absolute"), L2))


def batches(sizes, seed=0):
    return [
        (normal(D_KEY, n, seed=seed + 2 * i), normal(D_VALUE, n, seed=seed + 2 * i + 1)) for i, n in enumerate(sizes)
    ]
