"""The rules of the house that a machine can check: who imports whom, and how long a file may be."""

import ast
from pathlib import Path

import pytest

import bluedit

ROOT = Path(bluedit.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Lowest first; a module may import from its own row and from those before it. The longest matching prefix counts.
ROOMS = (
    ("bluedit.errors", "bluedit.shapes", "bluedit.progress", "bluedit.files", "bluedit.hub"),
    ("bluedit.facts",),
    ("bluedit.method",),  # the pure parts
    ("bluedit.lm",),
    (
        "bluedit.method.targets",
        "bluedit.method.keys",
        "bluedit.method.anchor",
        "bluedit.method.finetune",
        "bluedit.method.targetstore",
    ),
    ("bluedit.evaluate",),
    ("bluedit.editing",),
    ("bluedit.export", "bluedit.report", "bluedit.benchmark"),
    ("bluedit",),  # the public names
    ("bluedit.cli", "bluedit.__main__"),
)
# Methods of a user's object that hand on to a higher room; imported where they are called, so that the order holds on import.
DOORS = {
    ("bluedit.editing.edit", "bluedit.report.tables"),
    ("bluedit.editing.editor", "bluedit.export.checkpoint"),
}


def name_of(file):
    parts = ("bluedit", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def rank(module):
    prefixes = {prefix: i for i, row in enumerate(ROOMS) for prefix in row}
    fitting = [p for p in prefixes if module == p or (module.startswith(p + ".") and p != "bluedit")]
    assert fitting, f"{module} is in no room: add it to ROOMS"
    return prefixes[max(fitting, key=len)]


def imports(tree):
    """(module, whether at the top of the file) of every import of bluedit."""
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        names = (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        for name in names:
            if name and name.split(".")[0] == "bluedit":
                yield name, id(node) in top


def upward(file, tree):
    here = name_of(file)
    return [
        (here, name) for name, top in imports(tree) if rank(name) > rank(here) and (top or (here, name) not in DOORS)
    ]


def tree_of(file):
    return ast.parse(file.read_text("utf-8"))


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_lower_rooms_do_not_import_higher_ones(file):
    assert upward(file, tree_of(file)) == []


def test_the_order_of_rooms_can_fail():
    editing = ROOT / "editing" / "edit.py"
    for file, line, wrong in (
        (ROOT / "facts" / "fact.py", "from bluedit.lm.memory import EditableModel", True),
        (ROOT / "method" / "solve.py", "from bluedit.lm.prompts import Row", True),
        (ROOT / "method" / "solve.py", "from bluedit.method.targets import Targets", True),
        (ROOT / "method" / "targets.py", "from bluedit.lm.prompts import Row", False),
        (ROOT / "lm" / "moments.py", "from bluedit.method.moment import SecondMoment", False),
        (ROOT / "lm" / "moments.py", "import bluedit.editing.editor", True),
        (ROOT / "evaluate" / "report.py", "def f():\n    from bluedit.editing.editor import Editor", True),
        (editing, "from bluedit.report.tables import summary_text", True),
        (editing, "def f():\n    from bluedit.report.tables import summary_text", False),
        (editing, "from bluedit import Fact", True),
    ):
        assert bool(upward(file, ast.parse(line))) is wrong, line


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_relative_imports_and_no_print(file):
    for node in ast.walk(tree_of(file)):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"line {node.lineno}: relative import"
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        assert not called or name_of(file).startswith("bluedit.cli"), (
            f"line {node.lineno}: print below the command line; use logging"
        )


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_are_short(file):
    assert len(file.read_text("utf-8").splitlines()) < 350


def test_every_package_says_what_it_is():
    for file in FILES:
        assert ast.get_docstring(tree_of(file)), f"{name_of(file)} has no docstring"
