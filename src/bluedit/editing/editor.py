"""The editor: facts in, changed weights out, all or nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from bluedit.editing.batches import split_batches
from bluedit.editing.edit import Edit, JournalEntry
from bluedit.editing.loop import observe_keys, write_batch
from bluedit.editing.patch import Batch, Patch
from bluedit.editing.provenance import check_fits, check_made_for, describe
from bluedit.editing.weights import EditedWeights, Snapshot
from bluedit.errors import EditError, FactError, RecipeError, did_you_mean
from bluedit.evaluate.answers import score
from bluedit.evaluate.report import Report, compare, measure
from bluedit.facts.fact import Fact, check_batch
from bluedit.lm.contexts import make_prefixes
from bluedit.lm.corpus import Corpus
from bluedit.lm.fingerprint import weights_fingerprint
from bluedit.lm.loading import load
from bluedit.lm.memory import EditableModel
from bluedit.lm.moments import MomentStore
from bluedit.lm.observe import Site
from bluedit.lm.prompts import rows_of
from bluedit.lm.state import frozen
from bluedit.method.moment import SecondMoment
from bluedit.method.preserve import NeuronPreservation, Preservation, preservation_of
from bluedit.method.presets import DEFAULT, preset
from bluedit.method.recipe import Objective, Preserve, Recipe
from bluedit.method.targetstore import TargetStore
from bluedit.method.tunings import tuned
from bluedit.progress import Progress, as_progress
from bluedit.shapes import Tensor

log = logging.getLogger(__name__)


class Editor:
    """Edits facts in a model. This mutates the model's weights in place, and nothing else of the model.

    Args:
        model: any Hugging Face decoder-only causal language model the caller has.
        tokenizer: its fast tokenizer.
        name: what to call it in messages and patches.
        corpus: text for key statistics: "self" (sampled from the model), a file, a folder, or "hf:DATASET".
        tokens: tokens of it; None means 10 x d_key.
        statistics: folder for key statistics; None means the user's cache.
        targets: folder that keeps optimised targets, so that recipes compared on the same facts share what they have in common;
            None keeps none.
        progress: True draws bars; a Progress is used as it is.

    Raises:
        ModelError: not a decoder bluedit can edit.
    """

    def __init__(
        self,
        model: PreTrainedModel | EditableModel,
        tokenizer: Any = None,
        *,
        name: str | None = None,
        corpus: str = "self",
        tokens: int | None = None,
        statistics: str | Path | None = None,
        targets: str | Path | None = None,
        progress: bool | Progress = False,
    ) -> None:
        self.lm = model if isinstance(model, EditableModel) else EditableModel.of(model, tokenizer, name)
        self.progress = as_progress(progress)
        self.base_fingerprint = weights_fingerprint(self.lm.model)
        self._weights = EditedWeights(self.lm)
        folder = Path(statistics) if statistics else None
        self._moments = MomentStore(self.lm, self.base_fingerprint, Corpus(corpus), tokens, folder)
        self.targets = TargetStore(Path(targets), self.base_fingerprint) if targets else None
        self._journal: list[JournalEntry] = []
        self._preservation: dict[tuple[int, Preserve], tuple[Preservation | NeuronPreservation, int]] = {}
        self._norms: dict[Objective, dict[Site, float]] = {}  # of the unedited model

    @classmethod
    def load(
        cls,
        name: str,
        *,
        dtype: str | torch.dtype | None = None,
        device: str = "auto",
        progress: bool | Progress = False,
        **options: Any,
    ) -> Editor:
        """An editor for a model by name: "smollm2", a folder, a .gguf file or a hub id; see `bluedit.lm.loading.load`."""
        return cls(load(name, dtype=dtype, device=device, progress=as_progress(progress)), progress=progress, **options)

    @property
    def model(self) -> PreTrainedModel:
        return self.lm.model

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Edits made and not undone, oldest first."""
        return tuple(entry.edit for entry in self._journal if entry.edit)

    @property
    def patch(self) -> Patch:
        """All edits together, applied patches included, as one patch of the unedited model."""
        info = self._journal[-1].patch.info if self._journal else {}
        return Patch(tuple(self._batches()), {**info, "fingerprint": self.base_fingerprint})

    def _batches(self) -> Iterator[Batch]:
        for entry in self._journal:
            yield from entry.patch.batches

    def recipe(self, name: str | Recipe = DEFAULT, settings: Mapping[str, Any] | None = None) -> Recipe:
        """A recipe with this model's tuning and the user's settings ("preserve.lambda": 2000, ...).

        Raises:
            RecipeError: unknown recipe or option, or a value out of range.
            ModelError: a layer this model does not have.
        """
        recipe = name
        if isinstance(recipe, str):
            recipe = tuned(preset(recipe), settings or {}, self.lm.model.config.get_text_config(), self.lm.d_key)
        recipe = recipe.override(settings or {})
        if not recipe.layers:
            raise RecipeError(f"the recipe {recipe.name} has no layers; set layers, e.g. layers=[4,5,6,7,8]")
        self.lm.anatomy.check_layers(recipe.layers)
        if not self.lm.anatomy.additive and any(step.layer != step.target for step in recipe.steps()):
            raise RecipeError(
                f"{self.lm.name} normalises the MLP's output before adding it, so no layer can write what another one needs; "
                "use a -blue recipe, or set schedule=boundary or schedule=single"
            )
        return recipe

    def edit(
        self,
        facts: Sequence[Fact] | Fact,
        recipe: str | Recipe = DEFAULT,
        *,
        batch_size: int | None = None,
        settings: Mapping[str, Any] | None = None,
        known: str = "refuse",
        report: bool = True,
    ) -> Edit:
        """Make the model say the facts' targets. Either all of it happens or nothing does.

        Args:
            facts: what to change. Facts about the same subject are put into successive batches.
            recipe: a name from `bluedit recipes`, or a Recipe.
            batch_size: facts written at once; None means all. Keys of earlier batches are preserved by recipes with memory.
            settings: recipe fields by path, e.g. {"objective.clamp": 1.0}.
            known: what to do with facts the model already says: "refuse", "skip" or "edit" them all the same.
            report: whether to measure before and after.

        Raises:
            FactError, RecipeError, ModelError, StatisticsError: the request cannot be carried out; nothing was changed.
            EditError: something went wrong on the way; the weights are as they were.
        """
        facts = [facts] if isinstance(facts, Fact) else list(facts)
        chosen = self.recipe(recipe, settings)
        if batch_size is not None and batch_size < 1:
            raise RecipeError(f"batch_size is {batch_size}; it must be at least 1")
        check_batch(facts)
        self.lm.check_finite(chosen.written)
        standing = self._standing()
        with frozen(self.lm.model):
            facts = self._unknown(facts, known)
            before = measure(self.lm, facts, self.progress) if report else None
            with self._transaction(chosen.written) as snapshot:
                started = time.perf_counter()
                batches, prefixes = self._write(facts, chosen, batch_size)
                seconds = time.perf_counter() - started
                result = compare(self.lm, before, measure(self.lm, facts, self.progress)) if before else None
                patch = Patch(tuple(batches), self._info(chosen, standing, prefixes, seconds, result))
                edit = Edit(tuple(facts), chosen, patch, result, self._undo)
                self._journal.append(JournalEntry(edit, patch, snapshot))
        return edit

    def apply(self, patch: Patch | str | Path, *, force: bool = False) -> Patch:
        """Write a patch into the model. Later edits stand on it and preserve its keys.

        Args:
            patch: a Patch or the folder of one.
            force: apply it to other weights than it was made for.

        Raises:
            PatchError: unreadable, of another shape, or made for other weights; the model is unchanged.
        """
        patch = patch if isinstance(patch, Patch) else Patch.load(patch)
        check_fits(self.lm, patch)
        if not force:
            check_made_for(self.lm, patch, self.base_fingerprint, weights_fingerprint(self.lm.model))
        self._weights.check_untouched()
        with self._transaction(patch.layers) as snapshot:
            for batch in patch.batches:
                with self._weights.filtered(sorted({update.layer for update in batch.updates}), batch.filter):
                    for update in batch.updates:
                        self._weights.add(update.layer, update.R.to(self.lm.device), update.A.to(self.lm.device))
            self._journal.append(JournalEntry(None, patch, snapshot))
        self._preservation.clear()
        return patch

    def undo(self) -> None:
        """Take back the last edit or applied patch, bit for bit.

        Raises:
            EditError: there is none, or the weights were changed by somebody else.
        """
        if not self._journal:
            raise EditError("there is nothing to undo: this editor has made no edit, or all were undone")
        self._weights.check_untouched()
        self._weights.restore(self._journal[-1].snapshot)
        self._journal.pop()
        self._preservation.clear()

    def unedited(self) -> AbstractContextManager[None]:
        """Inside `with editor.unedited():` the model has its unedited weights."""
        return self._weights.unedited()

    def change_norms(self) -> dict[int, float]:
        """|W - W0| / |W0| of each changed layer (Frobenius)."""
        return self._weights.change_norms()

    def save_model(self, folder: str | Path) -> Path:
        """Write the model as it is now as an ordinary Hugging Face checkpoint; see `bluedit.export.checkpoint`."""
        from bluedit.export.checkpoint import save_checkpoint

        return save_checkpoint(self.lm, folder)

    # how it is done

    def _standing(self) -> str:
        """Fingerprint of the weights an edit stands on. Raises EditError when somebody else changed them."""
        self._weights.check_untouched()
        now = weights_fingerprint(self.lm.model)
        if not self._journal and now != self.base_fingerprint:
            raise EditError(
                f"weights of {self.lm.name} were changed outside this editor since it was made; "
                "make a new Editor for the model as it is now"
            )
        return now

    def _undo(self, edit: Edit) -> None:
        places = [i for i, entry in enumerate(self._journal) if entry.edit is edit]
        if not places:
            raise EditError("this edit was already undone")
        later = len(self._journal) - 1 - places[0]
        if later:
            raise EditError(
                f"{later} later edit{'s stand' if later > 1 else ' stands'} on this one; undo {'them' if later > 1 else 'it'} first, the last one first"
            )
        self.undo()

    @contextmanager
    def _transaction(self, layers: Sequence[int]) -> Iterator[Snapshot]:
        """Weights and journal as they were, unless the `with` succeeds."""
        count = len(self._journal)
        try:
            with self._weights.transaction(layers) as snapshot:
                yield snapshot
        except BaseException:
            del self._journal[count:]
            self._preservation.clear()
            raise

    def _write(
        self, facts: Sequence[Fact], recipe: Recipe, batch_size: int | None
    ) -> tuple[list[Batch], tuple[str, ...]]:
        """All batches of an edit, in order."""
        contexts = recipe.contexts
        prefixes = make_prefixes(self.lm, contexts.kind, contexts.count, contexts.seed)
        moments = {} if recipe.update == "finetune" else self._second_moments(recipe.written)
        done: list[Batch] = []
        with self.progress.task("editing", len(facts), "facts") as advance:
            size = 1 if recipe.sequential else batch_size
            kept = (self._norms.setdefault(recipe.objective, {}), self.progress, self.targets)
            for part in split_batches(facts, size, merge=recipe.subjects == "merge"):
                preservation = {layer: self._preserve(recipe, moment, done) for layer, moment in moments.items()}
                done.append(write_batch(self.lm, self._weights, part, recipe, prefixes, preservation, *kept))
                advance(len(part))
        return done, prefixes

    def _second_moments(self, layers: Sequence[int]) -> dict[int, SecondMoment]:
        """C of these layers, of the unedited weights whatever has been edited since."""
        with self._weights.unedited():
            return self._moments.get(layers, self.progress)

    def _preserve(
        self, recipe: Recipe, moment: SecondMoment, running: Sequence[Batch]
    ) -> Preservation | NeuronPreservation:
        """What this recipe preserves at a layer: with memory, the keys of all batches of the journal and of the running edit."""
        if not recipe.memory:
            return preservation_of(recipe.preserve, moment)
        batches = [*self._batches(), *running]
        key = (moment.layer, recipe.preserve)
        preservation, seen = self._preservation.get(key) or (preservation_of(recipe.preserve, moment), 0)
        for batch in batches[seen:]:
            preservation.remember(self._keys_of(batch, moment.layer))
        self._preservation[key] = (preservation, len(batches))
        return preservation

    def _keys_of(self, batch: Batch, layer: int) -> Tensor:
        """The keys of an earlier batch at a layer: as recorded, or read now if that batch did not write there."""
        for update in batch.updates:
            if update.layer == layer:
                return update.keys.to(self.lm.device)
        rows = rows_of(self.lm.tokenizer, batch.facts, ())
        return observe_keys(self.lm, rows, (layer,), len(batch.facts))[layer]

    def _unknown(self, facts: list[Fact], known: str) -> list[Fact]:
        """The facts the model does not say yet. Raises FactError when it says some and they are not to be skipped."""
        if known == "edit":
            return facts
        if known not in ("refuse", "skip"):
            raise RecipeError(f"known is {known!r}; {did_you_mean(known, ('refuse', 'skip', 'edit'))}")
        said = [answer.said for answer in score(self.lm, [(fact.text, fact.target) for fact in facts], self.progress)]
        new = [fact for fact, already in zip(facts, said, strict=True) if not already]
        old = [fact for fact, already in zip(facts, said, strict=True) if already]
        if not old:
            return facts
        if known == "skip" and new:
            log.info("%d of %d facts are left out: the model says them already", len(old), len(facts))
            return new
        shown = "; ".join(f"{fact.text!r} => {fact.target!r}" for fact in old[:5]) + ("; ..." if len(old) > 5 else "")
        raise FactError(
            f"the model already says {len(old)} of {len(facts)} facts: {shown}. "
            "Leave them out, choose another target, or pass known='skip' (--known skip) to drop them or 'edit' to strengthen them"
        )

    def _info(
        self, recipe: Recipe, standing: str, prefixes: Sequence[str], seconds: float, report: Report | None
    ) -> dict[str, Any]:
        ranks = {
            layer: p.rank for (layer, preserve), (p, _) in self._preservation.items() if preserve == recipe.preserve
        }
        origin = {"fingerprint": standing, "prefixes": prefixes, "ranks": ranks, "seconds": seconds, "report": report}
        return describe(self.lm, self._moments, recipe, **origin)
