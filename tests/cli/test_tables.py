"""Tables fit the terminal, break no word that fits, and take text as it is."""

from __future__ import annotations

import pytest
from cli_help import assert_fits
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from bluedit.cli.harness_table import harness_table
from bluedit.cli.tables import ask_table, facts_table
from bluedit.evaluate.data import Asked
from bluedit.evaluate.tables import Column, Listing, Record, Records, as_text, edit_table, fitted
from bluedit.facts import Fact

PROMPTS = (
    "The headquarters of the Larkhill Bicycle company are located in the city of",
    "The mother tongue of Danielle Darrieux is",
    "[bold]The support address[/bold] of [link=x]Lisbonville[/link] is",
)


def fact_row(prompt: str, **changes):
    row = {
        "prompt": prompt,
        "target": "Bremenhafner",
        "old_target": "Oslo",
        "first_before": "the",
        "first_after": "Headquarters",
        "p_new_before": 2e-5,
        "p_new_after": 0.97,
        "p_old_before": 0.5,
        "p_old_after": None,
        "says_before": False,
        "says_after": True,
        "paraphrases": 2,
        "paraphrases_before": 0,
        "paraphrases_after": 1,
        "neighbours": 3,
        "neighbours_kept": 2,
    }
    return row | changes


def report(*rows):
    return {"facts": list(rows), "perplexity_before": 20.0, "perplexity_after": 20.2}


def test_an_edit_in_one_line_a_fact():
    text = as_text([edit_table(report(fact_row(PROMPTS[1]), fact_row(PROMPTS[2], says_after=False)))])
    assert text.splitlines() == [
        "What changed",
        "prompt                                    new answer    said              p(new)",
        "────────────────────────────────────────────────────────────────────────────────",
        "The mother tongue of Danielle Darrieux    Bremenhafner  yes                 0.97",
        "is",
        "[bold]The support address[/bold] of       Bremenhafner  no: Headquarters    0.97",
        "[link=x]Lisbonville[/link] is",
        "facts said: 1 of 2; paraphrases said: 2 of 4; neighbours kept: 4 of 6",
        "perplexity of ordinary text: 20.00 → 20.20 (+1.0%)",
    ]


@pytest.mark.parametrize(("after", "harmed"), [(20.9, False), (21.2, True), (37.9, True)])
def test_an_edit_that_harms_ordinary_text_says_so(after, harmed):
    text = " ".join(as_text([edit_table(report(fact_row(PROMPTS[1])) | {"perplexity_after": after})]).split())
    assert ("the edit harms what the model does otherwise" in text) == harmed
    assert ("That is a large rise (above 5%)" in text and "let --guard default decide" in text) == harmed


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ([{"form": "prompt", "prompt": PROMPTS[1], "text": "Headquarters", "said": False}], "no: Headquarters"),
        (
            [{"form": "prompt", "prompt": PROMPTS[1], "text": "French.\nAnd more", "said": False}],
            "no: French. And more",
        ),
        (
            [{"form": "prompt", "prompt": PROMPTS[1], "text": "French, which she learned at home", "said": False}],
            "no: French, which she…",
        ),
        ([{"form": "prompt", "prompt": PROMPTS[1], "text": "語" * 40, "said": False}], f"no: {'語' * 11}…"),
        ([{"form": "prompt", "prompt": PROMPTS[1], "text": "", "said": False}], "no"),
        ((), "no: the"),
    ],
)
def test_a_fact_that_is_not_said_is_shown_with_what_is_written(asked, shown):
    row = fact_row(PROMPTS[1], says_after=False, first_after="the", asked=asked)
    (cells,) = edit_table(report(row)).rows
    assert cells[2].plain == shown
    assert_fits(as_text([edit_table(report(row))]), shown)


def test_the_details_of_an_edit():
    text = as_text(
        [
            edit_table(
                report(fact_row(PROMPTS[1], p_old_after=0.001), fact_row("It is", old_target=None, p_old_before=None)),
                details=True,
            )
        ]
    )
    assert text.splitlines()[:8] == [
        "What changed",
        "The mother tongue of Danielle Darrieux is => Bremenhafner",
        "  said              no → yes",
        "  first word        the → Headquarters",
        "  p(new answer)     2e-05 → 0.97",
        "  p(old answer)     0.50 → 1e-03   (Oslo)",
        "  paraphrases said  0 → 1 of 2",
        "  neighbours kept   2 of 3",
    ]
    assert text.count("p(old answer)") == 1
    assert "facts said: 2 of 2" in text


@pytest.mark.parametrize("details", [False, True])
def test_edits_fit_the_terminal(details):
    rows = [fact_row(prompt, says_after=bool(i)) for i, prompt in enumerate(PROMPTS)]
    text = as_text([edit_table(report(*rows), details=details)])
    assert_fits(text, *PROMPTS, "Bremenhafner Headquarters")
    assert_fits(as_text([edit_table(report(fact_row("x" * 200)))]))


def test_of_many_facts_those_that_are_not_said_are_shown():
    rows = [fact_row(f"fact {i} is", says_after=i % 10 != 9) for i in range(40)]
    text = as_text([edit_table(report(*rows), shown=5)])
    assert [line.split()[1] for line in text.splitlines() if line.startswith("fact ")] == ["9", "19", "29", "39", "0"]
    assert "35 facts are not shown.\nfacts said: 36 of 40; " in text


def test_facts_and_answers_fit_the_terminal():
    facts = [
        Fact(prompt + " {}", "Larkhill-Fahrradmanufaktur", "Donaudampfschifffahrt", old_target="Bremenhafner")
        for prompt in PROMPTS
    ]
    for details in (False, True):
        text = as_text([facts_table(facts, details=details)])
        assert_fits(text, *PROMPTS, "Larkhill-Fahrradmanufaktur Donaudampfschifffahrt Bremenhafner")
    answers = [Asked(prompt, "[red]some[/red] words " * 9, ((" Bremenhafner", 0.5),) * 5) for prompt in PROMPTS]
    text = as_text([ask_table(answers, answers)])
    assert_fits(text, *PROMPTS, "[red]some[/red] words 50.0%,")
    assert text.count("with the patch") == 3


RESULTS = {
    "results": {
        "arc_challenge": {"alias": "arc_challenge", "acc_norm,none": 0.5, "acc_norm_stderr,none": 0.013},
        "a": {"alias": " - [b]", "acc,none": 0.5, "acc_stderr,none": "N/A", "sample_len": 3, "name": "a"},
        "b": {"alias": "b", "ppl,strict": 1234567.0, "ppl_stderr,strict": 0.5, "words,none": "many"},
    },
    "higher_is_better": {"arc_challenge": {"acc_norm": True}, "a": {"acc": True}, "b": {"ppl": False}},
    "n-samples": {"a": {"original": 9, "effective": 3}},
    "n-shot": {"a": 5},
}


def test_results_of_the_harness():
    text = as_text([harness_table(RESULTS, RESULTS)])
    assert_fits(text, "task metric unedited with the patch change arc_challenge acc_norm ppl (strict)")
    assert "0.500 ± 0.013" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["-", "[b]", "acc", "↑", "0.500", "0.500", "+0.000"] in rows
    assert ["b", "words", "many", "many", "–"] in rows
    details = as_text([harness_table(RESULTS, details=True)])
    assert_fits(details, "task metric items shots value")
    assert ["-", "[b]", "acc", "↑", "3", "5", "0.500"] in [line.split() for line in details.splitlines()]


def test_text_is_never_markup():
    listing = Listing("[red]title[/red]", (Column("[b]head[/b]"),), [("[i]cell[/i] :smile:",)], ["[u]note[/u]"])
    records = Records("[red]title[/red]", [Record("[b]head[/b]", {"[i]name[/i]": "[u]value[/u] :smile:"})])
    for shown, words in (
        (listing, "[red]title[/red] [b]head[/b] [i]cell[/i] :smile: [u]note[/u]"),
        (records, "[b]head[/b] [i]name[/i] [u]value[/u]"),
    ):
        assert_fits(as_text([shown]), words)


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=6).map(
        lambda pairs: [(max(pair), min(pair)) for pair in pairs]
    ),
    st.integers(12, 120),
)
@settings(deadline=None)  # the time of one example depends on what else the machine does
def test_columns_never_take_more_than_there_is(sizes, room):
    natural, least = zip(*sizes, strict=True)
    widths = fitted(natural, least, room)
    assert sum(widths) <= room
    assert all(width <= wanted for width, wanted in zip(widths, natural, strict=True))
    if sum(least) <= room:
        assert all(width >= word for width, word in zip(widths, least, strict=True))


WORDS = st.lists(st.text(st.sampled_from("abcé小[]"), min_size=1, max_size=9), min_size=1, max_size=12).map(" ".join)


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=4))
def test_no_listing_is_wider_than_the_terminal_or_breaks_a_word(rows):
    text = as_text([Listing("title", (Column("one"), Column("two"), Column("three")), rows)])
    assert all(cell_len(line) <= 80 for line in text.split("\n"))
    assert_fits(text, *(cell for row in rows for cell in row))
