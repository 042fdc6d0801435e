"""Texts about well-known names."""

from importlib import resources

from bluedit import Fact
from bluedit.facts.words import whole_names
from bluedit.facts.world import relations, world_facts
from bluedit.methods.wordings import Natural, PromptOnly
from bluedit.text import names
from bluedit.text.names import name_rows, texts_of_others
from bluedit.text.wordings import wording_rows


def test_wordings_take_turns_and_end_with_the_name(lm):
    expected = []
    for i, fact in enumerate(world_facts()[:40]):
        texts = wording_rows(lm.tokenizer, Natural().groups(Natural().extended(fact), None), fact.subject)
        row = texts[i % len(texts)]
        if not row.at_start and row.subject_last < lm.max_length:
            expected.append(list(row.ids[: row.subject_last + 1]))
    assert len(expected) > 20
    assert name_rows(lm)[: len(expected)] == expected


CAPITAL = Fact("The capital of {} is", subject="Freedonia", target="Rome")
COUNTRIES = set(relations()[0].facts)


def asked(lm, facts, seed=0, wordings=None, taught=()):
    """(text, name) of each text: the tokens that count begin with the name's last one."""
    found = texts_of_others(lm, facts, wordings or PromptOnly(), taught.__contains__, seed)
    texts = [(lm.tokenizer.decode(ids), lm.tokenizer.decode(ids[: last + 1])) for ids, last in found]
    return [(text.removeprefix("<s>"), until.removeprefix("<s>")) for text, until in texts]


def test_facts_are_asked_of_names_of_their_relation(lm):
    for seed in range(5):
        texts = asked(lm, [CAPITAL], seed)
        assert len(texts) == 4
        for text, until in texts:
            name = until.removeprefix("The capital of ")
            assert name in COUNTRIES and text == f"The capital of {name} is"
    assert asked(lm, [CAPITAL], 1) != asked(lm, [CAPITAL], 2)


def test_each_of_its_texts_is_asked_up_to_the_answer(lm):
    fact = Natural().extended(CAPITAL)
    texts = {text for seed in range(20) for text, _ in asked(lm, [fact], seed, Natural())}
    assert any(text.endswith("\nAnswer:") for text in texts) and any(
        text.startswith("The capital of ") for text in texts
    )
    assert not any("Rome" in text or "Freedonia" in text for text in texts)


def test_texts_that_name_the_subject_otherwise_are_asked_of_nobody(lm):
    fact = Fact("The capital of {} is", subject="Freedonia", target="Rome", phrasings=["The {Freedonian} capital is"])
    texts = [text for seed in range(20) for text, _ in asked(lm, [fact], seed, Natural())]
    assert texts and all(text.startswith("The capital of ") for text in texts)


def test_other_relations_are_asked_of_any_name(lm):
    texts = asked(lm, [Fact("The patron of {}'s yearly regatta is", subject="Freedonia", target="Rome")] * 30)
    assert len({until for _, until in texts} - {f"The patron of {name}" for name in COUNTRIES}) > 60


def test_names_that_are_taught_are_left_out(lm):
    taught = sorted(COUNTRIES)[::2]
    names = {until.removeprefix("The capital of ") for _, until in asked(lm, [CAPITAL] * 20, taught=taught)}
    assert len(names) > 10 and not names & set(taught)
    assert name_rows(lm, {"Italy"}.__contains__) == [
        row for row in name_rows(lm) if lm.tokenizer.decode(row).endswith("Italy")
    ]


def test_texts_that_do_not_fit_are_left_out(lm, monkeypatch):
    whole = texts_of_others(lm, [CAPITAL] * 10, PromptOnly(), {}.__contains__, 0)
    longest = max(len(ids) for ids, _ in whole)
    monkeypatch.setattr(type(lm), "max_length", longest - 1)
    assert texts_of_others(lm, [CAPITAL] * 10, PromptOnly(), {}.__contains__, 0) == [
        one for one in whole if len(one[0]) < longest
    ]


def test_what_a_report_measures_is_not_held():
    measured = resources.files("bluedit.evaluate").joinpath("bystanders.toml").read_text("utf-8")
    held = {name for known in names._names_by_question().values() for name in known}
    assert len(held) > 800
    assert not [name for name in held if whole_names(measured, name)]
