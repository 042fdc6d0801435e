"""Readers that `fuzz.py` tries beyond those of `readers.py`: workspaces, checkpoints, tunings, guards, corpora, benchmark items, analyses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import save_file

from bluedit import recipes
from bluedit.cli.workspace_tables import diff_tables, entry_facts, entry_table, event_table
from bluedit.editing import _entries
from bluedit.editing._folder import hash_of
from bluedit.editing._history import _digest
from bluedit.editing._owner import LOCK, owned
from bluedit.editing._store import Store
from bluedit.editing._verify import faults_of_files
from bluedit.editing.guard import Guarding
from bluedit.editing.rules import Rule
from bluedit.editing.violations import Action
from bluedit.errors import WorkspaceError
from bluedit.evaluate.ability import TASKS, read_items
from bluedit.explain._stages import STAGES, Stages
from bluedit.explain.folder import claimed
from bluedit.explain.residual_data import TABLES
from bluedit.export.diff import diff
from bluedit.export.weight_files import WeightFiles
from bluedit.facts import read_facts
from bluedit.methods.tuning_file import TuningFile, as_toml
from bluedit.text.corpus import passages_of
from damage import apply, as_text, bytes_changes, changed_json, json_changes, texts
from readers import Target, Wrong
from showing import is_shown, show
from sound import RECORDS, TUNING, workspace


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# workspaces


def _read_workspace(folder: Path) -> str:
    """Everything that a workspace says without its model, shown as the commands of a workspace do."""
    _entries._batches.cache_clear()
    store = Store(folder)
    history, entries = store.history, _entries.entries_of(store)
    touching = _entries.touching(entries, "France")
    difference = _entries.difference(store, history.at(0), history.standing)
    state = repr((store.about, history, entries, history.tags, history.undone, history.number_of("both")))
    if is_shown(state):
        show(entry_table(entries, history.tags, history.events), event_table(history.events))
        show(entry_facts(touching, "France"), *diff_tables(difference))
    if faults := faults_of_files(store, store.base):
        raise WorkspaceError(faults[0].what)
    return state


def workspace_targets(place: Path) -> list[Target]:
    """The files of a workspace, damaged; its description, journal and batches, forged; its lock."""
    folder, forged = place / "workspace", place / "forged-workspace"
    workspace(folder)
    shutil.copytree(folder, forged)
    whole = _read_workspace(folder)
    names = {
        "descriptions": "workspace.json",
        "journals": "journal.jsonl",
        "batches": str(next((folder / "batches").glob("0000*.json")).relative_to(folder)),
        "factors": str(next((folder / "batches").glob("0001*.safetensors")).relative_to(folder)),
    }

    def damaged(name: str) -> Callable[[Any], bool]:
        file = folder / name
        sound = file.read_bytes()

        def check(changes: Any) -> bool:
            file.write_bytes(apply(changes, sound))
            try:
                if _read_workspace(folder) != whole:
                    raise Wrong("a workspace that was changed is read as another one")
            finally:
                file.write_bytes(sound)
            return True

        return check

    return [
        *(Target(f"workspace: {kind}", bytes_changes, damaged(name)) for kind, name in names.items()),
        Target("workspace: forged", _forged_changes, _forged(forged)),
        Target("workspace: locks", json_changes.map(lambda c: as_text(changed_json(_LOCK, c))) | texts, _locks(forged)),
    ]


_LOCK = {"pid": 1, "host": "elsewhere", "started": 7, "since": 1.7e9, "task": "edit"}
_forged_changes = st.tuples(st.sampled_from(("about", "journal", "batch")), json_changes)


def _forged(folder: Path) -> Callable[[Any], bool]:
    """A check that changes one file of a workspace and puts all digests right that depend on it."""
    about = json.loads((folder / "workspace.json").read_bytes())
    *lines, _ = (folder / "journal.jsonl").read_text("utf-8").splitlines()
    events = [{key: value for key, value in json.loads(line).items() if key != "digest"} for line in lines]
    (record,) = (folder / "batches").glob("0000*.json")
    sound, factors = record.read_bytes(), record.with_suffix(".safetensors").read_bytes()

    def check(given_: Any) -> bool:
        which, changes = given_
        said, made, name = dict(about), events, record.stem
        del said["digest"]
        if which == "about":
            said = changed_json(said, changes)
        elif which == "journal":
            made = changed_json(events, changes)
        else:
            data = _bytes(as_text(changed_json(json.loads(sound), changes)))
            name = f"0000-{hash_of(data, factors)}"
            made = json.loads(json.dumps(events).replace(record.stem, name))
            (folder / "batches" / f"{name}.json").write_bytes(data)
            (folder / "batches" / f"{name}.safetensors").write_bytes(factors)
        try:
            _write_signed(folder, said, made)
            _read_workspace(folder)
        finally:
            if name != record.stem:
                for file in (folder / "batches").glob(f"{name}.*"):
                    file.unlink()
        return True

    return check


def _write_signed(folder: Path, about: Any, events: Any) -> None:
    """Write a description and a journal with the digests that belong to them, where what they say can have one."""
    digest = "0"
    if isinstance(about, dict):
        digest = _signed(lambda: _digest("", json.loads(as_text(about))))
        about = {**about, "digest": digest}
    (folder / "workspace.json").write_bytes(_bytes(as_text(about)))
    lines = []
    for event in events if isinstance(events, list) else [events]:
        if isinstance(event, dict):
            digest = _signed(lambda said=event, before=digest: _digest(before, json.loads(as_text(said))))
            event = {**event, "digest": digest}
        lines.append(as_text(event))
    lines.append(json.dumps({"events": len(lines), "digest": digest}))
    (folder / "journal.jsonl").write_bytes(_bytes("\n".join(lines) + "\n"))


def _signed(digest: Callable[[], str]) -> str:
    try:
        return digest()
    except (ValueError, RecursionError):  # not JSON, or not text
        return "0"


def _locks(folder: Path) -> Callable[[Any], bool]:
    def check(text: str) -> bool:
        (folder / LOCK).write_bytes(_bytes(text))
        try:
            with owned(folder, "edit"):
                pass
        finally:
            (folder / LOCK).unlink(missing_ok=True)
        return True

    return check


# what exports read


def checkpoint_targets(place: Path) -> list[Target]:
    """The index and the weight files of a checkpoint, as exports and `bluedit diff` read them. A checkpoint carries no checksum."""
    sound, folder = place / "sound-checkpoint", place / "checkpoint"
    for one in (sound, folder):
        one.mkdir()
        tensors = {f"model.layers.{i}.mlp.down_proj.weight": torch.full((3, 4), 1.0 + i) for i in range(2)}
        files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
        for file, (name, tensor) in zip(files, tensors.items(), strict=True):
            save_file({name: tensor}, one / file, {"format": "pt"})
        index = {"metadata": {"total_size": 96}, "weight_map": dict(zip(tensors, files, strict=True))}
        (one / "model.safetensors.index.json").write_text(json.dumps(index))
        (one / "config.json").write_text("{}")

    def check(file: str) -> Callable[[Any], bool]:
        data = (sound / file).read_bytes()

        def checked(given_: Any) -> bool:
            (folder / file).write_bytes(_bytes(given_) if isinstance(given_, str) else apply(given_, data))
            try:
                found = WeightFiles.of(folder)
                _ = [(found.shape(name), found.tensor(name)) for name in found.places], found.files
                diff(str(sound), str(folder))
            finally:
                (folder / file).write_bytes(data)
            return True

        return checked

    changes = json_changes.map(lambda changed: as_text(changed_json(index, changed)))
    return [
        Target("checkpoints: index", changes | bytes_changes, check("model.safetensors.index.json")),
        Target("checkpoints: weights", bytes_changes, check(files[0])),
    ]


# tunings and guards


def tuning_target(place: Path) -> Target:
    """Tunings as files. They are made to be edited by hand, so they carry no digest; what is read must be a tuning that can be used."""
    TUNING.write(place / "sound.toml")
    sound = (place / "sound.toml").read_bytes()
    said = {
        "format": 1,
        "name": TUNING.tuning.name,
        "source": TUNING.tuning.source,
        "confidence": TUNING.confidence,
        "weights": TUNING.weights,
        "match": dict(TUNING.tuning.match),
        "set": dict(TUNING.tuning.set),
        "parts": [{"when": dict(when), "set": dict(numbers)} for when, numbers in TUNING.tuning.parts],
        "evidence": dict(TUNING.evidence),
    }
    config = SimpleNamespace(num_hidden_layers=4, hidden_size=36)

    def check(given_: Any) -> bool:
        file = place / "tuning.toml"
        file.write_bytes(_bytes(given_) if isinstance(given_, str) else apply(given_, sound))
        found = TuningFile.read(file)
        found.tuning.fits(config)
        for name in ("memit-seq-blue", "alphaedit", "ft"):
            found.tuning.apply(recipes[name])
        found.write(place / "again.toml")
        if _in_order(TuningFile.read(place / "again.toml")) != _in_order(found):
            raise Wrong("a tuning that was written is read as another one")
        return True

    as_tables = json_changes.map(lambda changes: _toml(changed_json(said, changes)))
    return Target("tuning files", bytes_changes | as_tables | texts, check)


def _in_order(found: TuningFile) -> str:
    """All of it, whatever the order of tables: a file has tables after values."""
    return json.dumps(asdict(found), sort_keys=True, default=str)


def _toml(value: Any) -> str:
    try:
        return as_toml(value)
    except (AttributeError, TypeError):  # no table
        return as_text(value)


def guard_targets(place: Path) -> list[Target]:
    """Rules and actions of a guard as the command line takes them, and files of protected facts."""
    limits = st.sampled_from(("", "0", "0.05", "-1", "1e999", "nan", "inf", "1_0", "٣", "0x1", "9" * 5000)) | texts
    rules = st.tuples(
        st.sampled_from((*sorted(Rule.choices), "default", "", "klx")) | texts,
        st.sampled_from(("=", "==", "", " = ")),
        limits,
    )
    actions = st.sampled_from(sorted(Action.choices)) | texts
    inputs = st.tuples(st.lists(rules.map("".join), max_size=4), actions, st.booleans())

    def check_rules(given_: Any) -> bool:
        chosen, action, skip = given_
        found = Guarding.of(chosen or None, (), action, skip_failed=skip)
        repr(found.record())
        return True

    def check_protected(data: Any) -> bool:
        file = place / "protected.jsonl"
        file.write_bytes(_bytes(data))
        Guarding.of(None, read_facts(file), "soften", skip_failed=False)
        return True

    lines = st.lists(json_changes.map(lambda changes: as_text(changed_json(RECORDS["bluedit"], changes))), max_size=3)
    return [
        Target("guard: rules", inputs, check_rules),
        Target("guard: protected facts", (lines.map("\n".join)) | texts, check_protected),
    ]


# text and measurements


def corpus_targets(place: Path) -> list[Target]:
    """Files of text for key statistics, and items of benchmarks of ability."""
    row = {"text": "It rained in Rome.", "id": 7}
    item = {
        "sentence": "It is good.",
        "label": 1,
        "sentence1": "A.",
        "sentence2": "B.",
        "question": "C?",
        "choices": list("abcd"),
        "answer": 2,
    }
    changed = st.lists(json_changes, max_size=3)

    def check_corpus(given_: Any) -> bool:
        suffix, data = given_
        file = place / f"corpus{suffix}"
        file.write_bytes(_bytes(data) if isinstance(data, str) else data)
        passages_of(file)
        return True

    def check_items(given_: Any) -> bool:
        task, lines = given_
        file = place / "items.jsonl"
        sound = json.dumps(item | ({"label": "entailment"} if task == "nli" else {}))
        file.write_bytes(_bytes("\n".join([sound] * 5 + lines)))
        read_items(task, file)
        return True

    rows = changed.map(lambda all_: "\n".join(as_text(changed_json(row, one)) for one in all_))
    items = changed.map(lambda all_: [as_text(changed_json(item, one)) for one in all_])
    return [
        Target(
            "corpora",
            st.tuples(st.sampled_from((".jsonl", ".json", ".txt")), rows | texts | st.binary(max_size=40)),
            check_corpus,
        ),
        Target(
            "items of ability", st.tuples(st.sampled_from(sorted(TASKS)), items | texts.map(lambda t: [t])), check_items
        ),
    ]


def analysis_target(place: Path) -> Target:
    """The kept stages and the description of an analysis that is continued. A stage that was changed must be computed again."""
    folder, name = place / "analysis", sorted(TABLES)[0]
    about = {"model": "toy", "facts": 2}
    (folder / STAGES).mkdir(parents=True)
    stages = Stages(folder, TABLES, "0")
    rows = _rows_of(TABLES[name])
    stages.get("one", lambda: {name: rows})
    kept, description = folder / STAGES / "one.json", folder / "about.json"
    sound, description_sound = kept.read_bytes(), json.dumps(about).encode()
    whole = repr(stages.get("one", dict))

    def check(given_: Any) -> bool:
        which, changes = given_
        kept.write_bytes(apply(changes, sound) if which else sound)
        description.write_bytes(description_sound if which else apply(changes, description_sound))
        with claimed(folder, about, file="about.json", what="explain", begun=False):
            found = stages.get("one", lambda: {name: rows})
        if repr(found) != whole:
            raise Wrong("a stage that was changed is taken for what was computed")
        return True

    return Target("analyses", st.tuples(st.booleans(), bytes_changes), check)


def _rows_of(kind: Any) -> list[Any]:
    """Two rows of a table, with a value of the right type in each field."""
    values = {"int": 1, "float": 0.25, "str": "France", "bool": True}
    return [kind(**{name: values.get(str(of), 1) for name, of in kind.__annotations__.items()}) for _ in range(2)]


def more_targets(place: Path) -> list[Target]:
    """All of them; their files are in `place`."""
    return [
        *workspace_targets(place),
        *checkpoint_targets(place),
        tuning_target(place),
        *guard_targets(place),
        *corpus_targets(place),
        analysis_target(place),
    ]
