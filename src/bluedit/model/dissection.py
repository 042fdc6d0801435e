"""Finding the editable parts of a decoder, from its structure and from what two tokens do in it.

A block's candidates are the linear maps that write to the residual stream and are not part of a token mixer (attention, state space,
convolution). The projection is the candidate with the widest input. Which modules mix tokens is measured: the first token of their
input is changed, and the second token of their output is compared.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bluedit.errors import ModelError, did_you_mean
from bluedit.model._blocks import find_attention, find_blocks, probe_ids, refuse_unsupported, run_until
from bluedit.model._measured import refuse_not_causal, residual_scales, two_continuations
from bluedit.model.anatomy import Anatomy, Projection
from bluedit.model.hooks import first_tensor, hooked
from bluedit.shapes import Tensor

_MIXED = (
    1e-4  # relative change of a token's output when an earlier token's input changes; rounding alone stays far below
)


def dissect(model: PreTrainedModel, projections: str | Sequence[str] | None = None) -> Anatomy:
    """Find blocks, projections and head of a causal language model (any decoder with one MLP per block).

    Args:
        model: the model; it is run on two tokens.
        projections: names of the projections instead of those found: a pattern with {} for the block's number, such as
            "model.layers.{}.mlp.down_proj", or one name for each block.

    Raises:
        ModelError: encoder-decoder, mixture of experts, not causal, quantised weights, no recognisable blocks, a block without an MLP, or a
            name that is not a linear map from a key to the residual stream.
    """
    refuse_unsupported(model)
    names = {module: name for name, module in model.named_modules()}
    if projections is None:
        blocks = find_blocks(model)
        modules = _find_projections(model, blocks)
    else:
        blocks, modules = _named_projections(model, projections)
    for layer, module in enumerate(modules):
        _check_projection(module, names.get(module, "?"), layer)
    found = tuple(Projection(names[module], module) for module in modules)
    attentions = tuple(map(find_attention, blocks))
    scales = residual_scales(model, blocks, found)
    return Anatomy(blocks, found, attentions, model.get_output_embeddings(), scales is not None, scales or ())


def _named_projections(
    model: PreTrainedModel, given: str | Sequence[str]
) -> tuple[tuple[nn.Module, ...], list[nn.Module]]:
    """The blocks, and the modules that the caller names in them."""
    modules: dict[str, nn.Module] = {name: module for name, module in model.named_modules()}  # noqa: C416
    if isinstance(given, str):
        blocks, names = _by_pattern(modules, given)
    else:
        blocks, names = find_blocks(model), list(given)
        if len(names) != len(blocks):
            raise ModelError(
                f"anatomy names {len(names)} projections, but the model has {len(blocks)} blocks; name one each"
            )
    for layer, (name, block) in enumerate(zip(names, blocks, strict=True)):
        if name not in modules:
            near = [known for known, module in modules.items() if hasattr(module, "weight")]
            raise ModelError(
                f"anatomy names the projection {name!r}, which this model does not have; {did_you_mean(name, near)}"
            )
        if modules[name] not in set(block.modules()):
            raise ModelError(
                f"anatomy names {name!r} for block {layer}, but it is not in that block; name them in order of the blocks"
            )
    found = [modules[name] for name in names]
    for layer, writers in enumerate(_residual_writers(model, blocks)):
        if found[layer] not in writers:
            raise ModelError(
                f"anatomy names {names[layer]!r} for block {layer}, which is not a linear map that writes to the residual stream "
                f"(width {model.config.get_text_config().hidden_size})"
            )
    return blocks, found


def _by_pattern(modules: dict[str, nn.Module], pattern: str) -> tuple[tuple[nn.Module, ...], list[str]]:
    before, marker, after = pattern.partition("{}")
    if not marker or not before.endswith(".") or not after.startswith(".") or "{}" in after:
        raise ModelError(
            f"the anatomy {pattern!r} needs one {{}} in place of the block's number, as in 'model.layers.{{}}.mlp.down_proj'"
        )
    count = 0
    while f"{before}{count}" in modules:
        count += 1
    if not count:
        raise ModelError(f"this model has no block {before}0, which the anatomy {pattern!r} asks for")
    return tuple(modules[f"{before}{i}"] for i in range(count)), [f"{before}{i}{after}" for i in range(count)]


def _check_projection(module: nn.Module, name: str, layer: int) -> None:
    weight = module.weight
    # adapters and quantised layers of other packages are subclasses too; only torch's and transformers' own classes are plain
    plain = isinstance(module, (nn.Linear, Conv1D)) and type(module).__module__.split(".")[0] in (
        "torch",
        "transformers",
    )
    if not plain or not weight.is_floating_point() or weight.dim() != 2:  # pyright: ignore[reportCallIssue]
        raise ModelError(
            f"block {layer}: {name} is a {type(module).__name__} with {str(weight.dtype).removeprefix('torch.')} weights, which cannot be edited in place; "
            "load the model unquantised (float32, bfloat16 or float16) and without adapters (merge them first)"
        )


def _find_projections(model: PreTrainedModel, blocks: Sequence[nn.Module]) -> list[nn.Module]:
    """The MLP output projection of each block.

    Raises:
        ModelError: a block has none; the message names what it has instead.
    """
    writers = _residual_writers(model, blocks)
    structures = [_structure(block, found) for block, found in zip(blocks, writers, strict=True)]
    # blocks of one structure mix tokens in the same places: the first of each is measured
    layers = {structure: layer for layer, structure in reversed(list(enumerate(structures)))}
    measured = _token_mixing(
        model, blocks[max(layers.values())], [_containers(blocks[i], writers[i]) for i in layers.values()]
    )
    mixing = {
        structure: {name for name, m in blocks[i].named_modules() if m in measured} for structure, i in layers.items()
    }
    return [
        _projection_of(
            model,
            layer,
            block,
            writers[layer],
            {m for name, m in block.named_modules() if name in mixing[structures[layer]]},
        )
        for layer, block in enumerate(blocks)
    ]


def _structure(block: nn.Module, writers: Mapping[nn.Module, int]) -> Hashable:
    """Equal for blocks that are built alike: modules of the same names and classes, of which the same write to the residual stream."""
    return tuple((name, type(module), module in writers) for name, module in block.named_modules())


def _residual_writers(model: PreTrainedModel, blocks: Sequence[nn.Module]) -> list[dict[nn.Module, int]]:
    """For each block, the linear maps that ran and whose output is as wide as the residual stream, in order, with their input widths.

    Raises:
        ModelError: the model is not causal, which the same forward pass shows.
    """
    width = model.config.get_text_config().hidden_size
    found: list[dict[nn.Module, int]] = [{} for _ in blocks]

    def recorder(layer: int):
        def record(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
            if isinstance(output, Tensor) and output.shape[-1] == width:
                found[layer].pop(module, None)
                found[layer][module] = args[0].shape[-1]

        return record

    hooks = [
        (module, "forward", recorder(layer))
        for layer, block in enumerate(blocks)
        for module in block.modules()
        if _is_linear_like(module)
    ]
    with hooked(hooks):
        states = run_until(blocks[-1], model, two_continuations(model))
    refuse_not_causal(model, states)
    return found


def _is_linear_like(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(module, (nn.Linear, Conv1D)) or (isinstance(weight, Tensor) and "Linear" in type(module).__name__)


def _containers(block: nn.Module, inside: Mapping[nn.Module, int]) -> list[nn.Module]:
    """The modules of a block, itself aside, that contain at least one of these, outermost first."""
    return [
        m
        for m in block.modules()
        if m is not block and m not in inside and any(inner in inside for inner in m.modules())
    ]


def _token_mixing(model: PreTrainedModel, last: nn.Module, containers: Sequence[Sequence[nn.Module]]) -> set[nn.Module]:
    """Those modules whose output at the second token depends on their input at the first, measured in one pass that ends after the block `last`."""
    mixing: set[nn.Module] = set()
    inside = False

    def compare(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        nonlocal inside
        if inside:  # a second run of a module around this one
            return
        inside = True
        try:
            if _second_token_moves(module, args, kwargs, output):
                mixing.add(module)
        finally:
            inside = False

    hooks = [(module, "call", compare) for block in containers for module in block]
    with hooked(hooks):
        run_until(last, model, probe_ids(model))
    return mixing


def _second_token_moves(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> bool:
    given: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
    place = next((key for key, value in given.items() if _is_two_tokens(value)), None)
    before = first_tensor(output)
    if place is None or not _is_two_tokens(before):
        return False
    changed = given[place].clone()
    first = changed.view(2, -1)[0]
    first.copy_(first.roll(1))
    given[place] = changed
    after = first_tensor(
        module.forward(*(given[i] for i in range(len(args))), **{name: given[name] for name in kwargs})
    )
    was, now = (states.view(2, -1)[1].float() for states in (before.contiguous(), after.contiguous()))
    return bool(
        (now - was).norm() > _MIXED * was.norm()
    )  # False for NaN: what is wrong with such a model is said when it is edited


def _is_two_tokens(value: object) -> bool:
    """Whether it can be the hidden states of one row of two tokens (1 x 2 x width or 2 x width)."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() in (2, 3) and value.shape[-2] == 2


def _projection_of(
    model: PreTrainedModel, layer: int, block: nn.Module, writers: Mapping[nn.Module, int], mixing: set[nn.Module]
) -> nn.Module:
    """The widest writer outside all mixers, of several the last to run."""
    containers = _containers(block, writers)
    # a module around a mixer mixes as well; the mixer is the innermost
    mixers = [m for m in containers if m in mixing and not any(o in mixing for o in m.modules() if o is not m)]
    if attention := find_attention(block):
        mixers.append(attention)
    holder = {writer: mixer for mixer in mixers for writer in writers if writer in set(mixer.modules())}
    free = {
        writer: width
        for writer, width in writers.items()
        # directly in a block without mixers it may itself be part of one
        if writer not in holder and (mixers or any(writer in set(c.modules()) for c in containers))
    }
    if free:
        return max(reversed(free), key=lambda writer: free[writer])
    raise ModelError(
        f"block {layer} of {type(model).__name__} has no MLP that writes to the residual stream "
        f"(found: {_widest(model, writers, holder)}); bluedit edits the output projection of an MLP. "
        "Use a model whose blocks have one, or name the projections with anatomy="
    )


def _widest(model: PreTrainedModel, writers: Mapping[nn.Module, int], holder: Mapping[nn.Module, nn.Module]) -> str:
    """The widest linear map, and what it is part of, in words."""
    if not writers:
        return "no linear map"
    names = {module: name for name, module in model.named_modules()}
    widest = max(writers, key=lambda writer: writers[writer])
    shown = f"{names[widest]} ({writers[widest]} -> {model.config.get_text_config().hidden_size})"
    if widest in holder:
        shown += f", part of the token mixer {names[holder[widest]]} ({type(holder[widest]).__name__})"
    return shown
