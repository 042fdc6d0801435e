"""An edited model saved as an ordinary checkpoint: whole or not at all, and never over something else."""

import errno
from pathlib import Path

import pytest
import torch
from editing_help import bits, edit, make_editor, same_bits
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from bluedit.errors import ModelError
from bluedit.export.checkpoint import save_checkpoint
from toys import FACTS, files_in

BOTH = pytest.mark.parametrize("family", ["llama", "gpt2"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=["f64", "f32", "bf16"])


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
    before = files_in(tmp_path)
    for place in (tmp_path / "file", tmp_path / "folder"):
        with pytest.raises(ModelError) as caught:
            editor.save_model(place)
        assert str(caught.value) == (
            f"{place} exists already; choose a new folder for the edited model, or remove that one first"
        )
    assert files_in(tmp_path) == before
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
