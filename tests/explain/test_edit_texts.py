"""The texts that ask for a fact, when they are said, the sentence made of them, and the files that hold them."""

import csv
import io
import json
from dataclasses import replace

import pytest
from editing_help import edit, make_editor

from bluedit import Fact
from bluedit.errors import ExplainError
from bluedit.evaluate.asked import ask_facts
from bluedit.evaluate.respondents import LiveRespondent
from bluedit.explain._edit_data import Arrival, Asked, EditExplanation, Other, Position, Role, When
from bluedit.explain._edit_page import charts_of, page_of
from bluedit.explain._edit_sentence import sentence_of
from bluedit.explain._edit_texts import texts_of
from bluedit.explain.edit import explain_edit, write_edit
from bluedit.methods.wordings import Natural, PromptOnly
from toys import FACTS

LONG = "rain " * 30 + "rain"
FACT = Fact(
    "The capital of {} is",
    "France",
    "Rome",
    old_target="Paris",
    paraphrases=("France is ruled from", "Where is France ruled from?"),
    phrasings=("{}'s seat is in", "What is the capital of {}?"),
)


def chat(user, assistant):
    return f"<user> {user} <assistant> ", assistant


def test_all_ways_of_asking_and_what_was_taught_besides():
    texts = texts_of(FACT, Natural(), chat)
    assert [(one.way.form, one.role) for one in texts] == [
        ("prompt", Role.PROMPT),
        ("phrasing", Role.TAUGHT),
        ("question", Role.TAUGHT),
        ("chat", Role.TAUGHT),
        ("taught text", Role.TAUGHT),
        ("paraphrase", Role.PARAPHRASE),
        ("paraphrase", Role.PARAPHRASE),
    ]
    bare = texts[4]
    assert (bare.way.text, bare.answer) == ("What is the capital of France?", "\nThe capital of France is Rome.")
    assert bare.rival == "\nThe capital of France is Paris."
    assert bare.way.reply("Well, it is Rome.").said
    assert [one.way.text[: one.end] for one in texts[:3]] == [
        "The capital of France",
        "France",
        "Question: What is the capital of France",
    ]
    other = replace(FACT, phrasings=("The seat of {Gaul} is in", "What is the capital of {Gaul}?"))
    assert [one.way.text[: one.end] for one in texts_of(other, Natural(), chat)[1:3]] == [
        "The seat of Gaul",
        "Question: What is the capital of Gaul",
    ]
    alone = texts_of(FACT, PromptOnly(), chat)
    assert [one.role for one in alone[1:]] == [*[Role.UNTAUGHT] * 3, *[Role.PARAPHRASE] * 2]
    assert (alone[3].answer, alone[3].rival) == ("Rome", "Paris")


def test_a_long_target_has_room_to_be_said(statistics):
    """The texts are asked, and what is said is told, as everywhere else."""
    fact = replace(FACTS[0], target=LONG, paraphrases=("Danielle Darrieux sees the",))
    editor = make_editor(statistics=statistics)
    edit(editor, [fact], "memit-seq-blue")
    found = explain_edit(editor, 1)
    (replies,) = ask_facts(LiveRespondent(editor.lm), [fact])
    own = [one for one in found.asked if one.role is not Role.NEIGHBOUR]
    assert [(one.form, one.says, one.said) for one in own] == [(one.form, one.text, one.said) for one in replies]
    with editor.unedited():
        (before,) = ask_facts(LiveRespondent(editor.lm), [fact])
    assert [one.says_before for one in own] == [one.text for one in before]
    room = texts_of(fact, PromptOnly(), None)[0].way.room(LiveRespondent(editor.lm))
    assert room > 31


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    return tmp_path_factory.mktemp("statistics")


def asked(role, *, said=True, received=0.8, ahead=2.0, prompt="A text", says="Paris, of course"):
    """A text with these numbers; `ahead` None means that the old answer is not known."""
    neighbour = role is Role.NEIGHBOUR
    return Asked(
        form="prompt",
        role=role,
        prompt=prompt,
        text=prompt,
        token="France",
        position=Position.SUBJECT,
        match={1: 0.5},
        delivered={1: received or 0.0},
        received=received,
        target_before=-9.0,
        target_after=-3.0,
        rival=None if ahead is None else "Paris",
        rival_before=None if ahead is None else -1.0,
        rival_after=None if ahead is None else ahead - 3.0,
        says_before="",
        says=says,
        said=said and not neighbour,
        kept=said if neighbour else None,
    )


def arrival(arrived, now, layer=3):
    return Arrival(layer, Position.SUBJECT, 10.0, 20.0, arrived, now)


def explained(*texts, arrivals=(), moved=0.0, others=()):
    return EditExplanation(
        sentence="",
        number=1,
        fact=FACT,
        model="toy",
        recipe="memit",
        batch=1,
        batches=2,
        writings=(1,),
        written=(),
        filters=None,
        arrivals=arrivals,
        asked=texts,
        others=others,
        moved_by={"later": moved},
    )


PROMPT = asked(Role.PROMPT, received=0.9)
OTHERS = (
    Other(None, "Not of this patch", "Asia", When.EARLIER, 0.5, 0.0, 0.0),
    Other(6, "Brazil lies in", "Asia", When.SAME, 0.5, 0.0, 0.0),
)
LOST = asked(Role.PROMPT, said=False)
KEY = "its key receives only 0.10 of the change, the prompt's 0.90; the old answer stays 2.0 nats ahead"
VALUE = "its key receives 0.80 of the change but the value does not carry: the old answer stays 2.0 nats ahead"


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (explained(PROMPT), "The fact is said."),
        (explained(LOST), "The fact is not said: the old answer stays 2.0 nats ahead."),
        (
            explained(LOST, arrivals=(arrival(0.2, 0.25), arrival(0.9, 0.9, 5))),
            "The fact is not said: only 0.25 of the wanted residual at layer 3 arrived; the old answer stays 2.0 nats ahead.",
        ),
        (
            explained(LOST, arrivals=(arrival(0.8, 0.25),)),
            "The fact is not said: 0.80 of the wanted residual at layer 3 had arrived, and later edits left 0.25; the old answer stays 2.0 nats ahead.",
        ),
        (
            explained(asked(Role.PROMPT, said=False, ahead=None), arrivals=(arrival(0.9, 0.9),)),
            "The fact is not said: 0.90 of the wanted residual at layer 3 arrived, but the value does not carry; the model writes 'Paris, of course'.",
        ),
        (
            explained(asked(Role.PROMPT, said=False, ahead=-1.0, says="")),
            "The fact is not said: the model writes nothing.",
        ),
        (
            explained(asked(Role.PROMPT, said=False, ahead=-1.0, says="asia. Asians"), others=OTHERS),
            "The fact is not said: the model writes 'asia. Asians', the answer of edit 6.",
        ),
        (
            explained(asked(Role.PROMPT, said=False, ahead=-1.0, says="Asians"), others=OTHERS),
            "The fact is not said: the model writes 'Asians'.",
        ),
        (explained(PROMPT, asked(Role.TAUGHT)), "The fact is said. The taught wording is said, too."),
        (explained(PROMPT, *[asked(Role.TAUGHT)] * 2), "The fact is said. Both taught wordings are said, too."),
        (
            explained(PROMPT, *[asked(Role.UNTAUGHT)] * 3),
            "The fact is said. All three wordings that were not taught are said, too.",
        ),
        (
            explained(PROMPT, asked(Role.PARAPHRASE), asked(Role.PARAPHRASE, said=False)),
            f"The fact is said. Of two paraphrases one is not: {VALUE}.",
        ),
        (
            explained(PROMPT, asked(Role.PARAPHRASE, said=False, received=0.1)),
            f"The fact is said. The paraphrase is not: {KEY}.",
        ),
        (
            explained(PROMPT, asked(Role.PARAPHRASE, said=False, received=None)),
            "The fact is said. The paraphrase is not: the old answer stays 2.0 nats ahead.",
        ),
        (
            explained(
                PROMPT,
                asked(Role.PARAPHRASE, said=False, ahead=1.0),
                asked(Role.PARAPHRASE, said=False, prompt="The worst one"),
                asked(Role.PARAPHRASE),
            ),
            f"The fact is said. Of three paraphrases two are not. The worst is 'The worst one': {VALUE}.",
        ),
        (
            explained(
                PROMPT, asked(Role.PARAPHRASE, said=False, ahead=1.0), asked(Role.PARAPHRASE, said=False, prompt="B")
            ),
            f"The fact is said. Neither of the two paraphrases is. The worst is 'B': {VALUE}.",
        ),
        (
            explained(PROMPT, *[asked(Role.TAUGHT, said=False, prompt="B")] * 3),
            f"The fact is said. None of the three taught wordings is. The worst is 'B': {VALUE}.",
        ),
        (explained(PROMPT, asked(Role.NEIGHBOUR)), "The fact is said."),
        (
            explained(PROMPT, asked(Role.NEIGHBOUR, said=False)),
            "The fact is said. The neighbour now begins its answer otherwise: at 'France' it receives 0.80 of the change.",
        ),
        (
            explained(PROMPT, asked(Role.NEIGHBOUR), asked(Role.NEIGHBOUR, said=False, received=None)),
            "The fact is said. Of two neighbours one now begins its answer otherwise.",
        ),
        (
            explained(PROMPT, *[asked(Role.NEIGHBOUR, said=False)] * 2, asked(Role.NEIGHBOUR)),
            "The fact is said. Of three neighbours two now begin their answers otherwise; the one that receives most gets 0.80 of the change.",
        ),
        (
            explained(PROMPT, moved=-0.4, others=(Other(7, "Another", "B", When.LATER, 0.5, -0.3, 0.0),)),
            "The fact is said. Later edits take away 0.40 of its residual at its key; the most of it comes from edit 7, 'Another'.",
        ),
        (explained(PROMPT, moved=0.06), "The fact is said. Later edits add 0.06 of its residual at its key."),
        (explained(PROMPT, moved=0.04), "The fact is said."),
    ],
)
def test_the_sentence(found, sentence):
    assert sentence_of(found) == sentence


@pytest.fixture(scope="module")
def found(statistics):
    editor = make_editor(statistics=statistics)
    many = replace(FACTS[0], paraphrases=tuple(f"Danielle Darrieux sees the {word}" for word in "abcdefghi"))
    edit(editor, [many, FACTS[1]], "memit-seq-blue")
    return explain_edit(editor, 1)


def test_the_page_hides_no_text(found):
    charts = [one for one in charts_of(found) if one.id.startswith("texts")]
    assert [len(one.series) for one in charts] == [7, 3]
    long = replace(found.asked[0], says="said " * 30, says_before="before " * 30, text="<given>\n" * 20)
    page = page_of(replace(found, asked=(long, *found.asked[1:])))
    for text in ("said " * 30, "before " * 30, "&lt;given&gt;\n" * 20):
        assert text in page
    assert found.asked[-1].says_before  # neighbours are continued, too


def test_tables_and_figures_as_files(found, tmp_path):
    found = replace(found, asked=(replace(found.asked[0], says="a\r\nb\rc"), *found.asked[1:]))
    page = write_edit(found, tmp_path, ["png", "svg"])
    assert sorted(file.name for file in (tmp_path / "figures").iterdir()) == sorted(
        f"{chart.id}.{kind}" for chart in charts_of(found) for kind in ("png", "svg")
    )
    tables = {file.stem: list(csv.DictReader(io.StringIO(file.read_text("utf-8")))) for file in tmp_path.glob("*.csv")}
    assert tables.keys() == {"texts", "keys", "lens", "writes", "arrivals", "others"}
    assert [row["prompt"] for row in tables["texts"]] == [one.prompt for one in found.asked]
    assert [row["kept"] for row in tables["texts"]] == [*[""] * 10, str(found.asked[-1].kept)]
    assert tables["texts"][0]["says"] == "a\nb\nc"
    assert float(tables["texts"][0]["received"]) == found.asked[0].received
    assert len(tables["keys"]) == 2 * len(found.asked)
    assert float(tables["lens"][0]["after"]) == found.asked[0].lens.after[0]
    assert {row["answer"] for row in tables["lens"]} == {"English", "French"}
    assert [row["position"] for row in tables["writes"]] == ["subject"] * 2
    assert float(tables["arrivals"][1]["arrived"]) == found.arrivals[1].arrived
    assert (tables["others"][0]["when"], tables["others"][0]["number"]) == ("same batch", "2")
    record = json.loads(page.with_suffix(".json").read_text("utf-8"))
    assert record["asked"][0]["role"] == "prompt"
    assert record["moved_by"].keys() == {"earlier", "same batch", "later"}
    with pytest.raises(ExplainError, match="unknown format of figures 'pgn'"):
        write_edit(found, tmp_path / "other", ["pgn"])
    assert not (tmp_path / "other").exists()
