"""A toy model as a folder and a patch of it, made once."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from cli_help import FACT, edit

from toys import toy_llama, toy_tokenizer


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A toy Llama as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("models") / "toy"
    toy_llama(dtype=torch.float32).save_pretrained(folder)
    toy_tokenizer(bos=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def patch(model, tmp_path_factory) -> Path:
    """A patch of it with two facts."""
    folder = tmp_path_factory.mktemp("patches")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BLUEDIT_CACHE", str(folder / "cache"))
        edit(model, folder / "patch", "-f", FACT, "-f", "The capital of {France} is => Rome")
    return folder / "patch"


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    """A terminal of 80 columns, and no log handler that outlives the runner's streams."""
    monkeypatch.setenv("COLUMNS", "80")
    before = list(logging.root.handlers)
    yield
    for handler in list(logging.root.handlers):
        if handler not in before:
            logging.root.removeHandler(handler)


@pytest.fixture
def mess(tmp_path) -> Path:
    """A folder of files that no command may touch."""
    (tmp_path / "facts.bin").write_bytes(b"abc\0def")
    (tmp_path / "empty.jsonl").write_text("")
    record = {
        "prompt": "The mother tongue of Danielle is",
        "subject": "Darrieux",
        "target_new": "English",
        "ground_truth": "French",
    }
    (tmp_path / "easyedit.json").write_text(json.dumps([record]))
    return tmp_path
