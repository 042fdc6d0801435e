"""bluedit: edit facts in the weights of Hugging Face causal language models."""

from bluedit.editing.editor import Edit, Editor
from bluedit.editing.patch import Patch
from bluedit.errors import BluEditError
from bluedit.facts import Fact, Neighbour, Probe, read_facts, world_facts
from bluedit.methods.presets import PRESETS as recipes

__all__ = [
    "BluEditError",
    "Edit",
    "Editor",
    "Fact",
    "Neighbour",
    "Patch",
    "Probe",
    "read_facts",
    "recipes",
    "world_facts",
]
