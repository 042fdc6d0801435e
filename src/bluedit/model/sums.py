"""Sums of rows by owner, with the same bits every time on every device."""

from __future__ import annotations

from bluedit.shapes import Float, Int, Tensor


def sum_by_owner(values: Float[Tensor, "rows ..."], owners: Int[Tensor, "rows"], n: int) -> Float[Tensor, "n ..."]:
    """For each of n owners the sum of its rows; differentiable, and the same bits on every call.

    On the CPU this is `index_add`: rows are added one after another, in order. On an accelerator `index_add` adds with atomic operations
    in whatever order they arrive, so that two calls may differ in the last bits. There `index_put(accumulate=True)` is used, which sorts
    rows by owner first; it is what torch itself replaces `index_add` with when deterministic algorithms are asked for. "The same
    numbers" therefore holds on one machine and device; the order of additions, and with it the last bits, differs between devices.
    """
    zeros = values.new_zeros(n, *values.shape[1:])
    if values.device.type == "cpu":
        return zeros.index_add(0, owners, values)
    return zeros.index_put((owners,), values, accumulate=True)
