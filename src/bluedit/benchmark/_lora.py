"""LoRA fine-tuning on the facts, with PEFT."""

from __future__ import annotations

import importlib.util
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bluedit.benchmark.record import BatchRecord, EntryLog
from bluedit.benchmark.running import Running
from bluedit.errors import BenchmarkError
from bluedit.evaluate.training import minibatches, trainable
from bluedit.model.state import frozen
from bluedit.text.wordings import chat_form, wording_rows
from bluedit.writing.target_loss import target_loss

if TYPE_CHECKING:
    from bluedit.benchmark.approach import Lora
    from bluedit.benchmark.running import Work
    from bluedit.facts.fact import Fact
    from bluedit.model.editable import EditableModel
    from bluedit.text.rows import Row

# where adapters are: PEFT's name for all linear maps but the head, or the names of the MLP output projections
_MODULES: dict[str, Callable[[EditableModel], str | list[str]]] = {
    "all": lambda lm: "all-linear",  # noqa: ARG005
    "projections": lambda lm: [projection.name for projection in lm.anatomy.projections],
}


def check_peft() -> None:
    """Raises BenchmarkError when PEFT is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise BenchmarkError(
            "the entry 'lora' needs PEFT, which is not installed; pip install 'bluedit[lora]', or leave it out"
        )


class LoraRun(Running):
    """Trains one set of adapters on, batch after batch. The model's own weights are never changed."""

    def __init__(self, approach: Lora, work: Work) -> None:
        super().__init__(approach, work)
        if work.editor.lm.adapters is not None:
            raise BenchmarkError("the model has adapters already; the entry 'lora' needs one without")
        self._trainable = [p for p in self.lm.model.parameters() if p.requires_grad]
        self._peft: Any = None

    def restore(self, log: EntryLog, parts: Sequence[Sequence[Fact]]) -> None:
        del parts
        if not log.batches:
            return
        from safetensors import SafetensorError

        place = self._folder(len(log.batches))
        try:
            self._attach()
            self._load(place)
        except (OSError, ValueError, SafetensorError, RuntimeError) as error:
            raise BenchmarkError(
                f"the adapters in {place} cannot be read ({error}); delete {self.work.folder} to run the entry again"
            ) from error

    def write(self, parts: Sequence[Sequence[Fact]]) -> BatchRecord:
        if self._peft is None:
            self._attach()
        kept = parts if self.approach.earlier else parts[-1:]
        facts = [fact for part in kept for fact in part]
        started = time.perf_counter()
        self._train(facts, self.approach.seed + len(parts))
        return BatchRecord(len(parts[-1]), 0, time.perf_counter() - started, (), {}, None)

    def save(self, number: int) -> None:
        """Write the adapters as PEFT does, into a folder of this batch; those of the batch before last are removed."""
        place = self._folder(number)
        part = place.with_name(f"{place.name}.part")
        for old in (part, place, self._folder(number - 2)):
            shutil.rmtree(old, ignore_errors=True)
        self._peft.save_pretrained(str(part))
        part.rename(place)

    def _folder(self, number: int) -> Path:
        return self.work.folder / f"adapter-{number}"

    def _attach(self) -> None:
        """Put new adapters into the model; they change nothing yet."""
        from peft import LoraConfig, get_peft_model

        wanted: Lora = self.approach
        config = LoraConfig(
            r=wanted.r,
            lora_alpha=wanted.alpha,  # pyright: ignore[reportArgumentType]
            target_modules=_MODULES[wanted.modules](self.lm),
            fan_in_fan_out=self.lm.projection(0).transposed,
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(), frozen(self.lm.model), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for what it has renamed
            torch.manual_seed(wanted.seed)
            self._peft = get_peft_model(self.lm.model, config)
            for weight in self._adapters():
                weight.requires_grad_(False)

    def _adapters(self) -> list[torch.nn.Parameter]:
        return [weight for name, weight in self._peft.named_parameters() if "lora_" in name]

    def _load(self, place: Path) -> None:
        from peft import load_peft_weights, set_peft_model_state_dict

        set_peft_model_state_dict(self._peft, load_peft_weights(str(place), device=str(self.lm.device)))

    @torch.enable_grad()
    def _train(self, facts: Sequence[Fact], seed: int) -> None:
        wanted: Lora = self.approach
        rows = self._rows(facts)
        weights = self._adapters()
        adam = torch.optim.AdamW(weights, lr=wanted.learning_rate, weight_decay=0.0)
        progress = self.editor.progress.task("LoRA fine-tuning", wanted.steps, "steps")
        with frozen(self.lm.model), trainable(weights), progress as advance:
            for chosen in minibatches(len(rows), min(wanted.minibatch, len(rows)), wanted.steps, seed):
                loss = target_loss(self.lm, [row for i in chosen for row in rows[i]], torch.float32)
                if not torch.isfinite(loss):
                    raise BenchmarkError("the loss of LoRA fine-tuning is not finite; lower learning_rate")
                adam.zero_grad()
                loss.backward()
                adam.step()
                advance()

    def _rows(self, facts: Sequence[Fact]) -> list[list[Row]]:
        """The texts that teach each fact."""
        tokenizer, wordings = self.lm.tokenizer, self.approach.wordings
        chat = chat_form(tokenizer)
        texts = [wordings.groups(wordings.extended(fact), chat) for fact in facts]
        return [wording_rows(tokenizer, groups, fact.subject) for groups, fact in zip(texts, facts, strict=True)]

    @contextmanager
    def unedited(self) -> Iterator[None]:
        if self._peft is None:
            yield
            return
        with self._peft.disable_adapter():
            yield

    def close(self) -> None:
        if self._peft is not None:
            self._peft.unload()
            self._peft = None
            self.lm.model.__dict__.pop("peft_config", None)
            for weight in self._trainable:
                weight.requires_grad_(True)
        super().close()
