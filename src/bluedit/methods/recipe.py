"""A method as data: a recipe is schedule x objective x preservation x filter x memory x rounds, with all its numbers and nothing else.

Every field can be set by its path, e.g. "preserve.lambda": tunings and the user's --set do it the same way.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bluedit.errors import RecipeError, did_you_mean
from bluedit.maths.schedule import SCHEDULES, Step


def number(
    default: float | int, help: str, low: float = 0.0, high: float = float("inf"), positive: bool = False
) -> Any:
    """A dataclass field that holds a number within bounds."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "positive": positive})


def choice(default: Any, help: str, choices: tuple[Any, ...]) -> Any:
    """A dataclass field that holds one of a few values."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class Objective:
    """How the target z* is optimised (MEMIT's form, arXiv 2210.07229, section 4.2 and eq. 16)."""

    site: str = choice("block", "where delta is added: the block's output, or the MLP's", ("block", "mlp"))
    learning_rate: float = number(0.5, "Adam's step size", positive=True)
    steps: int = number(25, "evaluations at most; the last one takes no step", low=1.0)
    clamp: float = number(0.75, "largest |delta| in units of |h|", positive=True)
    weight_decay: float = number(0.5, "factor of |delta| / |h|^2")
    kl_factor: float = number(0.0625, "factor of the KL divergence on '{subject} is a'")
    stop_loss: float = number(0.05, "a fact is finished when its loss is below this")
    stop: str = choice(
        "loss", "argmax: finished also when every prompt's first choice is the target (ENCORE)", ("loss", "argmax")
    )
    attention: bool = choice(
        False, "optimise a vector on the attention's output along with it, and drop it (PMET)", (False, True)
    )
    adaptive: bool = choice(
        False, "weigh the likelihood 0.1 while the target is the first choice (PMET)", (False, True)
    )
    weights: str = choice("current", "weights that targets are optimised on (NSE: unedited)", ("current", "unedited"))
    kl_anchor: str = choice("current", "weights whose distribution the KL term holds on to", ("current", "unedited"))
    precision: str = choice(
        "auto", "of linear maps while targets are optimised: bf16 where it is native, or not", ("auto", "full", "bf16")
    )
    tokens_per_step: int = number(
        0, "tokens optimised at once, which bounds the memory taken; 0: a quarter of what is free"
    )
    norm_anchor: bool = choice(False, "scale targets to the unedited model's norm of values (NAS)", (False, True))


@dataclass(frozen=True)
class Preserve:
    """What the update leaves alone: U and S of the design's one equation."""

    subspace: str = choice(
        "all", "U: all of key space, the null space of C, or the batch's strongest neurons", ("all", "null", "neurons")
    )
    gram: str = choice("C", "S without memory: lambda C, or L2 I", ("C", "identity"))
    slack: float = number(1.0, "s: 1 least squares, 0 equality constraint, a little above 0 a ridge")
    lambda_: float = number(2000.0, "weight of C against the new keys", positive=True)
    l2: float = number(10.0, "weight of the identity", positive=True)
    threshold: float = number(0.02, "null space: eigenvalues of C below this, or a fraction", positive=True)
    unit: str = choice(
        "absolute",
        "of the threshold: absolute, share of C's energy (trace), or share of d_key",
        ("absolute", "energy", "rank"),
    )
    neurons: float = number(0.8, "neurons: share of the batch's summed |k| they carry", high=1.0, positive=True)


@dataclass(frozen=True)
class Filter:
    """What becomes of a batch's change before it stays."""

    kind: str = choice(
        "none",
        "rect: keep the largest relative changes; prune: cap the cumulative change's spectrum",
        ("none", "rect", "prune"),
    )
    keep: float = number(0.4, "rect: share of entries kept", high=1.0, positive=True)
    base: float = number(1.2, "prune: base of the logarithm above the largest singular value", low=1.0001)


@dataclass(frozen=True)
class Rounds:
    """How often a batch is written, and which facts again (NSE, arXiv 2410.04045)."""

    count: int = number(1, "rounds of writing at most", low=1.0, high=100.0)
    lower: float = number(0.25, "facts whose missing residual is longer than this are written again, in units of |h|")
    upper: float = number(
        10.0, "facts whose missing residual is longer than this are given up, in units of |h|", positive=True
    )


@dataclass(frozen=True)
class FineTune:
    """The baselines' own update: gradient descent on one projection."""

    loss: str = choice(
        "all", "target tokens in their places, or all at the prompt's last token (FT-L)", ("all", "last")
    )
    learning_rate: float = number(5e-4, "Adam's step size", positive=True)
    epochs: int = number(25, "passes over the batch at most", low=1.0)
    minibatch: int = number(0, "facts a step; 0 means all")
    norm: float = number(0.0, "largest change of a weight; 0 means free")
    stop_loss: float = number(0.01, "finished when an epoch's mean loss is below this, in nats")
    seed: int = number(0, "of the order of facts")


@dataclass(frozen=True)
class Contexts:
    """The prefixes put before prompts when targets are optimised and keys are read."""

    kind: str = choice("neutral", "a fixed list of sentences, or text sampled from the model", ("neutral", "sampled"))
    count: int = number(5, "prefixes", high=100.0)
    seed: int = number(0, "of the sampling")


@dataclass(frozen=True)
class Recipe:
    """One method, ready to run.

    Attributes:
        name, paper: which one, and the link to its paper.
        about: one line for tables.
        use: when to choose it, one sentence.
        schedule: "spread", "boundary" (BLUE) or "single".
        share_power: shares are (layers left)^-power.
        update: "solve" (closed form) or "finetune" (the baselines).
        memory: whether keys of earlier batches are preserved.
        subjects: facts about one subject: "split" into successive batches, or "merge" into one optimisation.
        sequential: one fact after another (ROME) rather than a batch.
        layers: the critical layers, ascending; empty until a tuning fills them.
    """

    name: str
    paper: str = ""
    about: str = ""
    use: str = ""
    schedule: str = choice("spread", "which layers are written for which target", tuple(SCHEDULES))
    share_power: float = number(1.0, "shares of spread are (layers left)^-power", positive=True)
    update: str = choice("solve", "the closed form, or gradient descent on one projection", ("solve", "finetune"))
    memory: bool = choice(False, "preserve the keys of earlier batches", (False, True))
    subjects: str = choice(
        "split",
        "facts about one subject: in successive batches, or one target for all (MEMIT-Merge)",
        ("split", "merge"),
    )
    sequential: bool = choice(False, "one fact after another", (False, True))
    layers: tuple[int, ...] = field(
        default=(), metadata={"help": "critical layers, ascending, e.g. [4,5,6,7,8]", "layers": True}
    )
    objective: Objective = Objective()
    preserve: Preserve = Preserve()
    filter: Filter = Filter()
    rounds: Rounds = Rounds()
    finetune: FineTune = FineTune()
    contexts: Contexts = Contexts()

    def steps(self) -> tuple[Step, ...]:
        """The schedule over this recipe's layers."""
        return SCHEDULES[self.schedule](self.layers, self.share_power)

    @property
    def written(self) -> tuple[int, ...]:
        """Layers whose weight changes."""
        return tuple(sorted({step.layer for step in self.steps()}))

    def override(self, values: Mapping[str, Any], source: str = "--set") -> Recipe:
        """This recipe with fields replaced by path.

        Raises:
            RecipeError: unknown paths (close matches are suggested) or values out of range; all of them together.
        """
        faults: list[str] = []
        recipe = self
        known = dict(options())
        for path, value in values.items():
            if path not in known:
                faults.append(f"{source}: unknown option {path!r}; {did_you_mean(path, known)}")
                continue
            try:
                recipe = _with(recipe, path, _convert(path, value, known[path]))
            except ValueError as error:
                faults.append(f"{source}: {error}")
        if faults:
            raise RecipeError("\n".join(faults))
        return recipe

    def settings(self) -> dict[str, Any]:
        """All fields by path, as JSON can write them; `override` reads them back."""
        return {path: _get(self, path) for path, _ in options()}


def blue(recipe: Recipe) -> Recipe:
    """The same method with BLUE's schedule: only the boundary layers, each with its own target (arXiv 2502.03748)."""
    return replace(
        recipe, name=f"{recipe.name}-blue", schedule="boundary", about=f"{recipe.about}; boundary layers only"
    )


def options() -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """(path, field) of every option of a recipe."""
    for outer in dataclasses.fields(Recipe):
        if outer.name in ("name", "paper", "about", "use"):
            continue
        part = outer.default
        if dataclasses.is_dataclass(part):
            for inner in dataclasses.fields(part):
                yield f"{outer.name}.{inner.name.rstrip('_')}", inner
        else:
            yield outer.name, outer


def _names(path: str) -> list[str]:
    return ["lambda_" if name == "lambda" else name for name in path.split(".")]


def _get(recipe: Recipe, path: str) -> Any:
    value: Any = recipe
    for name in _names(path):
        value = getattr(value, name)
    return list(value) if isinstance(value, tuple) else value


def _with(recipe: Recipe, path: str, value: Any) -> Recipe:
    first, *rest = _names(path)
    if not rest:
        return replace(recipe, **{first: value})
    return replace(recipe, **{first: replace(getattr(recipe, first), **{rest[0]: value})})


def _convert(path: str, value: Any, spec: dataclasses.Field[Any]) -> Any:
    """`value` as the field wants it. Raises ValueError with a sentence when it cannot be."""
    meta = spec.metadata
    if meta.get("layers"):
        return _layers(path, value)
    if "choices" in meta:
        return _one_of(path, value, meta["choices"])
    kind = int if isinstance(spec.default, int) else float
    try:
        result = kind(value)
        if result == float("inf") or (kind is int and float(value) != result):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{path} must be {'a whole number' if kind is int else 'a number'}, not {value!r}") from None
    low, high = meta["low"], meta["high"]
    if not low <= result <= high or (meta["positive"] and result <= 0):
        bound = (
            "above 0"
            if meta["positive"]
            else f"at least {low:g}"
            if high == float("inf")
            else f"between {low:g} and {high:g}"
        )
        raise ValueError(f"{path} is {value}; it must be {bound}")
    return result


def _one_of(path: str, value: Any, choices: tuple[Any, ...]) -> Any:
    texts = {_choice_text(c): c for c in choices}
    key = _choice_text(value)
    if key not in texts:
        raise ValueError(f"{path} cannot be {value!r}; {did_you_mean(key, texts)}")
    return texts[key]


def _choice_text(value: Any) -> str:
    text = str(value).lower()
    return text.removesuffix(".0") if text.removesuffix(".0").isdigit() else text


def _layers(path: str, value: Any) -> tuple[int, ...]:
    parts = (
        re.split("[,+]", value.strip("[] "))  # a comma ends the option in a benchmark's NAME:option=value,...
        if isinstance(value, str)
        else list(value)
        if isinstance(value, (list, tuple))
        else [value]
    )
    try:
        layers = tuple(int(p) for p in parts if str(p).strip())
        if any(float(p) != layer for p, layer in zip((p for p in parts if str(p).strip()), layers, strict=True)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{path} must be whole numbers such as [4,5,6,7,8], not {value!r}") from None
    if not layers or list(layers) != sorted(set(layers)):
        raise ValueError(f"{path} must be one or more ascending layer numbers without repetition, not {value!r}")
    return layers
