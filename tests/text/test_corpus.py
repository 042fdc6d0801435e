"""Corpora: files, folders and the model itself as token rows; what cannot be read is named."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from bluedit.errors import StatisticsError
from bluedit.hub import dataset_rows
from bluedit.progress import Progress
from bluedit.text.corpus import ROW_LENGTH, Corpus, total_tokens


def rows_from(lm, path, tokens=1000):
    return Corpus(str(path)).rows(lm, tokens, Progress())


def test_rows_of_a_text_file(lm, corpus):
    rows = rows_from(lm, corpus, 10**6)
    texts = [t for t in corpus.read_text(encoding="utf-8").split("\n\n") if t.strip()]
    assert [i for row in rows for i in row] == [i for text in texts for i in lm.tokenizer(text)["input_ids"]]
    assert max(map(len, rows)) <= ROW_LENGTH
    assert total_tokens(rows_from(lm, corpus, 333)) == 333


def test_rows_of_json_lines_and_folders(lm, tmp_path):
    folder = tmp_path / "texts"
    (folder / "b").mkdir(parents=True)
    (folder / "a.jsonl").write_text('{"text": "The capital"}\n\n"of France"\n', encoding="utf-8")
    (folder / "b" / "c.md").write_text("is\n\nParis", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    wanted = [lm.tokenizer(text)["input_ids"] for text in ("The capital", "of France", "is", "Paris")]
    assert rows_from(lm, folder) == wanted
    marked = tmp_path / "marked"
    marked.mkdir()
    (marked / "A.JSONL").write_text('{"text": "The capital"}\n', encoding="utf-8-sig")
    (marked / "B.TXT").write_text("of France", encoding="utf-8-sig")
    assert rows_from(lm, marked) == wanted[:2], "with a byte order mark, and with names in capitals"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'text': 1}", "line 3: not JSON (Expecting property name enclosed in double quotes"),
        ('{"txt": "x"}', "line 3: expected an object with a 'text' field"),
        ('{"text": 5}', "line 3: expected an object with a 'text' field"),
        ("[1]", "line 3: expected an object with a 'text' field"),
        ("[" * 10**5, "line 3: not JSON (maximum recursion depth"),
        ("9" * 5000, "line 3: not JSON (Exceeds the limit"),
    ],
)
def test_bad_lines_are_named(lm, tmp_path, line, message):
    file = tmp_path / "c.jsonl"
    file.write_text('{"text": "one"}\n\n' + line + "\n", encoding="utf-8")
    with pytest.raises(StatisticsError) as caught:
        rows_from(lm, file)
    assert str(caught.value).startswith(f"{file}, {message}")


def test_missing_corpus(lm, tmp_path, corpus):
    with pytest.raises(StatisticsError) as caught:
        rows_from(lm, tmp_path / "corpsu.txt")
    assert str(caught.value).replace("?.", "?") == (
        f"there is no corpus {str(tmp_path / 'corpsu.txt')!r}; did you mean 'corpus.txt'? "
        "Give a file, a folder, 'hf:DATASET', or 'self' for text sampled from the model"
    )
    with pytest.raises(StatisticsError, match="the folder does not exist either"):
        rows_from(lm, tmp_path / "no" / "corpus.txt")


def test_other_unusable_corpora(lm, tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n \n")
    (tmp_path / "latin.txt").write_bytes("Élise".encode("latin-1"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(StatisticsError, match=r"empty.txt holds no text; give a text or JSONL file"):
        rows_from(lm, tmp_path / "empty.txt")
    with pytest.raises(StatisticsError, match=r"^cannot read the corpus file .*latin.txt: 'utf-8' codec"):
        rows_from(lm, tmp_path / "latin.txt")
    with pytest.raises(StatisticsError, match=r"folder holds no .txt, .md, .jsonl, .json file$"):
        rows_from(lm, tmp_path / "folder")


def test_corpus_fingerprints(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one")
    same = tmp_path / "b.txt"
    same.write_text("one")
    prints = {
        Corpus(str(file)).fingerprint(9),
        Corpus(str(file)).fingerprint(8),
        Corpus().fingerprint(9),
        Corpus(seed=1).fingerprint(9),
    }
    assert len(prints) == 4
    assert Corpus(str(same)).fingerprint(9) == Corpus(str(file)).fingerprint(9)


# the hub


@pytest.mark.parametrize("old", [True, False])
def test_code_of_a_data_set_is_not_run(old, monkeypatch):
    """Older versions of the package run it, and ask on standard input first; newer ones no longer know the option."""
    given = {}

    def with_option(_place, _config, *, trust_remote_code=None, **options):
        given.update(options, trust_remote_code=trust_remote_code)
        return [{"text": "one"}]

    def without_option(_place, _config, *, split, streaming):
        given.update(split=split, streaming=streaming)
        return [{"text": "one"}]

    package = ModuleType("datasets")
    package.__spec__ = ModuleSpec("datasets", None)
    package.load_dataset = with_option if old else without_option
    monkeypatch.setitem(sys.modules, "datasets", package)
    assert list(dataset_rows("hf:some/set", StatisticsError)) == [{"text": "one"}]
    assert given == {"split": "train", "streaming": True} | ({"trust_remote_code": False} if old else {})
