"""What the analysis of residuals measures, as rows of tables: each becomes one CSV file and one list in results.json.

Lengths are Euclidean, in units of the model's hidden state. Facts are numbered from 0 in the order they were given. A subject that begins
its text may be written at two tokens (`bluedit.writing.keys.batch_rows`); such a fact has two residuals, and two rows for a layer in the tables
of residuals: contributions, geometry, steps, remaining and passive. The second one stands after the rows of all facts.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

COMPUTED, DISTRIBUTED = "computed", "distributed"  # a layer's own residual, and the share of the last layer's


@dataclass(frozen=True)
class Contribution:
    """By how much a residual raises the probability of the target: the mean of exp(-mean NLL of the target's tokens) over a fact's prompts.

    Attributes:
        residual: computed or distributed.
        before, gain: without the residual, and with it minus without.
    """

    layer: int
    residual: str
    fact: int
    before: float
    gain: float


@dataclass(frozen=True)
class SingleLayer:
    """A metric of one fact after only one layer was written."""

    layer: int
    residual: str
    metric: str
    fact: int
    value: float


@dataclass(frozen=True)
class Geometry:
    """The residual computed at a layer against the last layer's.

    Attributes:
        distance: critical layers after it.
        share: fraction of the last residual that distribution gives the layer.
        own, last: lengths of the layer's own residual and of the last layer's.
        cosine: between the two.
        share_gap, whole_gap: |share x last - own| and |last - own|.
    """

    layer: int
    distance: int
    share: float
    fact: int
    own: float
    last: float
    cosine: float
    share_gap: float
    whole_gap: float


@dataclass(frozen=True)
class Steps:
    """Steps of the descent that a layer's target took.

    Attributes:
        unedited: on the unedited model.
        after: when all lower critical layers had been written with their own targets.
        most: the recipe's limit.
    """

    layer: int
    fact: int
    unedited: int
    after: int
    most: int


@dataclass(frozen=True)
class Remaining:
    """How much of the last layer's residual is missing after a write: |z - h| / |z - h before|, z optimised on the unedited model.

    Attributes:
        schedule: how layers were written.
        write: 0 before the first write. Where a recipe writes some facts again or filters the update, a last one stands for all of that.
        layer: the layer that was written; -1 where it is not one write of one layer.
    """

    schedule: str
    write: int
    layer: int
    fact: int
    share: float


@dataclass(frozen=True)
class Passive:
    """What a layer's own residual causes at the last critical layer, at the block's output.

    Attributes:
        cosine: between the change at the layer and the change it causes.
        gain: length of the change it causes over that of the change at the layer.
        wanted: cosine between the change it causes and the last layer's own residual.
    """

    layer: int
    fact: int
    cosine: float
    gain: float
    wanted: float


@dataclass(frozen=True)
class Growth:
    """The error of distribution in a weight, |(R* - R) A| (Frobenius), and bounds of it, from residuals of the unedited model.

    Attributes:
        along: what grows: layers, facts or batches.
        size: how many.
        repeat: which of several subsets of that size.
        layer: whose weight.
        error, update: |dW* - dW| and |dW*|.
        direct: |R* - R| |A|.
        tightened: (|R* - R_L| + (1 - share) |R_L|) |A|.
        published: (|R* - R_L| + layers after it x |R_L|) |A|, Theorem 4.1 of arXiv 2502.03748.
        saturated: |R* - R| times the largest |A| that any batch can have; NaN where there is none.
    """

    along: str
    size: int
    repeat: int
    layer: int
    error: float
    update: float
    direct: float
    tightened: float
    published: float
    saturated: float


@dataclass(frozen=True)
class Shift:
    """How far facts that were not edited have moved, at the output of the last critical block at the subject's last token.

    Attributes:
        recipe, batches, edited: after so many batches, and facts, of a recipe.
        known: facts compared.
        shift: mean |h' - h| / |h|.
        centre: distance between the means of all h' and all h, divided by the spread of h.
        cosine: mean cosine of h' and h.
        cka: linear CKA of all h' and all h.
        strict: share of the facts edited so far that are said.
    """

    recipe: str
    batches: int
    edited: int
    known: int
    shift: float
    centre: float
    cosine: float
    cka: float
    strict: float


@dataclass(frozen=True)
class Place:
    """One of these facts in the plane of the first two principal components of the unedited states; no recipe: unedited."""

    recipe: str
    fact: int
    x: float
    y: float


TABLES: dict[str, type[Any]] = {
    "contributions": Contribution,
    "single_layer": SingleLayer,
    "geometry": Geometry,
    "steps": Steps,
    "remaining": Remaining,
    "passive": Passive,
    "growth": Growth,
    "shift": Shift,
    "places": Place,
}


def rows_as_json(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows as JSON can hold them."""
    return [asdict(row) for row in rows]


def rows_from_json(kind: type[Any], rows: Sequence[dict[str, Any]]) -> list[Any]:
    """Rows of a table, read back: null is NaN.

    Raises:
        TypeError: other fields than the table has.
    """
    return [kind(**{name: math.nan if value is None else value for name, value in row.items()}) for row in rows]


def as_csv(kind: type[Any], rows: Sequence[Any]) -> bytes:
    """A table as CSV with a head; a value that is not there is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(kind)]
    writer.writerow(names)
    for row in rows:
        values = (getattr(row, name) for name in names)
        writer.writerow(["" if isinstance(v, float) and math.isnan(v) else v for v in values])
    return text.getvalue().encode()
