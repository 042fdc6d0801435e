"""The rules of the architecture that a machine can check: who imports whom, what is private, how long files and functions may be."""

import ast
from functools import cache
from pathlib import Path

import pytest

import bluedit

ROOT = Path(bluedit.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Lowest first. A module may import from its own package and from those before it. "" is `bluedit` itself, the public names.
PACKAGES = (
    *(
        "errors",
        "options",
        "execution",
        "shapes",
        "terminal",
        "progress",
        "interrupts",
        "files",
        "places",
        "tensors",
        "decoding",
        "hub",
        "markdown",
        "spacing",
    ),
    *("facts", "maths", "methods", "model", "text", "forward", "statistics", "writing"),
    *("export", "evaluate", "editing", "page", "benchmark", "explain", "tuning", "", "cli", "__main__"),
)
MOST_LINES, MOST_LINES_OF_A_FUNCTION, LONGEST_CHAIN = 300, 40, 12


def name_of(file):
    parts = ("bluedit", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in FILES}


def package_of(module):
    return module.split(".")[1] if "." in module else ""


def place(module):
    assert package_of(module) in PACKAGES, f"{module} is in no known package: add it to PACKAGES"
    return PACKAGES.index(package_of(module))


@cache
def tree_of(file):
    return ast.parse(file.read_text("utf-8"))


def imports(tree, *, loaded_only=False):
    """Names of every bluedit module that a file imports; with `loaded_only`, only those that are loaded when the file is."""
    nodes = list(tree.body) if loaded_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in inner}
    return {name for name in found if name.split(".")[0] == "bluedit"}


def upward(here, tree):
    return sorted(name for name in imports(tree) if place(name) > place(here))


def foreign_private(here, tree):
    """Private modules and names of another package that a file uses."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bluedit":
            if node.module.rpartition(".")[0] == here or here.startswith(node.module.rpartition(".")[0] + "."):
                private_module = False
            else:
                private_module = any(part.startswith("_") and part != "__main__" for part in node.module.split("."))
            found += [node.module] * private_module
            found += [
                f"{node.module}.{a.name}"
                for a in node.names
                if a.name.startswith("_") and f"{node.module}.{a.name}" not in MODULES
            ]
    return found


@pytest.mark.parametrize("module", MODULES)
def test_lower_packages_do_not_import_higher_ones(module):
    assert upward(module, tree_of(MODULES[module])) == []


@pytest.mark.parametrize("module", MODULES)
def test_private_modules_and_names_stay_in_their_package(module):
    assert foreign_private(module, tree_of(MODULES[module])) == []


def test_the_rules_can_fail():
    for module, line, wrong in (
        ("bluedit.facts.fact", "from bluedit.model.editable import EditableModel", True),
        ("bluedit.maths.solve", "from bluedit.text.rows import Row", True),
        ("bluedit.maths.solve", "from bluedit.writing.targets import Targets", True),
        ("bluedit.writing.targets", "from bluedit.text.rows import Row", False),
        ("bluedit.evaluate.report", "def f():\n    from bluedit.editing.editor import Editor", True),
        ("bluedit.editing.edit", "from bluedit import Fact", True),
    ):
        assert bool(upward(module, ast.parse(line))) is wrong, line
    for module, line, wrong in (
        ("bluedit.writing.loop", "from bluedit.forward._suffix import SuffixRunner", True),
        ("bluedit.forward", "from bluedit.forward._suffix import SuffixRunner", False),
        ("bluedit.forward._runner", "from bluedit.forward._suffix import SuffixRunner", False),
        ("bluedit.forward._runner", "from bluedit.forward._suffix import _Pass", True),
    ):
        assert bool(foreign_private(module, ast.parse(line))) is wrong, line


def test_no_circles_and_no_long_chains():
    graph = {m: sorted(imports(tree_of(f), loaded_only=True) & MODULES.keys() - {m}) for m, f in MODULES.items()}
    longest, memo = (), {}

    def walk(module, path):
        assert module not in path, f"a circle of imports: {' -> '.join((*path[path.index(module) :], module))}"
        if module not in memo:
            below = [walk(other, (*path, module)) for other in graph[module]]
            memo[module] = (module, *max(below, key=len, default=()))
        return memo[module]

    longest = max((walk(module, ()) for module in MODULES), key=len)
    assert len(longest) <= LONGEST_CHAIN, " -> ".join(longest)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_relative_imports_and_no_print(file):
    for node in ast.walk(tree_of(file)):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"line {node.lineno}: relative import"
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        assert not called or name_of(file).startswith("bluedit.cli"), (
            f"line {node.lineno}: print below the command line; use logging"
        )


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_and_functions_are_short(file):
    assert len(file.read_text("utf-8").splitlines()) <= MOST_LINES
    for node in ast.walk(tree_of(file)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = (
                node.body[1:] if ast.get_docstring(node) is not None else node.body
            )  # a signature may be a table of options
            lines = node.end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= MOST_LINES_OF_A_FUNCTION, f"{node.name} has {lines} lines"


def test_every_module_has_a_docstring():
    for file in FILES:
        assert ast.get_docstring(tree_of(file)), f"{name_of(file)} has no docstring"
