"""The methods, one row each. To add one, add a row here; its hyperparameters for a model go into tunings.toml."""

from __future__ import annotations

from dataclasses import replace

from bluedit.errors import RecipeError, did_you_mean
from bluedit.methods.descent import Momentum
from bluedit.methods.filters import CapSpectrum, SpareDominant, SpareNeurons, Sparsify
from bluedit.methods.keys import SpecificKeys
from bluedit.methods.objective import Objective
from bluedit.methods.preserve import Controlled, Covariance, NullSpace, StrongNeurons
from bluedit.methods.recipe import Recipe, blue, joint
from bluedit.methods.schedules import Replay, Single, Spread
from bluedit.methods.subjects import Unit
from bluedit.methods.update import ClosedForm, FineTune, Refine, Rounds
from bluedit.methods.wordings import Natural

_ARXIV = "https://arxiv.org/abs/"
_MEMIT, _PMET, _RECT = _ARXIV + "2210.07229", _ARXIV + "2308.08742", _ARXIV + "2401.04700"
BLUE_PAPER = _ARXIV + "2502.03748"
_PMET_OBJECTIVE = Objective(site="mlp", attention=True, adaptive=True)

_HOSTS = (
    Recipe(
        "rome",
        _ARXIV + "2202.05262",
        "one layer, one fact after another, exact; R-ROME's averaged key (arXiv 2403.07175)",
        "a handful of facts that must be said exactly; many facts damage the model",
        schedule=Single(),
        objective=Objective(site="mlp"),
        update=ClosedForm(slack=0.0),
        sequential=True,
    ),
    Recipe(
        "memit",
        _MEMIT,
        "least squares against lambda C",
        "one batch of facts; for several batches prefer memit-seq, which remembers the earlier ones",
    ),
    Recipe(
        "memit-seq",
        _MEMIT,
        "memit that also preserves the keys of earlier edits",
        "batch after batch; with BLUE the default of benchmarks: the most facts said, the fewest forgotten",
        memory=True,
    ),
    Recipe(
        "emmet",
        _ARXIV + "2403.14236",
        "a batch with ROME's equality constraint",
        "when every key must get exactly its value; refuses facts with nearly equal keys",
        update=ClosedForm(slack=0.0),
    ),
    Recipe(
        "pmet",
        _PMET,
        "targets optimised jointly at the attention's and the MLP's output, square-root shares",
        "to compare with the paper; one batch",
        schedule=Spread(power=0.5),
        objective=_PMET_OBJECTIVE,
    ),
    Recipe(
        "pmet-seq",
        _PMET,
        "pmet that also preserves the keys of earlier edits",
        "to compare with the paper; batch after batch",
        schedule=Spread(power=0.5),
        objective=_PMET_OBJECTIVE,
        memory=True,
    ),
    Recipe(
        "rect",
        _RECT,
        "memit, but only the 40 % of entries with the largest relative change are kept",
        "when general ability matters more than learning every fact",
        update=ClosedForm(filters=(Sparsify(),)),
    ),
    Recipe(
        "rect-seq",
        _RECT,
        "rect that preserves the keys of earlier edits, and adds back in the next batch what it dropped (arXiv 2605.26670)",
        "batch after batch with sparse updates",
        update=ClosedForm(filters=(Sparsify(feedback=True),)),
        memory=True,
    ),
    Recipe(
        "prune",
        _ARXIV + "2405.16821",
        "memit, with the singular values of the cumulative change capped near the weight's largest",
        "very long sequences without memory; has no effect until the change is as large as the weight",
        update=ClosedForm(filters=(CapSpectrum(),)),
    ),
    Recipe(
        "alphaedit",
        _ARXIV + "2410.02355",
        "updates confined to the null space of C",
        "batch after batch, when the outputs at ordinary keys must not change at all",
        update=ClosedForm(preserve=NullSpace()),
        memory=True,
    ),
    Recipe(
        "betaedit",
        _ARXIV + "2605.09285",
        "alphaedit whose null space is weighed by what leaks from it, and found anew every 1000 edits",
        "batch after batch, where alphaedit forgets or drifts",
        update=ClosedForm(preserve=NullSpace(leakage=3000.0, refresh=1000)),
        memory=True,
    ),
    Recipe(
        "lyaplock-lambda",
        _ARXIV + "2505.15702",
        "memit-seq whose lambda rises with the measured drift of ordinary keys (the controller of LyapLock, without its pull-back)",
        "very long sequences, so that lambda need not be chosen for their length",
        update=ClosedForm(preserve=Controlled()),
        memory=True,
    ),
    Recipe(
        "revive",
        _ARXIV + "2601.11042",
        "memit-seq, but nothing is changed along the dominant singular directions of the unedited weight",
        "long sequences, when what the model does in general matters more than learning every fact",
        update=ClosedForm(filters=(SpareDominant(),)),
        memory=True,
    ),
    Recipe(
        "sphere",
        _ARXIV + "2510.01172",
        "alphaedit with half of the change along the principal directions of the weight's normalised rows taken out",
        "long sequences with alphaedit",
        update=ClosedForm(preserve=NullSpace(), filters=(SpareNeurons(strength=0.5),)),
        memory=True,
    ),
    Recipe(
        "suit-keys",
        _ARXIV + "2509.24502",
        "alphaedit solved for what keys do not share with those of other names (the keys of SUIT, without its residuals)",
        "when other names must keep their facts; paraphrases are said less often",
        update=ClosedForm(preserve=NullSpace(), keys=SpecificKeys()),
        memory=True,
    ),
    Recipe(
        "natural",
        _MEMIT,
        "memit-seq taught as people ask: other phrasings, questions, the chat form, the end of the answer; one target for all facts about a subject",
        "when people will use the model; natural-joint disturbs other answers least",
        objective=Objective(
            clamp_growth=0.5, steps_growth=0.5, together=True, rotate=True, learning_rate=0.1, descent=Momentum()
        ),
        update=ClosedForm(preserve=Covariance(names=0.5)),
        memory=True,
        wordings=Natural(statements=2, questions=2),
        subjects=Unit(),
        reteach=1,
    ),
    Recipe(
        "nse",
        _ARXIV + "2410.04045",
        "targets from the unedited weights; only the strongest neurons change; facts that miss their target are written again",
        "batch after batch with few neurons changed; slower, because each batch needs a new factorisation",
        objective=Objective(weights="unedited"),
        update=ClosedForm(preserve=StrongNeurons(), rounds=Rounds(count=2)),
        memory=True,
    ),
)
_OTHERS = (
    Recipe(
        "memit-seq-replay",
        _ARXIV + "2605.00358",
        "memit-seq with one target, at the first layer; the target of the last one is what is seen there with it in place",
        "to compare with BLUE: it optimises half as many targets",
        schedule=Replay(),
        memory=True,
    ),
)
_BASELINES = (
    Recipe(
        "ft",
        _ARXIV + "2012.00363",
        "constrained fine-tuning of one projection (FT-L)",
        "the baseline that most papers use",
        schedule=Single(),
        update=FineTune(loss="last", norm=5e-4),
    ),
    Recipe(
        "ft-local",
        _ARXIV + "2509.22072",
        "mini-batch fine-tuning of one located projection over several epochs (LocFT-BF)",
        "the strongest baseline; when facts are few and more drift is acceptable",
        schedule=Single(),
        update=FineTune(minibatch=8),
    ),
)

_BY_NAME = {host.name: host for host in _HOSTS}
_JOINT = (
    joint(
        replace(
            _BY_NAME["natural"],
            objective=replace(_BY_NAME["natural"].objective, learning_rate=0.15, clamp_again=2.0, steps_growth=1.0),
            update=ClosedForm(preserve=Covariance(names=0.5, chat=1.0), keys=SpecificKeys(), refine=Refine(steps=120)),
            wordings=Natural(statements=5, questions=3),
        ),
        "when people will use the model; the default of 'bluedit edit'",
    ),
    joint(_BY_NAME["memit-seq"], "to compare with BLUE; writes more layers, each of them less"),
)
PRESETS: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (*(r for host in _HOSTS for r in (host, blue(host))), *_JOINT, *_OTHERS, *_BASELINES)
}

DEFAULT = "natural-joint"  # chosen by measurement: docs/tuning.md
BENCHMARKED = (
    "memit-seq-blue"  # the best recipe that teaches the prompt alone, as published benchmarks do: docs/tuning.md
)


def preset(name: str) -> Recipe:
    """The recipe of that name, not yet tuned for a model.

    Raises:
        RecipeError: no such recipe; close matches are suggested.
    """
    if name not in PRESETS:
        raise RecipeError(f"unknown recipe {name!r}; {did_you_mean(str(name), PRESETS)} ('bluedit recipes' lists them)")
    return PRESETS[name]
