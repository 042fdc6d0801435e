"""How far facts that were not edited move while batches are written one after another."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import torch

from bluedit.explain._residual_numbers import grouped
from bluedit.explain.residual_data import Place, Shift
from bluedit.facts.fact import Fact
from bluedit.facts.subjects import same_subject_key
from bluedit.facts.world import world_facts
from bluedit.forward import observe, says_targets
from bluedit.methods.recipe import Recipe
from bluedit.model.state import frozen
from bluedit.shapes import Float, Tensor
from bluedit.text.prompts import subject_row
from bluedit.text.rows import Row

if TYPE_CHECKING:
    from bluedit.explain._residual_setting import Setting

log = logging.getLogger(__name__)
_MOST, _FEWEST = 100, 20  # facts that are compared
FEWEST = 2  # without a second one there is no spread, and no plane
States = Float[Tensor, "rows d_model"]


def unrelated_facts(edited: Sequence[Fact]) -> list[Fact]:
    """Bundled true facts about other subjects than the edited ones, one relation after another in turn."""
    taken = {same_subject_key(fact.subject) for fact in edited}
    return [
        replace(fact, target=fact.old_target or fact.target, old_target=None)
        for fact in world_facts(neighbours=0)
        if same_subject_key(fact.subject) not in taken
    ]


def compared_rows(setting: Setting) -> list[Row]:
    """Prompts of unrelated facts that the model says, spread evenly over the relations; where it says few, others too."""
    facts = setting.unrelated
    rows = [subject_row(setting.lm.tokenizer, fact, i) for i, fact in enumerate(facts)]
    with frozen(setting.lm.model):
        said = says_targets(setting.lm, rows)
    known = [row for row, says in zip(rows, said, strict=True) if says]
    if len(known) < _FEWEST:
        log.info("the model says %d of %d unrelated facts; others are compared too", len(known), len(rows))
        return known + [row for row, says in zip(rows, said, strict=True) if not says][: _FEWEST - len(known)]
    by_relation = grouped(known, lambda row: facts[row.fact].id.partition("/")[0])
    in_turn = chain.from_iterable(zip_longest(*by_relation.values()))
    return [row for row in in_turn if row is not None][:_MOST]


def shift(setting: Setting, recipe: Recipe, rows: Sequence[Row]) -> tuple[list[Shift], list[Place]]:
    """Write the facts in batches by a recipe, and compare the hidden states of unrelated facts after each; with their plane at the end."""
    n, count = len(setting.facts), setting.batches
    parts = [setting.facts[i * n // count : (i + 1) * n // count] for i in range(count)]
    before = _states(setting, rows)
    found: list[Shift] = []
    after = before
    with setting.watched():
        try:
            with setting.editor.progress.task(f"batches of {recipe.name}", count, "batches") as bar:
                for number, part in enumerate(parts, 1):
                    setting.editor.edit(part, recipe, known="edit", phrasings=False, report=False)
                    after = _states(setting, rows)
                    done = [fact for own in parts[:number] for fact in own]
                    found.append(
                        Shift(recipe.name, number, len(done), len(rows), *compared(before, after), _said(setting, done))
                    )
                    bar()
        finally:
            setting.editor.reset()
    axes = principal_axes(before)
    return found, _places(recipe.name, after, before, axes)


def unedited_places(setting: Setting, rows: Sequence[Row]) -> list[Place]:
    """The unedited states in their own plane."""
    before = _states(setting, rows)
    return _places("", before, before, principal_axes(before))


def compared(before: States, after: States) -> tuple[float, float, float, float]:
    """(mean |h' - h| / |h|, distance of the means over the spread before, mean cosine, linear CKA (arXiv 1905.00414))."""
    relative = ((after - before).norm(dim=1) / before.norm(dim=1)).mean()
    spread = (before - before.mean(dim=0)).norm() / len(before) ** 0.5
    centre = (after.mean(dim=0) - before.mean(dim=0)).norm() / spread
    cosine = torch.nn.functional.cosine_similarity(before, after, dim=1).mean()
    one, other = (states - states.mean(dim=0) for states in (before, after))
    cka = (one.T @ other).norm() ** 2 / ((one.T @ one).norm() * (other.T @ other).norm())
    return float(relative), float(centre), float(cosine), float(cka)


def principal_axes(states: States) -> Float[Tensor, "2 d_model"]:
    """The first two principal components, each with its largest entry positive."""
    axes = torch.linalg.svd(states - states.mean(dim=0), full_matrices=False)[2][:2]
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    return axes * largest.sign()


def _places(recipe: str, states: States, before: States, axes: Tensor) -> list[Place]:
    flat = ((states - before.mean(dim=0)) @ axes.T).tolist()
    return [Place(recipe, i, x, y) for i, (x, y) in enumerate(flat)]


def _states(setting: Setting, rows: Sequence[Row]) -> States:
    site = setting.block(setting.layers[-1])
    with frozen(setting.lm.model):
        return observe(setting.lm, rows, [site])[site].double().cpu()


def _said(setting: Setting, facts: Sequence[Fact]) -> float:
    rows = [subject_row(setting.lm.tokenizer, fact, i) for i, fact in enumerate(facts)]
    with frozen(setting.lm.model):
        return sum(says_targets(setting.lm, rows)) / len(rows)
