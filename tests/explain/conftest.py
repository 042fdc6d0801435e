"""An analysis of residuals on a toy, with key statistics that all tests share."""

import pytest
from residuals_help import SETTINGS

from bluedit.explain import _residual_shift, residuals
from bluedit.explain.residuals import explain_residuals
from bluedit.facts import world_facts
from bluedit.model.editable import EditableModel
from toys import corpus_in, toy_llama, toy_tokenizer


@pytest.fixture(scope="module")
def analyse(tmp_path_factory):
    """analyse(out, facts, model, **options): an analysis of a toy, with statistics that all tests share."""
    folder = tmp_path_factory.mktemp("shared")
    corpus = corpus_in(folder)
    llama = EditableModel.of(toy_llama(), toy_tokenizer(bos=True), "toy")

    def analysed(out, facts=None, model=None, **options):
        shared = {"corpus": str(corpus), "tokens": 400, "statistics": folder / "statistics", "layers": (1, 2)}
        shared |= {"settings": SETTINGS, "batches": 2, "fluent": 0}
        return explain_residuals(model or llama, world_facts(4) if facts is None else facts, out, **shared | options)

    analysed.model, analysed.corpus = llama, corpus
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_residual_shift, "world_facts", lambda **options: world_facts(40, **options))  # 902 take a second
        yield analysed


class _Stopped(Exception):
    """An analysis that got as far as its stages."""


@pytest.fixture
def setting_of(monkeypatch):
    """setting_of(run): what the stages of an analysis would get; none of them runs."""

    def found(run):
        seen = []

        def measure(setting, stages):
            del stages
            seen.append(setting)
            raise _Stopped

        monkeypatch.setattr(residuals, "measure", measure)
        with pytest.raises(_Stopped):
            run()
        return seen[0]

    return found
