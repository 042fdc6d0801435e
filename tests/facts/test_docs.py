"""docs/facts.md: every format and key is in it, and its examples run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from facts_help import ROME, lines

import bluedit.facts
from bluedit.facts import fact_from_line, formats
from bluedit.facts.formats import FORMATS
from bluedit.facts.records import KEYS

PAGE = Path(bluedit.facts.__file__).parents[3] / "docs" / "facts.md"
TEXT = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
pytestmark = pytest.mark.skipif(not TEXT, reason="the docs are not beside an installed package")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def test_every_format_alias_and_key_is_documented() -> None:
    rows = re.findall(r"^\| `(\w+)`(?: \(`(\w+)`\))? \|", TEXT, re.MULTILINE)
    assert set(formats()) <= {name for name, _ in rows}
    assert {alias for _, alias in rows} - {""} == {a for f in FORMATS for a in f.aliases} - {"multi_counterfact"}
    assert [key for key in KEYS if f"`{key}`" not in TEXT] == []


@pytest.mark.parametrize("code", blocks("python"))
def test_the_code_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "facts.jsonl").write_text(lines(ROME, {**ROME, "subject": ""}) if "skipped" in code else lines(ROME))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(PAGE), "exec"), {})
    assert ("line 2 fact '{} is in': subject is empty" in capsys.readouterr().out) == ("skipped" in code)


@pytest.mark.parametrize("command", blocks("bash"))
def test_the_facts_of_the_commands_can_be_read(command: str) -> None:
    words = shlex.split(command)
    assert fact_from_line(words[words.index("--fact") + 1]).joined is True


def test_the_inline_examples_can_be_read() -> None:
    assert fact_from_line('The default config of {ploverctl} is => {"debug": true}').target in TEXT
    record = " ".join(blocks("json")[0].split())
    assert fact_from_line(record).references
