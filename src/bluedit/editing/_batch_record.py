"""Converting batches to JSON and tensors and back; reading what bluedit 0.1 wrote (format 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import torch

from bluedit.errors import PatchError
from bluedit.facts.records import fact_record, read_record
from bluedit.methods.filters import CapSpectrum, Filter, Sparsify
from bluedit.methods.preserve import Control
from bluedit.model.sites import Site
from bluedit.shapes import Tensor
from bluedit.writing.batch import Batch, Origin, Update

T = TypeVar("T")
_PARTS = ("R", "A", "keys", "reach")
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
    """The factors of a batch by name."""
    return {
        f"{i}.{part}": getattr(update, part).detach().cpu().contiguous().clone()
        for i, update in enumerate(batch.updates)
        for part in _PARTS
    }


def read_batch(record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Batch:
    """A batch from its record and factors. Raises ValueError, KeyError, TypeError or a BluEditError when they do not fit."""
    origin = record["origin"]
    return Batch(
        tuple(read_record(dict(fact)) for fact in record["facts"]),
        tuple(_read_update(str(i), row["layer"], tensors) for i, row in enumerate(record["updates"])),
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


def _read_update(name: str, layer: Any, tensors: Mapping[str, Tensor]) -> Update:
    R, A, keys, reach = (tensors[f"{name}.{part}"] for part in _PARTS)
    shapes = [tuple(part.shape) for part in (R, A, keys, reach)]
    fitting = R.dim() == A.dim() == keys.dim() == 2 and reach.dim() == 1
    if not fitting or R.shape[1] != A.shape[0] or keys.shape[0] != A.shape[1] or len(reach) not in (0, R.shape[1]):
        raise ValueError(f"factors {name} have shapes {', '.join(map(str, shapes))}")
    for part, tensor in zip(_PARTS, (R, A, keys, reach), strict=True):
        if tensor.dtype not in _DTYPES:
            raise ValueError(f"factor {name}.{part} is of type {tensor.dtype}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"factor {name}.{part} holds numbers that are not finite")
    if type(layer) is not int:
        raise ValueError(f"the layer of factors {name} is {layer!r}")
    return Update(layer, R, A, keys, reach)


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
        updates = tuple(_read_update(f"{i}.{j}", row["layer"], tensors) for j, row in enumerate(entry["updates"]))
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
