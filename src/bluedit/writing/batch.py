"""What one batch of facts changed: the factors of each write, the facts, and where it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bluedit.facts.fact import Fact
from bluedit.methods.filters import Filter
from bluedit.methods.preserve import Control
from bluedit.model.fingerprint import exact_digest, text_fingerprint
from bluedit.model.sites import Site
from bluedit.shapes import Float, Tensor

STRIPPED = "stripped_facts"  # in Origin.about: how many facts a batch had before they were taken out
# options of the objective that settings of older patches lack, with what they mean there
_LATER_OPTIONS = {"objective.together": False, "objective.correction": 5, "objective.rotate": False, "descent": "adam"}
_LATER_OPTIONS |= {
    "objective.clamp_again": 1.0,
    "objective.others": 0,
    "objective.others_factor": 0.0625,
    "objective.teacher": 0.0,
    "objective.variance": 0.0,
    "objective.variance_layers": 5,
}


@dataclass(frozen=True, eq=False)
class Update:
    """dW = R A of one layer and the keys it was solved for; float32, or float64 where the model is.

    Attributes:
        R: residuals, d_value x rank, one column per fact, as refined; the identity for fine-tuning.
        A: the solver's rows, rank x d_key; all of dW for fine-tuning.
        keys: keys of the edited model at this layer, d_key x n; later edits preserve them.
        reach: share of each fact's residual that this write delivers at its own key, before refining; empty for fine-tuning.
    """

    layer: int
    R: Float[Tensor, "d_value rank"]
    A: Float[Tensor, "rank d_key"]
    keys: Float[Tensor, "d_key n"]
    reach: Float[Tensor, "wanted"]

    @property
    def mean_reach(self) -> float:
        """Share of the batch's whole residual that was delivered: reach weighted by |r|^2. NaN for fine-tuning."""
        return mean_reach([self])

    @property
    def norm(self) -> float:
        """Frobenius norm of R A, from the factors."""
        R, A = self.R.double(), self.A.double()
        return float(((R.T @ R) * (A @ A.T)).sum().clamp(min=0).sqrt())


@dataclass(frozen=True)
class Origin:
    """Where a batch comes from.

    Attributes:
        recipe, paper, settings: the method, its paper, and all its parts and numbers by path.
        tuning: name of the tuning that its numbers come from; empty if none.
        prefixes: sentences put before the prompts; later edits read this batch's keys with them.
        norms: mean |v*| on the unedited model by site, if the recipe anchors norms.
        about: model, modules, statistics, versions, time, seconds, execution: what was used, for the reader.
        report: what the edit changed, as the report writes it; None if it was not measured.
        control: by layer, how firmly ordinary keys were held and how far they drifted, if the recipe's lambda follows that.
    """

    recipe: str = ""
    paper: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    tuning: str = ""
    prefixes: tuple[str, ...] = ()
    norms: Mapping[Site, float] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] | None = None
    control: Mapping[int, Control] = field(default_factory=dict)

    @property
    def objective(self) -> str:
        """Fingerprint of the settings that norms depend on."""
        return objective_fingerprint(self.settings)


def objective_fingerprint(settings: Mapping[str, Any]) -> str:
    """Fingerprint of a recipe's objective, from the recipe's settings."""
    slots = ("objective.", "descent")
    found = {path: value for path, value in settings.items() if path.startswith(slots)}
    return text_fingerprint({**_LATER_OPTIONS, **found})


def mean_reach(updates: Sequence[Update]) -> float:
    """The share of their residuals that these writes delivered: reach weighted by |r|^2. NaN for fine-tuning."""
    solved = [update for update in updates if len(update.reach)]
    weights = [(update.R * update.R).sum(dim=0) for update in solved]
    asked = sum(float(weight.sum()) for weight in weights)
    given = sum(float((update.reach * weight).sum()) for update, weight in zip(solved, weights, strict=True))
    return given / asked if asked else 1.0 if solved else float("nan")


@dataclass(frozen=True, eq=False)
class Batch:
    """What was written together.

    Attributes:
        facts: the new facts.
        updates: the factors, in the order they were added.
        filters: the filters that these passed afterwards.
        origin: where it comes from.
        held: earlier facts about the same subjects, which were written again with the new ones.
        guard: what a guard measured and decided, see `bluedit.editing.guard`; None without one.
    """

    facts: tuple[Fact, ...]
    updates: tuple[Update, ...]
    filters: tuple[Filter, ...] = ()
    origin: Origin = field(default_factory=Origin)
    held: tuple[Fact, ...] = ()
    guard: Mapping[str, Any] | None = None

    @property
    def written(self) -> tuple[Fact, ...]:
        """All facts that have a part in the columns of K and R."""
        return (*self.facts, *self.held)

    @property
    def stripped(self) -> int:
        """How many facts it had before they and their keys were taken out; 0 if they were not."""
        return int(self.origin.about.get(STRIPPED) or 0)

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that it changed, ascending."""
        return tuple(sorted({update.layer for update in self.updates}))

    @property
    def digest(self) -> str:
        """Hash of all that the weights depend on: layers, factors and filters."""
        digest = hashlib.blake2b(repr(self.filters).encode(), digest_size=16)
        for update in self.updates:
            digest.update(f"{update.layer} {tuple(update.R.shape)} {tuple(update.A.shape)}".encode())
            digest.update(exact_digest(update.R) + exact_digest(update.A))
        return digest.hexdigest()
