"""Token positions and target ids: the traps that have bitten every implementation."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from bluedit.errors import FactError, ModelError
from bluedit.facts import Fact
from bluedit.facts.words import visible
from bluedit.methods.wordings import Natural, PromptOnly
from bluedit.model.editable import EditableModel
from bluedit.text.prompts import drift_row, encode, encode_answer, last_token_of, rows_of, subject_row
from bluedit.text.rows import chunks_by_cost, chunks_by_length
from bluedit.text.wordings import wording_rows
from toys import FACTS, toy_llama, toy_tokenizer, trained

PREFIX = "The weather was mild that morning."
both = pytest.mark.parametrize("bos", [False, True])


def ids(tokenizer, text):
    return tokenizer(text)["input_ids"]


def upto(tokenizer, row):
    """The text of a row up to and with its subject's last token."""
    return tokenizer.decode(row.ids[: row.subject_last + 1], skip_special_tokens=True)


# where the subject ends


@both
@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize(
    ("prompt", "subject", "before_last", "through_last"),
    [
        ("The capital of {} is", "France", "The capital of Franc", "The capital of France"),
        (
            "France, Paris: the capital of {} is",
            "France",
            "France, Paris: the capital of Franc",
            "France, Paris: the capital of France",
        ),
        ("{} and France and France are", "France", "Franc", "France"),  # the first of three
        ("France and France and {} are", "France", "France and France and Franc", "France and France and France"),
        ("{} plays the", "Élise Müller", "Élise Mülle", "Élise Müller"),
        ("{} spielt", "Müller Ü", "Müller ", "Müller Ü"),  # ends in a character of two byte tokens
        ("The word {}", "日本", "The word 日", "The word 日本"),
        ("Is it {}?", "in", "Is it i", "Is it in"),
    ],
)
def test_subject_last_is_the_token_of_its_last_character(bos, prefix, prompt, subject, before_last, through_last):
    tokenizer = toy_tokenizer(bos=bos)
    row = subject_row(tokenizer, Fact(prompt, subject=subject, target="Rome"), 0, prefix)
    start = f"{prefix} " if prefix else ""
    assert upto(tokenizer, row).startswith(start + through_last)
    shorter = tokenizer.decode(row.ids[: row.subject_last], skip_special_tokens=True)
    assert len(shorter) <= len(start + before_last) or "\ufffd" in shorter
    assert row.kind == ("prefixed" if prefix else "bare")


@both
def test_subject_that_ends_inside_a_token(bos):
    """' offic' is one token; a subject that ends in 'off' owns all of it."""
    tokenizer = toy_tokenizer(bos=bos)
    row = subject_row(tokenizer, Fact("The {}icial religion", subject="off", target="Rome"), 0)
    token = tokenizer.decode([row.ids[row.subject_last]])
    assert token == " offic", "the toy tokenizer no longer has this token: choose another"
    assert row.subject_last == len(ids(tokenizer, "The"))


@both
def test_subject_at_the_start(bos):
    tokenizer = toy_tokenizer(bos=bos)
    row = subject_row(tokenizer, Fact("{} capital of France", subject="The", target="Rome"), 0)
    assert row.subject_last == (1 if bos else 0)
    assert row.suffix == len(row.ids) - row.subject_last


@both
@given(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=12),
    st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_any_subject_is_found(bos, subject, prefixed):
    """The last token's characters include the subject's last one, whatever the script; checked with the tokenizer's own char_to_token."""
    subject = visible(subject)
    if not subject or "{" in subject or "}" in subject:
        return
    tokenizer = toy_tokenizer(bos=bos)
    fact = Fact("In {} it is", subject=subject, target="Rome")
    row = subject_row(tokenizer, fact, 0, PREFIX if prefixed else "")
    text = (f"{PREFIX} " if prefixed else "") + f"In {subject} it is"
    end = text.index("In ", len(PREFIX) if prefixed else 0) + 3 + len(subject)
    encoded = tokenizer(text)
    assert encoded.char_to_token(end - 1) <= row.subject_last
    following = encoded.char_to_token(end)
    assert following is None or row.subject_last <= following


def test_last_token_of_the_last_covering_one():
    offsets = [(0, 0), (0, 2), (2, 5), (4, 5), (5, 9)]
    assert [last_token_of(offsets, end) for end in (1, 2, 3, 5, 6)] == [1, 1, 2, 3, 4]
    with pytest.raises(FactError) as caught:
        last_token_of([(0, 2), (3, 5)], 3)
    assert str(caught.value) == (
        "no token covers the subject's last character (position 2); check the subject for characters the tokenizer drops"
    )


# what the target is


@both
@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.target)
@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_prompt_and_target_ids_are_those_of_the_whole_text(bos, fact, prefix):
    tokenizer = toy_tokenizer(bos=bos)
    row = subject_row(tokenizer, fact, 7, prefix)
    whole = ids(tokenizer, (f"{prefix} " if prefix else "") + f"{fact.text} {fact.target}")
    assert [*row.ids, row.targets[-1]] == whole
    assert list(row.ids[: row.target_start]) == ids(tokenizer, (f"{prefix} " if prefix else "") + fact.text)
    assert list(row.targets) == whole[row.target_start :]
    assert row.ids[row.target_start :] == row.targets[:-1]
    assert row.fact == 7


def test_targets_of_several_tokens():
    tokenizer = toy_tokenizer()
    row = subject_row(tokenizer, FACTS[2], 0)
    assert len(row.targets) > 2
    assert tokenizer.decode(row.targets) == " drum kit"
    assert len(row.ids) == row.target_start + len(row.targets) - 1


@both
def test_a_target_that_would_merge_with_the_prompt_is_encoded_on_its_own(bos):
    """' of' is one token of the whole text, but the prompt ends in its space; the prompt's ids stay what they are at inference."""
    tokenizer = toy_tokenizer(bos=bos)
    assert ids(tokenizer, "The mother tongue of")[: len(ids(tokenizer, "The mother tongue "))] != ids(
        tokenizer, "The mother tongue "
    )
    spaced = encode_answer(tokenizer, "The mother tongue ", "of")
    assert spaced[0] == ids(tokenizer, "The mother tongue ")
    assert tokenizer.decode(spaced[1]) == "of"
    assert 0 not in spaced[1]


def test_spacing_is_the_facts_own_where_it_says_so():
    tokenizer = toy_tokenizer()
    for target, joined, continued in (
        ("Rome", None, " Rome"),
        ("Rome", True, "Rome"),
        ("!", False, " !"),
        ("!", None, "!"),
    ):
        row = subject_row(tokenizer, Fact("The capital of {} is", subject="France", target=target, joined=joined), 0)
        assert tokenizer.decode(row.targets) == continued
        assert tokenizer.decode(encode_answer(tokenizer, "It is", target, joined)[1]) == continued


def test_target_without_tokens():
    class Dropping:
        """A tokenizer whose vocabulary knows nothing of the answer."""

        is_fast = True

        def __call__(self, text, **_options):
            known = [i for i, c in enumerate(text) if c.isascii()]
            return {
                "input_ids": known,
                "offset_mapping": [(i, i + 1) for i in known],
                "special_tokens_mask": [0] * len(known),
            }

    with pytest.raises(FactError) as caught:
        encode_answer(Dropping(), "首都は", "東京")
    assert str(caught.value) == "the tokenizer makes no token of '東京' after '首都は'; choose another target"


# special tokens


@both
def test_special_tokens_are_those_of_inference(bos):
    tokenizer = toy_tokenizer(bos=bos)
    found, offsets = encode(tokenizer, "The capital")
    assert found == ids(tokenizer, "The capital")
    assert (found[0] == tokenizer.bos_token_id) is bos
    assert len(found) == len(offsets)


def test_a_trailing_special_token_is_dropped():
    backend = Tokenizer.from_str(trained("bytes", False))
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    assert ids(tokenizer, "The capital")[-1] == 1
    assert encode(tokenizer, "The capital")[0] == ids(tokenizer, "The capital")[:-1]
    row = subject_row(tokenizer, FACTS[1], 0)
    assert 1 not in row.ids
    assert 1 not in row.targets
    assert [*row.ids, row.targets[-1]] == ids(tokenizer, "The capital of France is Rome")[:-1]
    fact = Fact("The capital of {} is", "France", "Rome", phrasings=("What is the capital of {}?",))
    for taught in wording_rows(tokenizer, Natural().groups(fact, None), fact.subject):
        assert 1 not in taught.ids and 1 not in taught.targets
        assert len(taught.again) == (tokenizer.decode(taught.ids).count("France") > 1)


def test_braces_of_a_target_a_subject_or_a_sentence_stay():
    tokenizer = toy_tokenizer()
    (group,) = PromptOnly().groups(Fact("The default of {} is", "fmt{}", "{}"), None)
    plain, after = wording_rows(tokenizer, [group], "fmt{}", prefixes=["We speak of {} here."])
    for row, text in ((plain, "The default of fmt{}"), (after, "We speak of {} here. The default of fmt{}")):
        assert tokenizer.decode(row.ids[: row.subject_last + 1]) == text
        assert tokenizer.decode((*row.ids, row.targets[-1])) == f"{text} is {{}}"


def test_no_offsets():
    class PythonTokenizer:
        is_fast = False

    with pytest.raises(ModelError) as caught:
        encode(PythonTokenizer(), "The capital")
    assert str(caught.value) == (
        "PythonTokenizer gives no character offsets, which bluedit needs to find the subject; "
        "load the fast tokenizer (AutoTokenizer does so by default)"
    )


# rows


@both
def test_drift_row_ends_at_the_subject(bos):
    tokenizer = toy_tokenizer(bos=bos)
    for fact in FACTS:
        row = drift_row(tokenizer, fact.subject, 3)
        assert list(row.ids) == ids(tokenizer, f"{fact.subject} is a")[: row.subject_last + 1]
        assert (row.suffix, row.targets, row.kind, row.fact) == (1, (), "drift", 3)
        assert upto(tokenizer, row) == fact.subject


def test_rows_of_every_fact_in_order():
    rows = rows_of(toy_tokenizer(), FACTS, ("One.", "Two."), drift=True)
    assert [(row.fact, row.kind) for row in rows] == [
        (i, kind) for i in range(3) for kind in ("bare", "prefixed", "prefixed", "drift")
    ]
    assert [row for row in rows if row.kind != "drift"] == rows_of(toy_tokenizer(), FACTS, ("One.", "Two."))


def test_the_tokenizer_is_not_changed():
    tokenizer = toy_tokenizer(bos=True)
    tokenizer.padding_side, tokenizer.truncation_side, tokenizer.model_max_length = "left", "left", 5
    before = (tokenizer.backend_tokenizer.to_str(), dict(tokenizer.special_tokens_map))
    rows_of(tokenizer, FACTS, (PREFIX,), drift=True)
    assert (tokenizer.padding_side, tokenizer.truncation_side, tokenizer.model_max_length) == ("left", "left", 5)
    assert (tokenizer.backend_tokenizer.to_str(), dict(tokenizer.special_tokens_map)) == before
    assert tokenizer.pad_token is None


def test_truncation_set_by_the_caller_does_not_cut_rows():
    tokenizer = toy_tokenizer()
    wanted = subject_row(tokenizer, FACTS[0], 0, PREFIX)
    tokenizer("a", truncation=True, max_length=3)
    assert subject_row(tokenizer, FACTS[0], 0, PREFIX) == wanted


# padding and chunks


@pytest.mark.parametrize("left", [False, True])
def test_pad(left):
    lm = EditableModel.of(toy_llama(layers=1), toy_tokenizer(), "toy")
    found, mask = lm.pad([[5, 6, 7], [8], []], left=left)
    assert [
        [i for i, m in zip(r, k, strict=True) if m] for r, k in zip(found.tolist(), mask.tolist(), strict=True)
    ] == [[5, 6, 7], [8], []]
    assert mask.tolist()[1] == ([0, 0, 1] if left else [1, 0, 0])
    with pytest.raises(FactError) as caught:
        lm.pad([[1] * 257])
    assert str(caught.value) == "a prompt of 257 tokens is longer than the 256 toy can read; shorten it"


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 120))
@settings(max_examples=30, deadline=None)
def test_chunks_by_cost(costs, budget):
    groups = chunks_by_cost(costs, budget)
    assert sorted(i for group in groups for i in group) == list(range(len(costs)))
    for group in groups:
        assert group
        assert len(group) == 1 or max(costs[i] for i in group) * len(group) <= budget
    flat = [costs[i] for group in groups for i in group]
    assert flat == sorted(flat)
    for group, following in itertools.pairwise(groups):
        assert costs[following[0]] * (len(group) + 1) > budget, "the next one would have fitted"


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
@settings(max_examples=30, deadline=None)
def test_chunks_by_length(lengths, budget):
    chunks = chunks_by_length(lengths, budget)
    assert sorted(i for chunk in chunks for i in chunk) == list(range(len(lengths)))
    for chunk in chunks:
        longest = max(lengths[i] for i in chunk)
        assert len(chunk) == 1 or longest * len(chunk) <= budget


def test_rows_of_different_lengths_run_apart():
    """Fourteen short rows are not padded to the length of a long one."""
    assert chunks_by_length([60, *[8] * 14], 2048) == [list(range(1, 15)), [0]]
    assert chunks_by_length([9, *[8] * 14], 2048) == [[*range(1, 15), 0]]
