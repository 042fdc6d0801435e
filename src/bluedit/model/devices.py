"""What is computed where: in float64 on the device itself, or on the CPU where a device has no float64."""

from __future__ import annotations

import torch

from bluedit.errors import StatisticsError
from bluedit.shapes import Float, Tensor

_WITHOUT_FLOAT64 = ("mps",)


def has_float64(device: torch.device) -> bool:
    """Whether tensors on a device can be float64."""
    return device.type not in _WITHOUT_FLOAT64


def wide_device(device: torch.device) -> torch.device:
    """Where to compute in float64 what is on this device: there, or on the CPU."""
    return device if has_float64(device) else torch.device("cpu")


def widened(tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """A tensor in float64, on its own device or on the CPU."""
    return tensor.to(wide_device(tensor.device)).double()


def solve_device(device: torch.device, wanted: str = "") -> torch.device:
    """Where second moments are kept and updates are solved.

    Args:
        device: the model's.
        wanted: the user's choice (`Execution.statistics_device`); empty for none.

    Raises:
        StatisticsError: torch knows no such device.
    """
    try:
        return torch.device(wanted) if wanted else wide_device(device)
    except RuntimeError as error:
        raise StatisticsError(
            f"key statistics cannot be kept on {wanted}, they need a device with float64 "
            f"({str(error).splitlines()[0]}); set execution.statistics_device=cpu"
        ) from error
