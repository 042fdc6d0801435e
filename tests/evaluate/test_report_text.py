"""The report for a terminal: at most 80 columns, only what was measured, and what was said in full on request."""

import pytest
from rich.cells import cell_len

from bluedit.evaluate.report_text import report_parts
from bluedit.evaluate.tables import as_text

LONG = "The headquarters of the Larkhill Bicycle company are located in the city of"


def reply(form, text, said, prompt=LONG):
    return {"form": form, "prompt": prompt, "text": text, "said": said}


def miss(form="prompt", **changes):
    one = {"prompt": LONG, "target": "Bremen", "form": form, "asked": "Where is Larkhill Cycles?", "text": "Oslo"}
    return one | {"reason": "the answer is 'Oslo'", "advice": "more steps: --set objective.steps=NUMBER"} | changes


def moved(prompt, *, same=False, form="chat"):
    return {"form": form, "prompt": prompt, "before": "Lisbon.", "after": "", "kl": 0.5, "same": same}


def report(**changes):
    facts = [
        {
            "prompt": LONG,
            "target": "Bremen",
            "text_before": "a\ntown",
            "asked": [
                reply("prompt", "Bremen.", True),
                reply("paraphrase", "", False, "Larkhill sits in"),
                reply("paraphrase", "Oslo " * 50, False, "Larkhill is based in"),
                reply("chat", "It is in Bremen.", True, "Where is Larkhill Cycles?"),
            ],
        },
        {"prompt": "x", "target": "y", "text_before": None, "asked": [reply("prompt", "z", False, "x")]},
    ]
    whole = {
        "facts": facts,
        "chat_perplexity_before": 8.0,
        "chat_perplexity_after": 8.2,
        "bystanders": {
            "asked": {"plain": 33, "chat": 37},
            "same": {"plain": 30, "chat": 36},
            "alike": {"plain": 31, "chat": 37},
            "kl": 0.0123,
            "worst": [
                moved("What is the capital of Portugal?"),
                moved("Bees make", form="plain"),
                moved("2 + 3 =", same=True),
            ],
        },
        "missed": [miss()],
        "prompt_only": [miss("chat", reason="it is said at the prompt, but here the answer is 'Oslo'")],
    }
    return whole | changes


def shown(whole, **options):
    text = as_text(report_parts(whole, **options))
    assert all(cell_len(line) <= 80 for line in text.splitlines())
    return [line for line in text.splitlines() if line]


def test_the_whole_report():
    assert shown(report()) == [
        "What the model says when asked",
        "asked                         said",
        "──────────────────────────────────",
        "the very prompt             1 of 2",
        "a paraphrase, never taught  0 of 2",
        "the question in chat        1 of 1",
        "other answers unchanged: 30 of 33 as text to continue, 36 of 37 in chat; KL of",
        "the first token: 0.012 nats",
        "other answers that say the same: 31 of 33 as text to continue, 37 of 37 in chat",
        "perplexity of chat text: 8.00 → 8.20 (+2.5%)",
        "Ordinary answers that changed most",
        "What is the capital of Portugal? (in chat)",
        "  before  Lisbon.",
        "  after   –",
        "Bees make (as text to continue)",
        "  before  Lisbon.",
        "  after   –",
        "Not said",
        "The headquarters of the Larkhill Bicycle company are located in the city of =>",
        "Bremen",
        "  why     The answer is 'Oslo'.",
        "  to try  more steps: --set objective.steps=NUMBER",
        "Said at the prompt, but not when asked",
        "The headquarters of the Larkhill Bicycle company are located in the city of =>",
        "Bremen",
        "  asked   Where is Larkhill Cycles? (in chat)",
        "  why     It is said at the prompt, but here the answer is 'Oslo'.",
        "  to try  more steps: --set objective.steps=NUMBER",
    ]


def test_what_was_said_before_stands_beside_it():
    whole = report()
    whole["facts"][0]["asked_before"] = [reply("prompt", "a town", False), reply("paraphrase", "Bremen", True)]
    assert shown(whole)[1:6] == [
        "asked                       before    said",
        "──────────────────────────────────────────",
        "the very prompt             0 of 1  1 of 2",
        "a paraphrase, never taught  1 of 1  0 of 2",
        "the question in chat             –  1 of 1",
    ]


def test_details_show_every_text():
    lines = shown(report(), details=True)
    start = lines.index("What the model says, word by word")
    assert lines[start + 1 : start + 10] == [
        "The headquarters of the Larkhill Bicycle company are located in the city of =>",
        "Bremen",
        "  before        a town",
        "  prompt        Bremen.",
        "  paraphrase    Larkhill sits in",
        "                –",
        "  paraphrase 2  Larkhill is based in",
        "                Oslo Oslo Oslo Oslo Oslo Oslo Oslo Oslo Oslo Oslo Oslo Oslo Oslo",
        "                Oslo Oslo Oslo Oslo Oslo Oslo Oslo Oslo Oslo Oslo Oslo Oslo Oslo",
    ]
    assert lines[start + 10].strip() == "Oslo Oslo Oslo Oslo Oslo Oslo…"
    assert "  prompt        z" in lines


def test_many_missed_facts_are_counted():
    many = report(missed=[miss() for _ in range(12)], prompt_only=[])
    assert shown(many)[-1] == "2 more"
    assert sum("Oslo'" in line for line in shown(many)) == 10
    assert sum("  why" in line for line in shown(many, details=True)) == 12
    weak = report(missed=[], prompt_only=[miss("chat") for _ in range(5)])
    assert shown(weak)[-1] == "2 more" and sum("  asked" in line for line in shown(weak)) == 3


def test_a_report_that_knows_less():
    """As older patches keep it, and for a model without a chat template whose answers all stayed."""
    old = {"facts": [{"prompt": "x", "target": "y", "says_after": True}]}
    assert report_parts(old) == []
    assert report_parts(old, details=True) == []
    stayed = {"asked": {"plain": 66}, "same": {"plain": 66}, "kl": None, "worst": [moved("2 + 3 =", same=True)]}
    assert shown(old | {"bystanders": stayed}) == ["other answers unchanged: 66 of 66 as text to continue"]


@pytest.mark.parametrize("text", ["[bold]x[/bold]", "a [link=y]"])
def test_texts_are_taken_as_they_are(text):
    whole = report(missed=[miss(reason=f"the answer is {text!r}")])
    assert any(text in line for line in shown(whole))
