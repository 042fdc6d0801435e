"""How fast float32 linear maps are on this processor: torch's own against oneDNN's, for the shapes of a small model.

    python benchmarks/products.py --threads 1

`bluedit.model.products` uses oneDNN's on AMD processors with AVX-512. If the ratio is well above 1 on another kind, it should there, too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import linear as plain

from bluedit.model.products import linear, worthwhile

SHAPES = ((2048, 576, 1536), (2048, 1536, 576), (37, 576, 1536), (37, 1536, 576), (240, 576, 49152))  # rows, in, out


def best(run: Callable[[], Tensor], seconds: float = 0.5) -> float:
    """The shortest of as many runs as fit into some seconds, after one that is not timed."""
    run()
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    print("| rows | in | out | torch, GFLOP/s | oneDNN, GFLOP/s | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for rows, inner, outer in SHAPES:
        x, weight = torch.randn(rows, inner), torch.randn(outer, inner)
        with torch.no_grad():
            slow, fast = (best(partial(product, x, weight)) for product in (plain, linear))
        rates = [2e-9 * rows * inner * outer / seconds for seconds in (slow, fast)]
        print(f"| {rows} | {inner} | {outer} | {rates[0]:.0f} | {rates[1]:.0f} | {slow / fast:.2f} |")
    print(f"\nbluedit uses {'oneDNN' if worthwhile() else 'torch'} here.")


if __name__ == "__main__":
    main()
