"""The methods, a row each. Adding one is a row here; its numbers for a model are in tunings.toml."""

from __future__ import annotations

from dataclasses import replace

from bluedit.errors import RecipeError, did_you_mean
from bluedit.methods.recipe import Filter, FineTune, Objective, Preserve, Recipe, Rounds, blue

_MEMIT = "https://arxiv.org/abs/2210.07229"
BLUE_PAPER = "https://arxiv.org/abs/2502.03748"

_C = Preserve(subspace="all", gram="C")
_EXACT = Preserve(subspace="all", gram="C", slack=0.0)
_NULL = Preserve(subspace="null", gram="identity")
_PMET = Objective(site="mlp", attention=True, adaptive=True)

_HOSTS = (
    Recipe(
        "rome",
        "https://arxiv.org/abs/2202.05262",
        "one layer, one fact after another, exact; R-ROME's averaged key (arXiv 2403.07175)",
        "a handful of facts that must be said exactly; it wears the model down when facts are many",
        schedule="single",
        objective=Objective(site="mlp"),
        preserve=_EXACT,
        sequential=True,
    ),
    Recipe(
        "memit",
        _MEMIT,
        "least squares against lambda C",
        "one batch of facts; for several batches prefer memit-seq, which remembers the earlier ones",
        preserve=_C,
    ),
    Recipe(
        "memit-seq",
        _MEMIT,
        "memit that also preserves earlier edits' keys",
        "batch after batch; with BLUE the default: the most facts said, the fewest forgotten",
        preserve=_C,
        memory=True,
    ),
    Recipe(
        "emmet",
        "https://arxiv.org/abs/2403.14236",
        "a batch with ROME's equality constraint",
        "when each key must get exactly its value; refuses facts with nearly equal keys",
        preserve=_EXACT,
    ),
    Recipe(
        "pmet",
        "https://arxiv.org/abs/2308.08742",
        "targets optimised jointly at attention and MLP outputs, square-root shares",
        "comparison with the paper; one batch",
        share_power=0.5,
        objective=_PMET,
        preserve=_C,
    ),
    Recipe(
        "pmet-seq",
        "https://arxiv.org/abs/2308.08742",
        "pmet that also preserves earlier edits' keys",
        "comparison with the paper; batch after batch",
        share_power=0.5,
        objective=_PMET,
        preserve=_C,
        memory=True,
    ),
    Recipe(
        "rect",
        "https://arxiv.org/abs/2401.04700",
        "memit, keeping the 40 % of entries of largest relative change",
        "when general ability matters more than that every fact takes",
        preserve=_C,
        filter=Filter("rect"),
    ),
    Recipe(
        "prune",
        "https://arxiv.org/abs/2405.16821",
        "memit, capping the cumulative change's singular values at the weight's largest",
        "very long sequences without memory; does nothing until the change outgrows the weight",
        preserve=_C,
        filter=Filter("prune"),
    ),
    Recipe(
        "alphaedit",
        "https://arxiv.org/abs/2410.02355",
        "updates confined to the null space of C",
        "batch after batch where facts must take and ordinary keys may not move at all",
        preserve=_NULL,
        memory=True,
    ),
    Recipe(
        "nse",
        "https://arxiv.org/abs/2410.04045",
        "targets from the unedited weights, only the strongest neurons change, facts that miss are written again",
        "batch after batch with few neurons touched; slower: it solves anew for each batch",
        objective=Objective(weights="unedited"),
        preserve=replace(_C, subspace="neurons"),
        memory=True,
        rounds=Rounds(count=2),
    ),
)
_BASELINES = (
    Recipe(
        "ft",
        "https://arxiv.org/abs/2012.00363",
        "constrained fine-tuning of one projection (FT-L)",
        "the baseline of every paper",
        schedule="single",
        update="finetune",
        finetune=FineTune(loss="last", norm=5e-4),
    ),
    Recipe(
        "ft-local",
        "https://arxiv.org/abs/2509.22072",
        "mini-batch fine-tuning of one located projection over epochs (LocFT-BF)",
        "the baseline that challenges editing: when facts are few and drift may be larger",
        schedule="single",
        update="finetune",
        finetune=FineTune(minibatch=8),
    ),
)

PRESETS: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (*(r for host in _HOSTS for r in (host, blue(host))), *_BASELINES)
}

DEFAULT = "memit-seq-blue"  # chosen by measurement: docs/tuning.md


def preset(name: str) -> Recipe:
    """The recipe of that name, not yet tuned for a model.

    Raises:
        RecipeError: no such recipe; close matches are suggested.
    """
    if name not in PRESETS:
        raise RecipeError(f"unknown recipe {name!r}; {did_you_mean(name, PRESETS)} ('bluedit recipes' lists them)")
    return PRESETS[name]
