"""What to change: facts, their validation, their files, and a bundled set about the world."""

from bluedit.facts.companions import COMPANION_RULES, Companion, Expansion, companions_of
from bluedit.facts.conflicts import check_batch
from bluedit.facts.fact import Fact
from bluedit.facts.formats import formats
from bluedit.facts.probe import Neighbour, Probe
from bluedit.facts.readers import Skipped, read_facts
from bluedit.facts.records import fact_from_line, write_facts
from bluedit.facts.world import relations, world_facts

__all__ = [
    "COMPANION_RULES",
    "Companion",
    "Expansion",
    "Fact",
    "Neighbour",
    "Probe",
    "Skipped",
    "check_batch",
    "companions_of",
    "fact_from_line",
    "formats",
    "read_facts",
    "relations",
    "world_facts",
    "write_facts",
]
