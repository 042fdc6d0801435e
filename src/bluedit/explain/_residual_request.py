"""What is asked of an analysis of residuals: model, recipes, facts; checked before anything is computed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bluedit.editing.known import unknown_facts
from bluedit.errors import ExplainError, FactError
from bluedit.facts.conflicts import check_batch
from bluedit.facts.fact import Fact
from bluedit.facts.records import fact_record
from bluedit.methods.presets import PRESETS, preset
from bluedit.methods.recipe import Recipe, blue
from bluedit.methods.schedules import Boundary
from bluedit.methods.subjects import Split
from bluedit.methods.update import ClosedForm, Refine
from bluedit.methods.wordings import PromptOnly

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor
    from bluedit.explain._residual_setting import Setting

log = logging.getLogger(__name__)


def recipes_of(
    editor: Editor, recipe: str | Recipe, layers: Sequence[int] | None, settings: Mapping[str, Any] | None
) -> tuple[Recipe, Recipe | None, Recipe]:
    """(the host, its form for sequences where the model can distribute, the same with BLUE), all with the same layers.

    The host teaches the prompt alone, fact by fact, layer by layer, and anchors no norms: residuals are given, not rescaled or refined.

    Raises:
        ExplainError: a recipe that distributes nothing, or fewer than two layers.
        ModelError: a layer that this model does not have.
    """
    base = preset(recipe) if isinstance(recipe, str) else recipe
    distributes = editor.lm.anatomy.additive
    host = editor.recipe(base if distributes else _with_blue(base), settings)
    if not isinstance(host.update, ClosedForm) or host.sequential:
        raise ExplainError(
            f"the recipe {base.name} does not write batches in closed form, so it distributes nothing; choose one such as memit, pmet or alphaedit"
        )
    chosen = host.layers if layers is None else tuple(layers)
    if len(chosen) < 2 or list(chosen) != sorted(set(chosen)):
        raise ExplainError(
            f"the critical layers are {list(chosen)}; distribution needs two or more, ascending, e.g. layers 4 to 8 (--layers 4-8)"
        )
    editor.lm.anatomy.check_layers(chosen)
    if distributes:
        _check_distributes(replace(host, layers=chosen))
    host = replace(
        host,
        layers=chosen,
        wordings=PromptOnly(),
        subjects=Split(),
        reteach=0,
        memory=False,
        objective=replace(host.objective, norm_anchor=False, together=False, weights="current"),
        update=replace(host.update, refine=Refine()),
    )
    asked = {**(settings or {}), "layers": list(chosen)}
    sequence = _for_sequences(base)
    plain = replace(editor.recipe(sequence, asked), layers=chosen) if distributes else None
    # BLUE has a schedule of its own
    others = {path: value for path, value in asked.items() if not path.startswith("schedule")}
    with_blue = replace(editor.recipe(_with_blue(sequence), others), layers=chosen)
    return host, plain, with_blue


def _check_distributes(host: Recipe) -> None:
    """Raises ExplainError unless every critical layer is written for the last one's target."""
    steps = host.steps()
    if {step.layer for step in steps} == set(host.layers) and {step.target for step in steps} == {host.layers[-1]}:
        return
    written = ", ".join(f"{step.layer} for {step.target}" for step in steps)
    raise ExplainError(
        f"the recipe {host.name} does not write every critical layer for the last one's target (layer {written}), so it distributes nothing; "
        f"choose {host.name.removesuffix('-blue')} with a schedule that does (schedule=spread): BLUE's is compared with it anyway"
    )


def _for_sequences(recipe: Recipe) -> Recipe:
    """The recipe that remembers earlier keys: the preset that is made for that, or the recipe with memory under a name that no preset has."""
    if recipe.memory:
        return recipe
    stem = recipe.name.removesuffix("-blue")
    name = f"{stem}-seq{recipe.name[len(stem) :]}"
    if name not in PRESETS:
        return replace(recipe, name=name, memory=True)
    own = PRESETS.get(recipe.name) != recipe
    return replace(recipe, name=f"{recipe.name}-with-memory", memory=True) if own else PRESETS[name]


def _with_blue(recipe: Recipe) -> Recipe:
    return recipe if isinstance(recipe.schedule, Boundary) else blue(recipe)


def facts_of(editor: Editor, facts: Sequence[Fact], known: str) -> list[Fact]:
    """The facts that are analysed: not said yet, and each about another subject."""
    if not facts:
        raise FactError("there are no facts to explain; give a file with --facts or world:N")
    check_batch(facts)
    fresh = unknown_facts(editor.lm, facts, known, editor.progress)
    first, *rest = Split().batches(fresh, len(fresh))
    if rest:
        left = [fact.text for part in rest for fact in part]
        log.warning("%d facts about a subject that occurred before are left out, e.g. %r", len(left), left[0])
    return first


def check_numbers(batches: int, fluent: int, sample: int) -> None:
    """Raises ExplainError for a number of batches or of facts in the sample below 1, or of facts whose fluency is measured below 0."""
    for name, value, least in (("batches", batches, 1), ("fluent", fluent, 0), ("sample", sample, 1)):
        if not isinstance(value, int) or value < least:
            raise ExplainError(f"{name} is {value}; it must be a whole number and at least {least}")


def configuration_of(setting: Setting) -> dict[str, Any]:
    """All that the results depend on."""
    lm, moments = setting.lm, setting.moments
    sequences = [recipe for recipe in (setting.plain, setting.blue) if recipe]
    return {
        "model": lm.name,
        "weights": moments.weights,
        "tokenizer": lm.tokenizer_fingerprint,
        "distributes": setting.distributes,
        "recipe": setting.host.name,
        "layers": list(setting.layers),
        "settings": setting.host.settings(),
        "sequences": {recipe.name: recipe.settings() for recipe in sequences},
        "batches": setting.batches,
        "fluent": setting.fluent,
        "sample": setting.most,
        "corpus": moments.corpus.name,
        "corpus_fingerprint": moments.corpus.fingerprint(moments.tokens or 0),
        "tokens": moments.tokens,
        "facts": [fact_record(fact) for fact in setting.facts],
    }
