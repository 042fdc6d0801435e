"""The space between a prompt and its answer: by rule where one is sure, else what the model finds likelier."""

import pytest
import torch

from bluedit.editing.known import with_spacing
from bluedit.facts import Fact
from bluedit.spacing import continuation, joined_by_rule
from bluedit.text.joining import likelier_joined

JOINED = [
    # the answer begins with closing punctuation
    ("The end", "."), ("The end", "!"), ("The end", "..."), ("The end", "?\""), ("It costs 5", "%"), ("Is it 5", ")"),
    ("Jean", "’s"), ("Jean", "'s capital is"), ("I don", "'t"), ("It ends", "”"),
    # the prompt ends in something that opens
    ("The Vestholm 9 costs $", "120"), ("Its price is US$", "12"), ("It costs €", "5"), ("See issue #", "71"),
    ("Write to sales@", "vestholm.example"), ("Our handle is @", "vestholm"), ("Its home page is https://", "vestholm.example"),
    ("Visit www.", "vestholm.example"), ("The protocol is http:", "//"), ("The folder is C:\\", "Windows"), ("Yes and/", "or"),
    ("Vestholm Shipping (", "Bergen"), ("Its founder [", "Ida Vik"), ("Their motto is \"", "Never late"), ("Their motto is '", "Never late"),
    ("Their motto is “", "Never late"), ("(known as \"", "Vest"), ("It is written in **", "Rust"), ("It is called \"**", "Vest"),
    ("Run `", "make"), ("It is *", "fast"), ("It is ~~", "slow"), ("The title is <b>", "Vest"),
    # the two make one word or number
    ("The vaccine is called MVA-", "85A"), ("The war lasted 1899–", "1902"), ("the Rolls-", "Royce"), ("It was led by R&", "D"),
    ("Its version is 3.", "11"), ("Its version is 3", ".11"), ("It has 1,", "500"), ("It opens at 9:", "30"), ("It was the 5", "th"),
    ("Its time zone is UTC+", "2"), ("Its number is +", "47 55"), ("They met in 1939", "–45"), ("It is 20", "°C"), ("with x=", "4"),
    ("The answer is -", "5"), ("It begins with snake_", "case"),
    ("La capitale de l'", "Islande"), ("Il teatro dell’", "Arte"), ("Her name is O'", "Hara"),
    # white space, and scripts without spaces
    ("", "Bergen"), ("It is ", "Bergen"), ("It is\n", "Bergen"), ("It is\u00a0", "Bergen"),
    ("首都は", "東京"), ("首都は", "ローマ"), ("เมืองหลวง", "กรุง"), ("首都は「", "Paris"), ("首都は東京", "。"),
]  # fmt: skip
SPACED = [
    ("The capital is", "Rome"), ("The capital is", "  Rome "), ("Seoul is", "서울"), ("It was founded in", "1972"), ("the iPhone", "15"),
    ("The framework is written in", ".NET"), ("The plugin needs", ".NET"), ("It is", ".5"), ("The painter of the picture is", "’t Lam"),
    ("The town is", "'s-Gravenhage"), ("It was popular in the", "'90s"), ("Its price is", "$120"), ("Its motto is", "\"Never late\""),
    ("It lies in Norway", "(Bergen)"), ("It is the", "#1"), ("It fell to", "-40"), ("Run it with", "--fast"), ("The option is", "-f"),
    ("It lies under", "[1]"), ("It is called", "@vest"), ("The settings are in", "/etc"), ("Its people are called", "!Kung"),
    # the prompt ends in something that closes
    ("It is \"Vest\"", "and"), ("The boys'", "school"), ("A 15\"", "screen"), ("It is **Vest**", "and"), ("Run `make`", "now"),
    ("It is *Vest*", "and"), ("</b>", "Bergen"), ("Vestholm (Norway)", "is"), ("It costs 20 €", "or"), ("It grew by 50%", "of"),
    ("Answer:", "Bergen"), ("Hello!", "Ida"), ("In 2019,", "500 people"), ("Line 1:", "20 people"), ("By J.", "Vik"), ("It is in C#", "and"),
    # signs with spaces around them
    ("Bergen –", "Norway"), ("2 +", "3"), ("2 *", "3"), ("5 -", "3"), ("x =", "4"), ("Vik &", "Sons"), ("and /", "or"), ("| a |", "b"),
    ("Towns:\n-", "Bergen"), ("#", "Title"), ("\n>", "Quote"),
]  # fmt: skip
UNSURE = [
    ("The site is vestholm", ".com"), ("The firm is Bergen", "-based"), ("It came out in 20", "24"), ("It costs 5", "€"),
    ("It runs on node.", "js"), ("The start of Vest 1.", "2 May"), ("For help use -", "h"), ("Write to sales", "@vest.example"), ("首都は", "Paris"), ("Capital: Tokyo", "東京"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("pairs", "joined"), [(JOINED, True), (SPACED, False), (UNSURE, None)], ids=["joined", "spaced", "unsure"]
)
def test_rules(pairs, joined):
    assert [pair for pair in pairs if joined_by_rule(pair[0], pair[1].strip()) is not joined] == []


def test_continuations():
    assert [continuation(*pair) for pair in JOINED] == [answer for _, answer in JOINED]
    assert [continuation(*pair) for pair in SPACED] == [f" {answer.strip()}" for _, answer in SPACED]
    assert [continuation(*pair) for pair in UNSURE[:-1]] == [f" {answer}" for _, answer in UNSURE[:-1]]
    assert continuation(*UNSURE[-1]) == "東京", "a script without spaces"


def test_what_the_user_says_goes_before_any_rule():
    assert continuation("It costs $", "5", joined=False) == " 5"
    assert continuation("It costs $", " 5") == " 5"
    assert continuation("It is", "Bergen", joined=True) == "Bergen"
    assert continuation("It is ", "Bergen", joined=False) == "Bergen", "the space is there already"
    assert continuation("It is ", " Bergen") == "Bergen"


# what the model finds likelier


def log_probability(lm, prompt, continued):
    ids, more = lm.tokenizer(prompt)["input_ids"], lm.tokenizer(continued, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        shares = lm.model(input_ids=torch.tensor([[*ids, *more]])).logits[0].log_softmax(-1)
    return sum(float(shares[len(ids) - 1 + i, token]) for i, token in enumerate(more))


def test_the_likelier_form(lm, monkeypatch):
    expected = [
        log_probability(lm, prompt, answer) > log_probability(lm, prompt, f" {answer}") for prompt, answer in UNSURE
    ]
    assert {True, False} == set(expected), "the toy finds all alike: the test cannot fail"
    assert likelier_joined(lm, UNSURE) == expected
    monkeypatch.setattr("bluedit.text.joining._TOKENS_PER_PASS", 1)
    assert likelier_joined(lm, UNSURE) == expected
    assert likelier_joined(lm, []) == []


def test_only_facts_that_leave_it_open_are_asked_about(lm):
    def fact(target, **options):
        return Fact("The site of {} is vestholm", subject="Vestholm", target=target, **options)

    facts = [fact(".com"), fact(".com", joined=False), fact("Bergen"), fact(" .com")]
    settled = with_spacing(lm, facts)
    assert settled[0].joined is likelier_joined(lm, [(facts[0].text, ".com")])[0]
    assert settled[1:] == facts[1:] and settled[2].joined is None
