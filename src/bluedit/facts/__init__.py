"""What to change: facts, their validation, their files, and a bundled set about the world."""

from bluedit.facts.fact import Fact, Neighbour, Probe, check_batch
from bluedit.facts.formats import formats
from bluedit.facts.readers import read_facts
from bluedit.facts.records import write_facts
from bluedit.facts.world import relations, world_facts

__all__ = [
    "Fact",
    "Neighbour",
    "Probe",
    "check_batch",
    "formats",
    "read_facts",
    "relations",
    "world_facts",
    "write_facts",
]
