"""Time and memory of one batch's solve against the dense formula, on synthetic keys, at several widths and lengths of history.

python benchmarks/solve.py --out runs/solve            # up to d_key 14336; the dense LU alone takes minutes there
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bluedit.maths.moment import SecondMoment
from bluedit.maths.solve import solve
from bluedit.methods.preserve import Covariance, NullSpace, Preserve

PRESERVE: dict[str, Preserve] = {
    "memit-seq": Covariance(lambda_=2000.0),
    "alphaedit": NullSpace(threshold=0.5, unit="rank", l2=10.0),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="+", type=int, default=[1536, 6400, 14336])
    parser.add_argument("--earlier", nargs="+", type=int, default=[0, 1000, 2000, 10000])
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--recipes", nargs="+", default=list(PRESERVE), choices=list(PRESERVE))
    parser.add_argument(
        "--dense-up-to", type=int, default=14336, help="largest width for which the dense formula is run"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/solve"))
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.case:
        print(json.dumps(measure(**json.loads(args.case))))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    results = []
    for recipe in args.recipes:
        for width in args.widths:
            for way in ("dense", "bluedit"):
                for earlier in args.earlier:
                    # the dense formula does the same work whatever came before: one length stands for all
                    if way == "dense" and (width > args.dense_up_to or earlier != args.earlier[0]):
                        continue
                    results.append(
                        one(
                            args,
                            {"recipe": recipe, "way": way, "width": width, "earlier": earlier, "batch": args.batch},
                        )
                    )
                    write(results, args.out)


def one(args: argparse.Namespace, case: dict[str, Any]) -> dict[str, Any]:
    """A case's result: as stored, or from a process of its own, so that its peak memory is its own."""
    file = args.out / f"{'-'.join(str(v) for v in case.values())}.json"
    if not file.is_file():
        command = [sys.executable, sys.argv[0], "--case", json.dumps(case)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{case} failed:\n{done.stderr[-2000:]}")
        file.write_text(done.stdout.splitlines()[-1])
    return json.loads(file.read_text())


def keys(width: int, count: int, seed: int) -> torch.Tensor:
    return torch.randn(width, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment_of(width: int) -> SecondMoment:
    """A positive definite C with a decaying spectrum, made without a decomposition: diagonal plus low rank."""
    V = keys(width, 64, 0)
    C = V @ V.T
    C /= 64  # in place: nothing that is freed again may count as memory
    C.diagonal().add_(torch.linspace(0.01, 1.0, width, dtype=torch.float64))
    return SecondMoment(C, 10 * width, 0)


def measure(recipe: str, way: str, width: int, earlier: int, batch: int) -> dict[str, Any]:
    """Seconds of the one-time work and of one batch, what is needed to preserve its keys included; memory beyond C itself."""
    preserve, K, R = PRESERVE[recipe], keys(width, batch, 1), torch.randn(256, batch, dtype=torch.float64)
    moment = moment_of(width)
    base = memory()
    started = time.perf_counter()
    if way == "dense":  # one of two ways to compute the same, not a kind of part
        P = projector(moment) if isinstance(preserve, NullSpace) else None
        once = time.perf_counter() - started
        M = torch.zeros_like(moment.matrix)
        M += 0.0  # takes its memory now
        started = time.perf_counter()
        dense(K, R, moment.matrix, M, P, preserve)
        M.addmm_(K, K.T)
    else:
        operator = preserve.operator(moment)
        once = time.perf_counter() - started
        for number in range(earlier // batch):
            operator.remember(keys(width, batch, 2 + number))
        started = time.perf_counter()
        R @ solve(K, operator, 1.0)
        operator.remember(K)  # the batch's own keys, as the editor does
    seconds = time.perf_counter() - started
    return {
        "recipe": recipe, "way": way, "width": width, "earlier": earlier,
        "once_s": once, "batch_s": seconds, "extra_gib": memory() - base,
    }  # fmt: skip


def projector(moment: SecondMoment) -> torch.Tensor:
    """P as the papers' code has it (here from the eigenvectors, which is kinder to it than the SVD it uses)."""
    vectors = torch.linalg.eigh(moment.matrix).eigenvectors[:, : len(moment.matrix) // 2]
    return vectors @ vectors.T


def dense(
    K: torch.Tensor, R: torch.Tensor, C: torch.Tensor, M: torch.Tensor, P: torch.Tensor | None, p: Any
) -> torch.Tensor:
    """The papers' formula with an LU solve of d_key x d_key."""
    if P is None:
        return torch.linalg.solve(p.lambda_ * C + M + K @ K.T, K @ R.T).T
    return torch.linalg.solve(P @ (K @ K.T + M) + p.l2 * torch.eye(len(C), dtype=C.dtype), P @ K @ R.T).T


def memory() -> float:
    """Peak resident memory so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def write(results: list[dict[str, Any]], out: Path) -> None:
    dense_of = {(r["recipe"], r["width"]): r for r in results if r["way"] == "dense"}
    lines = ["| recipe | d_key | earlier edits | once | a batch | dense | times | memory beyond C | dense's |"]
    lines.append("|" + "---|" * 9)
    for r in results:
        if r["way"] == "dense":
            continue
        other = dense_of.get((r["recipe"], r["width"]))
        ratio = f"{other['batch_s'] / r['batch_s']:.0f}" if other else ""
        shown = (f"{other['batch_s']:.2f} s", f"{other['extra_gib']:.2f} GiB") if other else ("", "")
        lines.append(
            f"| {r['recipe']} | {r['width']} | {r['earlier']} | {r['once_s']:.1f} s | {r['batch_s']:.3f} s "
            f"| {shown[0]} | {ratio} | {r['extra_gib']:.2f} GiB | {shown[1]} |"
        )
    (out / "solve.json").write_text(json.dumps(results, indent=1))
    (out / "solve.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
