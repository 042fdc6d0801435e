"""A patch on disk: it reads back whole, an old one survives until the new one is complete, and batches are appended."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from editing_help import OTHER, edit, factors, make_editor, record, same_patch, unreadable

from bluedit import Patch
from bluedit.editing._batch_record import batch_tensors
from bluedit.editing.patch import check_place
from bluedit.errors import PatchError
from bluedit.files import locked
from bluedit.methods.filters import CapSpectrum, Sparsify
from bluedit.model.sites import Site
from toys import FACTS, disk_full_at, files_in

# there and back


def test_everything_about_a_batch_reads_back(patch, tmp_path):
    batch = replace(
        patch.batches[0],
        filters=(Sparsify(keep=0.3, feedback=True), CapSpectrum(base=1.7)),
        origin=replace(
            patch.batches[0].origin,
            norms={Site("block", 1): 2.5, Site("mlp", 3): 0.125},
            prefixes=("One.", "Zwei \u00e9."),
            report={"perplexity_after": float("inf"), "facts": [{"p": float("nan")}]},
        ),
    )
    (again,) = Patch.load(Patch(patch.base, (batch,)).save(tmp_path / "p")).batches
    assert (again.filters, again.digest) == (batch.filters, batch.digest)
    report = {"perplexity_after": None, "facts": [{"p": None}]}  # JSON has no numbers that are not finite
    assert again.origin == replace(batch.origin, report=report)


def test_the_record_can_be_read_by_people(saved):
    entry = json.loads(record(saved).read_text("utf-8"))
    assert entry["facts"][0]["subject"] == "Danielle Darrieux"
    assert [update["layer"] for update in entry["updates"]] == [1, 3]
    assert all(update["norm"] > 0 and 0 < update["mean_reach"] <= 1 for update in entry["updates"])
    manifest = json.loads((saved / "manifest.json").read_text())
    assert manifest["format"] == 2 and manifest["base"]["model"] == "LlamaForCausalLM"
    assert manifest["batches"] == [factors(saved, i).stem for i in range(3)]


# saving over, saving halfway, saving nowhere


def test_saving_over_a_patch_takes_force(saved, patch, other):
    before = files_in(saved)
    text = f"{saved} holds a patch already; choose another folder, or replace it with force=True (--force)"
    with pytest.raises(PatchError) as caught:
        other.save(saved)
    assert str(caught.value) == text and files_in(saved) == before
    with pytest.raises(PatchError):
        check_place(saved)
    check_place(saved, force=True)
    for _ in range(2):
        other.save(saved, force=True)
        assert same_patch(Patch.load(saved), other)
        assert len(list(saved.iterdir())) == 3, "the files of the old patch are gone"
    edit(make_editor(dtype=torch.float32), FACTS[0], "memit").save(saved, force=True)


def test_the_manifest_of_another_program_is_no_patch(patch, tmp_path):
    (tmp_path / "manifest.json").write_text('{"manifest_version": 3, "name": "an extension"}')
    before = files_in(tmp_path)
    for force in (False, True):
        with pytest.raises(PatchError, match="contains files that are not part of a patch"):
            patch.save(tmp_path, force=force)
    assert files_in(tmp_path) == before


def test_saving_a_damaged_patch_again_repairs_it(saved, patch):
    factors(saved, 1).write_bytes(b"damaged")
    record(saved, 2).unlink()
    patch.save(saved, force=True)
    assert same_patch(Patch.load(saved), patch)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_full_disk_keeps_the_old_patch(saved, patch, other, nth, monkeypatch):
    before = files_in(saved)
    disk_full_at(monkeypatch, nth)
    with pytest.raises(PatchError) as caught:
        other.save(saved, force=True)
    assert str(caught.value) == (
        f"cannot save the patch to {saved}: No space left on device; the patch that was there is unchanged. "
        "Free disk space or choose another place"
    )
    assert files_in(saved) == before
    assert same_patch(Patch.load(saved), patch)
    other.save(saved, force=True)
    assert same_patch(Patch.load(saved), other)
    assert len(list(saved.iterdir())) == 3


@pytest.mark.parametrize("nth", [1, 4, 7])
def test_a_full_disk_writes_nothing_where_nothing_was(patch, nth, tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        disk_full_at(context, nth)
        with pytest.raises(PatchError, match=r"No space left on device; nothing was written\. Free disk space"):
            patch.save(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    patch.save(tmp_path / "new")
    assert same_patch(Patch.load(tmp_path / "new"), patch)


def test_killed_before_the_manifest(saved, patch, other, tmp_path):
    """A kill leaves files of the new patch, or parts of them under temporary names, beside the old one."""
    for file in other.save(tmp_path / "other").glob("0000-*"):
        (saved / file.name).write_bytes(file.read_bytes())
    (saved / ".0001-0123456789abcdef.json.77").write_bytes(b"half")
    assert same_patch(Patch.load(saved), patch)
    other.save(saved, force=True)
    assert same_patch(Patch.load(saved), other)


def test_killed_before_the_first_manifest(patch, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "0000-0123456789abcdef.safetensors").write_bytes(b"half")
    (folder / ".0000-0123456789abcdef.json.77").write_bytes(b"half")
    unreadable(folder, "{folder} is not a patch: it holds no manifest.json")
    patch.save(folder)
    assert same_patch(Patch.load(folder), patch)


def place_refused(patch, folder: Path, text: str) -> None:
    before = files_in(folder.parent)
    for write in (patch.save, patch.append_to):
        with pytest.raises(PatchError) as caught:
            write(folder)
        assert str(caught.value) == text.format(folder=folder)
    assert files_in(folder.parent) == before


def test_places_where_no_patch_can_be(patch, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    place_refused(patch, tmp_path / "file", "{folder} is a file; a patch is a folder, choose another name")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    place_refused(
        patch,
        tmp_path / "foreign",
        "the folder {folder} contains files that are not part of a patch; choose a new or empty folder",
    )
    monkeypatch.setattr("bluedit.files.os.access", lambda *_: False)
    place_refused(
        patch,
        tmp_path / "new",
        f"no patch can be saved to {{folder}}: no permission to write in {tmp_path}; choose another place",
    )


def test_a_place_below_a_file(patch, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PatchError, match="file"):
        patch.save(tmp_path / "file" / "patch")
    assert files_in(tmp_path) == {"file": b"mine"}


def test_a_place_that_turns_out_not_to_be_writable(patch, tmp_path, monkeypatch):
    def no(*_args, **_options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", no)
    with pytest.raises(PatchError, match=r"^cannot save the patch to .*: Permission denied; nothing was written\. "):
        patch.save(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


# appending


def written_anew(folder: Path, act) -> set[str]:
    """Names of the files that `act` wrote or replaced."""
    before = {file.name: file.stat().st_ino for file in folder.iterdir()}
    act()
    return {file.name for file in folder.iterdir() if before.get(file.name) != file.stat().st_ino}


def test_appending_writes_the_new_batches_and_the_manifest_only(patch, tmp_path):
    folder = tmp_path / "patch"
    parts = [Patch(patch.base, patch.batches[:count]) for count in (1, 2, 3)]
    assert parts[0].append_to(folder) == folder
    assert len(list(folder.iterdir())) == 3
    for number in (1, 2):
        new = written_anew(folder, lambda part=parts[number]: part.append_to(folder))
        assert {name[:5] for name in new} == {f"{number:04d}-", "manif"[:5]} and len(new) == 3
        assert same_patch(Patch.load(folder), parts[number])
    assert written_anew(folder, lambda: patch.append_to(folder)) == {"manifest.json"}
    assert files_in(folder) == files_in(patch.save(tmp_path / "at once"))


def test_an_editor_appends_after_every_edit(statistics, tmp_path):
    editor = make_editor(statistics=statistics, dtype=torch.float32)
    for fact in FACTS[:2]:
        edit(editor, fact)
        editor.patch.append_to(tmp_path / "patch")
    fresh = make_editor(statistics=statistics, dtype=torch.float32)
    fresh.apply(tmp_path / "patch")
    edit(fresh, OTHER[0])
    fresh.patch.append_to(tmp_path / "patch")
    again = Patch.load(tmp_path / "patch")
    assert same_patch(again, fresh.patch) and again.state == fresh.journal.state


def test_what_does_not_continue_a_patch_is_not_appended(saved, patch, other):
    before = files_in(saved)
    elsewhere = replace(patch.base, fingerprint="0" * 24)
    for wrong in (
        Patch(patch.base, patch.batches[:2]),
        Patch(elsewhere, patch.batches),
        Patch(patch.base, (*other.batches, *patch.batches)),
        Patch(patch.base, (*patch.batches[:2], *other.batches)),
    ):
        with pytest.raises(PatchError) as caught:
            wrong.append_to(saved)
        assert str(caught.value) == f"{saved} holds another patch; choose another folder"
        assert files_in(saved) == before


def test_nothing_is_appended_to_a_damaged_patch(saved, patch, other):
    longer = Patch(patch.base, (*patch.batches, *other.batches))
    factors(saved, 2).write_bytes(b"damaged")
    with pytest.raises(PatchError, match=r"is damaged \(ValueError: batch 0002-"):
        longer.append_to(saved)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_full_disk_while_appending(saved, patch, other, nth, monkeypatch):
    before = files_in(saved)
    longer = Patch(patch.base, (*patch.batches, *other.batches))
    with monkeypatch.context() as context:
        disk_full_at(context, nth)
        with pytest.raises(PatchError, match="No space left on device; the patch that was there is unchanged"):
            longer.append_to(saved)
    assert files_in(saved) == before
    longer.append_to(saved)
    assert same_patch(Patch.load(saved), longer)


# two processes at once


def test_savers_and_readers_of_one_folder(patch, other, tmp_path):
    """Every reader finds one of the two patches whole, and the last one that was saved is whole, too."""
    folder = tmp_path / "patch"
    patch.save(folder)

    def save(number: int) -> None:
        (patch, other)[number % 2].save(folder, force=True)

    def read(_: int) -> bool:
        found = Patch.load(folder)
        return same_patch(found, patch) or same_patch(found, other)

    with ThreadPoolExecutor(4) as pool:
        savers = [pool.submit(save, i) for i in range(30)]
        readers = [pool.submit(read, i) for i in range(60)]
        assert all(one.result() for one in readers) and not [one.result() for one in savers if one.result()]
    alone = [set(files_in(one.save(tmp_path / name))) for one, name in ((patch, "a"), (other, "b"))]
    assert set(files_in(folder)) in alone


def test_a_folder_in_which_another_process_saves(patch, tmp_path, monkeypatch):
    monkeypatch.setattr("bluedit.editing._folder._PATIENCE_S", 0.1)
    (tmp_path / "patch").mkdir()
    with locked(tmp_path / "patch", 0), pytest.raises(PatchError, match="another process has been saving a patch to"):
        patch.save(tmp_path / "patch")
    patch.save(tmp_path / "patch")


def test_a_manifest_that_names_a_device(tmp_path):
    manifest = {"format": 1, "factors": "/dev/zero", "base": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert "'/dev/zero' is not the name of a file of factors" in unreadable(tmp_path, "the patch {folder} is damaged")


def test_a_batch_that_is_a_pipe(saved):
    file = next(saved.glob("*.safetensors"))
    file.unlink()
    os.mkfifo(file)
    assert "is not a regular file" in unreadable(saved, "the patch {folder} is damaged")


@pytest.mark.parametrize(
    ("part", "change", "text"),
    [
        ("reach", lambda t: torch.tensor(0.5), "have shapes"),
        ("keys", lambda t: t[:-1], "have shapes"),
        ("keys", lambda t: t * torch.nan, "numbers that are not finite"),
        ("R", lambda t: t.to(torch.complex64), "is of type torch.complex64"),
        ("A", lambda t: t.to(torch.float8_e4m3fn), "is of type torch.float8_e4m3fn"),
    ],
)
def test_factors_that_no_edit_writes(patch, part, change, text, monkeypatch, tmp_path):
    tensors = batch_tensors(patch.batches[0])
    tensors[f"0.{part}"] = change(tensors[f"0.{part}"])
    monkeypatch.setattr("bluedit.editing._folder.batch_tensors", lambda _batch: tensors)
    patch.save(tmp_path / "p")
    assert text in unreadable(tmp_path / "p", "the patch {folder} is damaged")
