"""Answers name the subject again ("The mayor of Paris is Rome."): what is written under its key acts there too, so targets are optimised with it."""

from dataclasses import replace

import pytest
import torch

from bluedit import Execution, Fact
from bluedit.facts.words import whole_names
from bluedit.forward._packed import Packed
from bluedit.forward._padded import Padded
from bluedit.forward._reference import ReferenceRunner
from bluedit.forward._runner import Runners
from bluedit.forward._suffix import SuffixRunner
from bluedit.methods.objective import Objective
from bluedit.methods.recipe import Recipe
from bluedit.methods.subjects import Unit
from bluedit.methods.wordings import Natural
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import hooked
from bluedit.model.sites import Site
from bluedit.model.state import frozen
from bluedit.progress import Progress
from bluedit.text.rows import Repeat, Row, linked, rotations, touched
from bluedit.writing.found import FoundTargets
from bluedit.writing.keys import batch_rows, key_rows
from bluedit.writing.targets import optimise_targets
from toys import toy_llama, toy_tokenizer

TOKENIZER = toy_tokenizer()
WITHIN, START = (tuple(TOKENIZER.convert_tokens_to_ids(tokens)) for tokens in (["ĠParis"], ["Par", "is"]))
MAYOR = Fact("The mayor of {} is", "Paris", "Rome", phrasings=("Who is the mayor of {}?",))
RIVER = Fact("{} has the river", "Paris", "London", phrasings=("Which river is that of {}?",))
SITES = [Site("block", 1), Site("block", 2)]


def laid(*facts, **options):
    recipe = Recipe("plain", wordings=Natural(chat=False, **options), subjects=Unit())
    return batch_rows(TOKENIZER, facts, ("You said this.",), recipe)


def bare_question(rows, text):
    (row,) = (row for row in rows.rows if TOKENIZER.decode(row.ids[: row.target_start]) == text)
    return row


def test_a_sentence_that_answers_names_its_subject_again():
    rows = laid(MAYOR)
    row = bare_question(rows, "Who is the mayor of Paris?")
    (mention,) = row.again
    assert TOKENIZER.decode(row.ids[: mention.at + 1]) == "Who is the mayor of Paris?\nThe mayor of Paris"
    assert (mention.word, mention.column) == (WITHIN, row.fact)
    assert [token[1:] for token in touched([row])] == [(row.subject_last, row.fact), (mention.at, row.fact)]


def test_the_keys_of_mentions_count_like_those_of_the_subject():
    rows = laid(MAYOR)
    row = bare_question(rows, "Who is the mayor of Paris?")
    (mention,) = row.again
    prompts = [r for r in rows.rows if not r.is_drift]
    assert key_rows(rows.rows) == [*prompts, replace(row, subject_last=mention.at, again=())]


def test_a_mention_has_the_column_of_its_spelling():
    rows = laid(RIVER)
    row = bare_question(rows, "Which river is that of Paris?")
    (mention,) = row.again
    assert mention.word == START and rows.places[mention.column].word == START
    assert mention.column != row.fact
    assert sorted((row.fact, mention.column)) in linked(rows.rows)


def test_a_spelling_without_a_column_is_left_alone():
    quoted = Fact("The river of {} is", "Paris", 'the river "Paris" sees', phrasings=("Which river is that of {}?",))
    rows = laid(quoted)
    assert START not in [place.word for place in rows.places]
    assert [mention.word for mention in bare_question(rows, "Which river is that of Paris?").again] == [WITHIN]


def test_other_words_that_begin_like_the_subject_are_no_mentions():
    kin = Fact("Who is the mayor of {}?", "Paris", "a Parisian", phrasings=())
    assert not any(row.again for row in laid(kin).rows)


def test_a_name_is_whole_in_scripts_without_spaces_too():
    assert whole_names("東京の市長は誰?\n東京の市長はローマ", "東京") == [(0, 2), (9, 11)]
    assert whole_names("Paris, Parisian, Paris's", "Paris") == [(0, 5), (17, 22)]


def test_what_is_taught_as_papers_do_has_no_mentions():
    rows = batch_rows(TOKENIZER, [replace(MAYOR, target="Paris, mayor of Paris")], ("You said this.",), Recipe("plain"))
    assert not any(row.again for row in rows.rows)


def test_columns_that_meet_in_a_row_are_linked():
    rows = [Row(column, "bare", (1, 2, 3), 0) for column in range(5)]
    rows += [Row(3, "taught", (1, 2, 3), 0, again=(Repeat(1, (2,), 1), Repeat(2, (3,), 4)))]
    assert linked(rows) == [[0], [1, 3, 4], [2]]


@pytest.fixture(scope="module")
def lm():
    return EditableModel.of(toy_llama(), toy_tokenizer(), "toy")


def naive(lm, row, vectors):
    """Log-probabilities of a row's targets, from a full forward with vectors added to the outputs of two blocks at all its mentions."""
    at = [token.at for token in touched([row])]

    def adder(layer):
        def add(_module, _args, output):
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            for place, token in enumerate(at):
                hidden[0, token] += vectors[layer, place]
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return add

    hooks = [(lm.model.model.layers[site.layer], "forward", adder(i)) for i, site in enumerate(SITES)]
    with torch.no_grad(), hooked(hooks):
        logits = lm.model(torch.tensor([row.ids])).logits[0]
    return logits[list(row.read_at)].log_softmax(-1)


@pytest.mark.parametrize(
    "make",
    [
        lambda *given: SuffixRunner(*given, Packed),
        lambda *given: SuffixRunner(*given, Padded),
        ReferenceRunner,
    ],
    ids=["packed", "padded", "reference"],
)
def test_every_forward_adds_vectors_at_all_mentions(lm, make):
    rows = laid(MAYOR, RIVER).rows
    runner = make(lm, rows, SITES)
    for kept in (None, [i for i, row in enumerate(runner.rows) if row.again]):
        if kept:
            runner.keep(kept)
        tokens = touched(runner.rows)
        assert len(tokens) > len(runner.rows)
        delta = torch.randn(2, len(tokens), 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found = runner.logits(delta).log_softmax(-1).split([len(row.read_at) for row in runner.rows])
        for i, row in enumerate(runner.rows):
            own = [n for n, token in enumerate(tokens) if token.row == i]
            assert torch.allclose(found[i], naive(lm, row, delta[:, own]), atol=1e-5)


def optimised(lm, rows, **numbers):
    objective = Objective(learning_rate=0.5, steps=5, stop_loss=0.0, **numbers)
    with frozen(lm.model), Progress().task("", 0) as advance:
        return optimise_targets(lm, rows, SITES[0], objective, Execution(tokens_per_step=1), advance)


def test_targets_that_meet_in_a_row_are_optimised_together(lm):
    river = Fact("The river of {} is", "Paris", "London")
    rows = laid(RIVER, MAYOR, river).rows  # columns: the texts' beginnings with one prompt, and within them with two
    both = optimised(lm, rows, steps_growth=1.0)
    assert both.steps.tolist() == [9, 9]
    apart = optimised(lm, [replace(row, again=()) for row in rows], steps_growth=1.0)
    assert apart.steps.tolist() == [4, 9]
    assert not torch.allclose(both.z, apart.z, atol=1e-3)


@pytest.mark.parametrize("steps", [1, 30])
def test_texts_take_turns_and_only_those_that_get_one_have_a_runner(lm, steps, monkeypatch):
    rows, made = laid(MAYOR).rows, []
    several = Runners.several
    monkeypatch.setattr(Runners, "several", lambda self, parts: made.append(parts) or several(self, parts))
    objective = Objective(learning_rate=0.5, steps=steps, stop_loss=0.0, rotate=True)
    with frozen(lm.model), Progress().task("", 0) as advance:
        optimise_targets(lm, rows, SITES[0], objective, Execution(), advance)
    expected = rotations(rows)
    assert 1 < len(expected) < 30
    assert expected[:steps] in made


def test_targets_count_on_the_change_at_every_mention(lm):
    rows = laid(MAYOR).rows
    row = bare_question(laid(MAYOR), "Who is the mayor of Paris?")

    def loss(targets):
        moved = (targets.z - targets.start).T.double()[[token.column for token in touched([row])]]
        found = naive(lm, row, torch.stack([moved, torch.zeros_like(moved)]))
        return -found[range(len(row.targets)), list(row.targets)].mean()

    assert loss(optimised(lm, rows)) < loss(optimised(lm, [replace(row, again=()) for row in rows])) - 0.01


def test_found_targets_are_those_of_columns_that_were_optimised_together(lm):
    """A guard writes facts again in other company: columns get other numbers, and a mention in a row refers to them."""
    nation = Fact("The nation of {} is", "Rome", "London")
    asked = []

    def get(found, *facts):
        rows = laid(*facts).rows

        def some(those):
            asked.append(sorted({row.fact for row in those}))
            return optimised(lm, those)

        return found.get("site", rows, lambda: some(rows), some)

    found = FoundTargets()
    first, again = get(found, nation, RIVER), get(found, RIVER)
    assert asked == [[0, 1, 2]]  # RIVER has two columns, that meet in a row
    assert torch.equal(again.z, first.z[:, 1:])
    get(found, RIVER, nation, MAYOR)
    assert asked[1:] == [[0, 2]]  # both of the subject that has a further fact
