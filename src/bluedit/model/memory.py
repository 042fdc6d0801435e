"""How much memory is free on a device."""

from __future__ import annotations

from pathlib import Path

import torch

_ASSUMED = 4 * 2**30


def known_free_memory(device: torch.device) -> int | None:
    """Bytes that can be allocated on a device now; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if device.type == "cpu" and meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated on a device now; 4 GiB if unknown."""
    known = known_free_memory(device)
    return _ASSUMED if known is None else known
