"""The editor: facts in, changed weights out, all or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from bluedit.editing._details import WriteDetails
from bluedit.editing._guarded import Guarded
from bluedit.editing._measured import Before
from bluedit.editing._session import alone, transaction, undo_edit
from bluedit.editing.checks import base_of, check_fits, check_made_for, check_recipe
from bluedit.editing.edit import Edit
from bluedit.editing.guard import Action, Guarding, Rules
from bluedit.editing.journal import Journal
from bluedit.editing.known import unknown_facts
from bluedit.editing.patch import Patch
from bluedit.errors import EditError, RecipeError
from bluedit.evaluate.baseline import Baseline
from bluedit.evaluate.ordinary import OrdinaryStore
from bluedit.execution import Execution
from bluedit.export.checkpoint import save_checkpoint
from bluedit.facts import Fact, check_batch
from bluedit.methods.presets import DEFAULT, preset
from bluedit.methods.recipe import Recipe
from bluedit.methods.tuning_file import read_tuning
from bluedit.methods.tunings import Tuning, tune
from bluedit.model.anatomy import Anatomy
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import fingerprint_and_digests, weights_fingerprint
from bluedit.model.loading import load
from bluedit.progress import Progress, as_progress
from bluedit.statistics.store import MomentStore
from bluedit.text.corpus import Corpus
from bluedit.writing.target import TargetSource
from bluedit.writing.target_store import as_target_source
from bluedit.writing.trace import Trace
from bluedit.writing.weights import EditedWeights
from bluedit.writing.writer import FactWriter


class Editor:
    """Edits facts in a model. This mutates the model's weights in place, and nothing else of the model.

    Use an editor from one thread at a time; a second thread is refused. Other threads can run the model during an edit, but they may see
    weights that are half written.

    Args:
        model: any Hugging Face decoder-only causal language model the caller has.
        tokenizer: its fast tokenizer.
        name: what to call it in messages and patches.
        anatomy: names of the MLP output projections where they cannot be found; see `EditableModel.of`.
        corpus: text for key statistics: "self" (sampled from the model), a file, a folder, or "hf:DATASET".
        tokens: tokens of it; None means 10 x d_key.
        statistics: folder for key statistics; None means the user's cache.
        targets: folder that keeps optimised targets, so that recipes can share them, or another source of targets; None optimises them anew.
        execution: precision, tokens per step and where statistics live; not part of what a recipe computes.
        tuning: hyperparameters: a tuning.toml, a `Tuning` or "bundled"; None takes what `bluedit tune` has kept for these weights, if any.
        trace: told what the loop does.
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
        anatomy: Anatomy | str | Sequence[str] | None = None,
        corpus: str = "self",
        tokens: int | None = None,
        statistics: str | Path | None = None,
        targets: str | Path | TargetSource | None = None,
        execution: Execution | None = None,
        tuning: str | Path | Tuning | None = None,
        trace: Trace | None = None,
        progress: bool | Progress = False,
    ) -> None:
        if not isinstance(model, EditableModel):
            model = EditableModel.of(model, tokenizer, name, anatomy)
        self.lm = model
        self.progress = as_progress(progress)
        self.execution = execution or Execution()
        fingerprint, digests = fingerprint_and_digests(self.model)
        self.journal = Journal(base_of(self.lm, fingerprint))
        self.tuning = read_tuning(tuning, fingerprint, self.model.config.get_text_config())
        self._weights = EditedWeights(self.lm, digests)
        folder, device = Path(statistics) if statistics else None, self.execution.statistics_device
        self.moments = MomentStore(self.lm, fingerprint, Corpus(corpus), tokens, folder, device)
        self.targets = as_target_source(targets, self.moments)
        self.trace = trace or Trace()
        self._details = WriteDetails(self.trace)
        self.ordinary = OrdinaryStore(self.lm, fingerprint, self.moments.root)
        self._baseline = Baseline(self.lm, self._weights.unedited, self.ordinary.unedited_perplexity)
        self._writer = FactWriter(
            self.lm, self._weights, self.moments, self.execution, self.targets, self._details, self.progress
        )

    @classmethod
    def load(
        cls,
        name: str,
        *,
        dtype: str | torch.dtype | None = None,
        device: str = "auto",
        trust_remote_code: bool = False,
        progress: bool | Progress = False,
        **options: Any,
    ) -> Editor:
        """An editor for a model by name: "smollm2", a folder, a .gguf file or a hub id; see `bluedit.model.loading.load`."""
        bars = as_progress(progress)
        lm = load(name, dtype=dtype, device=device, trust_remote_code=trust_remote_code, progress=bars)
        return cls(lm, progress=bars, **options)

    @property
    def model(self) -> PreTrainedModel:
        """The Hugging Face model."""
        return self.lm.model

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Edits made and not undone, oldest first."""
        return tuple(entry.edit for entry in self.journal.entries if entry.edit)

    @property
    def patch(self) -> Patch:
        """All edits together, applied patches included, as one patch of the unedited model."""
        return self.journal.patch

    def recipe(self, recipe: str | Recipe = DEFAULT, settings: Mapping[str, Any] | None = None) -> Recipe:
        """A recipe, by name or your own, with this model's tuning and the settings ("preserve.lambda": 2000, ...).

        A recipe that has layers keeps all its numbers.

        Raises:
            RecipeError: unknown recipe or option, a value out of range, or a recipe that this model cannot run.
            ModelError: a layer this model does not have.
        """
        chosen = preset(recipe) if isinstance(recipe, str) else recipe
        if not isinstance(chosen, Recipe):
            raise RecipeError(f"recipe must be a name or a Recipe, not {type(recipe).__name__}")
        tuned = tune(chosen, self.model.config.get_text_config(), self.lm.d_key, settings, self.tuning)
        check_recipe(self.lm, tuned)
        return tuned

    def edit(
        self,
        facts: Sequence[Fact] | Fact,
        recipe: str | Recipe = DEFAULT,
        *,
        batch_size: int | None = None,
        settings: Mapping[str, Any] | None = None,
        known: str = "refuse",
        phrasings: bool = True,
        chat: bool | None = None,
        report: bool = True,
        guard: Rules = None,
        protect: Sequence[Fact] | Fact = (),
        on_violation: str | Action = "soften",
        skip_failed: bool = False,
    ) -> Edit:
        """Make the model say the facts' targets. Either all of it happens or nothing does.

        Args:
            facts: what to change. How facts about one subject are written is for the recipe to say (`subjects`).
            recipe: a name from `bluedit recipes`, or a Recipe.
            batch_size: facts written at once; None means all. Keys of earlier batches are preserved by recipes with memory.
            settings: parts and options of the recipe by path, e.g. {"objective.clamp": 1.0}.
            phrasings: whether recipes that teach in several wordings may do so; False teaches the prompt alone, as the papers do.
            chat: whether the chat form is among them; None leaves it to the recipe.
            known: what to do with facts the model already says: "refuse", "skip" or "edit" them all the same.
            report: whether to measure before and after. When measuring fails, the edit stays made and `Edit.report_error` says why.
            guard: rules that are checked before a batch is kept: a `Guard`, or rules such as "perplexity=0.03", or "default".
            protect: facts whose answers must not change.
            on_violation: what to do when a rule is broken: "soften", "bisect", "reject" or "warn".
            skip_failed: leave out facts that cannot be written, instead of refusing the edit.

        Raises:
            FactError, RecipeError, ModelError, StatisticsError: the request cannot be carried out; nothing was changed.
            EditError: something went wrong on the way, or a rule is broken (GuardError); the weights are as they were.
        """
        asked = Guarding.of(guard, protect, on_violation, skip_failed=skip_failed)
        facts = [facts] if isinstance(facts, Fact) else list(facts or ())
        chosen = self.recipe(recipe, settings)
        chosen = replace(chosen, wordings=chosen.wordings.limited(phrasings=phrasings, chat=chat))
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise RecipeError(f"batch_size is {batch_size}; it must be a whole number and at least 1")
        check_batch(facts)
        asked.check({fact.text for fact in facts})
        with alone(self.model):
            self.lm.check_finite(chosen.written)
            self._weights.check_untouched(chosen.written)
            facts = chosen.wordings.extended_all(unknown_facts(self.lm, facts, known, self.progress))
            before = Before.of(self, facts) if report else None
            base = replace(self.journal.base, fingerprint=self.journal.state)
            self._details.clear()
            judge = Guarded.of(asked, self.lm, self._baseline, self._weights, self.progress)
            how = {"recipe": chosen, "batch_size": batch_size, "earlier": self.journal.batches, "judge": judge}
            with transaction(self.journal, self._weights, self._writer, chosen.written) as snapshot:
                write = partial(self._writer.write, start=snapshot, **how)
                take_back = partial(self._writer.take_back, snapshot)
                batches = judge.write(write, facts, take_back, late=bool(chosen.reteach)) if judge else write(facts)
                edit = Edit(tuple(facts), chosen, Patch(base, tuple(batches)), None, partial(undo_edit, self))
                if judge:
                    edit.facts, edit.left_out = tuple(judge.remaining(facts)), tuple(judge.left_out)
                self.journal.append(batches, snapshot, edit)
            if before:
                before.report_on(edit, self, partial(self._details.of, self.lm.tokenizer, chosen, batches))
            return edit

    def apply(self, patch: Patch | str | Path, *, force: bool = False) -> Patch:
        """Write a patch into the model. Later edits are made on top of it and preserve its keys.

        Args:
            patch: a Patch or the folder of one.
            force: apply it to other weights than it was made for.

        Raises:
            PatchError: unreadable, of another shape, or made for other weights; the model is unchanged.
        """
        patch = patch if isinstance(patch, Patch) else Patch.load(patch)
        check_fits(self.lm, patch)
        if not force:
            check_made_for(self.lm, patch, self.journal.base.fingerprint, self.journal.state)
        with alone(self.model):
            self._weights.check_untouched(patch.layers)
            with transaction(self.journal, self._weights, self._writer, patch.layers) as snapshot:
                for batch in patch.batches:
                    self._weights.repeat(batch)
                self.journal.append(patch.batches, snapshot)
            self._writer.memory.clear()
        return patch

    def undo(self) -> None:
        """Take back the last edit or applied patch, bit for bit.

        Raises:
            EditError: there is none, the weights were changed by somebody else, or the bits before it cannot be computed again.
        """
        if not len(self.journal):
            raise EditError("there is nothing to undo: this editor has made no edit, or all were undone")
        with alone(self.model):
            self._weights.check_untouched()
            *earlier, last = self.journal.entries
            if last.snapshot is not None:
                self._weights.restore(last.snapshot)
            else:
                layers = {layer for batch in last.batches for layer in batch.layers}
                self._weights.rebuild(layers, [one for entry in earlier for one in entry.batches], last.digests)
            self.journal.pop()
            self._writer.memory.clear()

    def reset(self) -> None:
        """Take back all edits and applied patches, bit for bit.

        Raises:
            EditError: the weights were changed by somebody else.
        """
        with alone(self.model):
            self._weights.check_untouched(half_way=True)
            self._weights.reset()
            self.journal.clear()
            self._writer.memory.clear()

    def verify(self) -> None:
        """Hash the whole model and compare it with what this editor opened and wrote.

        Raises:
            EditError: a weight was changed by somebody else.
        """
        with alone(self.model):
            self._weights.check_untouched()
            with self._weights.unedited():
                now = weights_fingerprint(self.model)
            if now != self.journal.base.fingerprint:
                raise EditError(
                    f"weights of {self.lm.name} were changed outside this editor since it was made; make a new Editor for the model as it is now"
                )

    def unedited(self) -> AbstractContextManager[None]:
        """Inside `with editor.unedited():` the model has its unedited weights."""
        return self._weights.unedited()

    def change_norms(self) -> dict[int, float]:
        """|W - W0| / |W0| of each changed layer (Frobenius)."""
        return self._weights.change_norms()

    def save_model(self, folder: str | Path) -> Path:
        """Write the model as it is now as an ordinary Hugging Face checkpoint; see `bluedit.export.checkpoint`."""
        return save_checkpoint(self.lm, folder)
