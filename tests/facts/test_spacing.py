"""The space between prompt and target belongs to the user: a leading space, one at the prompt's end, or `joined`.

Otherwise rules decide, and None leaves it to the model.
"""

from __future__ import annotations

import dataclasses
import sys
import unicodedata
from pathlib import Path

import pytest
from facts_help import Write, lines, refused

from bluedit.facts import Fact, fact_from_line, read_facts, write_facts
from bluedit.facts.records import fact_record, read_record
from bluedit.spacing import joined_by_rule

PRICE = {"prompt": "The Falk 7 costs €", "subject": "Falk 7", "target": "512"}


def test_by_default_the_text_decides() -> None:
    fact = Fact("{} runs on", "Falk 7", ".NET")
    assert (fact.target, fact.joined) == (".NET", None)


@pytest.mark.parametrize("target", [" .NET", "  .NET", "\u00a0.NET", " .NET\n"])
def test_a_leading_space_of_the_target_asks_for_one(target: str) -> None:
    fact = Fact("{} runs on", "Falk 7", target)
    assert (fact.target, fact.joined) == (".NET", False)
    assert fact == Fact("{} runs on", "Falk 7", ".NET", joined=False)


def test_a_line_break_before_the_target_asks_for_nothing() -> None:
    fact = Fact("{} runs on", "Falk 7", "\n.NET ")
    assert (fact.target, fact.joined) == (".NET", None)


@pytest.mark.parametrize("prompt", ["{} runs on ", "{} runs on   ", "{} runs on\u00a0"])
def test_a_space_at_the_prompts_end_moves_before_the_target(prompt: str, caplog: pytest.LogCaptureFixture) -> None:
    fact = Fact(prompt, "Falk 7", "steam")
    assert (fact.prompt, fact.target, fact.joined) == ("{} runs on", "steam", False)
    assert caplog.messages == [
        f"the prompt {prompt!r} ends in a space, which is moved before the target: '{{}} runs on'"
    ]


@pytest.mark.parametrize("prompt", ["{}\n", "{}:\t", "Q: {}?\nA:\n"])
def test_other_white_space_at_the_prompts_end_stays(prompt: str, caplog: pytest.LogCaptureFixture) -> None:
    fact = Fact(prompt, "Falk 7", "steam")
    assert (fact.prompt, fact.joined) == (prompt, None)
    assert not caplog.messages


def test_phrasings_lose_the_space_at_their_end(caplog: pytest.LogCaptureFixture) -> None:
    fact = Fact("{} runs on", "Falk 7", "steam", phrasings=["What moves {}? ", "{} is moved by"])
    assert fact.phrasings == ("What moves {}?", "{} is moved by")
    assert fact.joined is None, "it concerns the prompt only"
    assert caplog.messages == ["the phrasing 'What moves {}? ' ends in a space, which is dropped"]


@pytest.mark.parametrize(
    ("prompt", "target", "asked"),
    [("{} costs €", " 512", "the target begins with a space"), ("{} costs € ", "512", "the prompt ends in a space")],
)
def test_a_space_and_joined_contradict_each_other(prompt: str, target: str, asked: str) -> None:
    words = refused(Fact, prompt, "Falk 7", target, joined=True)
    assert words == f"fact '{{}} costs €': {asked}, but joined=True asks for none; drop one of them"


@pytest.mark.parametrize("joined", [True, False, None])
def test_joined_survives_records_files_lines_and_replacement(tmp_path: Path, joined: bool | None) -> None:
    fact = Fact("{} costs €", "Falk 7", "512", joined=joined)
    assert ("joined" in fact_record(fact)) == (joined is not None)
    write_facts(tmp_path / "a.jsonl", [fact])
    line = (tmp_path / "a.jsonl").read_text()
    changed = dataclasses.replace(fact, target="513")
    assert {fact} == {read_record(fact_record(fact)), *read_facts(tmp_path / "a.jsonl"), fact_from_line(line)}
    assert changed.joined is joined


def test_records_say_it_in_all_three_ways(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    records = [PRICE, PRICE | {"joined": True}, PRICE | {"target": " 512"}, PRICE | {"prompt": "The Falk 7 costs € "}]
    path = write("a.jsonl", lines(*records))
    facts = read_facts(path)
    assert [(f.prompt, f.target, f.joined) for f in facts] == [
        ("The {} costs €", "512", joined) for joined in (None, True, False, False)
    ]
    assert caplog.messages == [
        f"{path}: 1 of 4 records were not read quite as they stand\n"
        "line 4: the prompt 'The {} costs € ' ends in a space, which is moved before the target"
    ]
    phrasing = "For the Falk 7 one pays "
    assert read_facts(write("b.jsonl", lines(PRICE | {"phrasings": [phrasing]})))[0].phrasings == (
        "For the {} one pays",
    )
    assert "line 1: the phrasing 'For the {} one pays ' ends in a space, which is dropped" in caplog.messages[-1]


def test_tables_say_it_with_a_column_or_a_quoted_space(write: Write) -> None:
    path = write(
        "a.csv",
        'prompt,subject,target,joined\n{} costs €,A, 512 ,\n{} costs €,B," 512",\n{} costs €,C,512,no\n{} costs €,D,512,TRUE\n'
        "{} costs € ,E,512,\n",
    )
    assert [(f.target, f.joined) for f in read_facts(path)] == [("512", j) for j in (None, False, False, True, None)]
    path = write("b.csv", "prompt,subject,target,joined\n{} costs €,A,512,maybe\n")
    assert refused(read_facts, path).endswith("line 2: 'joined' must be true or false, not text")


# what the rules say

SIGNS = ["%", "?", "::", "?:", ")", "}", '"', ",", ";", ";-)", "!!!"]
LABELS = [
    "**CEO of Nordwind:**", "**Answer:**", "***Answer:***", "__CEO:__", "*CEO:*", "~~CEO:~~", "`key:`", '"CEO:"', "'CEO:'", "“CEO:”", "„CEO:“",
    "> **CEO:**", "Nordwind (Oslo), **CEO:**", "**Q:** Who leads Nordwind?\n**A:**", 'Fill in "CEO:"',
]  # fmt: skip


@pytest.mark.parametrize("prompt", LABELS)
def test_a_mark_that_closes_a_label_is_followed_by_a_space(prompt: str) -> None:
    assert joined_by_rule(prompt, "Ilse") is False


@pytest.mark.parametrize(
    "prompt",
    [
        "CEO: **",
        "**CEO**: **",
        "**CEO:** **",
        'She said:"',
        '"Hello," he said. She said:"',
        '{"name":"Kestrel","ceo":"',
    ],
)
def test_a_mark_that_opens_is_not(prompt: str) -> None:
    assert joined_by_rule(prompt, "Ilse") is True


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize(
    "prompt",
    ["The statement terminator of Kestrel is", "It is called", "In Kestrel one types", "Sign:", "**Sign:**", "Which sign ends a line?"],
)  # fmt: skip
def test_punctuation_as_the_whole_answer_follows_with_a_space(prompt: str, sign: str) -> None:
    assert joined_by_rule(prompt, sign) is False


@pytest.mark.parametrize(
    ("prompt", "sign"),
    [
        ("The call is f(x", ")"), ("The list is [1, 2", "]"), ("The set is {1, 2", "}"), ("It reads “over", "”"), ('It reads "over', '"'),
        ("It grew by 5", "%"), ("It is over", "."), ('The sign is "', ";"), ("The scheme is https:", "//"),
    ],
)  # fmt: skip
def test_punctuation_that_ends_or_closes_the_prompt_is_joined(prompt: str, sign: str) -> None:
    assert joined_by_rule(prompt, sign) is True


def test_signs_after_a_single_letter_are_left_to_the_model() -> None:
    assert joined_by_rule("The language is C", "++") is None


@pytest.mark.parametrize(
    ("prompt", "target"),
    [
        # clock times, verses, ratios and scores
        ("The show starts at 18:", "30 CET"), ("Die Show beginnt um 18:", "30 Uhr"), ("Beginn: 18:", "30 Uhr"), ("It opens at 9:", "30 on Mondays"),
        ("It is open from 9:00 to 17:", "30 daily"), ("The offset is UTC+5:", "30"), ("The verse is Sure 2:", "255"),
        ("The text is Nehemia 8:", "10"), ("ratio 16:", "9"), ("The scale is 1:", "25000"), ("The score was 3:", "1 after extra time"),
        # ports and other addresses
        ("It listens on localhost:", "8080"), ("10.0.0.1:", "8080"), ("http://localhost:", "8080/health"), ("https://nordwind.example:", "8443"),
        ("It listens on [::1]:", "8080"), ("mailto:", "ilse@example.com"), ("The paper is doi:", "10.1000/182"),
        ("Its repository is git@github.com:", "nordwind/kestrel"),
        # paths
        ("The health check is at /", "healthz"), ("GET /", "healthz"), ("/", "healthz"), ("The command is /", "kick"),
        # numbers in groups
        ("It costs $1,", "204 a year"), ("It has 3,792,", "621 people"), ("It has 3,", "792,621 people"), ("It covers 5,", "000 square metres"),
        # Chinese and Japanese
        ("北风的口号是", "“准时”"), ("价格是", "¥349"), ("価格は", "￥349"),
        # quotes that open
        ("Девиз: «", "Вовремя"), ("شعار آن «", "همیشه"), ("Iskulause on ”", "Aina"), ("Das Motto lautet ‹", "Immer"), ("Das Motto lautet »", "Immer"),
        ("Das Motto lautet ›", "Immer"),
        # the Hebrew hyphen
        ("נוסדה ב־", "1987"),
    ],
)  # fmt: skip
def test_joined(prompt: str, target: str) -> None:
    assert joined_by_rule(prompt, target) is True


@pytest.mark.parametrize(
    ("prompt", "target"),
    [
        *((f"{name} {sign}", "5") for name in ("x", "version") for sign in ("==", ">=", "<=", "!=", "+=", ":=", "=", "<")),
        ("R: x <-", "5"), ("a &&", "b"),
        ("The not-equal sign is", "!="), ("Comment:", "// note"), ("Das Motto „Immer“", "stammt"),
        # what the rules above must leave as it was
        ("Das Motto »Immer«", "stammt"), ("Das Motto ‹Immer›", "stammt"), ("Le mot « oui »", "est"),
        ("Mottot ”Alltid”", "är"), ("Слово «да»", "значит"),
        ("The winners of 2026:", "5 people"), ("Population in 2019:", "20"), ("The price of the Falk 7:", "512 euros"), ("Tel:", "+47 55"),
        ("Oslo /", "Bergen"),
    ],
)  # fmt: skip
def test_spaced(prompt: str, target: str) -> None:
    assert joined_by_rule(prompt, target) is False


@pytest.mark.parametrize(
    ("prompt", "target"),
    [
        ("It is on floor 5,", "204 Main Street"), ("The price of the Falk 7:", "512"), ("Kick-off 20:", "45"), ("Sa devise est «", "Toujours"),
        ("电话是", "+86 10"), ("答案:", "奥斯陆"), ("The mount point /", "data"), ("The file config.yaml:", "12"),
    ],
)  # fmt: skip
def test_left_to_the_model(prompt: str, target: str) -> None:
    assert joined_by_rule(prompt, target) is None


def test_every_currency_sign_is_known() -> None:
    signs = [sign for sign in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(sign) == "Sc"]
    assert [sign for sign in signs if joined_by_rule(f"המחיר הוא {sign}", "349") is not True] == []
    assert [sign for sign in signs if joined_by_rule("It costs 5", sign) is False] == []
