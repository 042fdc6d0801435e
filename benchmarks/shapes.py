"""Time and memory of an edit in the shapes of real models, with random weights: nothing is downloaded.

    PYTHONPATH=src python benchmarks/shapes.py --shape qwen2.5-0.5b --facts 2
    PYTHONPATH=src python benchmarks/shapes.py --shape llama-3-8b --facts 100 --dtype bfloat16 --device cuda

Prints one row of a table. What a random model says means nothing, but its arithmetic is that of the real one. Facts are the bundled ones, in
the tokens of a tokenizer that is trained on them here; a random model seldom reaches the stop loss, so every fact takes all steps.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from bluedit import Editor, Execution, Fact, Recipe, Trace, world_facts
from bluedit.maths.solve import solve
from bluedit.methods.objective import Objective
from bluedit.methods.preserve import Preserve
from bluedit.methods.update import ClosedForm
from bluedit.model.editable import EditableModel
from bluedit.model.precision import reduced_linears
from bluedit.model.sites import Site
from bluedit.model.state import frozen
from bluedit.text.contexts import sampled_prefixes
from bluedit.text.rows import Row
from bluedit.writing.target import Targets
from bluedit.writing.trace import Write
from speed import flops
from textbook import textbook_edit


def llama(
    width: int, key: int, depth: int, heads: int, groups: int, vocabulary: int, *, tied: bool, kind: Any = LlamaConfig
) -> PreTrainedConfig:
    return kind(
        hidden_size=width,
        intermediate_size=key,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=2048,
    )


SHAPES: dict[str, Callable[[], PreTrainedConfig]] = {
    "smollm2-135m": lambda: llama(576, 1536, 30, 9, 3, 49152, tied=True),
    "qwen2.5-0.5b": lambda: llama(896, 4864, 24, 14, 2, 151936, tied=True, kind=Qwen2Config),
    "tinyllama-1.1b": lambda: llama(2048, 5632, 22, 32, 4, 32000, tied=False),
    "llama-3.2-1b": lambda: llama(2048, 8192, 16, 32, 8, 128256, tied=True),
    "qwen2.5-1.5b": lambda: llama(1536, 8960, 28, 12, 2, 151936, tied=True, kind=Qwen2Config),
    "gpt2-xl": lambda: GPT2Config(n_embd=1600, n_layer=48, n_head=25),
    "llama-3-8b": lambda: llama(4096, 14336, 32, 32, 8, 128256, tied=False),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    parser.add_argument("--facts", type=int, default=2, help="facts in one batch")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["auto", "full", "bf16"], default="auto", help="of the optimisation")
    parser.add_argument("--recipe", default="memit-seq-blue")
    parser.add_argument("--layers", help="such as 4+8; default: the tuning's")
    parser.add_argument("--steps", type=int, help="steps of the optimisation; default: the tuning's")
    parser.add_argument("--tokens", type=int, help="tokens of the statistics; default: twice the width of a key")
    parser.add_argument("--textbook", action="store_true", help="one fact the textbook way, too (on the CPU)")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count processor seconds of one thread: for a machine that is shared"
    )
    return parser.parse_args()


@dataclass
class Clock(Trace):
    """Seconds of the phases of an edit, as a source of targets and a trace; it waits for the device before it looks at the time."""

    device: torch.device
    cpu_time: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    gflop: float = 0.0
    writes: list[Write] = field(default_factory=list)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if self.cpu_time else time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = self.now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - started

    def get(
        self, lm: EditableModel, rows: Sequence[Row], site: Site, objective: Objective, optimise: Callable[[], Targets]
    ) -> Targets:
        with self.phase("targets"):
            found = optimise()
        self.gflop += flops(lm, rows, site, objective, found) / 1e9
        return found

    def on_write(self, write: Write) -> None:
        self.writes.append(write)


def main() -> None:
    args = arguments()
    if args.cpu_time:
        torch.set_num_threads(1)
    print(table([measure(args)]), flush=True)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One edit of a random model; the seconds of its phases, the memory it took, and how fast matrix products are meanwhile."""
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(SHAPES[args.shape](), dtype=dtype).eval()
    facts, clock = world_facts(args.facts), Clock(device, args.cpu_time)
    with tempfile.TemporaryDirectory() as folder:
        editor = Editor(
            model,
            tokenizer_of(world_facts()),
            corpus=str(text_in(Path(folder))),
            tokens=args.tokens or 2 * model_key(model),
            statistics=folder,
            targets=clock,
            trace=clock,
            execution=Execution(precision=args.precision),
        )
        recipe = chosen_recipe(args, editor)
        with clock.phase("statistics"), frozen(editor.model):
            moments = editor.moments.get(recipe.written)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        with clock.phase("edit"):
            edit = editor.edit(facts, recipe, known="edit", report=False)
        assert isinstance(recipe.update, ClosedForm)
        seconds = clock.seconds | {"solve": solving(clock, recipe.update, moments)}
        result = {
            "shape": args.shape,
            "parameters": sum(p.numel() for p in model.parameters()),
            "dtype": args.dtype,
            "facts": len(facts),
            "layers": "+".join(map(str, recipe.written)),
            "steps": recipe.objective.steps,
            "tokens": editor.moments.budget,
            "seconds": seconds,
            "gflops": clock.gflop / clock.seconds["targets"],
            "peak": gemm_peak(clock, reduced_dtype(editor.lm, args.precision)),
            "memory_gib": memory_gib(device),
        }
        if args.textbook:
            edit.undo()
            result["textbook"] = textbook_seconds(editor, facts[0], recipe, clock)
    return result


def chosen_recipe(args: argparse.Namespace, editor: Editor) -> Recipe:
    settings: dict[str, Any] = {} if args.layers is None else {"layers": [int(n) for n in args.layers.split("+")]}
    if args.steps:
        settings["objective.steps"] = args.steps
    recipe = editor.recipe(args.recipe, settings)
    if not isinstance(recipe.update, ClosedForm):
        raise SystemExit(f"{recipe.name} is not a closed form; choose another recipe")
    return recipe


def model_key(model: Any) -> int:
    """Width of a key."""
    config = model.config
    return getattr(config, "intermediate_size", None) or 4 * config.hidden_size


def solving(clock: Clock, update: ClosedForm, moments: Any) -> float:
    """Seconds of factoring C and solving, done once more on the same keys."""
    preserve: Preserve = update.preserve
    started = clock.now()
    for write in clock.writes:
        operator = preserve.operator(moments[write.step.layer])
        solve(write.keys.to(moments[write.step.layer].matrix.device), operator, update.slack)
    return clock.now() - started


def textbook_seconds(editor: Editor, fact: Fact, recipe: Recipe, clock: Clock) -> float:
    """Seconds of one fact in the way of the papers' code, without its statistics."""
    prefixes = recipe.contexts.prefixes(lambda count, seed: sampled_prefixes(editor.lm, count, seed))
    started = clock.now()
    with frozen(editor.model):
        textbook_edit(editor.lm, [fact], recipe, prefixes, editor.moments.get(recipe.written))
    return clock.now() - started


def reduced_dtype(lm: EditableModel, precision: str) -> torch.dtype:
    """What the linear maps compute in while targets are optimised."""
    return lm.dtype if reduced_linears(lm, precision, ()) is None else torch.bfloat16


def gemm_peak(clock: Clock, dtype: torch.dtype, size: int = 2048) -> float:
    """GFLOP/s of square matrix products, in a second or so."""
    a = torch.randn(size, size, device=clock.device).to(dtype)
    a @ a
    started, count = clock.now(), 0
    while (spent := clock.now() - started) < 1.0:
        for _ in range(20 if clock.device.type == "cuda" else 1):
            a @ a
            count += 1
    return 2 * size**3 * count / spent / 1e9


def memory_gib(device: torch.device) -> float:
    """The most memory taken: of the process, or of the device by the edit."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def tokenizer_of(facts: Sequence[Fact]) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer whose tokens are mostly the words of these facts, as a large one's would be."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=8000, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((f"{fact.text} {fact.target}" for fact in facts), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def text_in(folder: Path) -> Path:
    """A file of the words of the bundled facts in random order, far more than statistics ask for."""
    words = [word for fact in world_facts() for word in f"{fact.text} {fact.target}".split()]
    draw = random.Random(0)
    file = folder / "text.txt"
    file.write_text("\n\n".join(" ".join(draw.choices(words, k=200)) for _ in range(1000)), encoding="utf-8")
    return file


COLUMNS = (
    "shape",
    "parameters",
    "dtype",
    "facts",
    "layers",
    "steps",
    "s/edit",
    "targets",
    "solve (batch)",
    "statistics",
)
COLUMNS += ("GFLOP/s of the peak", "peak memory", "textbook, s/edit")


def table(results: Sequence[dict[str, Any]]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for r in results:
        seconds, count = r["seconds"], r["facts"]
        cells = [r["shape"], f"{r['parameters'] / 1e9:.2f} B", r["dtype"], count, r["layers"], r["steps"]]
        cells += [f"{seconds['edit'] / count:.2f}", f"{seconds['targets'] / count:.2f}", f"{seconds['solve']:.2f}"]
        cells += [f"{seconds['statistics']:.1f} s for {r['tokens']} tokens"]
        cells += [f"{r['gflops']:.0f} of {r['peak']:.0f} ({r['gflops'] / r['peak']:.0%})", f"{r['memory_gib']:.1f} GiB"]
        cells += [f"{r['textbook']:.1f}" if "textbook" in r else ""]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
