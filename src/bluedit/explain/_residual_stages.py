"""The stages of the analysis, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

from bluedit.explain._residual_growth import growth
from bluedit.explain._residual_shift import FEWEST, compared_rows, shift, unedited_places
from bluedit.explain._residual_vectors import (
    Residuals,
    compute_residuals,
    contributions,
    geometry,
    of_sample,
    passive_changes,
)
from bluedit.explain._residual_writes import ORDERS, Order, single_layer, steps_of, written_by
from bluedit.explain.residual_data import COMPUTED, DISTRIBUTED, TABLES

if TYPE_CHECKING:
    from bluedit.explain._residual_setting import Setting
    from bluedit.explain._stages import Stages, Tables
    from bluedit.methods.recipe import Recipe
    from bluedit.text.rows import Row


def measure(setting: Setting, stages: Stages) -> Tables:
    """All tables that have rows: stages run in order; those that are kept are read."""
    plan = _plan(setting, compute_residuals(setting))
    tables: Tables = {name: [] for name in TABLES}
    with setting.editor.progress.task("residual analysis", len(plan), "stages") as bar:
        for name, compute in plan:
            for table, rows in stages.get(name, compute).items():
                tables[table] += rows
            bar()
    return {name: rows for name, rows in tables.items() if rows}


def _plan(setting: Setting, residuals: Residuals) -> list[tuple[str, Callable[[], Tables]]]:
    """(name, computation) of every stage."""
    known = cache(partial(compared_rows, setting))
    sample, its_own = setting.sample, cache(lambda: of_sample(setting, residuals))
    plan: list[tuple[str, Callable[[], Tables]]] = [
        ("contributions", lambda: {"contributions": contributions(setting, residuals)}),
        ("passive", lambda: {"passive": passive_changes(setting, residuals)}),
    ]
    if setting.distributes:
        plan += [
            ("geometry", lambda: {"geometry": geometry(setting, residuals)}),
            ("growth", lambda: {"growth": growth(setting, residuals)}),
        ]
    for layer in setting.layers:
        for kinds in _kinds(setting, layer):
            plan.append((f"layer-{layer}-{kinds[0]}", partial(_single, setting, residuals, layer, kinds)))
    for order in ORDERS if setting.distributes else [order for order in ORDERS if order.measures_steps]:
        plan.append((f"order-{order.name.replace(' ', '-')}", partial(_order, sample, its_own, order)))
    if len(setting.unrelated) >= FEWEST:
        for recipe in filter(None, (setting.plain, setting.blue)):
            plan.append((f"sequence-{recipe.name}", partial(_sequence, sample, recipe, known)))
    return plan


def _kinds(setting: Setting, layer: int) -> list[tuple[str, ...]]:
    """The residuals with which a layer is written alone: those in one tuple are the same."""
    if not setting.distributes:
        return [(COMPUTED,)]
    same = layer == setting.layers[-1] and setting.shares[layer] == 1
    return [(COMPUTED, DISTRIBUTED)] if same else [(COMPUTED,), (DISTRIBUTED,)]


def _single(setting: Setting, residuals: Residuals, layer: int, kinds: Sequence[str]) -> Tables:
    return {"single_layer": single_layer(setting, residuals, layer, kinds)}


def _order(setting: Setting, residuals_of: Callable[[], Residuals], order: Order) -> Tables:
    residuals = residuals_of()
    remaining, steps = written_by(setting, residuals, order)
    found: Tables = {"remaining": remaining} if setting.distributes else {}
    return found | ({"steps": steps_of(setting, residuals, steps)} if order.measures_steps else {})


def _sequence(setting: Setting, recipe: Recipe, known: Callable[[], Sequence[Row]]) -> Tables:
    rows = known()
    moved, places = shift(setting, recipe, rows)
    first = recipe is (setting.plain or setting.blue)
    return {"shift": moved, "places": (unedited_places(setting, rows) if first else []) + places}
