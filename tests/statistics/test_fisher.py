"""Fisher information of hidden states: equal to its definition on a toy, stored, and refused where it cannot be."""

import pytest
import torch
from statistics_help import store, toy

from bluedit.errors import StatisticsError
from bluedit.model.hooks import first_tensor, hooked, with_first_tensor
from bluedit.model.sites import Place, Site, output_module
from bluedit.progress import Progress
from bluedit.statistics import fisher
from bluedit.statistics.fisher import FisherStore, fisher_information

ROW = [5, 17, 3, 60]


def draws(lm, site, row):
    """(probability, gradients of the log-likelihood, tokens x width) of every token that can be drawn at every position."""
    state = []

    def receive(_module, _args, output):
        state.append(first_tensor(output).detach().requires_grad_(True))
        return with_first_tensor(output, state[0])

    with torch.enable_grad(), hooked([(output_module(lm, site), "forward", receive)]):
        log_p = lm.model(input_ids=torch.tensor([row])).logits[0].double().log_softmax(dim=-1)
    every = log_p.flatten()
    each = torch.eye(len(every), dtype=every.dtype)
    (gradients,) = torch.autograd.grad(every, state[0], each, is_grads_batched=True)
    return zip(every.exp().detach(), gradients[:, 0].double(), strict=True)


def moved(lm, site, row, delta):
    """KL in nats between what the model says at all positions without and with delta added at the last token but one."""

    def add(_module, _args, output):
        hidden = first_tensor(output).clone()
        hidden[0, -2] += delta
        return with_first_tensor(output, hidden)

    with torch.no_grad():
        before = lm.model(input_ids=torch.tensor([row])).logits[0].double().log_softmax(dim=-1)
        with hooked([(output_module(lm, site), "forward", add)]):
            after = lm.model(input_ids=torch.tensor([row])).logits[0].double().log_softmax(dim=-1)
    return float((before.exp() * (before - after)).sum())


@pytest.mark.parametrize("site", [Site(Place.BLOCK, 1), Site(Place.MLP, 2)], ids=str)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_it_is_its_definition(family, site):
    lm = toy(family)
    wanted = sum(p * g.T @ g for p, g in draws(lm, site, ROW)) / len(ROW)
    found, tokens = fisher_information(lm, [site], [ROW] * 1500, Progress())
    assert tokens == 1500 * len(ROW)
    assert (found[site] - wanted).norm() < 0.15 * wanted.norm()
    assert abs(float(found[site].trace() / wanted.trace()) - 1) < 0.05


def test_it_says_how_much_a_small_change_moves_what_the_model_says():
    lm, site = toy(), Site(Place.BLOCK, 1)
    delta = 0.02 * torch.randn(lm.model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    expected = sum(float(p * (g[-2] @ delta.double()) ** 2) for p, g in draws(lm, site, ROW)) / 2
    assert moved(lm, site, ROW, delta) == pytest.approx(expected, rel=0.05)


def test_several_sites_share_a_pass_and_do_not_change_each_other():
    lm = toy()
    sites = [Site(Place.BLOCK, 1), Site(Place.BLOCK, 2), Site(Place.MLP, 2)]
    rows = [ROW, [9, 8, 7], [4] * 6]
    together, _ = fisher_information(lm, sites, rows, Progress())
    for site in sites:
        alone, _ = fisher_information(lm, [site], rows, Progress())
        assert torch.allclose(together[site], alone[site], rtol=1e-4, atol=1e-9)


def test_the_number_of_rows_in_a_pass_changes_nothing(monkeypatch):
    lm, site, rows = toy(), Site(Place.BLOCK, 1), [ROW, [9, 8, 7], [4] * 6, [3, 3]]
    whole, _ = fisher_information(lm, [site], rows, Progress())
    monkeypatch.setattr(fisher, "_TOKENS_PER_PASS", 1)
    assert torch.allclose(fisher_information(lm, [site], rows, Progress())[0][site], whole[site], rtol=1e-4, atol=1e-9)


def test_the_weights_keep_their_gradients_and_flags():
    lm = toy()
    for parameter in lm.model.parameters():
        parameter.requires_grad_(True)
    fisher_information(lm, [Site(Place.BLOCK, 1)], [ROW], Progress())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in lm.model.parameters())


def test_it_is_computed_once_and_belongs_to_its_text(lm, tmp_path, monkeypatch):
    site = Site(Place.BLOCK, 1)
    found = FisherStore(store(lm, tmp_path)).get([site])[site]
    assert float(found.trace()) == pytest.approx(len(found))
    monkeypatch.setattr(fisher, "fisher_information", None)
    assert torch.equal(FisherStore(store(lm, tmp_path)).get([site])[site], found)
    with pytest.raises(TypeError):
        FisherStore(store(lm, tmp_path, tokens=300)).get([site])


def test_other_numbers_of_tokens_are_kept_side_by_side(lm, tmp_path, monkeypatch):
    site = Site(Place.BLOCK, 1)
    found = FisherStore(store(lm, tmp_path)).get([site])[site]
    monkeypatch.setattr(fisher, "_TOKENS_PER_VALUE", 1)
    assert not torch.equal(FisherStore(store(lm, tmp_path)).get([site])[site], found)
    monkeypatch.undo()
    assert torch.equal(FisherStore(store(lm, tmp_path)).get([site])[site], found)


def test_a_changed_file_is_refused(lm, tmp_path):
    site, made = Site(Place.BLOCK, 1), FisherStore(store(lm, tmp_path))
    made.get([site])
    (file,) = made.moments.place.glob("fisher-*")
    whole = bytearray(file.read_bytes())
    whole[-9] ^= 1
    file.write_bytes(bytes(whole))
    with pytest.raises(StatisticsError, match="unreadable"):
        FisherStore(store(lm, tmp_path)).get([site])


def test_a_damaged_model_is_refused(tmp_path, corpus):
    lm = toy()
    with torch.no_grad():
        lm.anatomy.projections[2].matrix()[0, 0] = torch.nan
    with pytest.raises(StatisticsError, match="not finite"):
        FisherStore(store(lm, tmp_path / "s", corpus)).get([Site(Place.BLOCK, 1)])
