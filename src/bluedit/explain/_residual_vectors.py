"""The residuals of each layer on the unedited model, and what they do there: contribution, direction and size, what they cause above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bluedit.explain.residual_data import COMPUTED, DISTRIBUTED, Contribution, Geometry, Passive
from bluedit.forward import observe, runners, tokens_per_step
from bluedit.model.state import frozen
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row, chunks_by_cost
from bluedit.writing.target import Targets
from bluedit.writing.targets import optimise_targets

if TYPE_CHECKING:
    from bluedit.explain._residual_setting import Setting


@dataclass(frozen=True, eq=False)
class Residuals:
    """Targets of all critical layers on the unedited model.

    Attributes:
        targets: by layer.
        shares: fraction of the last layer's residual that distribution gives each layer.
    """

    targets: Mapping[int, Targets]
    shares: Mapping[int, float]

    @property
    def last(self) -> Float[Tensor, "d_value n"]:
        """The residual of the last layer."""
        return self.computed(max(self.targets))

    def computed(self, layer: int) -> Float[Tensor, "d_value n"]:
        """The residual computed at a layer."""
        found = self.targets[layer]
        return found.z - found.start

    def distributed(self, layer: int) -> Float[Tensor, "d_value n"]:
        """The share of the last layer's residual that distribution gives a layer."""
        return self.shares[layer] * self.last

    def both(self, layer: int, *, distributes: bool) -> dict[str, Float[Tensor, "d_value n"]]:
        """The computed residual of a layer and, if the model can distribute, the distributed one."""
        found = {COMPUTED: self.computed(layer)}
        return found | {DISTRIBUTED: self.distributed(layer)} if distributes else found


def compute_residuals(setting: Setting) -> Residuals:
    """Optimise the target of every critical layer on the unedited model, all facts in one pass per layer."""
    editor, rows, objective = setting.editor, setting.batch.rows, setting.host.objective
    targets: dict[int, Targets] = {}
    fisher = setting.fisher()
    for layer in setting.layers:
        site = setting.site(layer)
        title = f"residuals of layer {layer}"
        with frozen(editor.model), editor.progress.task(title, setting.batch.n, "facts") as advance:
            targets[layer] = setting.switch.get(
                setting.lm,
                rows,
                site,
                objective,
                lambda site=site, advance=advance: optimise_targets(
                    setting.lm, rows, site, objective, editor.execution, advance, fisher=fisher
                ),
            )
    return Residuals(targets, setting.shares)


@torch.no_grad()
def contributions(setting: Setting, residuals: Residuals) -> list[Contribution]:
    """The contribution score of each layer's residual, computed and distributed (arXiv 2502.03748, section 3 and its public code).

    Injected at the layer's site at the subject's last token, over the bare prompt and the prefixes.
    """
    prompts = [row for row in setting.batch.rows if not row.is_drift]
    found: list[Contribution] = []
    before: Tensor | None = None  # the same at every layer
    with frozen(setting.lm.model), setting.editor.progress.task("contributions", len(setting.layers), "layers") as bar:
        for layer in setting.layers:
            added = residuals.both(layer, distributes=setting.distributes)
            plain = [torch.zeros_like(residuals.last)] if before is None else []
            after = _probabilities(setting, prompts, layer, [*plain, *added.values()])
            before = after.pop(0) if before is None else before
            for kind, now in zip(added, after, strict=True):
                found += [
                    Contribution(layer, kind, setting.fact_of(column), start, end - start)
                    for column, (start, end) in enumerate(zip(before.tolist(), now.tolist(), strict=True))
                ]
            bar()
    return found


def _probabilities(
    setting: Setting, prompts: Sequence[Row], layer: int, added: Sequence[Float[Tensor, "d_value n"]]
) -> list[Float[Tensor, "n"]]:
    """For each set of vectors added at a layer: exp(-mean NLL of the target's tokens), mean over the prompts of each column."""
    lm, n = setting.lm, setting.batch.n
    make = runners(lm, prompts, (setting.site(layer),), setting.editor.execution.precision)
    budget = setting.editor.execution.tokens_per_step or tokens_per_step(lm)
    sums = [added[0].new_zeros(n, dtype=torch.float64) for _ in added]
    for chunk in chunks_by_cost([len(row.ids) for row in prompts], budget):
        runner = make([prompts[i] for i in chunk])
        owner = torch.tensor([row.fact for row in runner.rows], device=lm.device)
        for total, vectors in zip(sums, added, strict=True):
            logits = runner.logits(vectors[:, owner].T[None].to(runner.values))
            total.index_add_(0, owner, _scores(logits, runner.rows))
    count = torch.bincount(torch.tensor([row.fact for row in prompts]), minlength=n).to(sums[0])
    return [total / count for total in sums]


def _scores(logits: Float[Tensor, "positions vocabulary"], rows: Sequence[Row]) -> Float[Tensor, "rows"]:
    """exp(-mean NLL of the target's tokens) of each row, from the logits at the targets' positions, row by row."""
    tokens = torch.tensor([token for row in rows for token in row.targets], device=logits.device)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    nll = torch.nn.functional.cross_entropy(wide, tokens, reduction="none").double()
    return torch.stack([(-part.mean()).exp() for part in nll.split([len(row.targets) for row in rows])])


def geometry(setting: Setting, residuals: Residuals) -> list[Geometry]:
    """Direction and size of each layer's own residual against the last layer's."""
    last = residuals.last.double()
    found: list[Geometry] = []
    for layer in setting.layers:
        own, share = residuals.computed(layer).double(), residuals.shares[layer]
        cosine = torch.nn.functional.cosine_similarity(own, last, dim=0)
        columns = (
            own.norm(dim=0),
            last.norm(dim=0),
            cosine,
            (share * last - own).norm(dim=0),
            (last - own).norm(dim=0),
        )
        found += [
            Geometry(layer, setting.after(layer), share, setting.fact_of(column), *values)
            for column, values in enumerate(torch.stack(columns).T.tolist())
        ]
    return found


@torch.no_grad()
def passive_changes(setting: Setting, residuals: Residuals) -> list[Passive]:
    """What each layer's own residual, added at the layer on the unedited model's measured rows, changes at the last layer's block."""
    lm, rows, top = setting.lm, setting.measured, setting.block(setting.layers[-1])
    found: list[Passive] = []
    with frozen(lm.model):
        plain = observe(lm, rows, [setting.block(layer) for layer in setting.layers])
        wanted = setting.by_column(_moved(setting, rows, residuals, setting.layers[-1])[top] - plain[top])
        for layer in setting.layers[:-1]:
            moved = _moved(setting, rows, residuals, layer)
            here, caused = (setting.by_column(moved[site] - plain[site]) for site in (setting.block(layer), top))
            cosine, aim = (torch.nn.functional.cosine_similarity(caused, other, dim=0) for other in (here, wanted))
            columns = torch.stack([cosine, caused.norm(dim=0) / here.norm(dim=0), aim])
            found += [
                Passive(layer, setting.fact_of(column), *values) for column, values in enumerate(columns.T.tolist())
            ]
    return found


def _moved(setting: Setting, rows: Sequence[Row], residuals: Residuals, layer: int) -> dict:
    """Block outputs at a layer and at the last one, with the layer's own residual added."""
    sites = list(dict.fromkeys([setting.block(layer), setting.block(setting.layers[-1])]))
    return observe(setting.lm, rows, sites, {setting.site(layer): _by_row(rows, residuals.computed(layer))})


def _by_row(rows: Sequence[Row], columns: Float[Tensor, "d_value n"]) -> Float[Tensor, "rows d_value"]:
    """The vector of each row's column."""
    return columns[:, [row.fact for row in rows]].T


@torch.no_grad()
def replayed(setting: Setting, residuals: Residuals) -> dict[int, Float[Tensor, "d_value n"]]:
    """Values of all critical layers when the first one's target is in place of its value, on the unedited model (arXiv 2605.00358)."""
    first, rows = setting.layers[0], setting.measured
    sites = [setting.site(layer) for layer in setting.layers]
    added = {setting.site(first): _by_row(rows, residuals.computed(first))}
    with frozen(setting.lm.model):
        seen = observe(setting.lm, rows, sites, added)
    return {site.layer: setting.by_column(seen[site]) for site in sites}
