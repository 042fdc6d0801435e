"""The residuals of each layer on the unedited model, and what they do there: contribution, direction and size, what they cause above."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from bluedit.explain.residual_data import COMPUTED, DISTRIBUTED, Contribution, Geometry, Passive
from bluedit.forward import observe, runners, tokens_per_step
from bluedit.model.sites import Site
from bluedit.model.state import frozen
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row, chunks_by_cost, touched
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
    return _residuals(setting, partial(_optimised, setting, setting.fisher()))


def of_sample(setting: Setting, residuals: Residuals) -> Residuals:
    """The residuals of the setting's sample, taken from those of all facts; a store keeps them for the sample's own edits."""
    sample = setting.sample
    if sample is setting:
        return residuals
    whole = {key: column for column, key in enumerate(setting.batch.columns)}
    chosen = torch.tensor([whole[key] for key in sample.batch.columns])
    return _residuals(sample, lambda layer: residuals.targets[layer].some(chosen))


def _residuals(setting: Setting, optimise: Callable[[int], Targets]) -> Residuals:
    lm, rows, objective = setting.lm, setting.batch.rows, setting.host.objective
    targets = {
        layer: setting.switch.get(lm, rows, setting.site(layer), objective, partial(optimise, layer))
        for layer in setting.layers
    }
    return Residuals(targets, setting.shares)


def _optimised(setting: Setting, fisher: Mapping[Site, Tensor], layer: int) -> Targets:
    editor = setting.editor
    title = f"residuals of layer {layer}"
    with frozen(editor.model), editor.progress.task(title, setting.batch.n, "facts") as advance:
        rows, objective, site = setting.batch.rows, setting.host.objective, setting.site(layer)
        found = optimise_targets(setting.lm, rows, site, objective, editor.execution, advance, fisher=fisher)
    return from_all_texts(setting.lm, found, rows, site, range(setting.batch.n)) if objective.rotate else found


@torch.no_grad()
def contributions(setting: Setting, residuals: Residuals) -> list[Contribution]:
    """The contribution score of each layer's residual, computed and distributed (arXiv 2502.03748, section 3 and its public code).

    Injected at the layer's site at the subject's last token, over the bare prompt and the prefixes.
    """
    added = {
        (layer, kind): vectors
        for layer in setting.layers
        for kind, vectors in residuals.both(layer, distributes=setting.distributes).items()
    }
    with frozen(setting.lm.model):
        before, after = _probabilities(setting, added)
    return [
        Contribution(layer, kind, setting.fact_of(column), start, end - start)
        for (layer, kind), now in after.items()
        for column, (start, end) in enumerate(zip(before.tolist(), now.tolist(), strict=True))
    ]


_Where = tuple[int, str]  # layer, kind of residual


def _probabilities(
    setting: Setting, added: Mapping[_Where, Float[Tensor, "d_value n"]]
) -> tuple[Float[Tensor, "n"], dict[_Where, Float[Tensor, "n"]]]:
    """exp(-mean NLL of the target's tokens), mean over the prompts of each column: as it is, and with each set of vectors at its layer.

    What comes before the first layer and before the subject's last token is computed once for all of them.
    """
    lm, n, execution = setting.lm, setting.batch.n, setting.editor.execution
    prompts = [row for row in setting.batch.rows if not row.is_drift]
    make = runners(lm, prompts, [setting.site(layer) for layer in setting.layers], execution.precision)
    chunks = chunks_by_cost([len(row.ids) for row in prompts], execution.tokens_per_step or tokens_per_step(lm))
    before = torch.zeros(n, dtype=torch.float64, device=lm.device)
    sums = {where: torch.zeros_like(before) for where in added}
    with setting.editor.progress.task("contributions", len(prompts), "prompts") as bar:
        for chunk in chunks:
            runner = make([prompts[i] for i in chunk])
            owner = torch.tensor([row.fact for row in runner.rows], device=lm.device)
            columns = [token.column for token in touched(runner.rows)]
            nothing = runner.values.new_zeros(len(setting.layers), len(columns), runner.values.shape[-1])
            before.index_add_(0, owner, _scores(runner.logits(nothing), runner.rows))
            for (layer, kind), vectors in added.items():
                delta = nothing.clone()
                delta[setting.layers.index(layer)] = vectors[:, columns].T
                sums[layer, kind].index_add_(0, owner, _scores(runner.logits(delta), runner.rows))
            bar(len(chunk))
    count = torch.bincount(torch.tensor([row.fact for row in prompts]), minlength=n).to(before)
    return before / count, {where: total / count for where, total in sums.items()}


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
