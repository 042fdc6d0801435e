"""Shared by the commands: options, reading facts and settings, and opening a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bluedit.cli.output import progress
from bluedit.errors import BenchmarkError, BluEditError, FactError, ModelError, RecipeError
from bluedit.facts import formats
from bluedit.options import whole_number

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor
    from bluedit.editing.patch import Patch
    from bluedit.execution import Execution
    from bluedit.model.editable import EditableModel

# sections of a command's help
NOT_LEARNED = 10  # exit code of an edit after which the model does not say every fact
FACTS, METHOD, MODEL, STATISTICS, SPEED, RESULT = (
    "Facts",
    "Method",
    "Model",
    "Key statistics",
    "Speed and memory",
    "Result",
)

SOURCE = "A file of facts (JSON, JSONL, CSV or a data set's own file, see docs/facts.md), hf:DATASET, or world:N for N bundled facts."
Format = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"Format of the file, if it is not recognised: {', '.join(sorted(formats()))}.",
        rich_help_panel=FACTS,
    ),
]
BadRecords = Annotated[
    str,
    typer.Option(
        metavar="refuse|skip",
        help="What to do about records that cannot be used: refuse the file, or skip them with a warning.",
        rich_help_panel=FACTS,
    ),
]
Limit = Annotated[
    int | None, typer.Option(metavar="N", help="Read at most N records.", rich_help_panel=FACTS, show_default=False)
]
Skip = Annotated[int, typer.Option(metavar="N", help="Skip the first N records.", rich_help_panel=FACTS)]
Seed = Annotated[
    int, typer.Option(metavar="N", help="Random seed for the choice of bundled facts.", rich_help_panel=FACTS)
]

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="smollm2 (built in), a Hugging Face folder, a .gguf file, or a hub id.",
        rich_help_panel=MODEL,
    ),
]
PatchedModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="smollm2 (built in), a Hugging Face folder, a .gguf file, or a hub id. Default: the model that the patch names, or smollm2.",
        rich_help_panel=MODEL,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        help="Type of the weights: float32, bfloat16, float16 or float64. Default: the patch's, or as stored.",
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help="A torch device such as cpu or cuda:1; auto is the first GPU if there is one.",
        rich_help_panel=MODEL,
    ),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run the Python code that comes with the model. Only for models you trust.",
        rich_help_panel=MODEL,
    ),
]
AllowMissed = Annotated[
    bool,
    typer.Option(
        "--allow-missed",
        help=f"Exit with 0 even if the model does not say every fact afterwards. Otherwise the exit code is {NOT_LEARNED}.",
        rich_help_panel=RESULT,
    ),
]
OtherWeights = Annotated[
    bool,
    typer.Option(
        "--force", help="Use the patch even if it was made for other weights than these.", rich_help_panel=MODEL
    ),
]

Corpus = Annotated[
    str,
    typer.Option(
        metavar="TEXT",
        help="Text to compute key statistics from: self (sampled from the model), a file or folder, or hf:DATASET.",
        rich_help_panel=STATISTICS,
    ),
]
Tokens = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="How many tokens of that text to use. Default: 10 x d_key.", rich_help_panel=STATISTICS
    ),
]

Precision = Annotated[
    str,
    typer.Option(
        metavar="auto|full|bf16",
        help="Precision of matrix products while targets are optimised. auto: bf16 where the device computes in it natively.",
        rich_help_panel=SPEED,
    ),
]
TokensPerStep = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Tokens optimised at once; fewer take less memory. 0: as many as fit into a quarter of the free memory.",
        rich_help_panel=SPEED,
    ),
]
StatisticsDevice = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help="Device for key statistics, e.g. cpu. Default: the model's device.",
        rich_help_panel=SPEED,
        show_default=False,
    ),
]


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 fact", "2 facts"."""
    return f"{number} {noun}{'' if number == 1 else 'es' if noun.endswith('ch') else 's'}"


def execution_of(precision: str, tokens_per_step: int, statistics_device: str) -> Execution:
    """--precision, --tokens-per-step and --statistics-device. Raises RecipeError for a wrong value."""
    from bluedit.execution import Execution

    try:
        return Execution(precision, tokens_per_step, statistics_device)
    except RecipeError as error:
        raise RecipeError(with_options(str(error))) from None


def with_options(message: str) -> str:
    """A message of the library with the names of options of the command line instead of Python's."""
    return re.sub(r"\bexecution\.(\w+)", lambda found: "--" + found[1].replace("_", "-"), message)


def check_place(place: Path, error: type[BluEditError]) -> None:
    """Raises an error if a result cannot be written to a place: before the model is loaded, not after."""
    from bluedit.places import check_writable

    try:
        check_writable(place)
    except OSError as fault:
        raise error(f"cannot write {place}: {fault.strerror or fault}; choose another place") from fault


def load_model(model: str, dtype: str | None, device: str, trust_remote_code: bool) -> EditableModel:
    """The model of --model. Raises ModelError if it cannot be loaded or edited."""
    from bluedit.model.loading import load

    return load(model, dtype=dtype, device=device, trust_remote_code=trust_remote_code, progress=progress())


def load_editor(model: str, dtype: str | None, device: str, trust_remote_code: bool, **options: Any) -> Editor:
    """An editor of the model of --model; the other options are the editor's."""
    from bluedit.editing.editor import Editor

    return Editor(load_model(model, dtype, device, trust_remote_code), progress=progress(), **options)


def load_patched(
    patch: Patch | None, model: str | None, dtype: str | None, device: str, trust_remote_code: bool, **options: Any
) -> Editor:
    """An editor of the model of --model; without it, of the one that a patch names. Its type is the patch's. The patch is not applied.

    Raises:
        ModelError: the model cannot be loaded or edited, or its code is to be run and only the patch says which model that is.
    """
    from bluedit.editing.patch import UNKNOWN

    named = patch.base.model if patch else UNKNOWN
    if patch and patch.base.dtype != UNKNOWN:
        dtype = dtype or patch.base.dtype
    if model or named == UNKNOWN:
        return load_editor(model or "smollm2", dtype, device, trust_remote_code, **options)
    if trust_remote_code:
        raise ModelError(
            f"the patch names the model {named!r}, and its code would run; name the model that you trust with --model"
        )
    try:
        return load_editor(named, dtype, device, trust_remote_code, **options)
    except ModelError as error:
        raise ModelError(f"{error}. The patch names this model; if it is elsewhere, say where with --model") from error


def gather(
    fact: list[str] | None,
    source: str | None,
    format: str | None,
    limit: int | None,
    skip: int,
    seed: int,
    bad_records: str = "refuse",
) -> list[Any]:
    """The facts of --fact (a line, or a JSON object) and --facts together."""
    from bluedit.facts import fact_from_line

    found = [fact_from_line(line) for line in fact or ()]
    if source:
        found += read_source(source, format, limit, skip, seed, bad_records)
    if not found:
        raise FactError("no facts were given; use --fact 'The capital of {France} is => Rome' or --facts FILE")
    return found


def read_source(
    source: str, format: str | None, limit: int | None, skip: int, seed: int, bad_records: str = "refuse"
) -> list[Any]:
    """The facts of a file, or bundled ones ("world:20")."""
    from bluedit.facts import read_facts, world_facts
    from bluedit.facts.readers import check_bad_records, check_range

    kind, _, number = source.partition(":")
    if kind != "world":
        return read_facts(source, format=format, limit=limit, skip=skip, bad_records=bad_records)
    most = whole_number(number)
    if number and most is None:
        raise FactError(f"{source!r} does not end in a number; write for example world:20 for 20 bundled facts")
    check_range(limit, skip)
    check_bad_records(bad_records)
    bounds = [bound for bound in (most, limit) if bound is not None]
    if skip and bounds:  # fewer may be left, as in a file
        return world_facts(seed=seed)[skip:][: min(bounds)]
    return world_facts(min(bounds, default=None), seed=seed)[skip:]


def numbers_of(text: str, kind: type[int] | type[float], option: str) -> tuple[Any, ...]:
    """The numbers of an option such as --at 100,300. Raises BenchmarkError for anything else."""
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError:
        example = "100,300,1000" if kind is int else "0.5,0.75,1"
        raise BenchmarkError(
            f"{option} {text!r} is not a list of numbers; write for example {option} {example}"
        ) from None


def settings_of(pairs: list[str] | None, option: str = "--set") -> dict[str, str]:
    """--set option=value, ... as a mapping. Raises RecipeError for a pair of another form."""
    settings = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value.strip():
            example = "preserve.lambda=500" if option == "--set" else "sst2=items.jsonl"
            raise RecipeError(f"{option} {pair!r} is not of the form option=value, e.g. {option} {example}")
        settings[key.strip()] = value.strip()
    return settings
