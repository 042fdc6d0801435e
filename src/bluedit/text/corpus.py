"""Ordinary text for key statistics as token rows: from files, a Hugging Face data set, or the model itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bluedit.errors import StatisticsError, did_you_mean
from bluedit.files import expanded
from bluedit.hub import PREFIX, dataset_rows
from bluedit.methods.preserve import CHAT, NAMES
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import text_fingerprint
from bluedit.progress import Progress
from bluedit.text.chat import chat_head
from bluedit.text.names import name_rows, names_fingerprint
from bluedit.text.sampling import sample_rows

ROW_LENGTH = 256
SAMPLED_LENGTH = 32
_TURN_LENGTH = 64
_SAMPLER = 3  # version of the sampler: another one gives other text for the same seed
_SUFFIXES = (".txt", ".md", ".jsonl", ".json")


@dataclass(frozen=True)
class Corpus:
    """A named source of text.

    Attributes:
        name: "self" (sampled from the model), a file or folder, or "hf:DATASET" (or "hf:DATASET:CONFIG", "hf:DATASET:CONFIG:SPLIT");
            "bundled:names" for prompts that end with a well-known name, whose last tokens alone count; "model:chat" for chat turns that the
            model writes.
        seed: of the sampling, for what the model writes.
    """

    name: str = "self"
    seed: int = 0

    @property
    def _source(self) -> _Source:
        if self.name.startswith(PREFIX):
            return _DataSet(self)
        return _NAMED.get(self.name, _Files)(self)

    @property
    def last_only(self) -> bool:
        """Whether only the last token of each row counts."""
        return self._source.last_only

    @property
    def is_extra(self) -> bool:
        """Whether its statistics are only ever added to those of other text, so that they may have few tokens."""
        return self._source.is_extra

    @property
    def sampled(self) -> bool:
        """Whether the model writes the text itself."""
        return self._source.sampled

    def fingerprint(self, tokens: int) -> str:
        """Fingerprint of the first `tokens` tokens of text.

        Raises:
            StatisticsError: a file or folder that does not exist or cannot be read.
        """
        return self._source.fingerprint(tokens)

    def rows(self, lm: EditableModel, tokens: int, progress: Progress) -> list[list[int]]:
        """Token rows of at most ROW_LENGTH tokens (SAMPLED_LENGTH for "self"), `tokens` in all, or fewer if the text ends first.

        Raises:
            StatisticsError: the text cannot be read or is empty.
        """
        return self._source.rows(lm, tokens, progress)


@dataclass(frozen=True)
class _Source:
    """Where the text of a corpus comes from. Interface."""

    corpus: Corpus
    last_only: ClassVar[bool] = False
    is_extra: ClassVar[bool] = False
    sampled: ClassVar[bool] = False

    def fingerprint(self, tokens: int) -> str:
        raise NotImplementedError

    def rows(self, lm: EditableModel, tokens: int, progress: Progress) -> list[list[int]]:
        raise NotImplementedError


class _Names(_Source):
    """Prompts that end with a well-known name."""

    last_only = True
    is_extra = True

    def fingerprint(self, tokens: int) -> str:  # noqa: ARG002
        return text_fingerprint(NAMES, names_fingerprint())

    def rows(self, lm: EditableModel, tokens: int, progress: Progress) -> list[list[int]]:  # noqa: ARG002
        return name_rows(lm)


class _Self(_Source):
    """Text sampled from the model."""

    sampled = True

    def fingerprint(self, tokens: int) -> str:
        return text_fingerprint("self", _SAMPLER, self.corpus.seed, SAMPLED_LENGTH, tokens)

    def rows(self, lm: EditableModel, tokens: int, progress: Progress) -> list[list[int]]:
        length = min(SAMPLED_LENGTH, lm.max_length)
        count = max(1, -(-tokens // length))
        return sample_rows(lm, count, length, seed=self.corpus.seed, progress=progress).tolist()


class _Chat(_Source):
    """Chat turns, a user's and the beginning of the assistant's, that the model writes after the beginning of its chat template.

    That a chat model writes its users' questions, too, when it is given the template alone is Magpie's idea (arXiv 2406.08464).
    """

    sampled = True
    is_extra = True

    def fingerprint(self, tokens: int) -> str:
        return text_fingerprint(CHAT, _SAMPLER, self.corpus.seed, _TURN_LENGTH, tokens)

    def rows(self, lm: EditableModel, tokens: int, progress: Progress) -> list[list[int]]:
        head = chat_head(lm.tokenizer) or []
        length = min(len(head) + _TURN_LENGTH, lm.max_length)
        count = max(1, -(-tokens // length))
        return sample_rows(lm, count, length, seed=self.corpus.seed, start=head, progress=progress).tolist()


class _Files(_Source):
    """A file, or those of a folder."""

    def fingerprint(self, tokens: int) -> str:
        digest = hashlib.blake2b(digest_size=12)
        for file in _files(self.corpus.name):
            try:
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "blake2b").digest())
            except OSError as error:
                raise StatisticsError(f"cannot read the corpus file {file}: {error.strerror or error}") from error
        return text_fingerprint(digest.hexdigest(), tokens)

    def rows(self, lm: EditableModel, tokens: int, progress: Progress) -> list[list[int]]:  # noqa: ARG002
        rows, found, length = [], 0, min(ROW_LENGTH, lm.max_length)
        for text in _texts(self.corpus.name):
            ids = lm.tokenizer(text, truncation=False)["input_ids"]
            for start in range(0, len(ids), length):
                row = ids[start : start + length][: tokens - found]
                rows.append(row)
                found += len(row)
                if found >= tokens:
                    return rows
        if not rows:
            raise StatisticsError(
                f"the corpus {self.corpus.name} holds no text; give a text or JSONL file with a 'text' field, a folder of them, or 'self'"
            )
        return rows


class _DataSet(_Files):
    """A data set of the hub."""

    def fingerprint(self, tokens: int) -> str:
        return text_fingerprint(self.corpus.name, tokens)


_NAMED: Mapping[str, type[_Source]] = {NAMES: _Names, CHAT: _Chat, "self": _Self}


def passages_of(file: Path) -> list[str]:
    """All texts of a file or folder.

    Raises:
        StatisticsError: it does not exist or is no text.
    """
    return list(_texts(str(file)))


def _files(name: str) -> list[Path]:
    path = expanded(name)
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix.lower() in _SUFFIXES and f.is_file())
        if not files:
            raise StatisticsError(f"the corpus folder {name} holds no {', '.join(_SUFFIXES)} file")
        return files
    if path.is_file():
        return [path]
    near = [f.name for f in path.parent.glob("*")] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, near) if near else "the folder does not exist either"
    raise StatisticsError(
        f"there is no corpus {name!r}; {hint}. Give a file, a folder, 'hf:DATASET', or 'self' for text sampled from the model"
    )


def _texts(name: str) -> Iterator[str]:
    if name.startswith(PREFIX):
        yield from _dataset_texts(name)
        return
    for file in _files(name):
        try:
            if file.suffix.lower() in (".jsonl", ".json"):
                yield from _json_texts(file)
            else:
                yield from (part for part in file.read_text(encoding="utf-8-sig").split("\n\n") if part.strip())
        except (OSError, UnicodeDecodeError) as error:
            raise StatisticsError(f"cannot read the corpus file {file}: {error}") from error


def _json_texts(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise StatisticsError(
                    f"{file}, line {number}: not JSON ({error}); a JSONL corpus has one object a line"
                ) from error
            text = record if isinstance(record, str) else record.get("text") if isinstance(record, dict) else None
            if not isinstance(text, str):
                raise StatisticsError(f"{file}, line {number}: expected an object with a 'text' field")
            if any("\ud800" <= c <= "\udfff" for c in text):
                raise StatisticsError(
                    f"{file}, line {number}: its text has half a surrogate pair; write the character itself"
                )
            yield text


def _dataset_texts(name: str) -> Iterator[str]:
    return (_text_field(row, name) for row in dataset_rows(name, StatisticsError))


def _text_field(record: dict[str, Any], name: str) -> str:
    text = record.get("text")
    if not isinstance(text, str):
        raise StatisticsError(f"the dataset {name} has no 'text' column, only {', '.join(record)}; use another one")
    return text


def total_tokens(rows: Sequence[Sequence[int]]) -> int:
    """Number of tokens in all rows."""
    return sum(map(len, rows))
