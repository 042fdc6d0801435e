"""Loading: GGUF files, checkpoints that are not whole, folders with code of their own."""

import pytest

from bluedit.errors import ModelError
from bluedit.model import loading


def test_another_gguf_file_of_the_same_name_and_size_is_converted_anew(tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    monkeypatch.setenv("BLUEDIT_CACHE", str(tmp_path / "cache"))
    places = []
    monkeypatch.setattr(loading, "write_folder", lambda folder, _write, **_options: places.append(folder))
    for content in (b"one", b"two", b"one"):
        (tmp_path / "model.gguf").write_bytes(content)
        loading._converted(tmp_path / "model.gguf")
    assert places[0] == places[2] != places[1]
    with pytest.raises(ModelError, match="float64, which devices of the kind mps do not have"):
        loading._device("mps")


def test_a_gguf_file_is_parsed_once_while_it_is_converted(monkeypatch):
    gguf, read = pytest.importorskip("gguf"), []
    monkeypatch.setattr(gguf, "GGUFReader", reader := lambda path: read.append(path) or object())
    with loading._parsed_once():
        assert gguf.GGUFReader("a.gguf") is gguf.GGUFReader("a.gguf") is not gguf.GGUFReader("b.gguf")
    assert read == ["a.gguf", "b.gguf"]
    assert gguf.GGUFReader is reader
