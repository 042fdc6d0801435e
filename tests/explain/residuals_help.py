"""A linear network whose every quantity has a closed form, and targets that are given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from bluedit.forward import observe
from bluedit.methods.objective import Objective
from bluedit.model.editable import EditableModel
from bluedit.writing.keys import average_values
from bluedit.writing.target import Targets, TargetSource
from bluedit.writing.trace import Trace, Write
from toys import toy_gpt2, toy_tokenizer

SETTINGS = {"objective.steps": 4, "objective.learning_rate": 0.5, "contexts.count": 1, "preserve.lambda": 1.0}


def linear_gpt2(layers: int = 4):
    """A GPT-2 without norms, attention or nonlinearity: each block adds a linear map of its input."""
    model = toy_gpt2(square=True, layers=layers, seed=3)
    transformer = model.transformer
    transformer.ln_f = nn.Identity()
    for block in transformer.h:
        block.ln_1 = block.ln_2 = nn.Identity()
        block.mlp.act = nn.Identity()
        for weight in (block.attn.c_proj.weight, block.attn.c_proj.bias):
            weight.data.zero_()
        block.mlp.c_fc.weight.data.mul_(0.3)
        block.mlp.c_fc.bias.data.normal_()
    return model.eval()


def linear_model(layers: int = 4) -> EditableModel:
    return EditableModel.of(linear_gpt2(layers), toy_tokenizer(), "linear")


@dataclass
class LinearNetwork:
    """The same network written out: h_l = h_(l-1) + W_l (V_l h_(l-1) + c_l) + b_l.

    Attributes:
        V, c, W, b: of each block.
        head: logits are head h.
    """

    V: list[torch.Tensor]
    c: list[torch.Tensor]
    W: list[torch.Tensor]
    b: list[torch.Tensor]
    head: torch.Tensor

    @classmethod
    def of(cls, lm: EditableModel) -> LinearNetwork:
        mlps = [block.mlp for block in lm.model.transformer.h]
        copies = [
            [p.detach().clone() for p in (m.c_fc.weight.T, m.c_fc.bias, m.c_proj.weight.T, m.c_proj.bias)] for m in mlps
        ]
        return cls(*map(list, zip(*copies, strict=True)), lm.model.lm_head.weight.detach().clone())

    def key(self, layer: int, h: torch.Tensor) -> torch.Tensor:
        """Keys of states (width x n) that enter a block."""
        return self.V[layer] @ h + self.c[layer][:, None]

    def block(self, layer: int, h: torch.Tensor) -> torch.Tensor:
        return h + self.W[layer] @ self.key(layer, h) + self.b[layer][:, None]

    def run(self, h: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """The output of block `last` from the input of block `first`."""
        for layer in range(first, last + 1):
            h = self.block(layer, h)
        return h

    def jacobian(self, low: int, high: int) -> torch.Tensor:
        """d(output of block high) / d(output of block low)."""
        J = torch.eye(len(self.W[0]), dtype=torch.float64)
        for layer in range(low + 1, high + 1):
            J = J + self.W[layer] @ self.V[layer] @ J
        return J

    def add(self, layer: int, dW: torch.Tensor) -> LinearNetwork:
        """The network after an edit."""
        W = list(self.W)
        W[layer] = W[layer] + dW
        return LinearNetwork(self.V, self.c, W, self.b, self.head)


def inputs_of(lm: EditableModel, rows) -> torch.Tensor:
    """What enters block 0 at each row's subject's last token, width x rows: embeddings of token and position."""
    embedding = lm.model.transformer
    at = torch.tensor([row.subject_last for row in rows])
    ids = torch.tensor([row.ids[row.subject_last] for row in rows])
    return (embedding.wte.weight[ids] + embedding.wpe.weight[at]).detach().T


class Prescribed(TargetSource):
    """Targets that add a given vector per layer and fact, whatever the model.

    Steps tell facts and weights apart: the number of the fact, and four for each layer that is written.
    """

    def __init__(self, width: int, seed: int = 0, scale: float = 0.5) -> None:
        self.width, self.seed, self.scale = width, seed, scale
        self.objectives: list[Objective] = []
        self.before: list[torch.Tensor] = []

    def delta(self, layer: int, n: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(100 * self.seed + layer)
        return self.scale * torch.randn(self.width, n, generator=generator, dtype=torch.float64)

    def get(self, lm, rows, site, objective, optimise, *, later=()) -> Targets:
        self.objectives.append(objective)
        weights = [parameter.detach().clone() for parameter in lm.model.parameters()]
        self.before = self.before or weights
        written = sum(not torch.equal(*pair) for pair in zip(weights, self.before, strict=True))
        bare = [row for row in rows if row.is_bare]
        n = 1 + max(row.fact for row in rows)
        start = average_values(bare, observe(lm, bare, [site])[site], n)
        steps = torch.arange(n) + 4 * written
        return Targets(start + self.delta(site.layer, n), start, steps, torch.zeros(n, dtype=torch.float64))


class Writes(Trace):
    """Keeps every write."""

    def __init__(self) -> None:
        self.seen: list[Write] = []

    def on_write(self, write: Write) -> None:
        self.seen.append(write)
