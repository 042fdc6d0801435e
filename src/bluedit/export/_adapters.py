"""Weights under adapters of PEFT: the base model's own, as if no adapter had been added, and the adapters beside them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from bluedit.errors import ModelError
from bluedit.files import write_json
from bluedit.shapes import Tensor

if TYPE_CHECKING:
    from bluedit.model.editable import EditableModel

log = logging.getLogger(__name__)
ADAPTERS = "adapters"  # the folder inside the checkpoint's
_ORIGINAL = ("base_layer", "original_module")  # where PEFT's layers keep the module that they stand for


def save_with_adapters(lm: EditableModel, new: Path, folder: Path) -> None:
    """Write the base model, edits included, to `new`, and its adapters into a folder in it.

    Args:
        lm: a model with `adapters`.
        new: where to write.
        folder: where the files will be in the end, which the adapters' configuration names as their base model.
    """
    lm.model.save_pretrained(new, state_dict=_base_weights(lm.model))
    lm.adapters.save_pretrained(new / ADAPTERS)
    for file in (new / ADAPTERS).rglob("adapter_config.json"):
        config = json.loads(file.read_text("utf-8"))
        write_json(file, config | {"base_model_name_or_path": str(folder.resolve())})
    log.info(
        "the edited base model is in %s, its adapters in %s: load them with PeftModel.from_pretrained(model, %r)",
        folder,
        folder / ADAPTERS,
        str(folder / ADAPTERS),
    )


def refuse_hidden_adapters(lm: EditableModel) -> None:
    """Raises ModelError for adapters that transformers added itself: it would save only those, and the edits would be lost."""
    # transformers has no public way to ask a model that has none
    if lm.adapters is None and getattr(lm.model, "_hf_peft_config_loaded", False):
        raise ModelError(
            f"{lm.name} has adapters that were added with add_adapter or load_adapter; transformers saves only those, and the edits would be "
            "lost. Wrap the model with peft.PeftModel instead, which saves both, or call model.delete_adapter(...) first"
        )


def _base_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model by the names that they have without adapters."""
    standing_for = {name: _original_of(module) for name, module in model.named_modules()}
    holders = [(name, inner) for name, inner in standing_for.items() if inner]
    holders.sort(key=lambda holder: -len(holder[0]))
    names = {name: _base_name(name, holders) for name in model.state_dict()}
    return {names[name]: tensor for name, tensor in model.state_dict().items() if names[name]}


def _base_name(name: str, holders: Sequence[tuple[str, str]]) -> str:
    """The name of a weight without adapters; empty for a weight of an adapter. `holders` are innermost first."""
    kept = name
    for holder, inner in holders:
        if name.startswith(f"{holder}."):
            if not name.startswith(f"{holder}.{inner}."):
                return ""
            kept = holder + kept[len(f"{holder}.{inner}") :]
    return kept


def _original_of(module: nn.Module) -> str:
    """Where a layer of PEFT keeps the module that it stands for; empty for other modules."""
    ours = type(module).__module__.startswith("peft.")
    return next((name for name in _ORIGINAL if ours and hasattr(module, name)), "")
