"""The model that an export starts from: its files, and its architecture without weights."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from bluedit.errors import ExportError, ModelError
from bluedit.export.weight_files import WeightFiles
from bluedit.files import expanded
from bluedit.model.anatomy import Projection
from bluedit.model.fingerprint import parameters_fingerprint, weights_fingerprint
from bluedit.model.loading import EMBEDDED, auto_class, check_own_code, gguf_of, load, locate, quiet
from bluedit.shapes import Tensor

if TYPE_CHECKING:
    from bluedit.facts.fact import Fact
    from bluedit.writing.batch import Batch, Origin

log = logging.getLogger(__name__)
# what a hub snapshot may hold besides what transformers loads
_OTHER_FORMS = ["*.h5", "*.msgpack", "*.ot", "*.onnx*", "*.gguf", "*.pth", "onnx/*", "original/*", "openvino/*"]


class Made(Protocol):
    """The model that edits were made for; `editing.patch.Base` is one, and describes the attributes."""

    @property
    def model(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def dtype(self) -> str: ...


class Edits(Protocol):
    """What is exported: batches, and the model they were made for. A `Patch` is one, and describes the attributes."""

    @property
    def base(self) -> Made: ...
    @property
    def batches(self) -> tuple[Batch, ...]: ...
    @property
    def layers(self) -> tuple[int, ...]: ...
    @property
    def facts(self) -> tuple[Fact, ...]: ...
    @property
    def origins(self) -> tuple[Origin, ...]: ...


def parameter_key(name: str, keys: Sequence[str] | Mapping[str, Any]) -> str | None:
    """The key under which a checkpoint stores a parameter of its model; None if that cannot be said.

    Keys may lack the beginning of the name (GPT-2: "h.0...." for "transformer.h.0...."), or have another one.
    """
    parts = name.split(".")
    for start in range(len(parts) - 1):
        ending = ".".join(parts[start:])
        found = [key for key in keys if key == ending or key.endswith(f".{ending}")]
        if len(found) == 1 or (start == 0 and ending in keys):
            return ending if ending in found else found[0]
        if found:
            return None
    return None


@dataclass(eq=False)
class BaseModel:
    """A model on disk. Its weights are read one tensor at a time.

    Attributes:
        name: as for `bluedit.model.loading.load`.
        trust_remote_code: whether Python code that comes with the model may run.
    """

    name: str
    trust_remote_code: bool = False

    @cached_property
    def gguf(self) -> Path | None:
        """The GGUF file that the model is read from, if it is."""
        return gguf_of(self.name)

    @cached_property
    def folder(self) -> Path:
        """The checkpoint; a hub id is downloaded first. Raises ModelError if there is no such model."""
        place = locate(self.name)
        if isinstance(place, Path):
            return place
        from huggingface_hub import snapshot_download

        try:
            with quiet():
                return Path(snapshot_download(place, ignore_patterns=_OTHER_FORMS))
        except Exception as error:  # the hub client raises many kinds of its own
            raise ModelError(f"cannot get the model {place!r}: {' '.join(str(error).split())[:300]}") from error

    @cached_property
    def hub_id(self) -> str:
        """The model's id on the hub; empty if it has none that is known."""
        if self.name in EMBEDDED:
            return EMBEDDED[self.name].hub
        known = self.gguf is not None or expanded(self.name).exists()
        return "" if known or self.name.count("/") != 1 else self.name

    @cached_property
    def weights(self) -> WeightFiles:
        """The weight files. Raises ModelError if there are none, or their index is damaged."""
        return WeightFiles.of(self.folder)

    @cached_property
    def skeleton(self) -> Any:
        """The model without weights. Raises ModelError if transformers cannot make it."""
        from transformers import AutoConfig

        folder = self.folder
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=self.trust_remote_code)
            with torch.device("meta"):
                kind = auto_class(folder, self.trust_remote_code, None)
                return kind.from_config(config, trust_remote_code=self.trust_remote_code)
        except Exception as error:  # readers of configurations raise many kinds of their own
            check_own_code(self.name, error)
            raise ModelError(
                f"cannot read the configuration of {self.name!r}: {' '.join(str(error).split())[:300]}"
            ) from error

    def key_of(self, parameter: str) -> str:
        """The key of a parameter in the checkpoint. Raises ModelError if it cannot be found."""
        key = parameter_key(parameter, self.weights.places)
        if key is None:
            raise ModelError(f"the checkpoint {self.folder} contains no tensor that can be matched to {parameter}")
        return key

    def projections(self, edits: Edits) -> FileProjections:
        """The projections that edits write, each read from the checkpoint when it is asked for."""
        names: dict[int, str] = {}
        for origin in edits.origins:
            names |= {int(layer): str(name) for layer, name in dict(origin.about.get("modules") or {}).items()}
        wrong = [layer for layer in edits.layers if layer in names and str(layer) not in re.split(r"\D+", names[layer])]
        if wrong:
            raise ExportError(
                f"the patch says that the projection of layer {wrong[0]} is {names[wrong[0]]}; restore it from a copy"
            )
        if not set(edits.layers) <= names.keys():
            found = load(self.name, device="cpu", trust_remote_code=self.trust_remote_code).anatomy.projections
            names = {layer: projection.name for layer, projection in enumerate(found)}
        return FileProjections(self, {layer: names[layer] for layer in edits.layers if layer in names})

    def fingerprint(self, dtype: str) -> str:
        """Fingerprint of all weights in a dtype, as `weights_fingerprint` gives it for the loaded model."""
        kind = getattr(torch, dtype, None)
        names = [name for name, _ in self.skeleton.named_parameters()]
        keys = {name: parameter_key(name, self.weights.places) for name in names}
        if not isinstance(kind, torch.dtype) or None in keys.values():
            log.info("the whole model is loaded to compare it with the patch: its tensors have other names on disk")
            lm = load(self.name, dtype=kind, device="cpu", trust_remote_code=self.trust_remote_code)
            return weights_fingerprint(lm.model)

        def tensors() -> Iterator[tuple[str, Tensor]]:
            for name, key in keys.items():
                tensor = self.weights.tensor(str(key))
                yield name, tensor.to(kind) if tensor.is_floating_point() else tensor

        return parameters_fingerprint(tensors())

    def check_made_for(self, edits: Edits) -> None:
        """Raises ExportError if edits were made for other weights than these."""
        found = self.fingerprint(edits.base.dtype)
        if found != edits.base.fingerprint:
            raise ExportError(
                f"the patch was made for other weights: {edits.base.model} with fingerprint {edits.base.fingerprint}, while {self.name} "
                f"has {found} in {edits.base.dtype}. Name that model with --model, or pass force=True (--force) to use the patch anyway"
            )


class FileProjections:
    """Single projections of a checkpoint, by layer: `writing.weights.Projections`."""

    def __init__(self, base: BaseModel, names: Mapping[int, str]) -> None:
        self._base, self._names = base, names

    def module(self, layer: int) -> nn.Module:
        """A layer's projection without weights. Raises ExportError if the model has none of that name."""
        try:
            return self._base.skeleton.get_submodule(self._names[layer])
        except (KeyError, AttributeError) as error:
            raise ExportError(
                f"the patch changes layer {layer} ({self._names.get(layer, 'unknown')}), which {self._base.name} does not have; "
                "it was made for another model"
            ) from error

    def name(self, layer: int) -> str:
        """The name of the layer's projection in the model."""
        return self._names[layer]

    def key(self, layer: int) -> str:
        """The name of the layer's weight in the checkpoint."""
        self.module(layer)
        return self._base.key_of(f"{self._names[layer]}.weight")

    def projection(self, layer: int) -> Projection:
        """A projection with the checkpoint's weight, read anew each time."""
        weight = self._base.weights.tensor(self.key(layer))
        if not weight.is_floating_point():
            raise ExportError(
                f"{self.key(layer)} holds {weight.dtype} numbers; edits are written to floating-point weights"
            )
        return Projection(self._names[layer], self.module(layer)).holding(weight.clone())
