"""Exporting an edited checkpoint: only the files that hold edited tensors are written anew."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from export_help import SHARD, card_data, edited, read_json, saved, toy_patch, without_modules
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from bluedit import Editor
from bluedit.errors import ExportError, ModelError
from bluedit.export.base import BaseModel, parameter_key
from bluedit.export.export import export_patch
from bluedit.methods.filters import CapSpectrum, Sparsify
from bluedit.model.loading import load
from families import FAMILIES
from toys import FACTS, files_in, toy_tokenizer

FEW = {"layers": [0, 1], "objective.steps": 2, "contexts.count": 1}


def same(folder, lm) -> bool:
    found = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    due = lm.model.state_dict()
    tied = found.get_output_embeddings().weight is found.get_input_embeddings().weight
    return tied and all(torch.equal(value, due[name]) for name, value in found.state_dict().items())


@pytest.mark.parametrize(
    ("family", "dtype", "filters"),
    [
        ("llama", torch.bfloat16, ()),
        ("gpt2-square", torch.float32, (Sparsify(feedback=True),)),
        ("llama", torch.float32, (CapSpectrum(),)),
    ],
)
def test_sharded(family, dtype, filters, tmp_path):
    base = saved(tmp_path / "base", family, dtype=dtype, shard=SHARD if dtype == torch.float32 else "20KB")
    before, patch = files_in(base), toy_patch(base, filters=filters, size=0.3)
    done = export_patch(patch, "checkpoint", tmp_path / "new" / "out")
    out = done.path
    assert same(out, edited(base, patch))
    assert files_in(base) == before  # the base is only read
    index = read_json(base / "model.safetensors.index.json")
    assert read_json(out / "model.safetensors.index.json") == index
    keys = [
        key
        for key in index["weight_map"]
        if any(f".{i}.mlp.{p}" in key for i in (1, 3) for p in ("down_proj.w", "c_proj.w"))
    ]
    changed = {index["weight_map"][key] for key in keys}
    files = set(index["weight_map"].values())
    assert len(keys) == 2 and changed < files
    for file in files:
        assert (base / file).samefile(out / file) == (file not in changed)
    assert f"{len(files - changed)} of {len(files)} weight files are shared" in done.notes[-1]
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja", "notes/a.txt"):
        assert (out / name).read_bytes() == before[name]
    assert not (out / ".hidden").exists()
    assert AutoTokenizer.from_pretrained(out).chat_template
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["out"]


def test_one_file_and_a_patch_without_names(tmp_path):
    base = saved(tmp_path / "base")
    patch = toy_patch(base)
    export_patch(without_modules(patch), "checkpoint", tmp_path / "out", copy=True)
    assert same(tmp_path / "out", edited(base, patch))


def test_the_card(tmp_path):
    base = saved(tmp_path / "base")
    export_patch(toy_patch(base), "checkpoint", tmp_path / "out", base_model="org/base")
    assert card_data(tmp_path / "out") == {
        "base_model": "org/base",
        "base_model_relation": "finetune",
        "library_name": "transformers",
        "license": "cc-by-4.0",
        "tags": ["bluedit", "knowledge-editing"],
    }
    text = (tmp_path / "out" / "README.md").read_text("utf-8")
    for part in (
        "2 facts",
        "memit-seq-blue",
        "10.00 before, 10.10 after (+1.00%)",
        "1 of 1",
        "| The capital of France is | Rome |",
    ):
        assert part in text, part
    assert "# The base" in (tmp_path / "out" / "BASE_MODEL_README.md").read_text("utf-8")
    assert str(tmp_path) not in text
    export_patch(toy_patch(base), "checkpoint", tmp_path / "stripped", strip=True)
    text = (tmp_path / "stripped" / "README.md").read_text("utf-8")
    assert "2 facts" in text and "Rome" not in text and "base_model" not in card_data(tmp_path / "stripped")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_rounding_does_to_a_change_is_said(dtype, tmp_path):
    base = saved(tmp_path / "base", dtype=dtype)
    patch = toy_patch(base, size=0.02)
    done = export_patch(patch, "checkpoint", tmp_path / "out")
    found = [note for note in done.notes if "rounding" in note]
    assert bool(found) == (dtype == torch.bfloat16)
    if found:
        share = int(re.search(r"up to (\d+)% of its norm", found[0])[1])
        worst = 0.0
        for layer in (1, 3):
            before, after = (lm.projection(layer).matrix().double() for lm in (load(str(base)), load(str(done.path))))
            total = sum(u.R.double() @ u.A.double() for b in patch.batches for u in b.updates if u.layer == layer)
            worst = max(worst, float((after - before - total).norm() / total.norm()))
        assert (
            share == round(100 * worst) > 0
            and "bfloat16" in found[0]
            and found[0] in (done.path / "README.md").read_text()
        )


@pytest.mark.parametrize("shards", [1, 2])
def test_pickled_weights_become_safetensors(shards, tmp_path):
    base = saved(tmp_path / "base")
    patch = toy_patch(base)
    state = AutoModelForCausalLM.from_pretrained(base, dtype="auto").state_dict()
    (base / "model.safetensors").unlink()
    names = sorted(state)  # lm_head.weight and model.embed_tokens.weight share their memory
    if shards == 1:
        torch.save(state, base / "pytorch_model.bin")
    else:
        files = {name: f"pytorch_model-0000{1 + (i > 20)}-of-00002.bin" for i, name in enumerate(names)}
        for file in set(files.values()):
            torch.save({name: state[name] for name in names if files[name] == file}, base / file)
        index = {"metadata": {"total_size": 1}, "weight_map": files}
        (base / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    done = export_patch(patch, "checkpoint", tmp_path / "out")
    assert done.notes[0] == "The base model's weights were pickle files (.bin); here they are safetensors."
    assert not list((tmp_path / "out").glob("*.bin*"))
    assert same(tmp_path / "out", edited(base, patch))


def test_unedited_weights_in_other_forms_stay_behind(tmp_path):
    base = saved(tmp_path / "base")
    for name in ("tf_model.h5", "notes/model.onnx", "pytorch_model.bin"):
        (base / name).write_bytes(b"x")
    done = export_patch(toy_patch(base), "checkpoint", tmp_path / "out")
    assert (
        "Left out, since they hold the unedited weights: pytorch_model.bin, tf_model.h5, notes/model.onnx."
        in done.notes
    )
    assert not {"tf_model.h5", "notes/model.onnx", "pytorch_model.bin"} & files_in(tmp_path / "out").keys()


def test_the_fingerprint_is_the_loaded_models(tmp_path):
    base = saved(tmp_path / "base", "gpt2")
    patch = toy_patch(base)
    assert BaseModel(str(base)).fingerprint("float32") == patch.base.fingerprint
    other = saved(tmp_path / "other", "gpt2", seed=1)
    with pytest.raises(
        ExportError, match=r"the patch was made for other weights: .* in float32. Name that model with --model"
    ):
        export_patch(patch, "checkpoint", tmp_path / "out", model=str(other))
    assert not (tmp_path / "out").exists()
    export_patch(patch, "checkpoint", tmp_path / "out", model=str(other), force=True)


def test_keys_of_parameters():
    keys = ["h.0.mlp.c_proj.weight", "h.10.mlp.c_proj.weight", "lm.model.layers.0.w", "vision.layers.0.w"]
    assert parameter_key("transformer.h.0.mlp.c_proj.weight", keys) == keys[0]
    assert parameter_key("model.layers.0.w", keys) == keys[2]
    assert parameter_key("text.layers.0.w", keys) is None  # two end so
    assert parameter_key("other.weight", keys) is None


def test_refusals_leave_nothing(tmp_path, monkeypatch):
    base = saved(tmp_path / "base")
    patch = toy_patch(base)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    for message, error, arguments in (
        ("there is no form of export 'lorra'; did you mean 'lora'", ExportError, ("lorra", tmp_path / "out", {})),
        (
            "the form checkpoint has no option rank; it is one of",
            ExportError,
            ("checkpoint", tmp_path / "out", {"rank": 8}),
        ),
        ("dtype cannot be 'int4'; choose one of", ExportError, ("lora", tmp_path / "out", {"dtype": "int4"})),
        ("taken exists already; choose a new folder", ExportError, ("checkpoint", taken, {})),
        ("there is no model './nowhere'", ModelError, ("checkpoint", tmp_path / "out", {"model": "./nowhere"})),
    ):
        to, out, options = arguments
        with pytest.raises(error, match=message):
            export_patch(patch, to, out, **options)
    monkeypatch.setattr(
        "bluedit.export.merged.shutil.copyfile",
        lambda source, to: (_ for _ in ()).throw(OSError(28, "No space left on device", source, None, to)),
    )
    monkeypatch.setattr(
        "bluedit.editing._folder.write_file", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    for to in ("checkpoint", "patch"):
        with pytest.raises(
            ExportError, match=r"cannot write \S+/out: No space left on device; nothing was written there"
        ):
            export_patch(patch, to, tmp_path / "out")
    assert {f.name for f in tmp_path.iterdir()} == {"base", "taken"}


def test_a_model_with_images(tmp_path):
    family = next(one for one in FAMILIES if one.kind == "llava")
    family.make().save_pretrained(tmp_path / "base")
    toy_tokenizer().save_pretrained(tmp_path / "base")
    editor = Editor.load(str(tmp_path / "base"), tokens=480)
    edit = editor.edit(FACTS[:1], "memit-seq-blue", settings=FEW, known="edit", report=False)
    out = export_patch(edit.patch, "checkpoint", tmp_path / "out").path
    found = AutoModelForImageTextToText.from_pretrained(out, dtype="auto").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in editor.model.state_dict().items())


@pytest.mark.parametrize(
    ("about", "text"),
    [
        ({"modules": {"x": "a.1"}}, "the patch's description of its edits cannot be read"),
        ({"modules": [1]}, "the patch's description of its edits cannot be read"),
        ({"versions": "abc"}, "the patch's description of its edits cannot be read"),
        ({"modules": {"1": "model.layers.2.mlp.down_proj", "3": "model.layers.3.mlp.down_proj"}}, "layer 1 is model"),
    ],
)
def test_forged_descriptions(about, text, tmp_path):
    base = saved(tmp_path / "base")
    patch = toy_patch(base)
    batches = tuple(replace(one, origin=replace(one.origin, about=one.origin.about | about)) for one in patch.batches)
    with pytest.raises(ExportError, match=text):
        export_patch(replace(patch, batches=batches), "checkpoint", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_index_cannot_name_files_elsewhere(tmp_path):
    base = saved(tmp_path / "base", shard=SHARD)
    patch = toy_patch(base)
    file = base / "model.safetensors.index.json"
    index = read_json(file)
    index["weight_map"]["model.norm.weight"] = "../secret.safetensors"
    file.write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"names '../secret.safetensors', which is not a file in its own folder"):
        export_patch(patch, "checkpoint", tmp_path / "out", force=True)
