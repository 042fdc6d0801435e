"""What the tests of the room `editing` share: cheap settings, and everything about a model that an edit must leave alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bluedit import Editor, Fact
from bluedit.evaluate.answers import score
from toys import FAMILIES, toy_tokenizer

SETTINGS: dict[str, Any] = {
    "layers": [1, 2, 3],
    "preserve.lambda": 1,
    "preserve.unit": "energy",
    "preserve.threshold": 0.2,
    "preserve.l2": 1.0,
    "objective.clamp": 5.0,
    "objective.weight_decay": 0,
    "objective.steps": 4,
    "contexts.count": 1,
}
OTHER = (
    Fact("{} is made in", subject="Danielle Darrieux", target="Berlin", id="o1"),
    Fact("The library of {} is in", subject="London", target="Italian", id="o2"),
)


def make_editor(family: str = "llama", *, bos: bool = False, tokens: int = 480, **options: Any) -> Editor:
    """An editor of a toy model; `statistics` and `progress` go to the Editor, the rest to the model."""
    own = {key: options.pop(key) for key in ("statistics", "progress", "name", "corpus") if key in options}
    return Editor(FAMILIES[family](**options), toy_tokenizer(bos=bos), tokens=tokens, **own)


def edit(editor: Editor, facts, recipe: str = "alphaedit-blue", **options: Any):
    """An edit with the cheap settings, unmeasured, whatever the model says."""
    settings = SETTINGS | options.pop("settings", {})
    return editor.edit(facts, recipe, settings=settings, **({"known": "edit", "report": False} | options))


def bits(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all parameters and buffers."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same_bits(model: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    now = model.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[name], before[name]) for name in before)


def changed(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    """Names of tensors that differ; a tied tensor appears under each of its names."""
    now = model.state_dict()
    return {name for name in before if not torch.equal(now[name], before[name])}


def flags(editor: Editor) -> tuple[Any, ...]:
    """Everything but the weights that an edit may not leave changed."""
    model, tokenizer = editor.model, editor.lm.tokenizer
    return (
        [(name, module.training) for name, module in model.named_modules()],
        [(name, parameter.requires_grad) for name, parameter in model.named_parameters()],
        [name for name, parameter in model.named_parameters() if parameter.grad is not None],
        tokenizer.padding_side,
        tokenizer.truncation_side,
        tokenizer.pad_token,
        tokenizer.backend_tokenizer.to_str(),
        model.config.to_dict(),
        torch.get_rng_state().tolist(),
    )


def leftovers(model: nn.Module) -> list[str]:
    """Hooks and instance attributes `forward` that somebody forgot."""
    left = []
    for name, module in model.named_modules():
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            left += [f"{name}.{kind}"] * len(getattr(module, kind))
        left += [f"{name}.forward"] * ("forward" in vars(module))
    return left


def said_fact(editor: Editor) -> Fact:
    """A fact whose target the model says already."""
    tokenizer = editor.lm.tokenizer
    prompts = [("The {} of", word) for word in ("rain", "capital", "library", "tower", "weather", "tongue", "tenth")]
    prompts += [("{} is in", word) for word in ("Rome", "Berlin", "London", "Paris", "It", "Edwin", "Michel")]
    for (prompt, subject), answer in zip(
        prompts, score(editor.lm, [(p.replace("{}", s), "Rome") for p, s in prompts]), strict=True
    ):
        target = tokenizer.decode([answer.top]).strip()
        if target.isprintable() and target and "\ufffd" not in target:
            fact = Fact(prompt, subject=subject, target=target)
            if score(editor.lm, [(fact.text, fact.target)])[0].said:
                return fact
    raise AssertionError("the toy model says nothing that can be written as a target")


def dense(base: torch.Tensor, U: torch.Tensor, memory: torch.Tensor | None, K: torch.Tensor, slack: float = 1.0):
    """A = (s I + K^T G K)^-1 K^T G with G = U (U^T S U)^-1 U^T and S = base + memory memory^T, all written out in float64."""
    S = base.double().clone()
    if memory is not None:
        S = S + memory.double() @ memory.double().T
    G = U @ torch.linalg.inv(U.T @ S @ U) @ U.T
    return torch.linalg.inv(slack * torch.eye(K.shape[1], dtype=torch.float64) + K.T @ G @ K) @ K.T @ G
