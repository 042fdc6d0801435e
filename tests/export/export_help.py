"""Toy models on disk, patches of random factors, and the edited model they should give."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from bluedit import Editor, Patch
from bluedit.editing.patch import Base
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import weights_fingerprint
from bluedit.model.loading import load
from bluedit.writing.batch import Batch, Origin, Update
from toys import FACTS, FAMILIES, toy_tokenizer

SHARD = "40KB"


def saved(folder: Path, family: str = "llama", *, dtype=torch.float32, shard: str = "5GB", **options) -> Path:
    """A toy as a checkpoint, with files of its own besides weights."""
    model = FAMILIES[family](dtype=dtype, **options)
    model.generation_config.max_new_tokens = 7
    model.save_pretrained(folder, max_shard_size=shard)
    tokenizer = toy_tokenizer(bos=True)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("mine")
    (folder / ".hidden").write_text("no")
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\nbase_model: some/other\n---\n# The base\n")
    return folder


def toy_patch(base: Path, layers=(1, 3), filters=(), batches: int = 2, columns: int = 2, size: float = 0.1) -> Patch:
    """Random batches for a toy."""
    lm = load(str(base))
    generator = torch.Generator().manual_seed(0)
    made = []
    for number in range(batches):
        updates = []
        for layer in layers:
            d_value, d_key = lm.projection(layer).matrix().shape
            R, A, keys = (
                torch.randn(shape, generator=generator)
                for shape in ((d_value, columns), (columns, d_key), (d_key, columns))
            )
            updates.append(Update(layer, R * size, A * size, keys, torch.ones(columns)))
        origin = Origin(
            "memit-seq-blue",
            "https://arxiv.org/abs/2210.07229",
            {},
            prefixes=("It rained.",),
            about={
                "modules": {str(layer): lm.projection(layer).name for layer in layers},
                "created": f"2026-01-0{number + 1}",
                "versions": {"bluedit": "0.1.0"},
            },
            report={"facts": [{"says_after": True}], "perplexity_before": 10.0, "perplexity_after": 10.1},
        )
        facts = FACTS[number : number + 1]
        made.append(Batch(facts, tuple(updates), tuple(filters), origin))
    dtype = str(lm.dtype).removeprefix("torch.")
    return Patch(Base(str(base), weights_fingerprint(lm.model), dtype, True), tuple(made))


def edited(base: Path, patch: Patch) -> EditableModel:
    """The model that the patch makes of its base."""
    editor = Editor(load(str(base)))
    editor.apply(patch)
    return editor.lm


def without_modules(patch: Patch) -> Patch:
    """The patch without the names of its projections, as a person may make one."""
    return replace(patch, batches=tuple(replace(batch, origin=Origin()) for batch in patch.batches))


def card_data(folder: Path) -> dict:
    """The metadata of a card, read as the hub reads it."""
    from huggingface_hub import ModelCard

    return ModelCard.load(folder / "README.md").data.to_dict()


def read_json(file: Path):
    return json.loads(file.read_text("utf-8"))
