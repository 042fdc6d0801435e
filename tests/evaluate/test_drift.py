"""What else an edit moves: ordinary text, hidden states; and training on afterwards."""

from contextlib import nullcontext

import pytest
import torch
from evaluate_help import other_weights

from bluedit.errors import BenchmarkError
from bluedit.evaluate._drift import chat_drift, next_token_drift, passage_drift
from bluedit.evaluate.answers import perplexity
from bluedit.evaluate.bystanders import encoded_turns
from bluedit.evaluate.data import Training
from bluedit.evaluate.hidden import hidden_drift
from bluedit.evaluate.passages import passage_rows, passages_beyond
from bluedit.evaluate.training import trained
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import hooked
from bluedit.progress import Progress
from toys import toy_gpt2, toy_llama, toy_tokenizer

TEXTS = ["The capital of France is Paris and the capital of Italy is Rome. ", "London is in England. "] * 3


@pytest.fixture
def lm():
    return EditableModel.of(toy_gpt2(), toy_tokenizer())


def drift_by_definition(lm, texts, tokens):
    kl, same, tops = [], [], {5: [], 10: []}
    for row in passage_rows(lm, texts, tokens):
        with torch.no_grad():
            now = lm.model(torch.tensor([row])).logits[0, :-1].log_softmax(dim=-1)
            with other_weights(lm):
                before = lm.model(torch.tensor([row])).logits[0, :-1].log_softmax(dim=-1)
        terms = before.exp() * (before - now)
        kl += terms.nan_to_num(nan=0.0).sum(dim=-1).tolist()
        same += (before.argmax(-1) == now.argmax(-1)).tolist()
        for k, found in tops.items():
            both = zip(before.topk(k)[1].tolist(), now.topk(k)[1].tolist(), strict=True)
            found += [len(set(one) & set(other)) / k for one, other in both]
    return {
        "passage_kl": pytest.approx(sum(kl) / len(kl), rel=1e-4),
        "passage_same": pytest.approx(sum(same) / len(same)),
        **{f"passage_top{k}": pytest.approx(sum(found) / len(found)) for k, found in tops.items()},
    }


def test_passages_by_the_definition(lm):
    still = {"passage_kl": 0.0, "passage_same": 1.0, "passage_top5": 1.0, "passage_top10": 1.0}
    assert passage_drift(lm, TEXTS, 40, nullcontext) == still
    assert passage_drift(lm, TEXTS, 40, lambda: other_weights(lm)) == drift_by_definition(lm, TEXTS, 40)


def test_chat_answers_by_the_definition():
    tokenizer = toy_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['content'] }}]{% endfor %}{% if add_generation_prompt %}[{% endif %}"
    )
    model = toy_gpt2()
    lm = EditableModel.of(model, tokenizer)
    turns = encoded_turns(lm)
    kl = []
    for before, reply in turns:
        with torch.no_grad():
            now = model(torch.tensor([[*before, *reply]])).logits[0, len(before) - 1 : -1].log_softmax(dim=-1)
            with other_weights(lm):
                then = model(torch.tensor([[*before, *reply]])).logits[0, len(before) - 1 : -1].log_softmax(dim=-1)
        kl += (then.exp() * (then - now)).sum(dim=-1).tolist()
    assert turns and all(reply for _, reply in turns)
    found = chat_drift(lm, lambda: other_weights(lm))
    assert found["chat_kl"] == pytest.approx(sum(kl) / len(kl), rel=1e-4) and 0 <= found["chat_top5"] < 1
    assert chat_drift(lm, nullcontext) == {"chat_kl": 0.0, "chat_same": 1.0, "chat_top5": 1.0, "chat_top10": 1.0}


def test_a_model_without_a_chat_template_has_no_chat_answers(lm):
    assert chat_drift(lm, nullcontext) == {}


def test_a_prompt_may_be_compared_with_another_text(lm):
    """What is read before and after may differ: a statement stands before the prompt."""
    prompts = ["The capital of France is", "London is in"]
    told = [f"The capital of France is Rome. {prompt}" for prompt in prompts]
    assert next_token_drift(lm, prompts, nullcontext) == dict.fromkeys(prompts, (0.0, 1.0, 1.0, 1.0))
    found = next_token_drift(lm, prompts, nullcontext, now=told)
    for prompt, text in zip(prompts, told, strict=True):
        with torch.no_grad():
            then, now = (
                lm.model(torch.tensor([lm.tokenizer(t)["input_ids"]])).logits[0, -1].log_softmax(-1)
                for t in (prompt, text)
            )
        assert found[prompt].kl == pytest.approx(float((then.exp() * (then - now)).sum()), rel=1e-5)


def test_words_that_a_model_never_says(lm):
    """A head may give minus infinity to a padded vocabulary's unused words."""

    def mask_unused(_module, _args, logits):
        return torch.cat([logits[..., :-7], torch.full_like(logits[..., -7:], -torch.inf)], dim=-1)

    with hooked([(lm.anatomy.head, "forward", mask_unused)]):
        found = passage_drift(lm, TEXTS, 40, lambda: other_weights(lm))
        assert found == drift_by_definition(lm, TEXTS, 40) and found["passage_kl"] > 0


def test_hidden_states_before_and_after(lm):
    prompts = ["The capital of France is", "London is in", "I", "Where is the Eiffel Tower?"]
    still = hidden_drift(lm, prompts, nullcontext)
    assert still.shift == 0 and still.before == still.after and still.layer == lm.anatomy.n_layers - 1
    moved = hidden_drift(lm, prompts, lambda: other_weights(lm))
    assert moved.shift > 0 and moved.before != moved.after
    first, second = moved.explained
    assert 1 >= first >= second > 0
    spread = torch.tensor(moved.before).var(dim=0, correction=0)
    assert spread[0] >= spread[1] and torch.tensor(moved.before).mean(dim=0).abs().max() < 1e-5


def test_passages_for_training_are_others_than_those_measured(lm):
    count = len(lm.tokenizer(TEXTS[0])["input_ids"])
    assert passages_beyond(lm, TEXTS, count) == TEXTS[1:]
    assert passages_beyond(lm, TEXTS, count + 1) == TEXTS[2:]  # its beginning was used
    assert passages_beyond(lm, TEXTS, 10**6) == ()


def test_training_learns_and_leaves_nothing_behind(lm):
    weights = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    flags = {name: p.requires_grad for name, p in lm.model.named_parameters()}
    texts = TEXTS * 20
    before = perplexity(lm, texts)
    with trained(lm, texts, Training(steps=6, learning_rate=1e-3, rows=2), Progress()):
        assert perplexity(lm, texts) < before
    assert all(torch.equal(tensor, weights[name]) for name, tensor in lm.model.state_dict().items())
    assert {name: p.requires_grad for name, p in lm.model.named_parameters()} == flags
    assert all(p.grad is None for p in lm.model.parameters())


def test_one_token_texts_count_for_neither(lm):
    texts = ["I"] * 60 + TEXTS
    count = len(lm.tokenizer(TEXTS[0])["input_ids"])
    assert passages_beyond(lm, texts, count) == texts[61:]


def test_half_precision_does_not_swallow_small_steps():
    """Steps that are shorter than the distance of two bfloat16 numbers add up all the same."""
    moved = {}
    for dtype in (torch.float32, torch.bfloat16):
        lm = EditableModel.of(toy_llama().to(dtype), toy_tokenizer())
        before = [weight.detach().double() for weight in lm.model.parameters()]
        with trained(lm, TEXTS * 20, Training(steps=30, learning_rate=1e-4, rows=2), Progress()):
            after = [weight.detach().double() for weight in lm.model.parameters()]
        moved[dtype] = sum(float((a - b).abs().sum()) for a, b in zip(after, before, strict=True))
    assert moved[torch.bfloat16] == pytest.approx(moved[torch.float32], rel=0.15)


@pytest.mark.parametrize(
    ("texts", "training", "message"),
    [
        (
            TEXTS,
            Training(steps=1),
            "further fine-tuning needs 1024 tokens of text beyond those that perplexity is measured on, and there are",
        ),
        (
            TEXTS * 20,
            Training(steps=5, learning_rate=1e30, rows=2),
            "the loss of further fine-tuning is not finite; lower its learning rate",
        ),
    ],
)
def test_training_that_cannot_be(lm, texts, training, message):
    weights = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    with pytest.raises(BenchmarkError, match=message), trained(lm, texts, training, Progress()):
        pytest.fail("trained")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in lm.model.state_dict().items())
