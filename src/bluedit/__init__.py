"""bluedit: edit facts in the weights of Hugging Face causal language models.

The public names are loaded on first use, so that `import bluedit` does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bluedit.editing.edit import Edit
    from bluedit.editing.editor import Editor
    from bluedit.editing.journal import Journal
    from bluedit.editing.patch import Patch
    from bluedit.editing.workspace import Workspace
    from bluedit.errors import BluEditError
    from bluedit.execution import Execution
    from bluedit.explain.conflicts import find_conflicts
    from bluedit.explain.edit import explain_edit
    from bluedit.explain.locating import locate
    from bluedit.explain.residuals import explain_residuals
    from bluedit.export.export import export_patch
    from bluedit.facts import Fact, Neighbour, Probe, read_facts, world_facts
    from bluedit.methods.presets import PRESETS as recipes
    from bluedit.methods.recipe import Recipe
    from bluedit.tuning.finding import find_tuning
    from bluedit.writing.trace import Trace

_HOMES = {
    "BluEditError": "bluedit.errors",
    "Edit": "bluedit.editing.edit",
    "Editor": "bluedit.editing.editor",
    "Execution": "bluedit.execution",
    "Fact": "bluedit.facts",
    "Journal": "bluedit.editing.journal",
    "Neighbour": "bluedit.facts",
    "Patch": "bluedit.editing.patch",
    "Probe": "bluedit.facts",
    "Recipe": "bluedit.methods.recipe",
    "Trace": "bluedit.writing.trace",
    "Workspace": "bluedit.editing.workspace",
    "explain_edit": "bluedit.explain.edit",
    "explain_residuals": "bluedit.explain.residuals",
    "export_patch": "bluedit.export.export",
    "find_conflicts": "bluedit.explain.conflicts",
    "find_tuning": "bluedit.tuning.finding",
    "locate": "bluedit.explain.locating",
    "read_facts": "bluedit.facts",
    "recipes": "bluedit.methods.presets",
    "world_facts": "bluedit.facts",
}

__all__ = [
    "BluEditError",
    "Edit",
    "Editor",
    "Execution",
    "Fact",
    "Journal",
    "Neighbour",
    "Patch",
    "Probe",
    "Recipe",
    "Trace",
    "Workspace",
    "explain_edit",
    "explain_residuals",
    "export_patch",
    "find_conflicts",
    "find_tuning",
    "locate",
    "read_facts",
    "recipes",
    "world_facts",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bluedit' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), "PRESETS" if name == "recipes" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
