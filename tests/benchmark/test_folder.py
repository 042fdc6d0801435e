"""One benchmark a folder: what a folder holds is checked before anything is written into it."""

import json
import shutil

import pytest
import torch
from benchmark_help import BLUE, ENTRIES, FACTS, SETTINGS, run, without_time
from filelock import FileLock

from bluedit.benchmark.record import FORMAT
from bluedit.editing.patch import Patch
from bluedit.errors import BenchmarkError
from bluedit.export.checkpoint import save_checkpoint
from bluedit.files import with_digest, write_json
from bluedit.model.editable import EditableModel
from toys import toy_gpt2, toy_tokenizer


@pytest.fixture
def copy(whole, tmp_path):
    """The small benchmark, in a folder of the test's own."""
    return shutil.copytree(whole[0], tmp_path / "copy")


def change_configuration(folder, path, value):
    config = json.loads((folder / "config.json").read_text())
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    write_json(folder / "config.json", with_digest(config))
    return with_digest(config)


def test_another_benchmark_in_the_folder(lm, whole):
    folder, _ = whole
    before = (folder / "results.md").read_text()
    for change, name in (({"batch_size": 3}, "batch_size"), ({"facts": FACTS[:3]}, "facts, facts_fingerprint")):
        with pytest.raises(BenchmarkError, match=f"holds another benchmark: {name} differs?; choose another folder"):
            run(lm, folder, **change)
    other = EditableModel.of(toy_gpt2(seed=1), toy_tokenizer(), "toy")
    with pytest.raises(BenchmarkError, match="holds another benchmark: weights differ"):
        run(other, folder)
    assert (folder / "results.md").read_text() == before


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (("versions", "torch"), "versions differ"),
        (("settings", BLUE, "objective.steps"), "settings of memit-seq-blue"),
    ],
)
def test_a_benchmark_begun_with_other_numbers(lm, copy, path, message):
    """Such as those of another version of bluedit, whose tuning is another one."""
    config = change_configuration(copy, path, "99")
    with pytest.raises(BenchmarkError, match=message):
        run(lm, copy)
    assert json.loads((copy / "config.json").read_text()) == config


def test_a_folder_in_which_nothing_is_finished_may_become_another_benchmarks(lm, whole, tmp_path):
    (tmp_path / "config.json").write_bytes((whole[0] / "config.json").read_bytes())
    change_configuration(tmp_path, ("facts",), 99)
    (tmp_path / ".config.json.123").write_text("{")
    run(lm, tmp_path, entries=("unedited",))
    assert json.loads((tmp_path / "config.json").read_text())["facts"] == 4
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".config.json.123").write_text("{")
    run(lm, tmp_path / "new", entries=("unedited",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"config\.json is damaged \(it is not JSON: .*\); choose another folder, or delete this one"),
        ("3", r"config\.json is not the configuration of a benchmark; choose another folder"),
        ("[1]", r"config\.json is not the configuration of a benchmark"),
        (f'{{"format": {FORMAT}}}', r"config\.json is damaged \(it lacks 'model'\); choose another folder"),
        ('{"format": 2, "facts": 4}', "was written by another version of bluedit; use that version, or choose another"),
        ('{"format": 99}', "was written by another version of bluedit"),
    ],
)
def test_a_configuration_that_cannot_be_used(lm, tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BenchmarkError, match=message):
        run(lm, tmp_path)
    assert (tmp_path / "config.json").read_text() == text and len(list(tmp_path.iterdir())) == 1


def test_another_text_in_the_same_file_is_another_corpus(lm, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The capital of France is in London. " * 40)
    run(lm, tmp_path / "r", corpus=str(text), entries=("unedited",))
    text.write_text("The mother tongue of Rome is in Paris. " * 40)
    with pytest.raises(BenchmarkError, match="holds another benchmark: corpus_fingerprint differ"):
        run(lm, tmp_path / "r", corpus=str(text), entries=("unedited",))


def test_a_folder_in_which_a_run_was_killed_before_it_had_begun(lm, tmp_path):
    (tmp_path / ".bluedit-7-1.tmp").write_text("{")
    run(lm, tmp_path, entries=("unedited",))
    assert (tmp_path / "results.md").is_file()


def test_a_folder_of_other_things(lm, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(
        BenchmarkError, match="contains files that are not part of a benchmark; choose a new or empty folder"
    ):
        run(lm, tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_folder_of_a_model(lm, tmp_path):
    """Its configuration has the same name as a benchmark's."""
    save_checkpoint(lm, tmp_path / "model")
    before = {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    with pytest.raises(BenchmarkError, match=r"config\.json is not the configuration of a benchmark; choose another"):
        run(lm, tmp_path / "model")
    assert {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()} == before


def test_two_benchmarks_at_once_in_one_folder(lm, whole):
    folder, rows = whole
    before = (folder / "config.json").read_bytes()
    with FileLock(folder / ".lock"), pytest.raises(BenchmarkError, match="another bluedit benchmark is running in"):
        run(lm, folder, entries=("unedited", f"emmet:{SETTINGS}"))
    assert (folder / "config.json").read_bytes() == before
    assert without_time(run(lm, folder)[: len(rows)]) == without_time(rows)


def test_a_patch_that_lacks_what_the_log_lists(lm, copy):
    """Going on from it would edit other weights than those that were measured."""
    place = next(copy.glob("rect*"))
    log = json.loads((place / "batches.json").read_text())
    Patch(Patch.load(place / "patch").base).save(place / "patch", force=True)
    write_json(place / "batches.json", with_digest(log | {"batches": log["batches"][:1]}))
    with pytest.raises(BenchmarkError, match="logs 1 batches and its patch holds 0; delete that folder"):
        run(lm, copy)


def test_the_folder_of_another_entry(lm, copy):
    place = next(copy.glob("rect*"))
    log = json.loads((place / "batches.json").read_text())
    write_json(place / "batches.json", with_digest(log | {"entry": "memit"}))
    with pytest.raises(BenchmarkError, match="holds the entry 'memit'; move that folder away"):
        run(lm, copy, entries=ENTRIES[2:])


def test_other_threads_are_reported(lm, copy, caplog):
    change_configuration(copy, ("threads",), 99)
    run(lm, copy)
    assert f"was begun with threads 99, now it is {torch.get_num_threads()}; last digits may differ" in caplog.text
