"""Patches of format 1, as bluedit 0.1 wrote them, are read, applied and continued."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from editing_help import OTHER, bits, edit, make_editor, same_bits, same_patch
from safetensors.torch import save

from bluedit import Patch
from bluedit.errors import PatchError
from bluedit.facts.records import fact_record
from bluedit.methods.filters import CapSpectrum, Sparsify
from toys import FACTS, files_in


def write_first_format(patch: Patch, folder: Path, kept: dict | None = None) -> Path:
    """Write a patch as version 0.1 did: one file of factors, one manifest, one origin (the last edit's) for all batches."""
    tensors = {
        f"{i}.{j}.{part}": getattr(update, part).contiguous().clone()
        for i, batch in enumerate(patch.batches)
        for j, update in enumerate(batch.updates)
        for part in ("R", "A", "keys", "reach")
    }
    data = save(tensors)
    name = f"factors-{hashlib.blake2b(data, digest_size=8).hexdigest()}.safetensors"
    origin = patch.batches[-1].origin
    info = {
        "model": patch.base.model,
        "fingerprint": patch.base.fingerprint,
        "dtype": patch.base.dtype,
        "modules": dict(origin.about["modules"]),
        "recipe": origin.recipe,
        "paper": origin.paper,
        "settings": {**origin.settings, "objective.precision": "auto", "objective.tokens_per_step": 0},
        "tuning": "measured here: docs/tuning.md",
        "prefixes": list(origin.prefixes),
        "leading_special_token": patch.base.leading_special_token,
        "statistics": dict(origin.about["statistics"]),
        "free_dimensions": dict(origin.about["free_dimensions"]),
        "norms": {"0123456789ab": {f"{site.kind} {site.layer}": norm for site, norm in origin.norms.items()}},
        "seconds": 1.5,
        "versions": {"bluedit": "0.1.0"},
        "created": "2026-01-01T00:00:00Z",
        "report": None if origin.report is None else dict(origin.report),
    }
    batches = [
        {
            "facts": [fact_record(fact) for fact in batch.facts],
            "updates": [{"layer": u.layer, "norm": u.norm, "mean_reach": u.mean_reach} for u in batch.updates],
            "filter": {"kind": "none", "keep": 0.4, "base": 1.2} | (kept or {}),
        }
        for batch in patch.batches
    ]
    folder.mkdir(parents=True)
    (folder / name).write_bytes(data)
    manifest = {"format": 1, "factors": name, **info, "batches": batches}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False), "utf-8")
    return folder


@pytest.fixture
def first(patch, tmp_path):
    return write_first_format(patch, tmp_path / "first")


def test_the_same_patch_is_read(first, patch):
    found = Patch.load(first)
    assert same_patch(found, patch)
    assert (found.base, found.state) == (patch.base, patch.state)
    for batch in found.batches:
        assert batch.filters == ()
        origin = batch.origin
        assert (origin.recipe, origin.paper) == ("alphaedit-blue", "https://arxiv.org/abs/2410.02355")
        assert origin.prefixes == patch.batches[-1].origin.prefixes
        assert origin.settings == patch.batches[-1].origin.settings, "precision and tokens per step are no settings now"
        assert origin.about["versions"] == {"bluedit": "0.1.0"}
        assert origin.about["free_dimensions"] == patch.batches[-1].origin.about["free_dimensions"]
        assert origin.report["facts"]


def test_it_gives_the_same_weights_and_can_be_continued(first, patch, statistics):
    old, new = (make_editor(statistics=statistics, dtype=torch.float32) for _ in range(2))
    old.apply(first)
    new.apply(patch)
    assert same_bits(old.model, bits(new.model))
    for editor in (old, new):
        edit(editor, OTHER[0], "memit-seq")
    assert same_bits(old.model, bits(new.model))


@pytest.mark.parametrize(
    ("recipe", "record", "filters"),
    [
        ("rect", {"kind": "rect", "keep": 0.25}, (Sparsify(keep=0.25),)),
        ("prune", {"kind": "prune", "base": 1.5}, (CapSpectrum(base=1.5),)),
    ],
)
def test_filters_of_the_first_format(recipe, record, filters, statistics, tmp_path):
    live, fresh = (make_editor(statistics=statistics) for _ in range(2))
    path = {"rect": "filters.rect.keep", "prune": "filters.prune.base"}[recipe]
    settings = {path: record["keep" if recipe == "rect" else "base"], "objective.clamp": 60.0, "preserve.lambda": 1e-6}
    for fact in FACTS[:2]:
        edit(live, fact, recipe, settings=settings)
    folder = write_first_format(live.patch, tmp_path / "first", record)
    assert [batch.filters for batch in Patch.load(folder).batches] == [filters] * 2
    fresh.apply(folder)
    assert same_bits(fresh.model, bits(live.model))


def test_norms_of_the_first_format_go_on(statistics, tmp_path):
    live, fresh = (make_editor(statistics=statistics) for _ in range(2))
    anchored = {"objective.norm_anchor": True}
    edit(live, FACTS[0], "memit-seq-blue", settings=anchored)
    fresh.apply(write_first_format(live.patch, tmp_path / "first"))
    for editor in (live, fresh):
        edit(editor, FACTS[1], "memit-seq-blue", settings=anchored)
    assert same_bits(fresh.model, bits(live.model))
    assert fresh.patch.batches[-1].origin.norms == live.patch.batches[0].origin.norms


def test_it_is_saved_in_the_new_format(first, patch, tmp_path):
    found = Patch.load(first)
    with pytest.raises(PatchError, match="holds a patch already"):
        found.save(first)
    with pytest.raises(PatchError, match="holds another patch"):
        found.append_to(first)
    found.save(first, force=True)
    assert json.loads((first / "manifest.json").read_text())["format"] == 2
    assert same_patch(Patch.load(first), patch)
    assert not list(first.glob("factors-*")), "the old factors are gone"


@pytest.mark.parametrize(
    "entries",
    [
        {"batches": 3},
        {"batches": [{}]},
        {"batches": [{"facts": [{"prompt": "{} is"}], "updates": []}]},
        {"batches": [{"facts": [], "updates": [{"layer": 1}] * 9}]},
        {"batches": [{"facts": ["text"], "updates": []}]},
        {"batches": [{"facts": [], "updates": [], "filter": {"kind": "pruen"}}]},
        {"factors": "factors-0.safetensors"},
        {"factors": None},
        {"factors": "../first/factors.safetensors"},
        {"norms": 3},
        {"settings": None},
    ],
)
def test_damaged_manifests_of_the_first_format(first, entries):
    manifest = json.loads((first / "manifest.json").read_text())
    (first / "manifest.json").write_text(json.dumps(manifest | entries))
    before = files_in(first)
    with pytest.raises(PatchError, match=r"^the patch .* is damaged"):
        Patch.load(first)
    assert files_in(first) == before


def test_damaged_factors_of_the_first_format(first):
    (file,) = first.glob("factors-*")
    data = bytearray(file.read_bytes())
    data[-3] ^= 16
    file.write_bytes(data)
    with pytest.raises(PatchError, match=r"is damaged \(ValueError: factors-.* was changed after it was written\)"):
        Patch.load(first)
