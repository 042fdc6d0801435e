"""Patches: saved whole or not at all, and equal to the live edit bit for bit; checkpoints likewise."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from editing_help import OTHER, bits, dense, edit, make_editor, same_bits
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from bluedit import Editor, Fact, Neighbour, Patch, Probe
from bluedit.errors import EditError, ModelError, PatchError
from bluedit.export.checkpoint import save_checkpoint
from bluedit.files import write_file, write_folder
from bluedit.writing import loop
from toys import FACTS

BOTH = pytest.mark.parametrize("family", ["llama", "gpt2"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=["f64", "f32", "bf16"])


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    return tmp_path_factory.mktemp("statistics")


@pytest.fixture(scope="module")
def patch(statistics) -> Patch:
    """Three facts in three batches, layers 1 and 3, of the float32 Llama."""
    return edit(make_editor(statistics=statistics, dtype=torch.float32), FACTS, batch_size=1, report=True).patch


@pytest.fixture(scope="module")
def other(statistics) -> Patch:
    """Another patch of the same model."""
    return edit(make_editor(statistics=statistics, dtype=torch.float32), OTHER, "memit").patch


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def same_patch(one: Patch, two: Patch) -> bool:
    if one.facts != two.facts or len(one.batches) != len(two.batches):
        return False
    pairs = [
        (a, b) for x, y in zip(one.batches, two.batches, strict=True) for a, b in zip(x.updates, y.updates, strict=True)
    ]
    parts = ("R", "A", "keys", "reach")
    return all(a.layer == b.layer and all(torch.equal(getattr(a, p), getattr(b, p)) for p in parts) for a, b in pairs)


# there and back


def test_a_saved_patch_reads_back_bit_for_bit(patch, tmp_path):
    assert patch.save(tmp_path / "deep" / "er" / "patch") == tmp_path / "deep" / "er" / "patch"
    again = Patch.load(tmp_path / "deep" / "er" / "patch")
    assert same_patch(again, patch)
    assert [f.id for f in again.facts] == ["1", "2", "3"]
    assert again.facts[0].neighbours == FACTS[0].neighbours
    assert again.info == json.loads(json.dumps(dict(patch.info)))
    assert again.layers == (1, 3)
    names = sorted(f.name for f in (tmp_path / "deep" / "er" / "patch").iterdir())
    assert len(names) == 2
    assert names[1] == "manifest.json"


def test_facts_with_everything_read_back(patch, tmp_path):
    rich = Fact(
        "{} is in",
        subject="Rome",
        target="Asia",
        neighbours=(Neighbour("Oslo is in"), Neighbour("Paris is in", "Europe")),
        probes=(Probe("portability", "Rome's continent is", ("Asia",)), Probe("subject", "Rome's mayor is")),
        references=("a continent",),
        id="1",
    )
    Patch((replace(patch.batches[0], facts=(rich,)),), patch.info).save(tmp_path / "p")
    assert Patch.load(tmp_path / "p").batches[0].facts == (rich,)


def test_numbers_derived_from_the_factors(patch):
    for batch in patch.batches:
        for update in batch.updates:
            product = update.R.double() @ update.A.double()
            assert update.norm == pytest.approx(float(product.norm()), rel=1e-6)
            weight = (update.R.double() ** 2).sum(0)
            assert update.mean_reach == pytest.approx(float((update.reach * weight).sum() / weight.sum()), rel=1e-5)


@BOTH
@DTYPES
def test_applied_to_a_fresh_copy_it_equals_the_live_edit(family, dtype, statistics, tmp_path):
    live = make_editor(family, statistics=statistics, dtype=dtype)
    edit(live, FACTS, "alphaedit", batch_size=2)
    edit(live, OTHER, "memit-seq-blue", batch_size=1)
    live.patch.save(tmp_path / "patch")
    fresh = make_editor(family, dtype=dtype)
    assert not same_bits(fresh.model, bits(live.model))
    fresh.apply(tmp_path / "patch")
    assert same_bits(fresh.model, bits(live.model))
    fresh.undo()
    assert same_bits(fresh.model, bits(make_editor(family, dtype=dtype).model))


def test_apply_takes_a_patch_in_memory_too(patch, statistics):
    one, two = make_editor(dtype=torch.float32), make_editor(dtype=torch.float32)
    assert one.apply(patch) is patch
    edit(two, FACTS, batch_size=1)
    assert same_bits(one.model, bits(two.model))
    assert one.edits == ()
    assert same_patch(one.patch, patch)


# where a patch belongs


def refused(editor: Editor, patch, text: str, error=PatchError, **options) -> None:
    before = bits(editor.model)
    with pytest.raises(error) as caught:
        editor.apply(patch, **options)
    assert str(caught.value).startswith(text), str(caught.value)
    assert same_bits(editor.model, before)
    with pytest.raises(EditError, match="nothing to undo"):
        editor.undo()


def test_other_weights_are_refused_unless_forced(patch):
    editor = make_editor(dtype=torch.float32, seed=1)
    made_for, here = patch.info["fingerprint"], editor.base_fingerprint
    assert made_for != here
    text = (
        f"the patch was made for other weights: LlamaForCausalLM with fingerprint {made_for}, while LlamaForCausalLM has {here}. "
        "Load that model, or pass force=True (--force) if you know better"
    )
    refused(editor, patch, text)
    before = editor.lm.projection(1).matrix().clone()
    editor.apply(patch, force=True)
    total = sum(u.R.double() @ u.A.double() for b in patch.batches for u in b.updates if u.layer == 1)
    assert torch.equal(editor.lm.projection(1).matrix(), (before.double() + total).float())


def test_another_dtype_is_named(patch):
    editor = make_editor(dtype=torch.bfloat16)
    text = (
        f"the patch was made for other weights: LlamaForCausalLM with fingerprint {patch.info['fingerprint']}, while LlamaForCausalLM "
        f"has {editor.base_fingerprint}. It was made on float32 weights, these are bfloat16: load the model with that dtype. Load"
    )
    refused(editor, patch, text)


@pytest.mark.parametrize("force", [False, True])
def test_other_shapes_are_refused_even_by_force(patch, force):
    text = (
        "the patch changes 32 x 48 weights at layer 1, but LlamaForCausalLM has 32 x 32 there; "
        "it was made for another model (LlamaForCausalLM)"
    )
    refused(make_editor("llama-square", dtype=torch.float32), patch, text, force=force)


@pytest.mark.parametrize("force", [False, True])
def test_a_model_with_fewer_layers_is_refused(patch, force):
    text = "the patch changes layer 3, but LlamaForCausalLM has layers 0 to 1; it was made for another model (LlamaForCausalLM)"
    refused(make_editor(dtype=torch.float32, layers=2), patch, text, force=force)


def test_an_edited_model_is_refused(patch, other, statistics):
    editor = make_editor(statistics=statistics, dtype=torch.float32)
    editor.apply(patch)
    state = bits(editor.model)
    text = (
        "^this editor's model is edited already, and the patch was made for the unedited one; undo the edits first, or "
    )
    with pytest.raises(PatchError, match=text):
        editor.apply(other)
    assert same_bits(editor.model, state)
    editor.apply(other, force=True)
    assert not same_bits(editor.model, state)
    assert editor.patch.facts == (*patch.facts, *other.facts)
    editor.undo()
    assert same_bits(editor.model, state)
    editor.undo()
    assert same_bits(editor.model, bits(make_editor(dtype=torch.float32).model))


def test_the_patch_of_a_second_edit_alone_does_not_pass_for_one_of_the_unedited_model(statistics):
    editor = make_editor(statistics=statistics, dtype=torch.float32)
    edit(editor, FACTS[0])
    second = edit(editor, FACTS[1])
    with pytest.raises(PatchError):
        make_editor(dtype=torch.float32).apply(second.patch)


def test_the_patch_of_a_second_edit_follows_that_of_the_first(statistics, tmp_path):
    live, fresh = (make_editor(statistics=statistics, dtype=torch.float32) for _ in range(2))
    edit(live, FACTS[0]).save(tmp_path / "first")
    edit(live, FACTS[1]).save(tmp_path / "second")
    fresh.apply(tmp_path / "first")
    fresh.apply(tmp_path / "second")
    assert same_bits(fresh.model, bits(live.model))
    assert fresh.patch.info["fingerprint"] == live.patch.info["fingerprint"] == fresh.base_fingerprint
    assert same_patch(fresh.patch, live.patch)


# going on from a patch


def test_edits_stand_on_an_applied_patch(patch, statistics, tmp_path):
    editor, live = (make_editor(statistics=statistics, dtype=torch.float32) for _ in range(2))
    patch.save(tmp_path / "first")
    editor.apply(tmp_path / "first")
    edit(live, FACTS, batch_size=1)
    for each in (editor, live):
        edit(each, OTHER)
    assert same_bits(editor.model, bits(live.model)), (
        "an edit on top of a patch is the edit on top of what the patch was made from"
    )
    assert editor.patch.facts == (*FACTS, *OTHER)
    assert len(editor.patch.batches) == 4
    assert same_patch(editor.patch, live.patch)
    editor.patch.save(tmp_path / "both")
    fresh = make_editor(dtype=torch.float32)
    fresh.apply(tmp_path / "both")
    assert same_bits(fresh.model, bits(live.model))
    editor.undo()
    editor.undo()
    assert same_bits(editor.model, bits(make_editor(dtype=torch.float32).model))


def test_the_keys_of_an_applied_patch_are_preserved(patch, statistics, monkeypatch):
    editor = make_editor(statistics=statistics, dtype=torch.float32)
    editor.apply(patch)
    original, solved = loop.solve, []
    monkeypatch.setattr(loop, "solve", lambda K, *rest: solved.append(K.double()) or original(K, *rest))
    update = edit(editor, OTHER[:1], "memit-seq-blue").patch.batches[0].updates[0]
    keys = torch.cat([u.keys for b in patch.batches for u in b.updates if u.layer == 1], dim=1)
    C, eye = editor._moments.get([1])[1].matrix, torch.eye(48, dtype=torch.float64)
    expected = dense(C, eye, keys, solved[0])
    assert torch.allclose(update.A.double(), expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    assert not torch.allclose(update.A.double(), dense(C, eye, None, solved[0]), rtol=1e-3)


# damage


@pytest.fixture
def saved(patch, tmp_path):
    return patch.save(tmp_path / "patch")


def factors(folder: Path) -> Path:
    (file,) = folder.glob("factors-*.safetensors")
    return file


def change(folder: Path, **entries) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | entries))


def unreadable(folder: Path, text: str) -> None:
    with pytest.raises(PatchError) as caught:
        Patch.load(folder)
    assert str(caught.value).startswith(text.format(folder=folder)), str(caught.value)


def test_no_such_patch(tmp_path):
    unreadable(
        tmp_path / "no", "{folder} is not a patch: there is no such folder; 'bluedit edit ... --out {folder}' makes one"
    )
    unreadable(
        tmp_path, "{folder} is not a patch: it holds no manifest.json; 'bluedit edit ... --out {folder}' makes one"
    )


@pytest.mark.parametrize("content", [b"{", b"", b"[1, 2]", b"{}", b"\xff\xfe", b"null", b"3"])
def test_a_damaged_manifest(saved, content):
    (saved / "manifest.json").write_bytes(content)
    unreadable(saved, "the patch {folder} is damaged: manifest.json is unreadable (")


def test_a_newer_format(saved):
    change(saved, format=2)
    unreadable(
        saved, "the patch {folder} has format 2, this bluedit reads format 1; use the bluedit version that wrote it"
    )


@pytest.mark.parametrize(
    "entries",
    [
        {"batches": 3},
        {"batches": [{}]},
        {"batches": [{"facts": [{"prompt": "{} is"}], "updates": []}]},
        {"batches": [{"facts": [{"prompt": "x", "subject": "y", "target": "z"}], "updates": []}]},
        {"batches": [{"facts": [], "updates": [{"layer": 1}] * 9}]},
        {"factors": "factors-0.safetensors"},
        {"factors": None},
        {"batches": [{"facts": ["text"], "updates": []}]},
    ],
)
def test_a_manifest_that_does_not_fit(saved, entries):
    change(saved, **entries)
    unreadable(saved, "the patch {folder} is damaged (")


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "header"])
def test_damaged_factors(saved, how):
    file = factors(saved)
    data = file.read_bytes()
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes({"empty": b"", "cut": data[:-5], "header": b"\xff" * 8 + data[8:]}[how])
    unreadable(saved, "the patch {folder} is damaged (")


def test_a_flipped_bit_in_the_factors(saved):
    data = bytearray(factors(saved).read_bytes())
    data[-3] ^= 16
    factors(saved).write_bytes(data)
    unreadable(saved, "the patch {folder} is damaged (")


def test_factors_of_impossible_shape(saved, patch, monkeypatch):
    from safetensors.torch import load, save

    tensors = load(factors(saved).read_bytes())
    tensors["0.0.R"] = tensors["0.0.R"].repeat(1, 2).contiguous()
    factors(saved).write_bytes(save(tensors))
    with pytest.raises(PatchError, match="is damaged"):
        Patch.load(saved)


def test_factors_that_are_not_finite_are_not_written(patch):
    broken = Patch(patch.batches[:1], patch.info)
    update = broken.batches[0].updates[0]
    R = update.R.clone()
    R[0, 0] = float("nan")
    object.__setattr__(
        broken,
        "batches",
        (type(broken.batches[0])(patch.batches[0].facts, (type(update)(1, R, update.A, update.keys, update.reach),)),),
    )
    refused(make_editor(dtype=torch.float32), broken, "the update of layer 1 is not finite", error=EditError)


# saving over, saving halfway, saving nowhere


def disk_full_at(monkeypatch, nth: int) -> None:
    """The nth file written from now on does not fit on the disk."""
    original, calls = os.fsync, count(1)

    def fsync(descriptor):
        if next(calls) == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(descriptor)

    monkeypatch.setattr("bluedit.files.os.fsync", fsync)


def test_saving_over_a_patch_replaces_it(saved, other):
    other.save(saved)
    assert same_patch(Patch.load(saved), other)
    assert len(list(saved.iterdir())) == 2, "the old factors are gone"
    other.save(saved)
    assert same_patch(Patch.load(saved), other)
    assert len(list(saved.iterdir())) == 2


@pytest.mark.parametrize("nth", [1, 2])
def test_disk_full_leaves_the_folder_as_it_was(saved, other, nth, monkeypatch):
    before = files(saved)
    disk_full_at(monkeypatch, nth)
    with pytest.raises(PatchError):
        other.save(saved)
    assert files(saved) == before


@pytest.mark.parametrize("nth", [1, 2])
def test_disk_full_keeps_the_old_patch(saved, patch, other, nth, monkeypatch):
    disk_full_at(monkeypatch, nth)
    with pytest.raises(PatchError) as caught:
        other.save(saved)
    assert str(caught.value) == (
        f"cannot save the patch to {saved}: No space left on device; the patch that was there is unchanged. "
        "Free disk space or choose another place"
    )
    assert same_patch(Patch.load(saved), patch)
    assert not [f.name for f in saved.iterdir() if f.name.startswith(".")], "a temporary file is left"
    other.save(saved)
    assert same_patch(Patch.load(saved), other)
    assert len(list(saved.iterdir())) == 2


@pytest.mark.parametrize("nth", [1, 2])
def test_disk_full_writes_nothing_where_nothing_was(patch, nth, tmp_path, monkeypatch):
    disk_full_at(monkeypatch, nth)
    with pytest.raises(PatchError, match=r"No space left on device; nothing was written\. Free disk space"):
        patch.save(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_disk_full_can_be_tried_again(patch, tmp_path, monkeypatch):
    with monkeypatch.context() as context, pytest.raises(PatchError):
        disk_full_at(context, 2)
        patch.save(tmp_path / "new")
    patch.save(tmp_path / "new")
    assert same_patch(Patch.load(tmp_path / "new"), patch)
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_killed_between_the_two_files(saved, patch, other, tmp_path):
    """A kill leaves new factors, or a part of them under a temporary name, beside the old patch."""
    other.save(tmp_path / "other")
    (saved / factors(tmp_path / "other").name).write_bytes(factors(tmp_path / "other").read_bytes())
    assert same_patch(Patch.load(saved), patch)
    other.save(saved)
    assert same_patch(Patch.load(saved), other)
    assert len(list(saved.iterdir())) == 2


def test_killed_before_the_first_manifest(patch, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "factors-0123.safetensors").write_bytes(b"half")
    (folder / ".factors-0123.safetensors.77").write_bytes(b"half")
    unreadable(folder, "{folder} is not a patch: it holds no manifest.json")
    patch.save(folder)
    assert same_patch(Patch.load(folder), patch)


def place_refused(patch, folder: Path, text: str) -> None:
    root = folder.parent
    before = files(root)
    with pytest.raises(PatchError) as caught:
        patch.save(folder)
    assert str(caught.value) == text.format(folder=folder)
    assert files(root) == before


def test_places_where_no_patch_can_be(patch, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    place_refused(patch, tmp_path / "file", "{folder} is a file; a patch is a folder, choose another name")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    place_refused(
        patch,
        tmp_path / "foreign",
        "the folder {folder} holds other things than a patch; choose a new or empty folder, or an older patch to replace",
    )
    monkeypatch.setattr("bluedit.editing.patch.os.access", lambda *_: False)
    place_refused(patch, tmp_path / "new", f"no permission to write in {tmp_path}; choose another place for the patch")


def test_a_place_below_a_file(patch, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PatchError, match="file"):
        patch.save(tmp_path / "file" / "patch")
    assert files(tmp_path) == {"file": b"mine"}


def test_a_place_that_turns_out_not_to_be_writable(patch, tmp_path, monkeypatch):
    def no(*_args, **_options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", no)
    with pytest.raises(PatchError, match=r"^cannot save the patch to .*: Permission denied; nothing was written\. "):
        patch.save(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


# the two ways of writing that everything uses


def test_write_file_clears_what_killed_processes_left(tmp_path):
    old, new, other = (tmp_path / name for name in (".weights.12345", ".weights.12346", ".weights.json"))
    for file in (old, new, other):
        file.write_bytes(b"half")
    for file in (old, other):
        os.utime(file, (0, 0))
    write_file(tmp_path / "weights", b"one")
    assert {file.name for file in tmp_path.iterdir()} == {"weights", ".weights.12346", ".weights.json"}


def test_write_file_replaces_or_keeps(tmp_path, monkeypatch):
    file = tmp_path / "a" / "b.bin"
    write_file(file, b"one")
    write_file(file, b"two")
    assert files(tmp_path) == {"a/b.bin": b"two"}
    disk_full_at(monkeypatch, 1)
    with pytest.raises(OSError, match="No space left"):
        write_file(file, b"three")
    assert files(tmp_path) == {"a/b.bin": b"two"}


@pytest.mark.parametrize(
    "exception", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError("x")]
)
def test_write_folder_keeps_the_old_folder_when_writing_fails(exception, tmp_path):
    folder = tmp_path / "folder"
    write_folder(folder, lambda new: (new / "a").write_bytes(b"old") and None)

    def write(new: Path) -> None:
        (new / "a").write_bytes(b"new")
        raise exception

    with pytest.raises(type(exception)):
        write_folder(folder, write)
    assert files(tmp_path) == {"folder/a": b"old"}
    assert [f.name for f in tmp_path.iterdir()] == ["folder"]
    write_folder(folder, lambda new: (new / "b").write_bytes(b"new") and None)
    assert files(tmp_path) == {"folder/b": b"new"}
    assert [f.name for f in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("exception", [OSError(errno.EIO, "input/output error"), KeyboardInterrupt()])
def test_write_folder_keeps_the_old_folder_when_renaming_fails(exception, tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    write_folder(folder, lambda new: (new / "a").write_bytes(b"old") and None)
    original, calls = Path.rename, count(1)

    def rename(self, target):
        if next(calls) == 2:
            raise exception
        return original(self, target)

    with monkeypatch.context() as context, pytest.raises(type(exception)):
        context.setattr(Path, "rename", rename)
        write_folder(folder, lambda new: (new / "a").write_bytes(b"new") and None)
    assert files(tmp_path) == {"folder/a": b"old"}


# checkpoints


@BOTH
@DTYPES
def test_a_checkpoint_is_an_ordinary_model(family, dtype, statistics, tmp_path):
    editor = make_editor(family, statistics=statistics, dtype=dtype, bos=True)
    edit(editor, FACTS)
    assert editor.save_model(tmp_path / "new" / "model") == tmp_path / "new" / "model"
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["model"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "new" / "model", dtype="auto").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "new" / "model")
    assert same_bits(model, bits(editor.model))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    ids = torch.tensor([tokenizer(FACTS[0].text)["input_ids"]])
    assert ids.tolist() == [editor.lm.tokenizer(FACTS[0].text)["input_ids"]]
    if family == "gpt2" or dtype == torch.float32:
        with (
            torch.no_grad()
        ):  # the toy Llama's rotary frequencies are cast along with its weights, a loaded one's are not
            assert torch.equal(model(ids).logits, editor.model(ids).logits)


def test_a_checkpoint_goes_to_a_new_place_only(tmp_path):
    editor = make_editor()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    before = files(tmp_path)
    for place in (tmp_path / "file", tmp_path / "folder"):
        with pytest.raises(ModelError) as caught:
            editor.save_model(place)
        assert str(caught.value) == (
            f"{place} exists already; choose a new folder for the edited model, or remove that one first"
        )
    assert files(tmp_path) == before
    (tmp_path / "empty").mkdir()
    editor.save_model(tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device")]
)
def test_disk_full_while_a_checkpoint_is_written(error, tmp_path, monkeypatch):
    editor = make_editor()

    def save_pretrained(folder, **_options):
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(editor.model, "save_pretrained", save_pretrained)
    with pytest.raises(ModelError) as caught:
        save_checkpoint(editor.lm, tmp_path / "model")
    assert str(caught.value).startswith(f"cannot save the model to {tmp_path / 'model'}: ")
    assert "No space left on device; nothing was written there. Free disk space or choose another place" in str(
        caught.value
    )
    assert list(tmp_path.iterdir()) == []
