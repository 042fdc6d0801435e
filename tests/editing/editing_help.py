"""What the tests of editing share: cheap settings, faults to inject, and everything about a model that an edit must leave alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from bluedit import Editor, Fact, Patch
from bluedit.errors import PatchError
from bluedit.evaluate.answers import score
from bluedit.methods.recipe import Recipe
from bluedit.statistics.store import MomentStore
from bluedit.text.corpus import Corpus
from bluedit.writing.trace import Trace
from toys import FAMILIES, fitting, toy_tokenizer

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


FOR_THE_EDITOR = ("statistics", "progress", "name", "corpus", "targets", "execution", "trace")


def make_editor(family: str = "llama", *, bos: bool = False, tokens: int = 480, **options: Any) -> Editor:
    """An editor of a toy model; options that the Editor has go to it, the rest to the model."""
    own = {key: options.pop(key) for key in FOR_THE_EDITOR if key in options}
    return Editor(FAMILIES[family](**options), toy_tokenizer(bos=bos), tokens=tokens, **own)


def edit(editor: Editor, facts, recipe: str | Recipe = "alphaedit-blue", **options: Any):
    """An edit with those of the cheap settings that the recipe has, unmeasured, whatever the model says."""
    settings = fitting(recipe, SETTINGS, options.pop("settings", None))
    return editor.edit(facts, recipe, settings=settings, **({"known": "edit", "report": False} | options))


def moments_of(editor: Editor, layers, statistics, tokens: int = 480):
    """Second moments of these layers of an unedited toy."""
    store = MomentStore(editor.lm, editor.journal.base.fingerprint, Corpus("self"), tokens, statistics)
    return store.get(layers)


def weight(editor: Editor, layer: int) -> torch.Tensor:
    """A copy of a projection's weight."""
    return editor.lm.projection(layer).matrix().double().clone()


def original(editor: Editor, layer: int) -> torch.Tensor:
    with editor.unedited():
        return weight(editor, layer)


class Recorder(Trace):
    """Keeps all that it is told, in order."""

    def __init__(self):
        self.events, self.targets, self.writes, self.batches = [], [], [], []

    def on_target(self, site, targets):
        self.events.append(f"target {site.layer}")
        self.targets.append((site, targets))

    def on_write(self, write):
        self.events.append(f"write {write.step.layer}")
        self.writes.append(write)

    def on_batch(self, batch):
        self.events.append("batch")
        self.batches.append(batch)


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


def same_patch(one: Patch, two: Patch) -> bool:
    """Whether two patches have the same facts, layers and factors."""
    if one.facts != two.facts or len(one.batches) != len(two.batches):
        return False
    pairs = [
        (a, b) for x, y in zip(one.batches, two.batches, strict=True) for a, b in zip(x.updates, y.updates, strict=True)
    ]
    parts = ("R", "A", "keys", "reach")
    return all(a.layer == b.layer and all(torch.equal(getattr(a, p), getattr(b, p)) for p in parts) for a, b in pairs)


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


class Injected(RuntimeError):
    """A fault that bluedit does not expect."""


class FaultAt(TorchFunctionMode):
    """Inside the `with`, the nth torch call (of a name, if one is given) raises instead of doing its work; 0 means none, and calls are only counted."""

    def __init__(self, nth: int, exception: type[BaseException] = KeyboardInterrupt, name: str | None = None):
        super().__init__()
        self.nth, self.exception, self.name, self.calls, self.armed = nth, exception, name, 0, True

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if self.armed and self.name in (None, getattr(function, "__name__", None)):
            self.calls += 1
            if self.calls == self.nth:
                raise self.exception("injected")
        return function(*args, **(kwargs or {}))


def factors(folder: Path, batch: int = 0) -> Path:
    (file,) = folder.glob(f"{batch:04d}-*.safetensors")
    return file


def record(folder: Path, batch: int = 0) -> Path:
    return factors(folder, batch).with_suffix(".json")


def unreadable(folder: Path, text: str) -> str:
    with pytest.raises(PatchError) as caught:
        Patch.load(folder)
    assert str(caught.value).startswith(text.format(folder=folder)), str(caught.value)
    return str(caught.value)
