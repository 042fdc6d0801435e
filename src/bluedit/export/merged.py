"""An edited checkpoint, written file by file: what no edit touches is linked or copied."""

from __future__ import annotations

import fnmatch
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from bluedit.export._safetensors import overwrite
from bluedit.export.card import BASE_CARD, CARD, About, card
from bluedit.export.form import Exported, Form, Job
from bluedit.export.weight_files import LAYOUTS, WeightFiles
from bluedit.files import write_json
from bluedit.options import flag
from bluedit.shapes import Tensor

log = logging.getLogger(__name__)
# weights in forms that are not rewritten: they would still be those of the unedited model
_WEIGHTS = (
    *(
        "*.safetensors",
        "*.safetensors.index.json",
        "*.bin.index.json",
        "pytorch_model*.bin",
        "*.h5",
        "*.msgpack",
        "*.ot",
    ),
    *("*.gguf", "*.onnx", "*.onnx_data", "*.pt", "*.pth", "consolidated*", "*.tflite", "openvino_model*"),
)
_SAFE = LAYOUTS[0]
_NOTED = 0.01  # of the norm of a change


@dataclass(frozen=True)
class Checkpoint(Form, kind="checkpoint"):
    """An ordinary Hugging Face checkpoint with the edits in its weights."""

    copy: bool = flag(False, "copy weight files that stay as they are instead of hard-linking them")

    def write(self, job: Job, place: Path) -> Exported:
        weights, projections = job.base.weights, job.projections
        keys = {projections.key(layer): layer for layer in job.edits.layers}
        files = {key: weights.places[key] for key in keys}
        self._weights(weights, set(files.values()), place)
        notes = []
        names = _pickled(weights, place, job.base.skeleton) if not weights.layout.safe else dict(weights.places)
        if not weights.layout.safe:
            notes.append("The base model's weights were pickle files (.bin); here they are safetensors.")
        layers = {layer: key for key, layer in keys.items()}
        rounded, dtype = 0.0, ""
        for change in job.changes():
            key = layers[change.layer]
            overwrite(place / names[key], {key: change.stored})
            rounded, dtype = max((rounded, dtype), (change.rounded, str(change.edited.dtype).removeprefix("torch.")))
        if rounded > _NOTED:
            notes.append(
                f"The files are in {dtype}, as the base model's: rounding moved the change of a layer by up to {rounded:.0%} of its norm. "
                "Ask the checkpoint for its facts before you ship it."
            )
        left = _others(job.base.folder, place)
        if left:
            notes.append(
                f"Left out, since they hold the unedited weights: {', '.join(left[:5])}{' ...' * (len(left) > 5)}."
            )
        self._card(job, place, notes)
        linked = "" if self.copy or not weights.layout.safe else self._shared(weights, set(files.values()))
        return Exported(job.out, (*notes, *filter(None, [linked])), {"transformers": _line(job.out)})

    def _weights(self, weights: WeightFiles, changed: set[str], place: Path) -> None:
        """Link the files that stay, copy those that are about to change."""
        if not weights.layout.safe:
            return
        for name in weights.files:
            source = (weights.folder / name).resolve()
            if name in changed or self.copy or not _linked(source, place / name):
                shutil.copyfile(source, place / name)
        if weights.index is not None:
            shutil.copyfile(weights.folder / weights.layout.index, place / weights.layout.index)

    def _shared(self, weights: WeightFiles, changed: set[str]) -> str:
        same = len(set(weights.files) - changed)
        if not same:
            return ""
        return f"{same} of {len(weights.files)} weight files are shared with the base model on disk (hard links, where possible)."

    def _card(self, job: Job, place: Path, notes: list[str]) -> None:
        if (place / CARD).exists():
            (place / CARD).rename(place / BASE_CARD)
        about = About(
            f"{Path(job.base.name).name}, edited",
            "finetune",
            "transformers",
            job.base_model,
            job.facts,
            f"Like its base model, wherever that loads:\n\n```python\n{_line(Path('PATH'))}\n```",
            notes,
        )
        (place / CARD).write_text(card(job.edits, job.base, about), encoding="utf-8", errors="replace")


def _line(path: Path) -> str:
    return f'transformers.AutoModelForCausalLM.from_pretrained("{path}", dtype="auto")'


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        return False
    return True


def _others(folder: Path, place: Path) -> list[str]:
    """Copy everything that is no weight file and not hidden. Returns what was left out, besides the weights that were written."""
    left = []
    for file in _files(folder):
        name = file.relative_to(folder)
        if any(fnmatch.fnmatch(file.name, pattern) for pattern in _WEIGHTS):
            if not (place / name).exists() and file.name not in _own_names(folder):
                left.append(str(name))
        else:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place / name)
    return left


def _own_names(folder: Path) -> set[str]:
    weights = WeightFiles.of(folder)
    return {*weights.files, weights.layout.index}


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root) / name for name in sorted(names) if not name.startswith("."))


def _pickled(weights: WeightFiles, place: Path, skeleton: Any) -> dict[str, str]:
    """Write pickled weights as safetensors, file by file, tensors that share memory once. Returns the file of every tensor."""
    names: dict[str, str] = {}
    size = 0
    for number, file in enumerate(weights.files, 1):
        single = len(weights.files) == 1 and weights.index is None
        name = _SAFE.single if single else f"model-{number:05d}-of-{len(weights.files):05d}.safetensors"
        tensors = _untied(dict(weights.in_file(file)), skeleton)
        save_file(tensors, place / name, metadata={"format": "pt"})
        size += sum(tensor.nbytes for tensor in tensors.values())
        names |= dict.fromkeys(tensors, name)
    if weights.index is not None:
        metadata = dict(weights.index.get("metadata") or {}) | {"total_size": size}
        write_json(place / _SAFE.index, {"metadata": metadata, "weight_map": dict(sorted(names.items()))})
    return names


def _untied(tensors: Mapping[str, Tensor], skeleton: Any) -> dict[str, Tensor]:
    """Of tensors that are one and the same, the one that the model does not tie to another; all contiguous and on their own."""
    tied = set(getattr(skeleton, "_tied_weights_keys", None) or ())  # transformers has no public list of them
    kept: dict[tuple[Any, ...], str] = {}
    for name in sorted(tensors, key=lambda name: (name in tied, name)):
        tensor = tensors[name]
        kept.setdefault((tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype), name)
    storages = [tensors[name].untyped_storage().data_ptr() for name in kept.values()]
    return {
        name: tensors[name].clone()
        if storages.count(tensors[name].untyped_storage().data_ptr()) > 1
        else tensors[name].contiguous()
        for name in kept.values()
    }
