"""Gradient descent on many vectors at once, each on its own."""

from __future__ import annotations

from typing import Protocol

import torch

from bluedit.shapes import Float, Int, Tensor


class Optimiser(Protocol):
    """Steps for vectors that do not depend on each other: the last dimension is the vector."""

    def step(self, gradient: Float[Tensor, "sites n d_value"]) -> Float[Tensor, "sites n d_value"]:
        """What to add to the vectors, given the gradient of their losses."""
        ...

    def keep(self, going: Int[Tensor, "some"]) -> None:
        """Go on with these vectors only (indices along n)."""
        ...


class AdamSteps:
    """Adam (arXiv 1412.6980) with betas 0.9 and 0.999; `rate` is the size of a coordinate's first step, one for all vectors or one for each."""

    def __init__(self, like: Float[Tensor, "sites n d_value"], rate: float | Float[Tensor, "sites n 1"]) -> None:
        self.rate, self.count = rate, 0
        self.first, self.second = torch.zeros_like(like), torch.zeros_like(like)

    def step(self, gradient: Float[Tensor, "sites n d_value"]) -> Float[Tensor, "sites n d_value"]:
        """As `Optimiser.step`."""
        self.count += 1
        self.first.mul_(0.9).add_(gradient, alpha=0.1)
        self.second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        scale = (self.second / (1 - 0.999**self.count)).sqrt_().add_(1e-8)
        return -(self.rate * (self.first / (1 - 0.9**self.count)) / scale)

    def keep(self, going: Int[Tensor, "some"]) -> None:
        """As `Optimiser.keep`."""
        self.first, self.second = self.first[:, going], self.second[:, going]
        if isinstance(self.rate, Tensor):
            self.rate = self.rate[:, going]


class MomentumSteps:
    """Steps along the running mean of normalised gradients, at most `stride` times as long as `scale`.

    A step keeps the direction of the gradient, where Adam moves every coordinate by about as much. So a loss is reached with a shorter vector.
    """

    def __init__(
        self, like: Float[Tensor, "sites n d_value"], scale: Float[Tensor, "sites n"], stride: float, decay: float
    ) -> None:
        self.scale, self.stride, self.decay, self.count = scale, stride, decay, 0
        self.mean = torch.zeros_like(like)

    def step(self, gradient: Float[Tensor, "sites n d_value"]) -> Float[Tensor, "sites n d_value"]:
        """As `Optimiser.step`."""
        self.count += 1
        size = gradient.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
        self.mean.mul_(self.decay).add_(gradient / size, alpha=1 - self.decay)
        return -self.stride * self.scale[..., None] * self.mean / (1 - self.decay**self.count)

    def keep(self, going: Int[Tensor, "some"]) -> None:
        """As `Optimiser.keep`."""
        self.mean, self.scale = self.mean[:, going], self.scale[:, going]


class NaturalSteps(MomentumSteps):
    """Momentum along (F / mean eigenvalue + damping I)^-1 times the gradient, F the Fisher information at each site.

    Where text is sensitive to a direction, the step along it is short: the same loss is reached with less change of what is said elsewhere.
    """

    def __init__(
        self,
        like: Float[Tensor, "sites n d_value"],
        scale: Float[Tensor, "sites n"],
        stride: float,
        decay: float,
        fisher: Float[Tensor, "sites d_value d_value"],
        damping: float,
    ) -> None:
        super().__init__(like, scale, stride, decay)
        F = fisher.double()
        F = F * (F.shape[-1] / F.diagonal(dim1=-2, dim2=-1).sum(dim=-1))[:, None, None]
        F.diagonal(dim1=-2, dim2=-1).add_(damping)
        self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(F)).to(like)

    def step(self, gradient: Float[Tensor, "sites n d_value"]) -> Float[Tensor, "sites n d_value"]:
        """As `Optimiser.step`."""
        return super().step(gradient @ self.inverse)
