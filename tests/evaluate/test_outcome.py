"""What an edit achieved, in one number: measured once per edit, against the functions that reports use."""

import pytest
import torch

from bluedit.evaluate.answers import perplexity
from bluedit.evaluate.model_queries import ModelQueries
from bluedit.evaluate.outcome import Outcome, Yardstick
from bluedit.evaluate.passages import ordinary_passages
from bluedit.facts import world_facts
from bluedit.model.editable import EditableModel
from toys import toy_llama, toy_tokenizer


def test_one_pass_gives_the_drift_and_the_perplexity_of_separate_ones():
    lm = EditableModel.of(toy_llama(dtype=torch.float64), toy_tokenizer(bos=True), "toy")
    plain = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    yardstick, facts = Yardstick(lm), world_facts(6)
    before = yardstick.outcome(facts)
    assert before.passage_kl == pytest.approx(0, abs=1e-12)
    with torch.no_grad():
        for layer in (1, 2):
            lm.projection(layer).matrix().mul_(1.5)
    changed = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}

    class Unedited:
        def __enter__(self):
            lm.model.load_state_dict(plain)

        def __exit__(self, *_error):
            lm.model.load_state_dict(changed)

    after = yardstick.outcome(facts)
    queries = ModelQueries(lm, Unedited)
    assert after.passage_kl == pytest.approx(queries.passage_drift(ordinary_passages(), 2000)["passage_kl"], rel=1e-6)
    assert after.perplexity == pytest.approx(perplexity(lm, ordinary_passages(), 2000), rel=1e-6)
    assert after.passage_kl > 0 and after.perplexity != pytest.approx(before.perplexity, rel=1e-3)


def test_the_success_of_facts_averages_to_that_of_all():
    """Each of these facts has as many paraphrases, so the mean over facts is the mean over prompts."""
    lm = EditableModel.of(toy_llama(dtype=torch.float64), toy_tokenizer(bos=True), "toy")
    facts = [fact for fact in world_facts(20) if len(fact.paraphrases) == 2]
    found = Yardstick(lm).outcome(facts)
    assert len(found.by_fact) == len(facts) > 2 and 0 < found.success < 1
    assert sum(found.by_fact) / len(facts) == pytest.approx(found.success)
    assert "by_fact" not in found.numbers() and Outcome(**found.numbers()).success == found.success
