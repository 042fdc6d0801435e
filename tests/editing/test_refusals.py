"""Requests that cannot be carried out are refused in a sentence, and nothing is changed."""

import re
import threading

import pytest
import torch
from editing_help import OTHER, Recorder, bits, edit, flags, make_editor, said_fact, same_bits

from bluedit import Editor, Fact, Patch
from bluedit.errors import EditError, FactError, ModelError, RecipeError, StatisticsError
from toys import FACTS, toy_llama, toy_tokenizer

BOTH = pytest.mark.parametrize("family", ["llama", "gpt2"])
PROJECTIONS = {"llama": "model.layers.{}.mlp.down_proj.weight", "gpt2": "transformer.h.{}.mlp.c_proj.weight"}


@pytest.fixture(scope="module")
def editor(statistics):
    """One editor for all refusals, which leave it as it was."""
    return make_editor(statistics=statistics)


def refused(editor, error, text, facts=FACTS, recipe="alphaedit-blue", **options):
    before, state = bits(editor.model), flags(editor)
    with pytest.raises(error, match=text) as caught:
        edit(editor, facts, recipe, **options)
    assert same_bits(editor.model, before)
    assert flags(editor) == state
    assert editor.edits == ()
    return str(caught.value)


# facts


def test_facts_that_cannot_all_hold(editor):
    refused(editor, FactError, r"^no facts were given; pass at least one Fact$", facts=[])
    again = Fact(FACTS[1].prompt, subject=FACTS[1].subject, target="Rome")
    text = refused(editor, FactError, "are the same", facts=[*FACTS, again])
    assert text == "facts 2 and 4 are the same ('The capital of France is' => 'Rome'); keep one"
    other = Fact(FACTS[1].prompt, subject=FACTS[1].subject, target="Berlin")
    text = refused(editor, FactError, "contradict", facts=[*FACTS, other, again])
    assert text == (
        "facts 2 and 4 contradict each other: 'The capital of France is' => 'Rome' and 'Berlin'; keep one\n"
        "facts 2 and 5 are the same ('The capital of France is' => 'Rome'); keep one"
    )


def test_a_prompt_longer_than_the_context(editor):
    long = Fact("word " * 300 + "{} is", subject="France", target="Rome")
    refused(
        editor,
        FactError,
        r"^a prompt of \d+ tokens is longer than the 256 LlamaForCausalLM can read; shorten it$",
        facts=[long],
    )


def test_facts_that_the_model_says_already(statistics):
    editor = make_editor(statistics=statistics)
    known = said_fact(editor)
    before = bits(editor.model)
    text = (
        f"the model already says 1 of 2 facts: {known.text!r} => {known.target!r}. Leave them out, choose another target, "
        "or pass known='skip' (--known skip) to drop them or 'edit' to strengthen them"
    )
    with pytest.raises(FactError, match=f"^{re.escape(text)}$"):
        edit(editor, (known, FACTS[0]), known="refuse")
    with pytest.raises(FactError, match=r"^nothing is left to edit: the model says already what is asked for"):
        edit(editor, known, known="skip")
    with pytest.raises(RecipeError, match=r"^known is 'skp'; did you mean 'skip'\?$"):
        edit(editor, known, known="skp")
    assert same_bits(editor.model, before)
    assert edit(editor, (known, FACTS[0]), known="skip").facts == (FACTS[0],)
    editor.undo()
    done = edit(editor, (known, FACTS[0]), known="edit", report=True)
    assert done.facts == (known, FACTS[0])
    assert [fact.says_before for fact in done.report.facts] == [True, False]


# recipes and settings


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"settings": {"layers": [1, 7]}},
            ModelError,
            "layer 7 is out of range: this model has layers 0 to 4; set 'layers' to existing ones",
        ),
        ({"settings": {"layers": [-1, 2]}}, ModelError, "layer -1 is out of range: this model has layers 0 to 4; "),
        ({"settings": {"layers": []}}, RecipeError, "--set: layers must be one or more ascending layer numbers"),
        ({"recipe": "memit-bleu"}, RecipeError, "unknown recipe 'memit-bleu'; did you mean 'memit-blue'"),
        (
            {"settings": {"preserve.l2": -1, "objective.stesp": 3}},
            RecipeError,
            "--set: preserve.l2 is -1; it must be above 0\n"
            "--set: unknown option 'objective.stesp'; did you mean 'objective.steps'",
        ),
        (
            {"settings": {"preserve.lambda": 1}},
            RecipeError,
            "--set: 'preserve.lambda' belongs to preserve=covariance or preserve=controlled or preserve=neurons, and this recipe has preserve=null-space; ",
        ),
        ({"batch_size": 0}, RecipeError, "batch_size is 0; it must be a whole number and at least 1"),
        ({"batch_size": -3}, RecipeError, "batch_size is -3; it must be a whole number and at least 1"),
        ({"batch_size": 1.5}, RecipeError, "batch_size is 1.5; it must be a whole number and at least 1"),
        ({"settings": {"contexts.count": 11}}, RecipeError, "contexts.count is 11; there are 10 neutral prefixes"),
        (
            {"settings": {"preserve.unit": "absolute", "preserve.threshold": 1e-12}},
            StatisticsError,
            "the null space of layer 1 is empty: 0 of 48 eigenvalues of C ",
        ),
        (
            {"settings": {"preserve.threshold": 1.0}},
            StatisticsError,
            "the null space of layer 1 is everything: 48 of 48 ",
        ),
        (
            {"recipe": "ft", "settings": {"schedule": "boundary"}},
            RecipeError,
            "fine-tuning trains one layer, and the schedule writes 2; set schedule=single",
        ),
        (
            {"recipe": "memit", "settings": {"update": "finetune"}},
            RecipeError,
            "fine-tuning trains one layer, and the schedule writes 3; set schedule=single",
        ),
    ],
)
def test_requests_that_cannot_be_carried_out(options, error, text, editor):
    refused(editor, error, "^" + re.escape(text), **options)


def test_what_is_no_recipe(editor):
    with pytest.raises(RecipeError, match=r"^recipe must be a name or a Recipe, not int$"):
        editor.edit(FACTS, 3)


# statistics and weights that are no use


def test_too_few_tokens_for_statistics():
    refused(
        make_editor(tokens=20),
        StatisticsError,
        r"^the corpus self gives 32 tokens, but statistics of 48-dimensional keys need more",
    )


@BOTH
def test_nan_in_a_weight_that_is_to_be_written(family):
    editor = make_editor(family)
    editor.lm.projection(3).matrix()[2, 5:7] = torch.tensor([float("nan"), float("inf")])
    editor = Editor(editor.model, editor.lm.tokenizer, tokens=480)  # of the model as it came
    name = PROJECTIONS[family].format(3)
    with pytest.raises(ModelError) as caught:
        edit(editor, FACTS)
    assert str(caught.value) == (
        f"{name} holds 2 NaN or infinite values of 1536; the model is damaged, load it again from a sound checkpoint"
    )
    assert editor.edits == ()


@pytest.mark.parametrize(("recipe", "layer"), [(r, i) for r in ("memit", "alphaedit-blue") for i in (0, 1)])
def test_nan_in_a_weight_that_is_not_written(recipe, layer):
    """Whatever notices it says so in a sentence."""
    editor = make_editor()
    with torch.no_grad():
        editor.model.model.layers[layer].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises((ModelError, StatisticsError, EditError), match=r"NaN|not finite|singular"):
        edit(Editor(editor.model, editor.lm.tokenizer, tokens=480), FACTS, recipe)


# gradients


@pytest.mark.parametrize("recipe", ["alphaedit-blue", "pmet", "ft"])
def test_an_edit_inside_no_grad_is_the_same(recipe, statistics):
    usual, inside = (make_editor(statistics=statistics) for _ in range(2))
    edit(usual, FACTS, recipe)
    with torch.no_grad():
        made = edit(inside, FACTS, recipe, report=recipe == "ft")
        assert not torch.is_grad_enabled()
        assert same_bits(inside.model, bits(usual.model))
        made.undo()
        inside.apply(made.patch)
    assert same_bits(inside.model, bits(usual.model))


def test_inference_mode_is_refused(statistics):
    editor = make_editor(statistics=statistics)
    before = bits(editor.model)
    patch = edit(editor, FACTS[0]).patch
    after = bits(editor.model)
    text = "an edit needs gradients, which torch.inference_mode() rules out; edit outside it (torch.no_grad() is fine)"
    for act in (lambda: edit(editor, OTHER[0]), editor.undo, editor.reset, lambda: editor.apply(patch, force=True)):
        with torch.inference_mode(), pytest.raises(EditError) as caught:
            act()
        assert str(caught.value) == text
        assert same_bits(editor.model, after)
    editor.undo()
    assert same_bits(editor.model, before)


def test_a_model_made_in_inference_mode_is_refused(statistics):
    with torch.inference_mode():
        model = toy_llama().requires_grad_(False)
    editor = Editor(model, toy_tokenizer(), tokens=480, statistics=statistics)
    with pytest.raises(
        EditError,
        match=r"^the parameter model\.embed_tokens\.weight was created inside torch\.inference_mode\(\), so it",
    ):
        edit(editor, FACTS[0])


# threads


class SecondThread(Recorder):
    """Has another thread try something after every write, and keeps what it got."""

    def __init__(self):
        super().__init__()
        self.attempts, self.answers, self.home = (), [], threading.current_thread()

    def on_write(self, write):
        super().on_write(write)
        for act in self.attempts if threading.current_thread() is self.home else ():
            thread = threading.Thread(target=self.attempt, args=(act,))
            thread.start()
            thread.join()

    def attempt(self, act):
        try:
            self.answers.append(act())
        except EditError as error:
            self.answers.append(str(error))


def test_a_second_thread_is_refused_while_an_edit_runs(statistics):
    trace, clean = SecondThread(), make_editor(statistics=statistics)
    editor = make_editor(statistics=statistics, trace=trace)
    other = Editor(editor.model, editor.lm.tokenizer, tokens=480, statistics=statistics)
    trace.attempts = (
        lambda: edit(editor, OTHER[1]),
        lambda: edit(other, OTHER[1]),
        editor.reset,
        editor.verify,
        lambda: editor.apply(Patch(), force=True),
    )
    edit(editor, FACTS)
    assert trace.answers == [
        "another thread is editing this model; only one thread at a time can change its weights, so wait until that edit has finished"
    ] * len(trace.attempts) * len(trace.writes)
    edit(clean, FACTS)
    assert same_bits(editor.model, bits(clean.model))
    trace.attempts = ()
    thread = threading.Thread(target=lambda: trace.attempt(editor.undo))
    thread.start()
    thread.join()
    assert trace.answers[-1] is None and editor.edits == (), "another thread may edit afterwards"
