"""How well the residuals of a batch can be predicted from those of earlier batches, so that their optimisation could begin there.

    python benchmarks/predict.py runs/lasting/memit-seq-joint/patch     # the patch of a benchmark's entry with at least two batches

Prints, for each layer, the mean cosine of predicted and true residuals of the last batch's facts. Predictions: the mean residual of all
earlier facts, of those with the same prompt, of those with the same target; ridge regression from keys to residuals, at the best of
several strengths (chosen on the last batch, so it is an upper bound), with the share of the true residual's length that it predicts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bluedit import Fact, Patch

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)  # in units of the mean squared length of a key


@dataclass(frozen=True)
class Written:
    """Facts with their residuals and keys at one layer, in columns."""

    facts: Sequence[Fact]
    R: Tensor
    keys: Tensor


def written(patch: Patch, layer: int) -> list[Written]:
    """The first write of each batch at a layer."""
    found = []
    for batch in patch.batches:
        update = next(update for update in batch.updates if update.layer == layer)
        n = len(batch.facts)
        if update.R.shape[1] < n:
            raise SystemExit("facts of this patch share residuals; take a recipe that gives each fact its own")
        found.append(Written(batch.facts, update.R[:, :n].double(), update.keys[:, :n].double()))
    return found


def cosine(predicted: Tensor, true: Tensor) -> float:
    return torch.nn.functional.cosine_similarity(predicted, true, dim=0).mean().item()


def of_same(earlier: Written, last: Written, what: Callable[[Fact], str]) -> tuple[float, int]:
    """The mean cosine with the mean residual of earlier facts that are the same in something, and for how many facts there are any."""
    found = []
    for i, fact in enumerate(last.facts):
        same = [j for j, other in enumerate(earlier.facts) if what(other) == what(fact)]
        if same:
            found.append(cosine(earlier.R[:, same].mean(dim=1, keepdim=True), last.R[:, i : i + 1]))
    return sum(found) / max(1, len(found)), len(found)


def ridge(earlier: Written, last: Written) -> tuple[float, float]:
    """(cosine, share of the residual's length) of the best ridge regression."""
    gram, cross = earlier.keys.T @ earlier.keys, earlier.keys.T @ last.keys
    unit = gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    tried = [earlier.R @ torch.linalg.solve(gram + strength * unit, cross) for strength in STRENGTHS]
    best = max(tried, key=lambda found: cosine(found, last.R))
    length = (best * last.R).sum(dim=0) / (last.R * last.R).sum(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
    return cosine(best, last.R), length.median().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patch", type=Path)
    patch = Patch.load(parser.parse_args().patch)
    if len(patch.batches) < 2:
        raise SystemExit("this patch has a single batch; at least two are needed")
    print("| layer | mean of all | same prompt (facts) | same target (facts) | ridge | its share of the length |")
    print("| --- | --- | --- | --- | --- | --- |")
    for layer in patch.batches[0].layers:
        *before, last = written(patch, layer)
        facts = [fact for one in before for fact in one.facts]
        earlier = Written(
            facts, torch.cat([one.R for one in before], dim=1), torch.cat([one.keys for one in before], dim=1)
        )
        everything = cosine(earlier.R.mean(dim=1, keepdim=True).expand_as(last.R), last.R)
        prompt, target = (of_same(earlier, last, what) for what in (lambda f: f.prompt, lambda f: f.target))
        regressed, share = ridge(earlier, last)
        print(
            f"| {layer} | {everything:.2f} | {prompt[0]:.2f} ({prompt[1]}) | {target[0]:.2f} ({target[1]}) | {regressed:.2f} | {share:.2f} |"
        )


if __name__ == "__main__":
    main()
