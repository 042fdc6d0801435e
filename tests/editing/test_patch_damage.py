"""A damaged or forged patch is refused in a sentence; nothing of it is taken for what it is not."""

import hashlib
import json
import random
from pathlib import Path

import pytest
import torch
from editing_help import factors, make_editor, record, unreadable
from safetensors.torch import load, save

from bluedit import Patch
from bluedit.cli.patch_tables import patch_tables
from bluedit.errors import PatchError
from bluedit.files import json_digest


def digest(*data: bytes) -> str:
    return hashlib.blake2b(b"".join(data), digest_size=8).hexdigest()


def sign(folder: Path, **entries) -> None:
    """Change the manifest as somebody would who also puts its digest right."""
    manifest = json.loads((folder / "manifest.json").read_text()) | entries
    said = {key: value for key, value in manifest.items() if key != "digest"}
    manifest["digest"] = digest(json.dumps(said, sort_keys=True, ensure_ascii=False).encode())
    (folder / "manifest.json").write_text(json.dumps(manifest))


def forge(folder: Path, change) -> None:
    """Change the record of the first batch, and put all names and digests right."""
    entry, tensors = json.loads(record(folder).read_text()), factors(folder).read_bytes()
    change(entry)
    data = json.dumps(entry).encode()
    name = f"0000-{digest(data, tensors)}"
    (folder / f"{name}.json").write_bytes(data)
    (folder / f"{name}.safetensors").write_bytes(tensors)
    sign(folder, batches=[name])


def test_no_such_patch(tmp_path):
    unreadable(
        tmp_path / "no",
        "{folder} is not a patch: there is no such folder; make one with: bluedit edit ... --out {folder}",
    )
    unreadable(
        tmp_path, "{folder} is not a patch: it holds no manifest.json; make one with: bluedit edit ... --out {folder}"
    )


@pytest.mark.parametrize("content", [b"{", b"", b"[1, 2]", b"{}", b"\xff\xfe", b"null", b"3", b"[" * 100_000])
def test_a_damaged_manifest(saved, content):
    (saved / "manifest.json").write_bytes(content)
    unreadable(saved, "the patch {folder} is damaged: manifest.json is unreadable (")


def test_a_newer_format(saved):
    sign(saved, format=3)
    unreadable(
        saved,
        "the patch {folder} has format 3, this bluedit reads formats 1 and 2; use the bluedit version that wrote it",
    )


@pytest.mark.parametrize("name", ["manifest.json", "record", "factors"])
def test_any_flipped_bit_is_noticed(saved, name):
    file = {"manifest.json": saved / name, "record": record(saved, 1), "factors": factors(saved, 2)}[name]
    data, chance = file.read_bytes(), random.Random(0)
    Patch.load(saved)
    for _ in range(60):
        flipped = bytearray(data)
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(flipped)
        unreadable(saved, "the patch {folder} ")
    file.write_bytes(data)
    Patch.load(saved)


def test_a_manifest_that_was_changed_by_hand(saved):
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps(manifest | {"batches": manifest["batches"][:2]}))
    unreadable(
        saved, "the patch {folder} is damaged: manifest.json was changed after it was written; restore it from a copy"
    )


def test_a_layer_that_was_changed_by_hand(saved):
    entry = json.loads(record(saved).read_text())
    entry["updates"][0]["layer"] = 2
    record(saved).write_text(json.dumps(entry, indent=1))
    text = unreadable(saved, "the patch {folder} is damaged (ValueError: batch 0000-")
    assert text.endswith(" was changed after it was written); make it again or restore it from a copy")


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_files_of_two_batches_exchanged(saved, suffix):
    one, two = (factors(saved, i).with_suffix(suffix) for i in (0, 1))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    unreadable(saved, "the patch {folder} is damaged (ValueError: batch 0000-")


@pytest.mark.parametrize("how", ["missing", "empty", "cut"])
@pytest.mark.parametrize("which", [factors, record])
def test_files_that_are_not_whole(saved, which, how):
    file = which(saved, 1)
    data = file.read_bytes()
    file.unlink()
    if how != "missing":
        file.write_bytes({"empty": b"", "cut": data[:-5]}[how])
    unreadable(saved, "the patch {folder} is damaged (")


# what would pass the digests


@pytest.mark.parametrize(
    "name",
    ["../other", "/etc/passwd", "0000-0123456789abcdef/../../x", "0000-0123456789abcdeF", "0000", "", None, 3, ["a"]],
)
def test_names_that_lead_elsewhere_are_not_followed(saved, name):
    sign(saved, batches=[name])
    unreadable(saved, f"the patch {{folder}} is damaged (ValueError: {name!r} is not the name of a batch)")


@pytest.mark.parametrize(
    "entries",
    [
        {"batches": 3},
        {"batches": None},
        {"batches": ["0000-0123456789abcdef"]},
        {"base": None},
        {"base": [1]},
        {"base": {"model": "x", "fingerprint": "y", "surprise": 1}},
    ],
)
def test_a_manifest_that_does_not_fit(saved, entries):
    sign(saved, **entries)
    unreadable(saved, "the patch {folder} is damaged (")


def test_a_manifest_cannot_name_a_batch_twice(saved):
    names = json.loads((saved / "manifest.json").read_text())["batches"]
    sign(saved, batches=[*names, names[0]])
    unreadable(saved, "the patch {folder} is damaged (ValueError: manifest.json names a batch more than once)")


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.pop("facts"),
        lambda entry: entry.pop("origin"),
        lambda entry: entry["origin"].pop("prefixes"),
        lambda entry: entry["facts"][0].pop("subject"),
        lambda entry: entry["facts"].append("text"),
        lambda entry: entry["updates"].append({"layer": 1}),
        lambda entry: entry["updates"][0].update(layer="one"),
        lambda entry: entry["updates"][0].update(layer=None),
        lambda entry: entry["updates"][0].update(layer="1"),
        lambda entry: entry["updates"][0].update(layer=1.5),
        lambda entry: entry["origin"].update(recipe=3),
        lambda entry: entry["origin"].update(prefixes="It rained."),
        lambda entry: entry["origin"].update(about=[]),
        lambda entry: entry["filters"].append({"kind": "rect", "share": 1}),
        lambda entry: entry["filters"].append({"kind": "rect", "keep": 7}),
        lambda entry: entry["filters"].append({"keep": 1}),
        lambda entry: entry["origin"].update(norms={"block": 1.0}),
        lambda entry: entry.update(updates=None),
    ],
)
def test_a_record_that_does_not_fit(saved, change):
    forge(saved, change)
    unreadable(saved, "the patch {folder} is damaged (")


def test_a_filter_that_does_not_exist(saved):
    forge(saved, lambda entry: entry["filters"].append({"kind": "pruen", "base": 1.2}))
    text = unreadable(
        saved, "the patch {folder} cannot be read here: it needs the filter 'pruen', which is not known here"
    )
    assert text.endswith("; import the module that defines it first")


@pytest.mark.parametrize(("layer", "end"), [(7, "has layers 0 to 4"), (-1, "has layers 0 to 4")])
def test_a_layer_that_does_not_exist_is_refused_when_it_is_applied(saved, layer, end):
    forge(saved, lambda entry: entry["updates"][0].update(layer=layer))
    editor = make_editor(dtype=torch.float32)
    with pytest.raises(PatchError, match=f"the patch changes layer {layer}, but LlamaForCausalLM {end}"):
        editor.apply(saved, force=True)


@pytest.mark.parametrize("part", ["R", "A", "keys", "reach"])
def test_factors_of_impossible_shape(saved, part):
    tensors = load(factors(saved).read_bytes())
    tensors[f"0.{part}"] = tensors[f"0.{part}"].repeat(*[2] * tensors[f"0.{part}"].dim()).contiguous()
    data, entry = save(tensors), record(saved).read_bytes()
    name = f"0000-{digest(entry, data)}"
    (saved / f"{name}.json").write_bytes(entry)
    (saved / f"{name}.safetensors").write_bytes(data)
    sign(saved, batches=[name])
    with pytest.raises(PatchError, match="is damaged"):
        Patch.load(saved)


@pytest.mark.parametrize("field", ["model", "fingerprint"])
def test_half_a_surrogate_pair_in_a_manifest(saved, field):
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["base"][field] = "\ud800"
    (saved / "manifest.json").write_text(json.dumps(manifest | {"digest": json_digest(manifest)}))
    unreadable(
        saved,
        r"the patch {folder} is damaged: manifest.json is unreadable ('\ud800' is not text: it holds half a surrogate pair)",
    )


@pytest.mark.parametrize("base", [{"model": 3}, {"leading_special_token": "no"}, {"fingerprint": None}])
def test_a_base_of_other_types(saved, base):
    sign(saved, base=base)
    unreadable(saved, f"the patch {{folder}} is damaged (base.{next(iter(base))} is ")


@pytest.mark.parametrize("report", [{}, {"facts": 1}, {"facts": [{}]}, {"facts": [], "perplexity_before": 0}])
@pytest.mark.parametrize("details", [True, False])
def test_a_report_that_is_none_is_said_in_a_sentence(saved, report, details):
    forge(saved, lambda entry: entry["origin"].update(report=report | {"surprise": 1}))
    with pytest.raises(PatchError, match="the patch's description of its edits cannot be read"):
        patch_tables(Patch.load(saved), details=details)
