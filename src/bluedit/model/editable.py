"""A causal language model as an editable memory: model, tokenizer and anatomy in one object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin
from transformers.cache_utils import DynamicCache

from bluedit.errors import FactError, ModelError
from bluedit.model.anatomy import Anatomy, Projection
from bluedit.model.fingerprint import tokenizer_fingerprint
from bluedit.model.products import fast_products
from bluedit.model.state import frozen
from bluedit.model.wrappers import refuse_quantised, unwrapped
from bluedit.shapes import Int, Tensor

_LENGTHS = (
    "max_position_embeddings",
    "max_seq_len",
    "n_positions",
    "context_length",
)  # of a text, as configurations call it


@dataclass(frozen=True, eq=False)
class EditableModel:
    """The caller's model and tokenizer, and where the model can be edited.

    Making or using one changes nothing in the model or the tokenizer; only an edit writes weights.

    Attributes:
        model: any Hugging Face decoder-only causal language model, without the wrappers that `of` was given.
        tokenizer: its fast tokenizer.
        name: for messages and manifests.
        anatomy: blocks, projections and head.
        adapters: the PEFT model around it, whose adapters are saved with it; None without one.
    """

    model: PreTrainedModel
    tokenizer: Any
    name: str
    anatomy: Anatomy = field(repr=False)
    adapters: Any = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        tokenizer: Any,
        name: str | None = None,
        anatomy: Anatomy | str | Sequence[str] | None = None,
    ) -> EditableModel:
        """The editable memory of a model that the caller has.

        Args:
            model: a decoder-only causal language model with all weights in memory, on one device or spread over several by `device_map`.
                It may be wrapped by `torch.compile`, data parallelism or PEFT: an edit shows in the wrapper too. Adapters that are on
                stay on.
            tokenizer: its fast tokenizer, or the processor of a vision-language model, whose tokenizer is used.
            name: for messages and manifests; None takes the model's own.
            anatomy: overrides what would be found in the model: an Anatomy, the name pattern of the MLP output projections with {}
                for the block's number, such as "model.layers.{}.mlp.down_proj", or a list of their names, one for each block.

        Raises:
            ModelError: not a supported decoder (see `dissect`), quantised, or with weights that are not in memory.
        """
        from bluedit.model.dissection import dissect  # only needed when a model is opened

        model, adapters = unwrapped(model)
        refuse_quantised(model)
        _check_devices(model)
        if not isinstance(anatomy, Anatomy):
            with frozen(model):
                anatomy = dissect(model, anatomy)
        known_as = name or getattr(model.config, "name_or_path", "") or type(model).__name__
        text = tokenizer.tokenizer if isinstance(tokenizer, ProcessorMixin) else tokenizer
        return cls(model, text, known_as, anatomy, adapters)

    @property
    def device(self) -> torch.device:
        """Where tokens go in and logits come out. Layers may lie on other devices (`device_map`); what is computed about facts is here."""
        return self.model.get_input_embeddings().weight.device  # pyright: ignore[reportReturnType]

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """All devices that weights are on, `device` first."""
        return tuple(dict.fromkeys([self.device, *(parameter.device for parameter in self.model.parameters())]))

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights that are edited."""
        return self.anatomy.projections[0].parameter.dtype

    @property
    def d_key(self) -> int:
        """Width of a key: of the input of the first block's MLP output projection."""
        return self.anatomy.projections[0].d_key

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """Fingerprint of the tokenizer as it is when this is first asked for: a large vocabulary takes a second."""
        return tokenizer_fingerprint(self.tokenizer)

    @property
    def max_length(self) -> int:
        """Longest sequence the model can read, in tokens."""
        config = self.model.config.get_text_config()
        given = (getattr(config, name, None) for name in _LENGTHS)
        return next((length for length in given if isinstance(length, int) and length > 0), 2**31)

    @property
    def cache_fault(self) -> str:
        """Why attention keys and values are not all that must be kept of earlier tokens; empty where they are."""
        if next(iter(self.after(None))) not in signature(self.model.forward).parameters:
            return "it takes no cache"
        layers = DynamicCache(config=self.model.config.get_text_config()).layers
        if any(hasattr(layer, "update_conv_state") for layer in layers):
            return "its blocks keep more of earlier tokens than attention keys and values"
        return ""

    def after(self, cache: Any) -> dict[str, Any]:
        """Arguments of a forward pass whose tokens follow those in `cache`; it adds its own to it. transformers 5.2x renamed the argument."""
        name = "cache" if "cache" in signature(self.model.forward).parameters else "past_key_values"
        return {name: cache, "use_cache": True}

    def run(self, **arguments: Any) -> Any:
        """The model's own forward; where torch's float32 products are slow, with others of the same precision."""
        with fast_products(self.device, self.dtype):
            return self.model(**arguments)

    def projection(self, layer: int) -> Projection:
        """The MLP output projection of a block."""
        return self.anatomy.projections[layer]

    def attention(self, layer: int) -> nn.Module:
        """The attention of a block. Raises ModelError where none was found."""
        module = self.anatomy.attentions[layer]
        if module is None:
            raise ModelError(
                f"block {layer} of {self.name} has no attention module (a class with 'attention' in its name), which this recipe needs; "
                "set objective.attention=false"
            )
        return module

    def check_finite(self, layers: Sequence[int]) -> None:
        """Raises ModelError when a projection of these layers holds NaN or infinity."""
        for layer in layers:
            weight = self.projection(layer).matrix()
            bad = int((~torch.isfinite(weight)).sum())
            if bad:
                raise ModelError(
                    f"{self.projection(layer).name}.weight holds {bad} NaN or infinite values of {weight.numel()}; "
                    "the model is damaged, load it again from a sound checkpoint"
                )

    def check_tokens(self, sequences: Iterable[Sequence[int]]) -> None:
        """Raises FactError when the tokenizer made tokens that the model has no embedding for."""
        rows = len(self.model.get_input_embeddings().weight)  # pyright: ignore[reportArgumentType]
        unknown = sorted({token for sequence in sequences for token in sequence if token >= rows})
        if unknown:
            names = ", ".join(f"{self.tokenizer.convert_ids_to_tokens(token)!r} (id {token})" for token in unknown[:5])
            raise FactError(
                f"{self.name} has embeddings for {rows} tokens, but its tokenizer made {names}{', ...' if len(unknown) > 5 else ''}; "
                "call model.resize_token_embeddings(len(tokenizer)) and train the new rows, or write the text without these tokens"
            )

    def pad(
        self, sequences: Sequence[Sequence[int]], *, left: bool = False, after: int = 0
    ) -> tuple[Int[Tensor, "rows tokens"], Int[Tensor, "rows tokens"]]:
        """Token ids padded to one length, with the mask of real tokens. The tokenizer's own padding settings are not used or changed.

        Args:
            sequences: token ids of each row.
            left: pad on the left.
            after: number of tokens that come before each row.

        Raises:
            FactError: a sequence is longer than the model can read, or holds a token that it has no embedding for.
        """
        self.check_tokens(sequences)
        width = max((len(s) for s in sequences), default=0)
        if width + after > self.max_length:
            raise FactError(
                f"a prompt of {width + after} tokens is longer than the {self.max_length} {self.name} can read; shorten it"
            )
        ids = torch.zeros(len(sequences), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, sequence in enumerate(sequences):
            span = slice(width - len(sequence), width) if left else slice(0, len(sequence))
            ids[i, span] = torch.tensor(sequence, dtype=torch.long)
            mask[i, span] = 1
        return ids.to(self.device), mask.to(self.device)


def _check_devices(model: nn.Module) -> None:
    """Raises ModelError for weights that are not in memory, and for a model in parts that nothing connects."""
    away = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if away:
        raise ModelError(
            f"{len(away)} of the model's weights ({away[0]}, ...) are not in memory: a device_map offloads them to the CPU or the disk, or they "
            "were never loaded; bluedit needs all of them in memory: give device_map devices that hold the whole model. "
            "A model too large for the GPUs can be edited on the CPU"
        )
    places = sorted({str(parameter.device) for parameter in model.parameters()})
    if len(places) > 1 and not any(hasattr(module, "_hf_hook") for module in model.modules()):
        raise ModelError(
            f"the model's weights lie on {' and '.join(places)}, and nothing moves activations between them; "
            "load it with device_map (which needs accelerate), or move it to one device"
        )
