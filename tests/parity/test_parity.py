"""Every preset against a dense transcription of its paper's formula, over three batches."""

import copy
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from transcription import (
    BASE,
    DOMINANT,
    KEEP,
    L2,
    LAMBDA,
    LAYERS,
    LEAKAGE,
    LOWER,
    NEURONS,
    PREFIXES,
    PRINCIPAL,
    RATE,
    REFRESH,
    SHARED,
    SOFTENED,
    THRESHOLD,
    TOLERANCE,
    UPPER,
    ReferenceModel,
    target_change,
    transcribe,
)

from bluedit import Editor, Fact
from bluedit.methods.presets import PRESETS
from bluedit.methods.update import ClosedForm
from bluedit.methods.wordings import PromptOnly
from bluedit.statistics.store import MomentStore
from bluedit.text.corpus import Corpus
from bluedit.text.rows import Row
from bluedit.writing.target import Targets
from toys import FACTS, FAMILIES, fitting, toy_tokenizer

SETTINGS = {
    "layers": LAYERS,
    "preserve.lambda": LAMBDA,
    "preserve.l2": L2,
    "preserve.threshold": THRESHOLD,
    "preserve.unit": "absolute",
    "preserve.share": NEURONS,
    "preserve.tolerance": TOLERANCE,
    "preserve.rate": RATE,
    "filters.rect.keep": KEEP,
    "filters.prune.base": BASE,
    "filters.revive.energy": DOMINANT,
    "filters.sphere.energy": PRINCIPAL,
    "filters.sphere.strength": SOFTENED,
    "keys.energy": SHARED,
    "rounds.lower": LOWER,
    "rounds.upper": UPPER,
    "contexts.count": len(PREFIXES),
}
BETAEDIT = {"preserve.leakage": LEAKAGE, "preserve.refresh": REFRESH}
MORE = (
    Fact("{} is made in", subject="London", target="Berlin"),
    Fact("The library of {} is in", subject="Rome", target="Italian"),
    Fact("The tongue of {} is", subject="Edwin of Northumbria", target="German"),
)
BATCHES = [list(FACTS[:2]), [FACTS[2], *MORE[:2]], [MORE[2]]]
ROWS = [  # of papers: what is taught in one wording
    name
    for name, recipe in PRESETS.items()
    if isinstance(recipe.update, ClosedForm) and isinstance(recipe.wordings, PromptOnly)
]


class FixedTargets:
    """A source of targets: z* = h + a fixed vector. What is compared is all that follows from it."""

    def get(self, lm, rows, site, objective, optimise, *, later=()):
        facts = {row.fact: row for row in rows if row.is_bare}
        reference = ReferenceModel(lm.model, lm.tokenizer)
        start = torch.stack([reference.read(facts[i], site.kind, site.layer) for i in sorted(facts)], dim=1)
        change = [target_change(_fact_of(lm, facts[i]), site.layer, start[:, i]) for i in sorted(facts)]
        zero = torch.zeros(len(facts))
        return Targets(start + torch.stack(change, dim=1), start, zero.long(), zero.to(start.dtype))


def _fact_of(lm, row: Row):
    return next(f for f in (*FACTS, *MORE) if lm.tokenizer(f.text)["input_ids"] == list(row.ids[: row.target_start]))


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    """Key statistics shared by the tests of this file, stored under the fingerprint of the weights."""
    return tmp_path_factory.mktemp("statistics")


@pytest.fixture(scope="module")
def edited(statistics):
    """(bluedit's model, an unedited copy, second moments of keys and of names' keys) after three batches; each made once, not to be changed."""
    made = {}

    def of(family, name, **settings):
        asked = family, name, repr(settings)
        if asked not in made:
            model = FAMILIES[family]()
            unedited = copy.deepcopy(model)
            editor = Editor(model, toy_tokenizer(), tokens=480, statistics=statistics, targets=FixedTargets())
            store = MomentStore(editor.lm, editor.journal.base.fingerprint, Corpus("self"), 480, statistics)
            C, names = (
                {layer: moment.matrix for layer, moment in one.get(LAYERS).items()} for one in (store, store.of_names)
            )
            shared = SETTINGS | (BETAEDIT if name.startswith("betaedit") else {})
            for batch in BATCHES:
                editor.edit(batch, name, settings=fitting(name, shared, settings), known="edit", report=False)
            made[asked] = model, unedited, C, names
        return made[asked]

    return of


def difference(edited, name, family, **settings):
    """Largest relative difference of the change over the layers."""
    model, unedited, C, names = edited(family, name, **settings)
    mine, theirs = ReferenceModel(model), ReferenceModel(copy.deepcopy(unedited), toy_tokenizer())
    W0 = {layer: theirs.weight(layer) for layer in LAYERS}
    transcribe(theirs, BATCHES, name, C, names)
    moved = {layer: float((theirs.weight(layer) - W0[layer]).norm()) for layer in LAYERS}
    written = PRESETS[name].override({"layers": LAYERS}).written
    assert {layer for layer in LAYERS if moved[layer] > 1e-6} == set(written)
    return max(float((mine.weight(layer) - theirs.weight(layer)).norm()) / moved[layer] for layer in written)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("family", ["gpt2", "gpt2-square"])
def test_a_preset_is_its_papers_formula(name, family, edited):
    assert difference(edited, name, family) < 1e-8


@pytest.mark.parametrize("name", ["memit-seq", "alphaedit-blue", "nse", "rect-blue", "rect-seq", "rect-seq-blue"])
@pytest.mark.parametrize("family", ["llama", "llama-square"])
def test_a_preset_on_a_llama_whose_norms_are_float32_inside(name, family, edited):
    assert difference(edited, name, family) < 1e-4


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("memit-seq", {"preserve.lambda": LAMBDA * 1.01}),
        ("pmet", {"schedule.power": 0.51}),
        ("nse", {"rounds.count": 1}),
        ("rect-seq", {"filters.rect.feedback": False}),
        ("rect-seq-blue", {"filters.rect.feedback": False}),
        ("rect-seq", {"memory": False}),
        ("revive", {"filters.revive.energy": DOMINANT * 1.2}),
        ("sphere", {"filters.sphere.strength": SOFTENED * 1.01}),
        ("suit-keys", {"keys.energy": SHARED * 1.2}),
        ("betaedit", {"preserve.refresh": 0}),
        ("betaedit", {"preserve.leakage": LEAKAGE * 1.01}),
        ("lyaplock-lambda", {"preserve.rate": 0}),
        ("lyaplock-lambda-blue", {"preserve.tolerance": TOLERANCE * 1.01}),
    ],
)
def test_the_comparison_can_fail(name, settings, edited):
    assert difference(edited, name, "gpt2", **settings) > 1e-4


def weight(edited, name, layer=LAYERS[0], **settings):
    return ReferenceModel(edited("gpt2", name, **settings)[0]).weight(layer)


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("rect", "memit"),
        ("prune", "memit"),
        ("nse", "memit-seq"),
        ("pmet", "memit"),
        ("revive", "memit-seq"),
        ("sphere", "alphaedit"),
        ("suit-keys", "alphaedit"),
        ("betaedit", "alphaedit"),
        ("lyaplock-lambda", "memit-seq"),
        ("rect-seq", "memit-seq"),
        ("rect-seq", "rect"),
    ],
)
def test_what_sets_a_method_apart_shows_here(name, host, edited):
    """Parity would say little about a filter that changes nothing."""
    one, other = weight(edited, name), weight(edited, host)
    assert (one - other).norm() > 1e-3 * other.norm()


@pytest.mark.parametrize("name", ["rect-seq", "rect-seq-blue"])
def test_error_feedback_keeps_a_sequence_near_the_unfiltered_one(name, edited):
    """What a batch drops comes back, so the sparse sequence follows memit-seq more closely than without feedback."""
    dense, layer = name.replace("rect", "memit"), LAYERS[0]
    C = edited("gpt2", name)[2][layer]

    def apart(**settings):
        D = weight(edited, name, **settings) - weight(edited, dense)
        return float((D @ C * D).sum())  # E |D k|^2 over ordinary keys

    with_feedback, without = apart(), apart(**{"filters.rect.feedback": False})
    assert with_feedback < without
