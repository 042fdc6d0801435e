"""Every family of the table: found or refused, run on the path that the table says, taught a fact, and undone."""

import pytest
import torch
from editing_help import bits, changed, leftovers, same_bits

from bluedit import Editor, Fact
from bluedit.errors import ModelError, RecipeError
from bluedit.evaluate.answers import score
from bluedit.forward import runners
from bluedit.model.sites import Site
from bluedit.text._reading import reader_for
from bluedit.text.prompts import rows_of
from families import FAMILIES, METHODS
from toys import FACTS, fitting, toy_tokenizer

FACT = Fact("The library of {}", subject="London", target="Rome")
LEARN = {
    "layers": [0, 1],
    "preserve.lambda": 0.1,
    "preserve.unit": "energy",
    "preserve.threshold": 0.2,
    "preserve.l2": 0.1,
    "objective.clamp": 20.0,
    "objective.weight_decay": 0,
    "objective.steps": 8,
    "objective.learning_rate": 1.0,
    "contexts.count": 1,
}
EDITED = [pytest.param(f, id=f.name, marks=[] if f.known else pytest.mark.skip) for f in FAMILIES if not f.refused]
REFUSED = [pytest.param(f, id=f.name, marks=[] if f.known else pytest.mark.skip) for f in FAMILIES if f.refused]


@pytest.fixture(autouse=True)
def kept_statistics(own_cache, tmp_path_factory, monkeypatch):
    """Each family's statistics are measured once."""
    monkeypatch.setenv("BLUEDIT_CACHE", str(tmp_path_factory.getbasetemp() / "families"))


@pytest.fixture(scope="module")
def toys():
    """Editors of the families' toys: made once, and left unedited by each test."""
    made = {}

    def of(family):
        if family.name not in made:
            made[family.name] = Editor(family.make(), toy_tokenizer(), name=family.name, tokens=256)
        return made[family.name]

    return of


def check_learned(editor, method, **settings):
    """A fact is learned, no weights but the recipe's change, and undoing gives every bit back."""
    before, (old,) = bits(editor.model), score(editor.lm, [(FACT.text, FACT.target)])
    made = editor.edit([FACT], method, settings=fitting(method, LEARN, settings), known="edit", report=False)
    (new,) = score(editor.lm, [(FACT.text, FACT.target)])
    layers = {update.layer for batch in made.patch.batches for update in batch.updates}
    written = {f"{editor.lm.projection(layer).name}.weight" for layer in layers}
    assert changed(editor.model, before) == written
    editor.undo()
    assert same_bits(editor.model, before) and leftovers(editor.model) == []
    assert new.mean_logprob > old.mean_logprob + 0.3


@pytest.mark.parametrize("family", EDITED)
def test_a_family_is_edited(family, toys):
    editor = toys(family)
    assert editor.lm.anatomy.additive is family.spread
    assert editor.lm.anatomy.scale(1) == pytest.approx(family.scale, rel=1e-3)
    rows = rows_of(editor.lm.tokenizer, FACTS, ("The weather was mild that morning.",), drift=True)
    site = Site("block" if family.spread else "mlp", 1)
    runner = runners(editor.lm, rows, [site])(rows)
    assert getattr(getattr(runner, "layout", None), "__name__", "Reference") == family.path
    assert reader_for(editor.lm).__name__ == f"{family.sampled}Reader"
    check_learned(editor, "memit-seq" if family.spread else "alphaedit-blue")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", EDITED)
def test_a_family_with_each_method(family, method, toys):
    editor = toys(family)
    if method == "memit-seq" and not family.spread:
        with pytest.raises(RecipeError, match="so no layer can write what another one needs; use a -blue recipe"):
            check_learned(editor, method)
    else:
        check_learned(editor, method, **{"objective.steps": 15 if method == "rome" else 8})


@pytest.mark.slow
@pytest.mark.parametrize("family", EDITED)
def test_a_family_is_refined(family, toys):
    editor = toys(family)
    check_learned(editor, "alphaedit-blue", **{"refine.steps": 3, "refine.weight": 1.0, "refine.tokens": 64})


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_is_refused_in_a_sentence(family):
    with pytest.raises(ModelError) as caught:
        Editor(family.make(), toy_tokenizer())
    assert str(caught.value).startswith(family.refused)


@pytest.mark.parametrize("kind", ["qwen3", "gptj", "gemma3_text", "gpt_neox"])
def test_a_tokenizer_without_tokens_for_some_openers(kind):
    """With text and prefixes sampled from the model: it has no token for "A"."""
    (family,) = (f for f in FAMILIES if f.kind == kind)
    editor = Editor(family.make(), toy_tokenizer(kind="scarce"), tokens=256)
    before = bits(editor.model)
    settings = fitting("alphaedit-blue", LEARN, {"contexts": "sampled", "contexts.count": 2})
    editor.edit([FACT], "alphaedit-blue", settings=settings, known="edit", report=False)
    assert changed(editor.model, before)
    assert torch.isfinite(editor.lm.projection(1).matrix()).all()
