"""Causal tracing (ROME, arXiv 2202.05262, section 2.1): which activations carry a fact from its subject to its answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from bluedit.errors import out_of_memory
from bluedit.explain._locate_tokens import Prompt
from bluedit.explain.locate_data import ATTENTION, MLP, STATE, Effect, Traced
from bluedit.forward import Restorer
from bluedit.model.editable import EditableModel
from bluedit.model.precision import ReducedLinears
from bluedit.model.sites import Place, Site
from bluedit.model.state import frozen

log = logging.getLogger(__name__)
_TOLERANCE = 1e-3  # of a probability, between the fast passes and whole ones


@dataclass(frozen=True)
class Noise:
    """The noise on the embeddings of a subject's tokens.

    Attributes:
        size: standard deviation.
        samples: how many are drawn for each fact; every restoration of the fact meets the same ones.
        seed: of the first fact; each further one has the next.
    """

    size: float
    samples: int
    seed: int

    def of(self, number: int, tokens: int, width: int) -> torch.Tensor:
        """samples x tokens x width; the same on every device."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        return self.size * torch.randn(self.samples, tokens, width, generator=generator)


@dataclass(frozen=True)
class Restoration:
    """What is put back.

    Attributes:
        kind: name in tables.
        place: whose output it is.
        windowed: whether neighbouring layers are put back with it: one MLP or attention alone does little.
    """

    kind: str
    place: Place
    windowed: bool

    def sites(self, layer: int, window: int, layers: int) -> list[Site]:
        """The places that are restored at once for a layer."""
        width = window if self.windowed else 1
        first = max(0, layer - width // 2)
        return [Site(self.place, one) for one in range(first, min(layers, layer - width // 2 + width))]


RESTORATIONS = (
    Restoration(STATE, Place.BLOCK, windowed=False),
    Restoration(MLP, Place.MLP, windowed=True),
    Restoration(ATTENTION, Place.ATTENTION, windowed=True),
)


def restorations(lm: EditableModel) -> list[Restoration]:
    """Those that the model has: attention is left out where some block has none."""
    whole = all(module is not None for module in lm.anatomy.attentions)
    return [one for one in RESTORATIONS if whole or one.place != Place.ATTENTION]


@dataclass(frozen=True, eq=False)
class Tracer:
    """How facts are traced.

    Attributes:
        noise: on the subject.
        window: how many neighbouring MLP or attention layers are restored at once.
        cached: whether tokens and blocks that cannot change are skipped.
        reduced: linear maps in bfloat16.
    """

    lm: EditableModel
    noise: Noise
    window: int
    cached: bool = True
    reduced: ReducedLinears | None = None

    def trace(self, prompt: Prompt, number: int) -> tuple[list[Traced], list[Effect]]:
        """All restorations of one fact."""
        layers, kinds, roles = range(self.lm.anatomy.n_layers), restorations(self.lm), prompt.roles()
        sites = [Site(kind.place, layer) for kind in kinds for layer in layers]
        effects: list[Effect] = []
        with frozen(self.lm.model):
            run = self.runs(prompt, number, sites, cached=self.cached)
            for kind in kinds:
                sets = [kind.sites(layer, self.window, len(layers)) for layer in layers]
                for role, tokens in roles.items():
                    found = torch.stack([run.effects(sets, token) for token in tokens]).mean(dim=0).tolist()
                    effects += [Effect(kind.kind, layer, role, number, found[layer]) for layer in layers]
        return [Traced(number, prompt.fact.text, prompt.truth, run.clean, float(run.noisy.mean()))], effects

    def runs(self, prompt: Prompt, number: int, sites: Sequence[Site], *, cached: bool) -> Restorer:
        """The clean and the noisy pass of a prompt."""
        first, last = prompt.subject
        width = int(self.lm.model.get_input_embeddings().weight.shape[1])  # pyright: ignore
        drawn = self.noise.of(number, last - first + 1, width).to(self.lm.device)
        return Restorer(self.lm, prompt.ids, drawn, first, prompt.answer, sites, reduced=self.reduced, cached=cached)

    def checked(self, prompt: Prompt) -> Tracer:
        """The same, without the skipping if the model does not allow it or its effects differ then: tried on one prompt."""
        layer, end = self.lm.anatomy.n_layers // 2, len(prompt.ids) - 1
        sets = [[Site(Place.BLOCK, layer)], [Site(Place.MLP, layer), Site(Place.MLP, min(layer + 1, 2 * layer))]]
        sites = list(dict.fromkeys(site for chosen in sets for site in chosen))
        tokens = dict.fromkeys((*prompt.subject, end))
        plain = replace(self, reduced=None)
        with frozen(self.lm.model):
            slow = plain.runs(prompt, 0, sites, cached=False)
            try:
                fast = plain.runs(prompt, 0, sites, cached=True)
                pairs = [(fast.effects(sets, t), slow.effects(sets, t)) for t in tokens]
            except (TypeError, ValueError, AttributeError, IndexError, RuntimeError, NotImplementedError) as error:
                if out_of_memory(error):
                    raise
                why = f"{type(error).__name__}: {error}"
            else:
                difference = max(float((a - b).abs().max()) for a, b in pairs)
                if difference <= _TOLERANCE:
                    return self
                why = f"effects differ by {difference:.2g}"
        log.warning(
            "%s is traced with whole passes, which take longer: the fast ones do not fit (%s)", self.lm.name, why
        )
        return replace(self, cached=False)


def by_layer(effects: Sequence[Effect], kind: str, role: str) -> dict[int, float]:
    """Mean effect of a kind at a role, by layer."""
    sums: dict[int, list[float]] = {}
    for row in effects:
        if row.kind == kind and row.role == role:
            sums.setdefault(row.layer, []).append(row.effect)
    return {layer: sum(found) / len(found) for layer, found in sorted(sums.items())}
