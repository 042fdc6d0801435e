"""How much memory is free on a device, and going on with less at once where it runs out."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bluedit.errors import EditError, out_of_memory

log = logging.getLogger(__name__)
_ASSUMED = 4 * 2**30


def known_free_memory(device: torch.device) -> int | None:
    """Bytes that can be allocated on a device now; None if unknown.

    On CUDA these are what the device has free and what torch's allocator holds without using it.
    """
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
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


def gigabytes(count: int) -> str:
    """A number of bytes for messages: "1.5 GB"."""
    return f"{count / 1e9:.1f} GB"


def fits(work: Callable[[], None], count: int, what: str, device: torch.device) -> bool:
    """Do `work`; whether there was memory for it. If not, what it held is freed, so that less can be tried.

    Args:
        work: raises the device's error when its memory runs out.
        count: how many things it works on at once.
        what: what these are, in the plural, for messages.
        device: whose memory.

    Raises:
        EditError: there is no memory for one of them alone.
    """
    try:
        work()
        return True
    except Exception as error:  # a lack of memory has no type of its own on most devices; anything else goes on
        if not out_of_memory(error):
            raise
        if count <= 1:
            raise too_little(device, f"one of the {what} alone", error) from error
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    log.warning("out of memory on %s with %d %s at once; trying again with half as many", device, count, what)
    return False


def too_little(device: torch.device, what: str, error: BaseException) -> EditError:
    """What to raise when the memory of a device ran out and there is nothing to halve."""
    said = str(error).partition("\n")[0] or type(error).__name__
    return EditError(
        f"there is not enough memory on {device} for {what} ({said}); free memory there, load the model in bfloat16, "
        "or edit on a device with more memory"
    )


def run_chunks(
    chunks: Sequence[Sequence[int]], run: Callable[[Sequence[int]], None], what: str, device: torch.device
) -> None:
    """Run every chunk, in order. When memory runs out, that chunk and all later ones are halved, as often as needed.

    Args:
        chunks: groups of things that are independent of each other.
        run: works on a group, and keeps its results only once it is through.
        what: what is in them, for messages.
        device: whose memory may run out.

    Raises:
        EditError: there is no memory for one thing alone.
    """
    waiting = [
        (chunk, 1) for chunk in reversed(chunks)
    ]  # each with the number of pieces that its first chunk was cut into
    pieces = 1
    while waiting:
        chunk, cut = waiting.pop()
        if cut < pieces and len(chunk) > 1:
            half = (len(chunk) + 1) // 2
            waiting += [(chunk[half:], 2 * cut), (chunk[:half], 2 * cut)]
        elif not fits(lambda: run(chunk), len(chunk), what, device):  # noqa: B023  # called at once
            pieces = 2 * cut
            waiting.append((chunk, cut))
