"""Converting batches to JSON and tensors and back; reading what bluedit 0.1 wrote (format 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import torch

from bluedit.errors import PatchError
from bluedit.facts.records import fact_record, read_record
from bluedit.files import physical_memory
from bluedit.methods.filters import CapSpectrum, Filter, Sparsify
from bluedit.methods.preserve import Control
from bluedit.model.sites import Site
from bluedit.shapes import Float, Int, Tensor
from bluedit.writing.batch import Batch, Origin, Update

T = TypeVar("T")
_PARTS = ("R", "A", "keys", "reach")
_COLUMNS = "columns"
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_EXECUTION = ("objective.precision", "objective.tokens_per_step")  # were settings of a recipe in format 1


def batch_record(batch: Batch) -> dict[str, Any]:
    """Everything about a batch but its factors, for JSON."""
    origin = batch.origin
    return {
        "facts": [fact_record(fact) for fact in batch.facts],
        "held": [fact_record(fact) for fact in batch.held],
        "updates": [
            {"layer": u.layer, "norm": u.norm, "mean_reach": u.mean_reach if len(u.reach) else None}
            for u in batch.updates
        ],
        "filters": [{"kind": f.kind, **asdict(f)} for f in batch.filters],
        "origin": {
            "recipe": origin.recipe,
            "paper": origin.paper,
            "settings": dict(origin.settings),
            "tuning": origin.tuning,
            "prefixes": list(origin.prefixes),
            "norms": {f"{site.kind} {site.layer}": norm for site, norm in origin.norms.items()},
            "control": {str(layer): asdict(found) for layer, found in origin.control.items()},
            "about": dict(origin.about),
            "report": None if origin.report is None else dict(origin.report),
        },
        **({} if batch.guard is None else {"guard": dict(batch.guard)}),
    }


def batch_tensors(batch: Batch) -> dict[str, Tensor]:
    """The factors of a batch by name.

    Later rounds of a batch write few of its columns: those are stored with their indices. Updates of one layer have the same keys, which
    are stored once.
    """
    found: dict[str, Tensor] = {}
    keys: dict[int, Tensor] = {}  # by layer, those that are stored
    for i, update in enumerate(batch.updates):
        parts = {part: getattr(update, part) for part in _PARTS}
        columns = _written(update)
        if len(update.reach) and len(columns) < len(update.reach):
            parts |= {"R": update.R[:, columns], "A": update.A[columns], _COLUMNS: columns}
        if update.layer in keys and torch.equal(keys[update.layer], update.keys):
            del parts["keys"]
        else:
            keys[update.layer] = update.keys
        found |= {f"{i}.{part}": tensor.detach().cpu().contiguous().clone() for part, tensor in parts.items()}
    return found


def _written(update: Update) -> Int[Tensor, "written"]:
    """Indices of the columns that have a number other than +0."""
    R, A = update.R.detach(), update.A.detach()
    return (((R != 0) | R.signbit()).any(dim=0) | ((A != 0) | A.signbit()).any(dim=1)).nonzero().flatten()


def read_batch(record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Batch:
    """A batch from its record and factors. Raises ValueError, KeyError, TypeError or a BluEditError when they do not fit."""
    origin = record["origin"]
    return Batch(
        tuple(read_record(dict(fact)) for fact in record["facts"]),
        read_updates([row["layer"] for row in record["updates"]], tensors),
        tuple(map(_read_filter, record["filters"])),
        Origin(
            _typed(str, origin, "recipe"),
            _typed(str, origin, "paper"),
            _typed(dict, origin, "settings"),
            _typed(str, origin, "tuning"),
            tuple(_typed(str, origin["prefixes"], i) for i in range(len(_typed(list, origin, "prefixes")))),
            _read_norms(origin["norms"]),
            _typed(dict, origin, "about"),
            None if origin["report"] is None else _typed(dict, origin, "report"),
            _read_control(origin.get("control", {})),
        ),
        tuple(read_record(dict(fact)) for fact in record["held"]),
        None if record.get("guard") is None else _typed(dict, record, "guard"),
    )


def read_updates(layers: Sequence[Any], tensors: Mapping[str, Tensor]) -> tuple[Update, ...]:
    """The updates of these layers, in order. Raises ValueError or KeyError when the tensors do not fit."""
    found: list[Update] = []
    keys: dict[int, Tensor] = {}
    for i, layer in enumerate(layers):
        if type(layer) is not int:
            raise ValueError(f"the layer of factors {i} is {layer!r}")
        parts = dict(zip(_PARTS, _read(str(i), tensors, keys.get(layer)), strict=True))
        found.append(Update(layer, **parts))
        keys[layer] = parts["keys"]
    return tuple(found)


def _read(name: str, tensors: Mapping[str, Tensor], keys: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """R, A, keys and reach of one update; `keys` are those of the layer's last one."""
    R, A, reach = (tensors[f"{name}.{part}"] for part in ("R", "A", "reach"))
    own = tensors[f"{name}.keys"] if keys is None else tensors.get(f"{name}.keys", keys)
    shapes = [tuple(part.shape) for part in (R, A, own, reach)]
    columns = tensors.get(f"{name}.{_COLUMNS}")
    fitting = R.dim() == A.dim() == own.dim() == 2 and reach.dim() == 1
    rank = len(reach) if columns is not None else R.shape[-1]
    if not fitting or R.shape[1] != A.shape[0] or own.shape[0] != A.shape[1] or len(reach) not in (0, rank):
        raise ValueError(f"factors {name} have shapes {', '.join(map(str, shapes))}")
    for part, tensor in zip(_PARTS, (R, A, own, reach), strict=True):
        if tensor.dtype not in _DTYPES:
            raise ValueError(f"factor {name}.{part} is of type {tensor.dtype}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"factor {name}.{part} holds numbers that are not finite")
    if columns is not None:
        R, A = _spread(name, R, A, columns, rank)
    return R, A, own, reach


def _spread(
    name: str, R: Float[Tensor, "d_value m"], A: Float[Tensor, "m d_key"], columns: Tensor, rank: int
) -> tuple[Tensor, Tensor]:
    """Factors with zeros for the columns that are not stored."""
    order = columns.dtype == torch.int64 and columns.shape == (R.shape[1],) and bool((columns.diff() > 0).all())
    if not order or any(not 0 <= int(end) < rank for end in columns[[0, -1] if len(columns) else []]):
        raise ValueError(f"the columns of factors {name} are not indices below {rank} in ascending order")
    if (len(R) + A.shape[1]) * rank * R.element_size() > physical_memory():
        raise ValueError(f"factors {name} have {rank} columns, which do not fit into memory")
    return R.new_zeros(len(R), rank).index_copy_(1, columns, R), A.new_zeros(rank, A.shape[1]).index_copy_(
        0, columns, A
    )


def _typed(kind: type[T], holder: Any, key: str | int) -> T:
    value = holder[key]
    if not isinstance(value, kind):
        raise ValueError(f"{key} is of type {type(value).__name__}")
    return value


def _read_filter(record: Mapping[str, Any]) -> Filter:
    kind = record["kind"]
    if kind not in Filter.choices:
        raise PatchError(
            f"it needs the filter {kind!r}, which is not known here; import the module that defines it first"
        )
    return Filter.choices[kind](**{name: value for name, value in record.items() if name != "kind"})  # pyright: ignore[reportReturnType]


def _read_norms(record: Mapping[str, float]) -> dict[Site, float]:
    return {Site(kind, int(layer)): float(norm) for place, norm in record.items() for kind, layer in [place.split()]}


def _read_control(record: Mapping[str, Any]) -> dict[int, Control]:
    return {int(layer): Control(float(found["weight"]), float(found["drift"])) for layer, found in record.items()}


def read_first_format(
    manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], tuple[Batch, ...]]:
    """(base, batches) of a patch of format 1, which had one origin for all batches."""
    base = {
        name: manifest[name] for name in ("model", "fingerprint", "dtype", "leading_special_token") if name in manifest
    }
    norms = {place: norm for found in manifest.get("norms", {}).values() for place, norm in found.items()}
    names = ("modules", "statistics", "free_dimensions", "seconds", "versions", "created")
    origin = Origin(
        manifest.get("recipe", ""),
        manifest.get("paper", ""),
        {path: value for path, value in manifest.get("settings", {}).items() if path not in _EXECUTION},
        "",
        tuple(manifest.get("prefixes", ())),
        _read_norms(norms),
        {name: manifest[name] for name in names if name in manifest},
        manifest.get("report"),
    )
    batches = []
    for i, entry in enumerate(manifest["batches"]):
        own = {name.removeprefix(f"{i}."): one for name, one in tensors.items() if name.startswith(f"{i}.")}
        updates = read_updates([row["layer"] for row in entry["updates"]], own)
        facts = tuple(read_record(dict(fact)) for fact in entry["facts"])
        batches.append(Batch(facts, updates, _read_first_filter(entry.get("filter", {})), origin))
    return base, tuple(batches)


def _read_first_filter(record: Mapping[str, Any]) -> tuple[Filter, ...]:
    kinds = {
        "none": (),
        "rect": (Sparsify(keep=record.get("keep", 0.4)),),
        "prune": (CapSpectrum(base=record.get("base", 1.2)),),
    }
    return kinds[record.get("kind", "none")]
