"""The readers that `fuzz.py` tries, each with a strategy of inputs and what must hold for every one of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import load, save

from bluedit.benchmark.page import write_page
from bluedit.benchmark.reading import read_benchmark
from bluedit.cli.patch_tables import patch_tables
from bluedit.editing._batch_record import batch_record, batch_tensors
from bluedit.editing.patch import Patch
from bluedit.errors import BluEditError
from bluedit.export.gguf_file import GgufFile
from bluedit.facts import Fact, read_facts, write_facts
from bluedit.facts.formats import FORMATS
from bluedit.facts.records import fact_from_line
from bluedit.files import json_digest, with_digest
from bluedit.maths.moment import SecondMoment
from bluedit.statistics._moment_file import read_moment, write_moment
from bluedit.tensors import UNREADABLE, read_tensors, write_tensors
from damage import apply, as_text, bytes_changes, changed_json, json_changes, texts
from showing import is_shown, show
from sound import RECORDS, benchmark, gguf_file, patch


class Wrong(AssertionError):
    """An input was taken for what it is not."""


@dataclass
class Target:
    """A reader and the input that it gets.

    Attributes:
        inputs: strategy of inputs.
        check: reads one; returns whether it was accepted. Raises BluEditError when it is refused, Wrong, or whatever the reader raises.
        share: of --count that is run; readers that take long get fewer.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], bool]
    share: float = 1.0


def facts_target(place: Path) -> Target:
    """Files of facts in every format, as JSON, JSONL or CSV."""
    options = st.fixed_dictionaries(
        {
            "format": st.sampled_from([None, None, None, *(f.name for f in FORMATS), "mzsre:fi"]),
            "bad_records": st.sampled_from(("refuse", "skip")),
        }
    )
    of_json = st.builds(
        _fact_text, st.sampled_from(sorted(RECORDS)), json_changes, st.sampled_from((".json", ".jsonl", ".csv", ".txt"))
    )
    anything = st.tuples(
        st.sampled_from((".json", ".jsonl", ".csv", "")),
        (texts.map(lambda t: t.encode("utf-8", "surrogatepass"))) | st.binary(max_size=50),
    )
    damaged = st.builds(lambda file, changes: (file[0], apply(changes, file[1])), of_json, bytes_changes)

    def check(given_: Any) -> bool:
        (suffix, data), how = given_
        file = place / f"facts{suffix}"
        file.write_bytes(data)
        found = read_facts(file, **how)
        write_facts(place / "again.jsonl", found)
        if read_facts(place / "again.jsonl") != found:
            raise Wrong("facts that were written are read as others")
        return True

    return Target("facts: files", st.tuples(of_json | damaged | anything, options), check)


def _fact_text(kind: str, changes: list[Any], suffix: str) -> tuple[str, bytes]:
    record = changed_json([RECORDS[kind], RECORDS[kind]], changes)
    rows = record if isinstance(record, list) else [record]
    if suffix == ".csv" or kind == "csv":
        out, dicts = io.StringIO(), [row for row in rows if isinstance(row, dict)]
        writer = csv.DictWriter(out, list(dict.fromkeys(key for row in dicts for key in row)))
        writer.writeheader()
        writer.writerows(dicts)
        text = out.getvalue()
    else:
        text = as_text(record) if suffix == ".json" else "\n".join(map(as_text, rows))
    return suffix, text.encode("utf-8", "surrogatepass")


def line_target() -> Target:
    """Facts in one line."""
    parts = st.lists(
        texts | st.sampled_from(("The capital of ", "{France}", " is ", "=> ", "Rome", json.dumps(RECORDS["bluedit"]))),
        max_size=8,
    )

    def check(line: str) -> bool:
        found, refusals = [], []
        for how in (Fact.parse, fact_from_line):
            try:
                found.append(how(line))
            except BluEditError as error:
                str(error).encode("utf-8", "replace")
                refusals.append(error)
        if not found:
            raise refusals[0]
        return True

    lines = (
        parts.map("".join)
        | st.tuples(st.sampled_from(("{a}", "{", "=>", "\\{", "{a} => b")), st.sampled_from((50, 16000))).map(
            lambda pair: pair[0] * pair[1]
        )
        | json_changes.map(lambda changes: as_text(changed_json(RECORDS["bluedit"], changes)))
    )
    return Target("facts: one line", lines, check)


def _all_of(found: Patch) -> str:
    """Everything that a patch says."""
    said = [found.base, found.state, found.layers]
    for batch in found.batches:
        tensors = {
            name: (str(t.dtype), tuple(t.shape), t.reshape(-1).view(torch.uint8).numpy().tobytes())
            for name, t in batch_tensors(batch).items()
        }
        said += [batch_record(batch), tensors]
    return hashlib.sha256(repr(said).encode("utf-8", "surrogatepass")).hexdigest()


def _digest(*data: bytes) -> str:
    return hashlib.blake2b(b"".join(data), digest_size=8).hexdigest()


def patch_targets(place: Path) -> list[Target]:
    """The three kinds of files of a patch, damaged and forged."""
    folder = patch().save(place / "patch")
    whole = _all_of(Patch.load(folder))
    names = {
        name: sorted(folder.glob(glob))[0]
        for name, glob in (("manifests", "manifest.json"), ("batch records", "0*.json"), ("factors", "*.safetensors"))
    }

    def damaged(file: Path) -> Target:
        sound = file.read_bytes()

        def check(changes: Any) -> bool:
            file.write_bytes(
                apply(changes, sound) if not isinstance(changes, str) else changes.encode("utf-8", "surrogatepass")
            )
            try:
                if _all_of(Patch.load(folder)) != whole:
                    raise Wrong("a patch that was changed is read as another one")
            finally:
                file.write_bytes(sound)
            return True

        inputs = bytes_changes
        if file.suffix == ".json":
            said = json.loads(sound)
            inputs |= json_changes.map(lambda changes: as_text(changed_json(said, changes)))
        return Target("", inputs, check)

    targets = []
    for name, file in names.items():
        found = damaged(file)
        found.name = f"patch: {name}"
        targets.append(found)
    manifest, record, factors = (names[name].read_bytes() for name in ("manifests", "batch records", "factors"))
    return [
        *targets,
        Target(
            "patch: forged manifests",
            json_changes,
            _forged(place / "forged-manifest", json.loads(manifest), record, factors),
        ),
        Target("patch: forged records", json_changes, _forged(place / "forged-record", None, record, factors)),
        Target("patch: forged factors", _tensors(load(factors)), _forged_factors(place / "forged-factors", record)),
    ]


def _use(folder: Path) -> bool:
    """Load a patch and show it, as `bluedit show --details` does."""
    found = Patch.load(folder)
    if is_shown(_all_of(found)):
        show(*patch_tables(found, details=True))
    return True


def _write_forged(folder: Path, record: bytes, factors: bytes, manifest: Any = None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    name = f"0000-{_digest(record, factors)}"
    (folder / f"{name}.json").write_bytes(record)
    (folder / f"{name}.safetensors").write_bytes(factors)
    manifest = manifest(name) if manifest else {"format": 2, "base": {}, "batches": [name]}
    if isinstance(manifest, dict):
        manifest = {**manifest, "digest": json_digest(manifest)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _forged(folder: Path, manifest: Any, record: bytes, factors: bytes) -> Callable[[Any], bool]:
    def check(changes: Any) -> bool:
        if manifest is None:
            data = as_text(changed_json(json.loads(record), changes)).encode("utf-8", "surrogatepass")
            _write_forged(folder, data, factors)
        else:
            _write_forged(folder, record, factors, lambda name: changed_json({**manifest, "batches": [name]}, changes))
        return _use(folder)

    return check


def _tensors(sound: dict[str, torch.Tensor]) -> st.SearchStrategy[dict[str, torch.Tensor]]:
    """Tensors of which some have another type, shape, or numbers that are none."""
    dtypes = (
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.bool,
        torch.uint8,
        torch.complex64,
        torch.float8_e4m3fn,
    )
    values = st.sampled_from((float("nan"), float("inf"), -float("inf"), 0.0, 1e38, -1.0))
    changes: dict[str, Callable[[torch.Tensor, Any, Any], torch.Tensor | None]] = {
        "type": lambda t, dtype, _value: t.to(dtype),
        "fill": lambda t, _dtype, value: torch.full(t.shape, value).to(t.dtype),
        "shape": lambda t, _dtype, _value: t.T.contiguous(),
        "flat": lambda t, _dtype, _value: t.reshape(-1),
        "none": lambda _t, _dtype, _value: None,
        "empty": lambda t, _dtype, _value: t[:0] if t.dim() else t,
        "scalar": lambda t, _dtype, _value: t.reshape(-1)[0].clone() if t.numel() else t,
        "wide": lambda t, _dtype, _value: t.repeat(*[2] * t.dim()) if t.dim() else t,
    }

    def made(drawn: list[tuple[str, str, Any, Any]]) -> dict[str, torch.Tensor]:
        found: dict[str, Any] = {name: tensor.clone() for name, tensor in sound.items()}
        for name, change, dtype, value in drawn:
            if found.get(name) is not None:
                found[name] = changes[change](found[name], dtype, value)
        return {name: tensor.contiguous() for name, tensor in found.items() if tensor is not None}

    one = st.tuples(st.sampled_from(sorted(sound)), st.sampled_from(sorted(changes)), st.sampled_from(dtypes), values)
    return st.lists(one, min_size=1, max_size=4).map(made)


def _forged_factors(folder: Path, record: bytes) -> Callable[[Any], bool]:
    def check(tensors: Any) -> bool:
        _write_forged(folder, record, save(tensors))
        return _use(folder)

    return check


def statistics_targets(place: Path) -> list[Target]:
    """Second moments, and the tensors of partial sums and stored targets."""
    matrix = torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    identity = {"format": 2, "weights": "0", "tokenizer": "0", "corpus": "0", "tokens": 100}
    moment, sums = place / "moment.safetensors", place / "sums.safetensors"
    write_moment(moment, SecondMoment(matrix @ matrix.T, 100, 3), identity, torch.float64)
    write_tensors(sums, {"1": matrix, "2": matrix + 1, "steps": torch.arange(3)}, {"rows": "7"})
    wanted = read_moment(moment, identity, 3, 8, torch.device("cpu"))
    tensors, metadata = read_tensors(sums)

    def check_moment(changes: Any) -> bool:
        file = place / "damaged-moment.safetensors"
        file.write_bytes(apply(changes, sound_moment))
        found = read_moment(file, identity, 3, 8, torch.device("cpu"))
        if not (
            torch.equal(found.matrix, wanted.matrix) and (found.tokens, found.layer) == (wanted.tokens, wanted.layer)
        ):
            raise Wrong("statistics that were changed are read as others")
        return True

    def check_sums(changes: Any) -> bool:
        file = place / "damaged-sums.safetensors"
        file.write_bytes(apply(changes, sound_sums))
        try:
            found, about = read_tensors(file)
        except UNREADABLE as error:  # the readers of these compute them again
            raise BluEditError(str(error)) from error
        if (
            about != metadata
            or found.keys() != tensors.keys()
            or not all(torch.equal(found[n], tensors[n]) for n in tensors)
        ):
            raise Wrong("sums or targets that were changed are read as others")
        return True

    sound_moment, sound_sums = moment.read_bytes(), sums.read_bytes()
    return [
        Target("statistics", bytes_changes, check_moment),
        Target("partial sums, targets", bytes_changes, check_sums),
    ]


def benchmark_targets(place: Path) -> list[Target]:
    """The files of a benchmark's folder, damaged and forged."""
    folder, forged = place / "benchmark", place / "forged-benchmark"
    for one in (folder, forged):
        benchmark(one)
    sound = {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.json"))}
    said = {name: {k: v for k, v in json.loads(data).items() if k != "digest"} for name, data in sound.items()}
    whole = repr(read_benchmark(folder))

    @contextmanager
    def written(root: Path, name: str, data: bytes) -> Iterator[None]:
        (root / name).write_bytes(data)
        try:
            yield
        finally:
            (root / name).write_bytes(sound[name])

    def check(given_: Any) -> bool:
        name, changes = given_
        data = apply(changes, sound[name])
        with written(folder, name, data):
            # a record without a digest counts as an earlier version's
            if repr(read_benchmark(folder)) != whole and b'"digest"' in data:
                raise Wrong(f"{name} was changed and is read as something else")
        return True

    def check_forged(given_: Any) -> bool:
        name, changes = given_
        value = changed_json(said[name], changes)
        try:
            text = as_text(with_digest(value) if isinstance(value, dict) else value)
        except ValueError:  # not JSON that can have a digest
            text = as_text(value)
        with written(forged, name, text.encode("utf-8", "surrogatepass")):
            if is_shown(repr(read_benchmark(forged))):
                write_page([forged], place / "page.html")
        return True

    name = st.sampled_from(sorted(sound))
    return [
        Target("benchmark folders", st.tuples(name, bytes_changes), check),
        Target("forged benchmark folders", st.tuples(name, json_changes), check_forged),
    ]


def gguf_targets(place: Path) -> list[Target]:
    """Headers of GGUF files: bluedit's own reader, and the conversion by transformers, which takes seconds and gets fewer inputs."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from bluedit.model._gguf import converted
    from toys import toy_llama, toy_tokenizer

    sound = gguf_file(place / "toy.gguf", toy_llama(dtype=torch.float32, layers=1), toy_tokenizer()).read_bytes()
    converted(place / "toy.gguf")
    header = 20000  # bytes in front of the weights, of which those that are not strings of the vocabulary are hit most

    def damaged(given_: Any) -> bytes:
        front, changes = given_
        length = min(front, header)
        return apply(changes, sound[:length]) + sound[length:]

    inputs = st.tuples(st.sampled_from((32, 400, 900, header)), bytes_changes)

    def check(given_: Any) -> bool:
        file = place / "damaged.gguf"
        file.write_bytes(damaged(given_))
        found = GgufFile(file)
        _ = found.architecture, found.tensors, [found.shape(name) for name in found.tensors]
        return True

    def check_conversion(given_: Any) -> bool:
        file = place / "converted.gguf"
        file.write_bytes(damaged(given_))
        shutil.rmtree(converted(file))
        return True

    return [Target("GGUF headers", inputs, check), Target("GGUF files, converted", inputs, check_conversion, 0.02)]


def targets(place: Path) -> list[Target]:
    """All targets; their files are in `place`."""
    return [
        facts_target(place),
        line_target(),
        *patch_targets(place),
        *statistics_targets(place),
        *benchmark_targets(place),
        *gguf_targets(place),
    ]
