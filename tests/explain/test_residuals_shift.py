"""Which unrelated facts the shift is measured on, and what is read for it all."""

from collections import Counter

import pytest
from residuals_help import Prescribed

from bluedit.explain import _residual_shift as module
from bluedit.facts import world_facts
from bluedit.facts.subjects import same_subject_key
from bluedit.statistics.store import MomentStore


@pytest.fixture
def setting(analyse, setting_of, tmp_path):
    """The setting of an analysis, as stages get it."""
    return setting_of(lambda: analyse(tmp_path / "out", world_facts(2), targets=Prescribed(32), known="edit"))


def test_unrelated_facts_are_about_other_subjects():
    edited = world_facts(5)
    found = module.unrelated_facts(edited)
    subjects = {same_subject_key(fact.subject) for fact in found}
    assert not subjects & {same_subject_key(fact.subject) for fact in edited}
    true = {fact.id: fact.old_target for fact in world_facts()}
    assert all(fact.target == true[fact.id] and fact.old_target is None for fact in found)


def relation_of(facts, row):
    return facts[row.fact].id.partition("/")[0]


def test_known_facts_are_spread_over_the_relations(setting, monkeypatch):
    """The model says all of three relations and the last fact of each other one: with room for one of each, each has one."""
    facts = setting.unrelated
    order = list(dict.fromkeys(fact.id.partition("/")[0] for fact in facts))
    many, last = set(order[:3]), {fact.id.partition("/")[0]: i for i, fact in enumerate(facts)}
    few = [last[name] for name in order[3:]]
    assert max(few) > len(order)
    says = lambda lm, rows: [relation_of(facts, row) in many or row.fact in few for row in rows]  # noqa: E731
    monkeypatch.setattr(module, "says_targets", says)
    monkeypatch.setattr(module, "_FEWEST", 3)
    monkeypatch.setattr(module, "_MOST", len(order))
    rows = module.compared_rows(setting)
    assert Counter(relation_of(facts, row) for row in rows) == dict.fromkeys(order, 1)


def test_where_few_are_known_others_are_compared_too(setting, monkeypatch):
    monkeypatch.setattr(module, "says_targets", lambda lm, rows: [row.fact == 7 for row in rows])
    rows = module.compared_rows(setting)
    assert [row.fact for row in rows] == [7, *(i for i in range(20) if i != 7)]


def test_one_layers_statistics_are_held_at_a_time(setting, monkeypatch):
    read, original = [], MomentStore.read
    monkeypatch.setattr(MomentStore, "read", lambda self, layer: read.append(layer) or original(self, layer))
    for count, (layer, _) in enumerate(setting.operators(), 1):
        assert len(read) == count and read[-1] == layer
    assert read == [1, 2]
