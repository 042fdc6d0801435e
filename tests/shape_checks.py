"""Run-time shape checks: functions and dataclasses of bluedit whose annotations name a shape are checked with jaxtyping and beartype.

jaxtyping's own import hook decorates every function of a module, with or without shapes, which makes the suite twice as slow. Of a function
that is called often, later calls are checked now and then: those of the inner loops take a sixth of the suite's time otherwise.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader

from beartype import beartype
from jaxtyping import jaxtyped

SHAPES = {"Float", "Int", "Bool"}
FIRST, OFTEN = 200, 20  # the first calls of a function are checked, and one of so many later ones
DECORATOR = ast.parse("__import__('shape_checks').checked", mode="eval").body


def checked(thing):
    """A class whose fields are checked, or a function some of whose calls are."""
    careful = jaxtyped(typechecker=beartype)(thing)
    return careful if isinstance(thing, type) else sampled(careful, thing)


def sampled(careful: Callable, plain: Callable) -> Callable:
    """The first calls go to `careful`, and one of so many later ones; the others to `plain`."""
    calls = 0

    @functools.wraps(plain)
    def call(*args, **kwargs):
        nonlocal calls
        calls += 1
        return (careful if calls <= FIRST or calls % OFTEN == 0 else plain)(*args, **kwargs)

    return call


def names_a_shape(annotation: ast.expr | None, aliases: set[str]) -> bool:
    """Whether an annotation contains `Float[...]` and the like, or a name that stands for one."""
    nodes = [] if annotation is None else list(ast.walk(annotation))
    names = {node.value.id for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)}
    return bool(names & SHAPES) or any(isinstance(node, ast.Name) and node.id in aliases for node in nodes)


def aliases_of(tree: ast.Module) -> set[str]:
    """Names that a module gives to shapes, as in `States = Float[Tensor, "rows d_model"]`."""
    named = [node for node in tree.body if isinstance(node, ast.Assign) and names_a_shape(node.value, set())]
    return {target.id for node in named for target in node.targets if isinstance(target, ast.Name)}


def annotations_of(node: ast.AST) -> list[ast.expr | None]:
    """Annotations of a function's arguments and result, or of a class's fields."""
    if isinstance(node, ast.ClassDef):
        return [field.annotation for field in node.body if isinstance(field, ast.AnnAssign)]
    if not isinstance(node, ast.FunctionDef):
        return []
    a = node.args
    arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    return [node.returns, *(argument.annotation for argument in arguments)]


def add_checks(tree: ast.Module) -> ast.Module:
    aliases = aliases_of(tree)
    for node in ast.walk(tree):
        if any(names_a_shape(annotation, aliases) for annotation in annotations_of(node)):
            # next to the function, but around what @dataclass makes
            at = 0 if isinstance(node, ast.ClassDef) else len(node.decorator_list)
            node.decorator_list.insert(at, ast.copy_location(DECORATOR, node))
    return ast.fix_missing_locations(tree)


class CheckedLoader(SourceFileLoader):
    """Loads a module with its shapes checked. Nothing is read from or written to the cache of compiled modules, which others share."""

    def get_code(self, fullname: str):
        path = self.get_filename(fullname)
        return compile(add_checks(ast.parse(self.get_data(path), path)), path, "exec", dont_inherit=True)


class CheckedFinder(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] != "bluedit":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = CheckedLoader(spec.loader.name, spec.loader.path)
        return spec


def install() -> None:
    """Check shapes in every module of bluedit that is imported from now on."""
    assert not any(name.partition(".")[0] == "bluedit" for name in sys.modules), (
        "bluedit was imported before its checks"
    )
    sys.meta_path.insert(0, CheckedFinder())
