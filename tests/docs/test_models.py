"""The page of models is made from the table of families that the matrix verifies."""

import sys
from pathlib import Path

from families import FAMILIES

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    import models

    assert models.PAGE.read_text("utf-8") == models.page(FAMILIES), "run: python tools/models.py"


def test_each_family_is_listed_once():
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert all(family.why for family in FAMILIES if family.refused)
