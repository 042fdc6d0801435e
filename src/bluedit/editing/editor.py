"""The editor: facts in, changed weights out, all or nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from bluedit.editing.edit import Edit, JournalEntry
from bluedit.editing.known import unknown_facts
from bluedit.editing.patch import Patch
from bluedit.editing.provenance import Norms, check_fits, check_made_for, describe, norms_in
from bluedit.errors import EditError, RecipeError
from bluedit.evaluate.report import Report, compare, measure
from bluedit.facts.fact import Fact, check_batch
from bluedit.maths.moment import SecondMoment
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import text_fingerprint, weights_fingerprint
from bluedit.model.loading import load
from bluedit.model.state import frozen
from bluedit.progress import Progress, as_progress
from bluedit.methods.presets import DEFAULT, preset
from bluedit.methods.recipe import Recipe
from bluedit.methods.tunings import tuned
from bluedit.statistics.store import MomentStore
from bluedit.text.contexts import make_prefixes
from bluedit.text.corpus import Corpus
from bluedit.writing.batch import Batch
from bluedit.writing.batches import split_batches
from bluedit.writing.loop import write_batch
from bluedit.writing.memory import Preserved
from bluedit.writing.target_store import TargetStore
from bluedit.writing.weights import EditedWeights, Snapshot, digests_of


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
        self._preserved = Preserved(self.lm)

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
        """An editor for a model by name: "smollm2", a folder, a .gguf file or a hub id; see `bluedit.model.loading.load`."""
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
        if recipe.update == "finetune" and len(recipe.written) != 1:
            raise RecipeError(
                f"fine-tuning trains one layer, and the schedule {recipe.schedule!r} of {recipe.name} writes {len(recipe.written)}; set schedule=single"
            )
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
            facts = unknown_facts(self.lm, facts, known, self.progress)
            before = measure(self.lm, facts, self.progress) if report else None
            with self._transaction(chosen.written) as snapshot:
                started = time.perf_counter()
                norms = norms_in(self.patch.info)
                batches, prefixes = self._write(facts, chosen, batch_size, norms)
                seconds = time.perf_counter() - started
                result = compare(self.lm, before, measure(self.lm, facts, self.progress)) if before else None
                patch = Patch(tuple(batches), self._info(chosen, standing, prefixes, norms, seconds, result))
                edit = Edit(tuple(facts), chosen, patch, result, self._undo)
                self._enter(edit, patch, snapshot)
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
                self._weights.repeat(batch)
            self._enter(None, patch, snapshot)
        self._preserved.clear()
        return patch

    def undo(self) -> None:
        """Take back the last edit or applied patch, bit for bit.

        Raises:
            EditError: there is none, the weights were changed by somebody else, or the bits before it cannot be had again.
        """
        if not self._journal:
            raise EditError("there is nothing to undo: this editor has made no edit, or all were undone")
        self._weights.check_untouched()
        *earlier, last = self._journal
        if last.snapshot is not None:
            self._weights.restore(last.snapshot)
        else:
            batches = [batch for entry in earlier for batch in entry.patch.batches]
            self._weights.rebuild(last.patch.layers, batches, last.digests)
        self._journal.pop()
        self._preserved.clear()

    def reset(self) -> None:
        """Take back all edits and applied patches, bit for bit.

        Raises:
            EditError: the weights were changed by somebody else.
        """
        self._weights.check_untouched(half_way=True)
        self._weights.reset()
        self._journal.clear()
        self._preserved.clear()

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
            self._preserved.clear()
            raise

    def _enter(self, edit: Edit | None, patch: Patch, snapshot: Snapshot) -> None:
        """Put what was just written into the journal; the snapshot of the entry before it is let go."""
        if self._journal:
            self._journal[-1] = replace(self._journal[-1], snapshot=None)
        self._journal.append(JournalEntry(edit, patch, digests_of(snapshot), snapshot))

    def _write(
        self, facts: Sequence[Fact], recipe: Recipe, batch_size: int | None, norms: Norms
    ) -> tuple[list[Batch], tuple[str, ...]]:
        """All batches of an edit, in order. Norms that its objective anchors targets to are added where they are first needed."""
        contexts = recipe.contexts
        with self._weights.unedited():
            prefixes = make_prefixes(self.lm, contexts.kind, contexts.count, contexts.seed)
        moments = {} if recipe.update == "finetune" else self._second_moments(recipe.written)
        done: list[Batch] = []
        earlier = self._remembered()
        with self.progress.task("editing", len(facts), "facts") as advance:
            size = 1 if recipe.sequential else batch_size
            kept = (norms.setdefault(text_fingerprint(asdict(recipe.objective)), {}), self.progress, self.targets)
            for part in split_batches(facts, size, merge=recipe.subjects == "merge"):
                preservation = {layer: self._preserved.at(recipe, moment, earlier) for layer, moment in moments.items()}
                batch = write_batch(self.lm, self._weights, part, recipe, prefixes, preservation, *kept)
                done.append(batch)
                earlier.append((batch, prefixes))
                advance(len(part))
        return done, prefixes

    def _remembered(self) -> list[tuple[Batch, Sequence[str]]]:
        """All batches of the journal, each with the prefixes it was written with."""
        return [
            (batch, entry.patch.info.get("prefixes", ())) for entry in self._journal for batch in entry.patch.batches
        ]

    def _second_moments(self, layers: Sequence[int]) -> dict[int, SecondMoment]:
        """C of these layers, of the unedited weights whatever has been edited since."""
        with self._weights.unedited():
            return self._moments.get(layers, self.progress)

    def _info(
        self,
        recipe: Recipe,
        standing: str,
        prefixes: Sequence[str],
        norms: Norms,
        seconds: float,
        report: Report | None,
    ) -> dict[str, Any]:
        ranks = self._preserved.ranks(recipe)
        origin = {"fingerprint": standing, "prefixes": prefixes, "ranks": ranks, "norms": norms}
        return describe(self.lm, self._moments, recipe, seconds=seconds, report=report, **origin)
