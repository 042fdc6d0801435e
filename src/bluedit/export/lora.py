"""The edits as a LoRA adapter in PEFT's format.

All modules have the same r, and lora_alpha = r. So every program applies exactly B A: PEFT and vLLM scale by alpha / r of the
configuration, others by alpha over the rank of the tensor at hand.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from bluedit.errors import ExportError
from bluedit.export.card import CARD, About, card
from bluedit.export.factors import DTYPES, RANKS, Factors, allowed_rank, factor_all, worst
from bluedit.export.form import Exported, Form, Job
from bluedit.export.logits import LogitError, logit_error
from bluedit.files import write_json
from bluedit.markdown import table
from bluedit.model.loading import load
from bluedit.options import choice, flag, whole


def ranks() -> Any:
    """The option for the largest rank of an adapter."""
    return whole(RANKS[-1], f"largest rank: one of {', '.join(map(str, RANKS))}", low=RANKS[0], high=RANKS[-1])


def check_rank(rank: int) -> None:
    """Raises ExportError unless serving programs take this rank."""
    if rank not in RANKS:
        raise ExportError(f"rank is {rank}; vLLM takes {', '.join(map(str, RANKS))}")


@dataclass(frozen=True)
class Lora(Form, kind="lora"):
    """A LoRA adapter for PEFT, vLLM and whatever else reads PEFT's format."""

    dtype: str = choice("float32", "type of the factors", *DTYPES)
    rank: int = ranks()
    check: bool = flag(True, "compare the adapter's logits with the edited model's, which loads the model")

    def write(self, job: Job, place: Path) -> Exported:
        check_rank(self.rank)
        found = factor_all(job.changes(), self.rank)
        r = allowed_rank(found[0].rank)
        logits = compared(job, found, self.dtype) if self.check else None
        tensors = {}
        for factors in (factors.padded(r) for factors in found):
            B, A = factors.cast(self.dtype)
            tensors |= {
                f"base_model.model.{factors.name}.lora_A.weight": A,
                f"base_model.model.{factors.name}.lora_B.weight": B,
            }
        save_file(tensors, place / "adapter_model.safetensors", metadata={"format": "pt"})
        write_json(place / "adapter_config.json", _configuration(job, found, r))
        notes = (*losses(found, self.dtype), *([f"Largest difference of a logit: {logits}."] if logits else []))
        use = _use(job, r)
        about = About(
            f"{Path(job.base.name).name}: edits as a LoRA adapter",
            "adapter",
            "peft",
            job.base_model,
            job.facts,
            "\n\n".join(f"{program}:\n\n```\n{line}\n```" for program, line in use.items()),
            [_precision(found, self.dtype, logits), *_of_gguf(job)],
        )
        (place / CARD).write_text(card(job.edits, job.base, about), encoding="utf-8", errors="replace")
        return Exported(job.out, notes, use)


def compared(job: Job, factors: Sequence[Factors], dtype: str) -> LogitError:
    """Load the base model in the dtype of the edits and compare logits."""
    kind = job.edits.base.dtype
    lm = load(
        job.base.name,
        dtype=None if kind == "unknown" else kind,
        device="cpu",
        trust_remote_code=job.base.trust_remote_code,
    )
    return logit_error(lm, job.edits, factors, dtype)


def losses(factors: Sequence[Factors], dtype: str) -> list[str]:
    """What a cut or a cast loses, in sentences."""
    relative, element = worst(factors, dtype)
    needed = max(each.needed for each in factors)
    cut = [each for each in factors if each.needed > each.rank]
    said = [f"Largest error of dW in {dtype}: {relative:.2g} of its norm, {element:.2g} of an element."]
    if cut:
        said.insert(
            0,
            f"The change has rank {needed}; the adapter has {factors[0].rank}, the largest singular values, and misses up to "
            f"{max(each.errors['float32'][0] for each in cut):.1%} of its norm. The form checkpoint has all of it.",
        )
    return said


def _configuration(job: Job, factors: Sequence[Factors], r: int) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": job.base_model or job.base.name,
        "r": r,
        "lora_alpha": r,
        "target_modules": target_regex([each.name for each in factors]),
        "fan_in_fan_out": factors[0].transposed,
        "bias": "none",
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
        "modules_to_save": None,
        "inference_mode": True,
        "init_lora_weights": True,
    }


def target_regex(names: Sequence[str]) -> str:
    """A regular expression that matches these module names and no others; names that differ in one number are one pattern."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        number = re.search(r"(?<=\.)\d+(?=\.)", name)
        before, middle, after = (name[: number.start()], number[0], name[number.end() :]) if number else (name, "", "")
        groups.setdefault((before, after), []).append(middle)
    patterns = [
        f"{re.escape(before)}({'|'.join(found)}){re.escape(after)}" for (before, after), found in groups.items()
    ]
    return "|".join(patterns)


def _use(job: Job, r: int) -> dict[str, str]:
    base, out = job.base_model or job.base.name, str(job.out)
    serve = ["vllm", "serve", base, "--enable-lora", "--max-lora-rank", str(r), "--lora-modules", f"edited={out}"]
    load_line = f"peft.PeftModel.from_pretrained(model, {json.dumps(out)})"
    return {"PEFT": load_line, "vLLM": f'{shlex.join(serve)}\n# then ask for the model "edited"'}


def _precision(factors: Sequence[Factors], dtype: str, logits: LogitError | None) -> str:
    rows = []
    for name in DTYPES:
        relative, element = worst(factors, name)
        rows.append((f"{name}{' (this file)' if name == dtype else ''}", f"{relative:.2g}", f"{element:.2g}"))
    rank = max(each.needed for each in factors)
    text = (
        f"The change has rank {rank} at most; lora_alpha = r, so programs that scale by alpha / r add exactly B A.\n\n"
    )
    text += table(("type of the factors", "largest error of dW, of its norm", "of an element"), rows)
    if logits:
        text += f"\nLargest difference of a logit from the edited model in {dtype}: {logits}."
    cut = losses(factors, dtype)[:-1]
    return text + "".join(f"\n\n{sentence}" for sentence in cut)


def _of_gguf(job: Job) -> list[str]:
    if job.base.gguf is None:
        return []
    return [
        f"The edits were made on the weights of the file {job.base.gguf.name}, not on the original ones. On those the adapter adds "
        "the same change to slightly different weights."
    ]
