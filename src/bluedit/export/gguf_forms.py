"""The edits for llama.cpp, Ollama and other readers of GGUF: in a copy of a GGUF file, or as a LoRA adapter beside it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from bluedit.errors import ExportError
from bluedit.export.base import BaseModel
from bluedit.export.card import fact_count
from bluedit.export.changes import Change
from bluedit.export.factors import DTYPES, Factors, factor_all
from bluedit.export.form import Exported, Form, Job
from bluedit.export.gguf_file import TYPES, GgufFile, Value, quantized, rewrite
from bluedit.export.lora import check_rank, compared, losses, ranks
from bluedit.options import Text, choice, flag, option
from bluedit.writing.writer import versions

NEEDS = {"gguf": "pip install 'bluedit[gguf]'"}
# types of models whose architecture has another name in GGUF
_ARCHITECTURES = {
    "mistral": "llama",
    "phi": "phi2",
    "gpt_bigcode": "starcoder",
    "cohere": "command-r",
    "gemma3_text": "gemma3",
}
_FAR = 0.5  # relative distance of a quantised weight from the base's: 2-bit types have about 0.3, other models 1.4
_MUCH = 0.3  # rounding beside the change, from which on a warning is due


@dataclass(frozen=True)
class EditedGguf(Form, kind="gguf"):
    """A copy of a GGUF file in which only the edited tensors differ."""

    is_file: ClassVar[bool] = True
    needs: ClassVar[dict[str, str]] = NEEDS
    dtype: str = choice("F16", "type of the edited tensors", *TYPES)
    gguf: str = option("", Text("the GGUF file to copy; by default the base model's own"))

    def write(self, job: Job, place: Path) -> Exported:
        source = _file(job.base, self.gguf)
        if source is None:
            raise ExportError(
                f"{job.base.name} is not a GGUF file; name one of the same model with gguf= (--gguf FILE), or use --to gguf-lora"
            )
        tensors, lost = {}, 0.0
        for change in job.changes():
            name = tensor_name(change, source.architecture, source)
            _check_same_model(source, name, change)
            edited = change.edited.float().contiguous().numpy()
            tensors[name] = quantized(name, edited, self.dtype)
            lost = max(lost, _rounding(tensors[name], edited, change))
        rewrite(source, place, tensors, _notes(job, source, list(tensors)))
        out = str(job.out)
        notes = (
            f"Changed: {', '.join(tensors)}, now {self.dtype}. All other tensors and the metadata are byte for byte those of {source.path.name}.",
            f"Rounding to {self.dtype} moves the edited weights by up to {lost:.1%} of the size of their change."
            + (" That may undo the edit; use F16 or F32." if lost > _MUCH else ""),
        )
        line = shlex.join(["llama-cli", "-m", out])
        return Exported(job.out, notes, {"llama.cpp": line, "Ollama (Modelfile)": f"FROM {out}"})


@dataclass(frozen=True)
class GgufLora(Form, kind="gguf-lora"):
    """A LoRA adapter as a GGUF file, for llama.cpp and Ollama."""

    is_file: ClassVar[bool] = True
    needs: ClassVar[dict[str, str]] = NEEDS
    dtype: str = choice("float32", "type of the factors", *DTYPES)
    rank: int = ranks()
    check: bool = flag(True, "compare the adapter's logits with the edited model's, which loads the model")
    gguf: str = option(
        "", Text("a GGUF file of the base model, to check names and shapes; by default the base model's own")
    )

    def write(self, job: Job, place: Path) -> Exported:
        check_rank(self.rank)
        source = _file(job.base, self.gguf)
        architecture = source.architecture if source else _architecture(job.base)
        found = factor_all(job.changes(), self.rank)
        logits = compared(job, found, self.dtype) if self.check else None
        pairs = {tensor_name(factors, architecture, source): factors.cast(self.dtype) for factors in found}
        _write_adapter(place, architecture, found[0].rank, pairs, _about(job))
        notes = (*losses(found, self.dtype), *([f"Largest difference of a logit: {logits}."] if logits else []))
        base, out = str(source.path) if source else "BASE.gguf", str(job.out)
        use = {
            "llama.cpp": shlex.join(["llama-cli", "-m", base, "--lora", out]),
            "Ollama (Modelfile)": f"FROM {base}\nADAPTER {out}",
        }
        return Exported(job.out, notes, use)


def _file(base: BaseModel, given: str) -> GgufFile | None:
    """The GGUF file to work with: as given, else the base model's own."""
    if given and not Path(given).is_file():
        raise ExportError(f"there is no GGUF file {given}")
    path = Path(given) if given else base.gguf
    return None if path is None else GgufFile(path)


def _architecture(base: BaseModel) -> str:
    """The name of the model's architecture in GGUF files. Raises ExportError if llama.cpp has none."""
    from gguf import MODEL_ARCH_NAMES

    kind = str(base.skeleton.config.get_text_config().model_type)
    known = {name.replace("-", "").replace("_", ""): name for name in MODEL_ARCH_NAMES.values()}
    name = _ARCHITECTURES.get(kind) or known.get(kind.replace("_", "").replace("-", ""))
    if name is None:
        raise ExportError(
            f"no architecture of GGUF files is known for models of the type {kind!r}; name a GGUF file of the model with gguf= (--gguf FILE)"
        )
    return name


def tensor_name(part: Change | Factors, architecture: str, source: GgufFile | None) -> str:
    """The name of a projection's weight in GGUF files.

    Raises:
        ExportError: the file has no tensor of that name, or one of another shape.
    """
    from gguf import MODEL_ARCH_NAMES, MODEL_TENSOR, TENSOR_NAMES, get_tensor_name_map

    arch = next((arch for arch, name in MODEL_ARCH_NAMES.items() if name == architecture), None)
    known = None if arch is None else get_tensor_name_map(arch, part.layer + 1).get_name(part.name)
    name = f"{known or TENSOR_NAMES[MODEL_TENSOR.FFN_DOWN].format(bid=part.layer)}.weight"
    if source is None:
        return name
    if name not in source.tensors:
        raise ExportError(
            f"{source.path} ({architecture}) has no tensor {name} for {part.name}; it is not the base model's"
        )
    if source.shape(name) != _shape(part):
        raise ExportError(
            f"{name} in {source.path} is {' x '.join(map(str, source.shape(name)))}, the edited weight {' x '.join(map(str, _shape(part)))}; "
            "it is not the base model's"
        )
    return name


def _shape(part: Change | Factors) -> tuple[int, int]:
    if isinstance(part, Change):
        return part.total.shape[0], part.total.shape[1]
    return part.B.shape[0], part.A.shape[1]


def _check_same_model(source: GgufFile, name: str, change: Change) -> None:
    original = change.original.float().numpy()
    apart = float(np.linalg.norm(source.values(name) - original) / np.linalg.norm(original))
    if not apart < _FAR:
        raise ExportError(
            f"{name} in {source.path} differs from the base model's weight by {apart:.2f} of its norm, more than quantisation does; "
            "name a GGUF file of the model that the patch was made for"
        )


def _rounding(stored: tuple[Any, np.ndarray], edited: np.ndarray, change: Change) -> float:
    """|rounding error| / |dW|."""
    from gguf.quants import dequantize

    of_type, data = stored
    native = {"F16": np.float16, "F32": np.float32}.get(of_type.name)
    back = data.view(native).astype(np.float32) if native else dequantize(data, of_type)
    moved = back.reshape(edited.shape) - edited
    return float(np.linalg.norm(moved)) / max(float(change.total.norm()), 1e-300)


def _about(job: Job) -> dict[str, Value]:
    """What the metadata says of the edits, by the end of its key."""
    recipes = list(dict.fromkeys(origin.recipe for origin in job.edits.origins if origin.recipe))
    found: dict[str, Value] = {
        "version": versions()["bluedit"],
        "recipes": recipes,
        "fact_count": fact_count(job.edits),
        "base_fingerprint": job.edits.base.fingerprint,
    }
    if job.facts and job.edits.facts:
        found["facts"] = [f"{fact.text} => {fact.target}" for fact in job.edits.facts]
    return found


def _notes(job: Job, source: GgufFile, tensors: list[str]) -> dict[str, Value]:
    """The entries that are added to the metadata: "bluedit.", or "bluedit.2." where the file has been edited before."""
    used = {".".join(key.split(".")[:2]) for key in source.reader.fields if key.startswith("bluedit.")}
    edited = sum(1 for key in source.reader.fields if key.startswith("bluedit.") and key.endswith("version"))
    prefix = f"bluedit.{edited + 1}." if used else "bluedit."
    return {f"{prefix}{key}": value for key, value in (_about(job) | {"tensors": tensors}).items()}


def _write_adapter(
    place: Path,
    architecture: str,
    rank: int,
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    about: Mapping[str, Value],
) -> None:
    from gguf import GGMLQuantizationType, GGUFWriter, Keys

    writer = GGUFWriter(place, architecture)
    writer.add_type("adapter")
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, float(rank))
    writer.add_name("bluedit edits")
    for key, value in about.items():
        write = {str: writer.add_string, int: writer.add_uint32, list: writer.add_array}[type(value)]
        write(f"bluedit.{key}", value)  # pyright: ignore[reportArgumentType]
    for name, (B, A) in pairs.items():
        for suffix, tensor in (("lora_a", A), ("lora_b", B)):
            if tensor.dtype == torch.bfloat16:
                data = tensor.view(torch.uint8).numpy()
                writer.add_tensor(f"{name}.{suffix}", data, raw_dtype=GGMLQuantizationType.BF16)
            else:
                writer.add_tensor(f"{name}.{suffix}", tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
