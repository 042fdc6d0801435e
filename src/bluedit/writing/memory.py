"""What an editor preserves at each layer: ordinary text's keys and, for recipes with memory, those of all its earlier batches."""

from __future__ import annotations

from collections.abc import Sequence

from bluedit.maths.moment import SecondMoment
from bluedit.maths.preserve import NeuronPreservation, Preservation, preservation_of
from bluedit.model.editable import EditableModel
from bluedit.methods.recipe import Preserve, Recipe
from bluedit.shapes import Float, Tensor
from bluedit.text.prompts import rows_of
from bluedit.writing.batch import Batch
from bluedit.writing.loop import observe_keys, owned, owners_of

Earlier = Sequence[tuple[Batch, Sequence[str]]]


class Preserved:
    """The factors of each layer's preservation, kept from batch to batch and updated with the keys that came since.

    Whoever takes a batch back clears it.
    """

    def __init__(self, lm: EditableModel) -> None:
        self._lm = lm
        self._kept: dict[tuple[int, Preserve], tuple[Preservation | NeuronPreservation, int]] = {}

    def at(self, recipe: Recipe, moment: SecondMoment, earlier: Earlier) -> Preservation | NeuronPreservation:
        """What a recipe preserves at the layer of `moment`.

        Args:
            recipe: how.
            moment: C of the layer.
            earlier: batches written so far, in order, each with its prefixes; their keys count for recipes with memory.
        """
        if not recipe.memory:
            return preservation_of(recipe.preserve, moment)
        key = (moment.layer, recipe.preserve)
        preservation, seen = self._kept.get(key) or (preservation_of(recipe.preserve, moment), 0)
        for batch, prefixes in earlier[seen:]:
            preservation.remember(self._keys_of(batch, prefixes, moment.layer))
        self._kept[key] = (preservation, len(earlier))
        return preservation

    def _keys_of(self, batch: Batch, prefixes: Sequence[str], layer: int) -> Float[Tensor, "d_key n"]:
        """The keys of an earlier batch at a layer: as recorded, or read now if that batch did not write there."""
        for update in batch.updates:
            if update.layer == layer:
                return update.keys.to(self._lm.device)
        count = batch.updates[0].keys.shape[1] if batch.updates else len(batch.facts)
        owners = owners_of(batch.facts, merge=count < len(batch.facts))
        rows = owned(rows_of(self._lm.tokenizer, batch.facts, prefixes), owners)
        return observe_keys(self._lm, rows, (layer,), count)[layer]

    def ranks(self, recipe: Recipe) -> dict[int, int]:
        """Dimensions that the recipe left free to change, by layer."""
        return {layer: p.rank for (layer, preserve), (p, _) in self._kept.items() if preserve == recipe.preserve}

    def clear(self) -> None:
        """Forget all keys: they are no longer those of the model as it is."""
        self._kept.clear()
