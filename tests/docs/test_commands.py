"""Every command line that the documentation shows is one that bluedit has: its command, its options and their values."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from bluedit.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def command_lines(text):
    """What follows `bluedit` in code blocks: lines that begin with it, with their continuations, comments and pipes taken off."""
    fenced = [body for _, body in re.findall(r"^```(|bash|sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = [line[4:] for line in outside.replace("\\\n", "").splitlines() if line.startswith("    ")]
    found = []
    for line in [*"\n".join(fenced).replace("\\\n", "").splitlines(), *indented]:
        words = shlex.split(line, comments=True) if line.lstrip("$ ").startswith("bluedit ") else []
        if words:
            words = words[words.index("bluedit") + 1 :]
            end = next((i for i, word in enumerate(words) if word in ("|", ">", "&&", ";")), len(words))
            found.append(words[:end])
    return found


def parse(words):
    """Raises click's error unless these are the words of a command; nothing is run."""
    group = get_command(app)
    context = group.context_class(group, info_name="bluedit")
    context.params["workspace"] = words[1] if words[0] == "-C" else None
    name, command, rest = group.resolve_command(context, list(words[2:] if words[0] == "-C" else words))
    command.make_context(name, rest, parent=context)


COMMANDS = [
    pytest.param(words, id=f"{page.name}-{' '.join(words)[:60]}")
    for page in PAGES
    for words in command_lines(page.read_text("utf-8"))
    if words[0] == "-C" or not words[0].startswith("-")
]


def test_there_are_commands_to_parse():
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("words", COMMANDS)
def test_the_command_line_is_one_of_bluedits(words):
    if words[1:] and any("..." in word for word in words):
        pytest.skip("an outline, not a command")
    parse(words)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("edti --fact x", "No such command 'edti'"),
        ("edit --factt x", "No such option: --factt"),
        ("edit --facts f --limit many", "--limit"),
    ],
)
def test_wrong_ones_are_noticed(line, message):
    """Classes of click lie in another package in newer typers, so the error is known by its words."""
    with pytest.raises(Exception, match=r"No such|valid") as raised:
        parse(line.split())
    assert message in raised.value.format_message()


def test_where_commands_are_found():
    text = "a\n\n    bluedit edit \\\n        --fact x  # why\n    other\n\n```\nbluedit ask hi > file\nelse\n```\n```python\nbluedit no\n```\n"
    assert command_lines(text) == [["ask", "hi"], ["edit", "--fact", "x"]]
