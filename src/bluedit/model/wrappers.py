"""The transformers model inside wrappers of other packages, recognised without importing them, and quantised weights refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from bluedit.errors import ModelError
from bluedit.shapes import Tensor

# where a wrapper keeps the module it was made of; torch has no public name for torch.compile's
_INSIDE: dict[str, Callable[[Any], Any]] = {
    "OptimizedModule": lambda wrapper: wrapper._orig_mod,
    "DataParallel": lambda wrapper: wrapper.module,
    "DistributedDataParallel": lambda wrapper: wrapper.module,
    "PeftModel": lambda wrapper: wrapper.get_base_model(),
}
_PLAIN = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_QUANTISERS = (
    *("bitsandbytes", "gptqmodel", "auto_gptq", "awq", "optimum", "torchao", "hqq", "eetq", "aqlm", "vptq", "quark"),
    *("auto_round", "compressed_tensors", "fp_quant"),
)
_PACKED = ("qweight", "weight_packed", "packed_weight")  # buffers of layers that have no weight parameter
_ELSEWHERE = "load the checkpoint that it was quantised from"
_REMEDIES = {
    "bitsandbytes": "load it without quantization_config, or call model.dequantize()",
    "fp8": "load it with quantization_config=FineGrainedFP8Config(dequantize=True), or call model.dequantize()",
    "mxfp4": "load it with quantization_config=Mxfp4Config(dequantize=True)",
    "compressed-tensors": "load it with quantization_config=CompressedTensorsConfig(dequantize=True)",
    "torch dynamic quantisation": "edit the model before torch.ao.quantization.quantize_dynamic",
}


def unwrapped(model: Any) -> tuple[PreTrainedModel, Any]:
    """The transformers model inside `torch.compile`, data parallelism and PEFT, and the PEFT model around it (None without one).

    Its modules are those of the wrapper: an edit shows in both, and adapters that are on stay on.

    Raises:
        ModelError: virtual tokens of prompt tuning, a compiled module inside the model, or no transformers model at all.
    """
    adapters = None
    while (wrapper := _wrapper(model)) is not None:
        if wrapper == "PeftModel":
            adapters = model
            _refuse_virtual_tokens(model)
        model = _INSIDE[wrapper](model)
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise ModelError(
            f"{type(model).__name__} is not a transformers model; give a decoder that AutoModelForCausalLM loads, or one of the same interface"
        )
    compiled = next((name for name, module in model.named_modules() if _wrapper(module) == "OptimizedModule"), None)
    if compiled is not None:
        raise ModelError(
            f"{compiled} was replaced by torch.compile({compiled}), and edits need hooks that compiled code does not run; "
            f"edit first and compile afterwards, or compile in place with {compiled}.compile()"
        )
    return model, adapters  # pyright: ignore[reportReturnType]


def _wrapper(model: Any) -> str | None:
    """Which of the known wrappers a model is."""
    names = (kind.__name__ for kind in type(model).__mro__ if kind.__module__.split(".")[0] in ("torch", "peft"))
    return next((name for name in names if name in _INSIDE), None)


def _refuse_virtual_tokens(model: Any) -> None:
    if getattr(model, "active_peft_config", None) is not None and model.active_peft_config.is_prompt_learning:
        raise ModelError(
            f"the adapter of kind {getattr(model.peft_type, 'value', model.peft_type)} puts virtual tokens before every text, and bluedit writes facts without them; "
            "edit the model without it (model.get_base_model())"
        )


def refuse_quantised(model: nn.Module) -> None:
    """Raises ModelError where a weight is stored in fewer bits than it computes with, and says how to get an ordinary model."""
    found = next(_quantised(model), None)
    if found is None:
        return
    name, module, stored = found
    method = _method(model, module)
    raise ModelError(
        f"this model is quantised ({method}): {name} is a {type(module).__name__} that stores {stored}, which cannot be edited "
        f"in place. To edit it, {_REMEDIES.get(method, _ELSEWHERE)}; save the edited model, and quantise that"
    )


def _quantised(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Modules with quantised weights: name, module, and what it stores."""
    for name, module in model.named_modules():
        package, _, inside = type(module).__module__.partition(".")
        parameters = dict(module.named_parameters(recurse=False))
        named = parameters | dict(module.named_buffers(recurse=False))
        stored = [tensor for tensor in parameters.values() if _is_short(tensor)]
        stored += [named[key] for key in _PACKED if key in named]
        if stored:
            yield name, module, str(stored[0].dtype).removeprefix("torch.")
        elif package in _QUANTISERS and "linear" in type(module).__name__.lower():
            yield name, module, f"the weights of {package}"
        elif package == "torch" and ".quantized." in f".{inside}.":
            yield name, module, str(getattr(module, "weight_bits", "int8"))


def _is_short(tensor: Tensor) -> bool:
    return tensor.dtype not in _PLAIN or type(tensor).__module__.split(".")[0] in _QUANTISERS


def _method(model: Any, module: nn.Module) -> str:
    """The name of the quantisation: as the configuration says, or the package that the layer comes from."""
    config = getattr(getattr(model, "config", None), "quantization_config", None)
    named = config.get("quant_method") if isinstance(config, dict) else getattr(config, "quant_method", None)
    if named is not None:
        return str(getattr(named, "value", named))
    package = type(module).__module__.split(".")[0]
    return {"torch": "torch dynamic quantisation"}.get(package, package) if package != "transformers" else "unknown"
