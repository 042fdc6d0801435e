"""What a reproduction needs on this machine: time, memory and disk, from a model's shapes and a probe of a few seconds.

Counted: operations of every step, from the configuration; sizes of everything that is held or written. Measured: how fast this machine
multiplies and decomposes matrices. Assumed: how much text a fact has, how many steps its target takes (all the recipe allows), and which
share of the measured rate a real pass reaches. These come from runs on SmolLM2 (docs/results/speed.md) and are not measured on large models.
"""

from __future__ import annotations

import shutil
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from bluedit.methods.filters import CapSpectrum
from bluedit.methods.preserve import NullSpace
from bluedit.methods.recipe import Recipe
from bluedit.methods.update import ClosedForm
from bluedit.model.memory import known_free_memory
from bluedit.model.precision import fast_bfloat16
from bluedit.statistics.memory import memory_needed
from bluedit.statistics.store import TOKENS_PER_KEY

KNOWN: Mapping[str, Any] = tomllib.loads(Path(__file__).with_name("models.toml").read_text("utf-8"))

# a fact of CounterFact with five prefixes, on SmolLM2 (docs/results/speed.md)
STEP_TOKENS = (
    25 / 7
)  # per text and step, from the subject's last token on; 7 texts: the prompt, five prefixed ones, "... is a"
BEFORE_TOKENS = 30  # read once per target: the tokens before
HEAD_POSITIONS = 10  # per step: where logits are needed
KEY_TOKENS = 60  # per fact and step of the schedule: keys and values of all texts
PROMPT_TOKENS = 25  # per prompt that is measured, with two answers
ABILITY_TOKENS = 6 * 120 * 150  # six tasks
REACHED = {"cpu": {torch.float32: 0.65, torch.bfloat16: 0.4}}  # share of the products' rate that a pass reaches
ASSUMED = 0.3  # elsewhere; not measured
SAMPLING_REACHES = 0.5  # of that of a pass
LEAST_TOKENS = 64  # optimised together when memory is scarce


@dataclass(frozen=True)
class Shape:
    """A model in numbers: parameters in all and per block, widths, vocabulary, bytes per weight, key-value width of attention."""

    parameters: int
    block: int
    layers: int
    width: int
    d_key: int
    vocabulary: int
    dtype: torch.dtype
    cached: int

    @property
    def size(self) -> int:
        return torch.finfo(self.dtype).bits // 8


def config_of(model: str) -> Any:
    """The configuration of a model in models.toml or of a folder, or None where it cannot be known without loading it."""
    if model in KNOWN:
        return AutoConfig.for_model(**KNOWN[model]["config"])
    folder = Path(model).expanduser()
    return AutoConfig.from_pretrained(folder).get_text_config() if (folder / "config.json").is_file() else None


def shape_of(config: Any, dtype: torch.dtype) -> Shape:
    """Its shapes, from a model without weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    layers, width = config.num_hidden_layers, config.hidden_size
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    blocks = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == layers)
    matrices = [
        p for name, p in blocks[0].named_parameters() if p.dim() == 2 and width in p.shape and "att" not in name
    ]
    d_key = max(p.numel() // width for p in matrices)
    return Shape(
        sum(p.numel() for p in model.parameters()),
        sum(p.numel() for p in blocks[0].parameters()),
        layers,
        width,
        d_key,
        config.vocab_size,
        dtype,
        heads * (getattr(config, "head_dim", None) or width // config.num_attention_heads),
    )


@dataclass(frozen=True)
class Rates:
    """Operations a second: products in the precision of targets, in the model's own, in float64, and a decomposition's 9 n^3."""

    targets: float
    forward: float
    exact: float
    eigen: float
    reached: float


def probe(device: torch.device, dtype: torch.dtype, size: int = 1024) -> Rates:
    """Measure a device for about two seconds."""
    fast = torch.bfloat16 if dtype == torch.float32 and fast_bfloat16(device) else dtype

    def rate(work: Callable[[], object], operations: float) -> float:
        work()
        started, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - started < 0.4:
            work()
            if device.type != "cpu":
                torch.cuda.synchronize(device)
            count += 1
        return operations * count / (time.perf_counter() - started)

    def products(kind: torch.dtype) -> float:
        a = torch.randn(size, size, device=device).to(kind)
        return rate(lambda: a @ a, 2 * size**3)

    small = torch.randn(size // 2, size // 2, dtype=torch.float64, device=device)
    eigen = rate(lambda: torch.linalg.eigh(small @ small.T), 9 * (size // 2) ** 3)
    forward = products(dtype)
    reached = REACHED.get(device.type, {}).get(fast, ASSUMED)
    return Rates(products(fast) if fast != dtype else forward, forward, products(torch.float64), eigen, reached)


@dataclass(frozen=True)
class Plan:
    """What is run: tuned recipes, facts, facts at once, prompts that are measured per fact (its own, paraphrases, neighbours), how often
    all facts so far are measured, and whether ability is."""

    recipes: Sequence[Recipe]
    facts: int
    batch: int = 100
    prompts: int = 3
    measured: float = 1.5  # times all facts
    abilities: bool = False

    @property
    def batches(self) -> int:
        return -(-self.facts // self.batch)

    @property
    def layers(self) -> tuple[int, ...]:
        """All that statistics are needed for."""
        return tuple(sorted({layer for recipe in self.recipes if recipe.update.preserve for layer in recipe.written}))


def seconds_of(recipe: Recipe, shape: Shape, rates: Rates, plan: Plan) -> dict[str, float]:
    """Time of one recipe: targets, keys, operators and solves, filters, measuring."""
    pace = rates.targets * rates.reached
    texts = recipe.settings()["contexts.count"] + 2
    targets = keys = 0.0
    for layer in {step.target for step in recipe.steps()}:
        above = shape.block * (shape.layers - 1 - layer)
        step = 4 * above * STEP_TOKENS * texts + 4 * shape.vocabulary * shape.width * HEAD_POSITIONS
        targets += step * recipe.objective.steps + 2 * shape.parameters * BEFORE_TOKENS
    for step in recipe.steps():
        keys += 2 * shape.block * (step.target + 1) * KEY_TOKENS
    return {
        "targets": targets * plan.facts / pace,
        "keys": keys * plan.facts / (rates.forward * rates.reached),
        "solve": _solving(recipe, shape, rates, plan),
        "measure": measuring(shape, rates, plan),
    }


def _solving(recipe: Recipe, shape: Shape, rates: Rates, plan: Plan) -> float:
    """Operators once, solves of every batch, and filters."""
    update, d = recipe.update, shape.d_key
    if not isinstance(update, ClosedForm):
        return 0.0
    spectral = isinstance(update.preserve, NullSpace)
    once = 9 * d**3 / rates.eigen if spectral else d**3 / 3 / rates.exact
    every = 6 * d**2 * plan.batch / rates.exact + 2 * shape.width * d * plan.batch / rates.exact
    for one in update.filters:
        every += (
            4 * shape.width**2 * d / rates.exact + 18 * shape.width**3 / rates.eigen
            if isinstance(one, CapSpectrum)
            else 0
        )
    return len(recipe.written) * (once + plan.batches * every)


def measuring(shape: Shape, rates: Rates, plan: Plan) -> float:
    """Time to measure one row of the table."""
    tokens = plan.measured * plan.facts * plan.prompts * PROMPT_TOKENS + 2 * 8000 + plan.abilities * 2 * ABILITY_TOKENS
    return 2 * shape.parameters * tokens / (rates.forward * rates.reached)


def statistics_seconds(shape: Shape, rates: Rates, plan: Plan) -> float:
    """Time of the key statistics, once per model: sampling the text, reading it, and sums of k k^T in float64."""
    if not plan.layers:
        return 0.0
    tokens = TOKENS_PER_KEY * shape.d_key
    read = 2 * shape.block * (max(plan.layers) + 1) * tokens / (rates.forward * rates.reached)
    sampled = 2 * shape.parameters * tokens / (rates.targets * rates.reached * SAMPLING_REACHES)
    return sampled + read + 2 * len(plan.layers) * tokens * shape.d_key**2 / rates.exact


@dataclass(frozen=True)
class Sizes:
    """Bytes: on the model's device, where statistics are, in the cache and in the folder of results. `fetched`: of them the weights."""

    model: int
    statistics: int
    cache: int
    out: int
    fetched: int


def sizes_of(shape: Shape, plan: Plan, copies: bool, fetched: int) -> Sizes:
    """What is held at most, and what is written.

    Args:
        copies: whether linear maps get bfloat16 copies while targets are optimised.
        fetched: bytes of weights that have to be downloaded.
    """
    d, layers, weights = shape.d_key, len(plan.layers), shape.parameters * shape.size
    written = max((len(recipe.written) for recipe in plan.recipes), default=0)
    edited = written * shape.width * d * (2 * shape.size + 3 * 8)  # the original, a copy, and sums in float64
    halves = 2 * shape.block * (shape.layers - 1 - min(plan.layers, default=0)) if copies else 0
    step = LEAST_TOKENS * (shape.layers * (12 * shape.width + 4 * d) * shape.size + 16 * shape.vocabulary // 3)
    sampled = min(4 * 2**30, 2 * shape.layers * shape.cached * shape.size * TOKENS_PER_KEY * d) if layers else 0
    factors = sum(plan.facts * len(r.written) * (shape.width + 2 * d) * 4 for r in plan.recipes)
    vectors = sum(plan.facts * len({s.target for s in r.steps()}) * shape.width * 4 for r in plan.recipes)
    return Sizes(
        weights + max(sampled, edited + halves + step),
        memory_needed(d, layers) if layers else 0,
        fetched + 2 * layers * d**2 * 8,  # as they are stored, and the sums so far
        factors + vectors,
        fetched,
    )


@dataclass(frozen=True)
class Room:
    """Bytes that are free: on the model's device, in main memory, in the cache's and the results' folders. None: unknown."""

    device: int | None
    memory: int | None
    cache: int
    out: int

    @classmethod
    def here(cls, device: torch.device, cache: Path, out: Path) -> Room:
        return cls(known_free_memory(device), known_free_memory(torch.device("cpu")), _free(cache), _free(out))


def _free(folder: Path) -> int:
    """Bytes that are free where a folder is or would be made."""
    there = next(place for place in (folder.resolve(), *folder.resolve().parents) if place.is_dir())
    return shutil.disk_usage(there).free


def shortages(sizes: Sizes, room: Room, device: str, *, beside: bool, cache: Path, out: Path) -> list[str]:
    """What will not fit, in sentences.

    Args:
        beside: whether statistics are on the model's device, too.
    """
    found = []
    need = sizes.model + sizes.statistics * beside
    if room.device is not None and need > room.device:
        fits = beside and device != "cpu" and sizes.model <= room.device and sizes.statistics <= (room.memory or 0)
        hint = "keep the statistics in main memory: --statistics-device cpu" if fits else "use a device with more"
        what = f"of which {gb(sizes.statistics)} are key statistics" if beside else "without the key statistics"
        found.append(f"{gb(need)} are needed on {device} ({what}), and {gb(room.device)} are free; {hint}")
    if not beside and room.memory is not None and sizes.statistics > room.memory:
        found.append(
            f"key statistics need {gb(sizes.statistics)} of main memory, and {gb(room.memory)} are free; free some"
        )
    if sizes.cache > room.cache:
        what = f"weights {gb(sizes.fetched)}, statistics {gb(sizes.cache - sizes.fetched)}"
        found.append(
            f"{gb(sizes.cache)} of disk are needed in {cache} ({what}), and {gb(room.cache)} are free; set HF_HOME and BLUEDIT_CACHE"
        )
    if sizes.out > room.out:
        found.append(f"{gb(sizes.out)} of disk are needed in {out}, and {gb(room.out)} are free; choose another --out")
    return found


def gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def span(seconds: float) -> str:
    """A time as a person says it, rounded: these are estimates."""
    for unit, size in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
