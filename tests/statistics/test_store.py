"""Key statistics: the numbers, the store, too little text."""

import pytest
import torch
from statistics_help import MODELS, damage, dense, silence, store, toy

from bluedit.errors import StatisticsError
from bluedit.methods.preserve import CHAT, NAMES
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import weights_fingerprint
from bluedit.progress import Progress
from bluedit.statistics import _accumulation
from bluedit.statistics.store import MomentStore
from bluedit.text.chat import chat_head
from bluedit.text.corpus import SAMPLED_LENGTH, Corpus, total_tokens
from bluedit.text.names import name_rows
from toys import toy_tokenizer

# the numbers


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("tokens", [60, 150, 5000])
def test_moment_is_the_mean_over_tokens(family, tokens, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(_accumulation, "_TOKENS_PER_PASS", 300)
    lm = toy(family)
    found = store(lm, tmp_path / "s", corpus, tokens).get([3, 1])
    rows = Corpus(str(corpus)).rows(lm, tokens, Progress())
    assert list(found) == [3, 1]
    for layer, moment in found.items():
        wanted, count = dense(lm, rows, layer)
        assert (moment.tokens, moment.layer) == (count, layer)
        assert count == total_tokens(rows) <= tokens
        assert (moment.matrix - wanted).norm() < 1e-12 * wanted.norm()
        assert moment.matrix.dtype == torch.float64


def test_moment_of_sampled_text(lm, tmp_path):
    found = store(lm, tmp_path).get([2])[2]
    wanted, count = dense(lm, Corpus().rows(lm, 200, Progress()), 2)
    assert found.tokens == count == 7 * SAMPLED_LENGTH
    assert (found.matrix - wanted).norm() < 1e-12 * wanted.norm()
    assert torch.allclose(found.cholesky().times(torch.eye(len(found.matrix)).double()), found.matrix)


def test_one_pass_serves_all_layers_and_ends_at_the_deepest(lm, corpus, tmp_path):
    ran = []
    for layer, block in enumerate(lm.anatomy.blocks):
        block.self_attn.register_forward_hook(lambda *_a, layer=layer: ran.append(layer))
    store(lm, tmp_path / "s", corpus, 100).get([0, 1, 2])
    assert set(ran) == {0, 1, 2}
    assert ran.count(0) == ran.count(2)


def test_bfloat16_models_are_summed_in_float64(corpus, tmp_path):
    assert store(toy(dtype=torch.bfloat16), tmp_path / "s", corpus).get([1])[1].matrix.dtype == torch.float64


# the store


def test_stored_statistics_are_found_again(lm, corpus, tmp_path, monkeypatch):
    first = store(lm, tmp_path / "s", corpus).get([1, 2])
    silence(lm, monkeypatch)
    again = store(lm, tmp_path / "s", corpus)
    second = again.get([2, 1])
    assert all(torch.equal(first[layer].matrix, second[layer].matrix) for layer in (1, 2))
    assert second[1].tokens == first[1].tokens
    assert again.get([1])[1] is second[1]
    with pytest.raises(AssertionError, match="the model ran"):
        again.get([1, 3])


def test_the_users_cache_is_the_default_place(lm, corpus, tmp_path):
    found = store(lm, None, corpus)
    found.get([1])
    assert list((tmp_path / "cache" / "moments" / found.place.name).glob("layer-1.safetensors"))


@pytest.mark.parametrize("change", ["weights", "corpus", "tokens", "tokenizer", "seed"])
def test_statistics_of_something_else_are_not_taken(change, lm, corpus, tmp_path):
    name = "self" if change == "seed" else corpus
    before = store(lm, tmp_path / "s", name).place
    seed, tokens = 0, 200
    if change == "weights":
        lm.projection(0).matrix()[0, 0] += 1e-9
    elif change == "corpus":
        corpus.write_text(corpus.read_text(encoding="utf-8") + "!", encoding="utf-8")
    elif change == "tokens":
        tokens = 201
    elif change == "tokenizer":
        lm = EditableModel.of(lm.model, toy_tokenizer(bos=False), "toy")
    else:
        seed = 1
    assert (
        MomentStore(lm, weights_fingerprint(lm.model), Corpus(str(name), seed), tokens, tmp_path / "s").place != before
    )


def test_texts_in_the_chat_form_belong_to_a_template(lm, tmp_path):
    def places(template):
        tokenizer = toy_tokenizer()
        tokenizer.chat_template = template
        found = MomentStore(EditableModel.of(lm.model, tokenizer, "toy"), "0", Corpus("self"), 200, tmp_path / "s")
        assert found.of_chat
        return found.place, found.of_names.place, found.of_chat.place

    turn = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    first, second = (places(f"{head}{turn}assistant:") for head in ("", "Be brief.\n"))
    assert first[0] == second[0], "ordinary text does not depend on it"
    assert first[1] != second[1] and first[2] != second[2]


def test_a_file_of_another_model_is_refused(lm, corpus, tmp_path):
    mine = store(lm, tmp_path / "s", corpus)
    mine.get([1])
    other = store(toy(seed=1), tmp_path / "s", corpus, tokens=190)
    other.place.mkdir(parents=True)
    file = other.place / "layer-1.safetensors"
    (mine.place / "layer-1.safetensors").rename(file)
    with pytest.raises(StatisticsError) as caught:
        other.get([1])
    assert str(caught.value) == (
        f"the key statistics {file} belong to something else: weights, corpus, tokens differ from this model's; "
        "delete the file and they are computed again"
    )


@pytest.mark.parametrize("how", ["cut off", "no metadata", "not safetensors", "bad metadata", "no tensor"])
def test_damaged_files(lm, corpus, tmp_path, how):
    moments = store(lm, tmp_path / "s", corpus)
    moments.get([1])
    file = moments.place / "layer-1.safetensors"
    damage(file, how, moments)
    with pytest.raises(StatisticsError) as caught:
        store(lm, tmp_path / "s", corpus).get([1])
    assert str(caught.value).startswith(f"the key statistics {file} are unreadable (")
    assert str(caught.value).endswith("); delete the file and they are computed again")
    file.unlink()
    assert store(lm, tmp_path / "s", corpus).get([1])


def test_a_place_that_cannot_be_written(lm, corpus, tmp_path):
    (tmp_path / "s").write_text("a file where a folder should be")
    with pytest.raises(
        StatisticsError,
        match=r"^cannot store key statistics in .*; free disk space or set BLUEDIT_CACHE to another folder$",
    ):
        store(lm, tmp_path / "s", corpus).get([1])


# too little


def test_too_few_tokens(lm, corpus, tmp_path):
    with pytest.raises(StatisticsError) as caught:
        store(lm, tmp_path / "s", corpus, tokens=48).get([1])
    assert str(caught.value) == (
        f"the corpus {corpus} gives 48 tokens, but statistics of 48-dimensional keys need more than that (default 480); "
        "a smaller sample has a false null space. Use a longer corpus or a larger --tokens"
    )
    assert store(lm, tmp_path / "s", corpus, tokens=49).get([1])[1].tokens == 49


def test_a_model_that_gives_nan_keys(lm, corpus, tmp_path):
    """Damage in a layer that no recipe writes: found here or nowhere, and not to be stored."""
    lm.projection(0).matrix()[0, 0] = torch.nan
    moments = store(lm, tmp_path / "s", corpus)
    with pytest.raises(StatisticsError):
        moments.get([2])
    assert not list(moments.place.glob("layer-*"))


def test_text_drawn_by_a_model_that_gives_nan_is_not_kept(lm, tmp_path):
    lm.projection(0).matrix()[0, 0] = torch.nan
    moments = store(lm, tmp_path / "s")
    with pytest.raises(StatisticsError, match="are not finite"):
        moments.get([2])
    assert not list(moments.place.iterdir())


def test_the_default_budget(lm, tmp_path):
    assert store(lm, tmp_path, tokens=None).budget == 480


def test_a_corpus_that_ends_early_is_said(lm, corpus, tmp_path, caplog):
    moment = store(lm, tmp_path / "s", corpus, tokens=10**6).get([1])[1]
    assert f"the corpus ended after {moment.tokens} of 1000000 tokens" in caplog.text


def test_names_are_read_at_their_last_token_and_stored_apart(lm, tmp_path, monkeypatch):
    rows = name_rows(lm)
    assert len(rows) > 500
    rows = rows[::20]
    monkeypatch.setattr("bluedit.text.corpus.name_rows", lambda _lm: rows)
    moments = store(lm, tmp_path)
    plain = moments.get([2])[2]
    assert moments.stored([2]) == [2] and moments.stored([2], beside={NAMES: 0.5}) == []
    names = moments.of_names.get([2])[2]
    assert moments.stored([1, 2], beside={NAMES: 0.5}) == [2]
    wanted = torch.zeros_like(names.matrix)
    for row in rows:
        one, count = dense(lm, [row], 2)
        before, _ = dense(lm, [row[:-1]], 2)
        wanted += one * count - before * (count - 1)
    wanted /= len(rows)
    assert names.tokens == len(rows)
    assert (names.matrix - wanted).norm() < 1e-9 * wanted.norm()
    both = moments.get([2], beside={NAMES: 0.5})[2]
    assert torch.equal(both.matrix, plain.matrix + 0.5 * names.matrix)
    assert torch.equal(moments.get([2])[2].matrix, plain.matrix)
    assert torch.equal(store(lm, tmp_path).get([2], beside={NAMES: 0.5})[2].matrix, both.matrix)


def test_files_that_were_swapped_or_changed(lm, tmp_path, corpus):
    moments = store(lm, tmp_path / "s", corpus, 5000)
    moments.get([1, 2])
    one, two = (moments.place / f"layer-{layer}.safetensors" for layer in (1, 2))
    whole = one.read_bytes()
    one.write_bytes(two.read_bytes())
    with pytest.raises(StatisticsError, match="belong to something else: layer differ"):
        store(lm, tmp_path / "s", corpus, 5000).get([1])
    one.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(StatisticsError, match=r"unreadable \(it was changed after it was written\)"):
        store(lm, tmp_path / "s", corpus, 5000).get([1])[1]


def with_template(lm):
    lm.tokenizer.chat_template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    return lm


def test_chat_turns_begin_with_the_template_and_are_weighed_beside_ordinary_text(lm, tmp_path):
    moments = store(with_template(lm), tmp_path)
    chat = moments.of_chat
    assert chat is not None and chat.budget == 100
    rows = chat.rows(Progress())
    head = lm.tokenizer("<user>")["input_ids"]
    assert all(row[: len(head)] == head for row in rows) and len({tuple(row) for row in rows}) > 1
    text, names = moments.rows(Progress()), moments.of_names.rows(Progress())
    assert moments.all_rows(Progress()) == [*text, *rows, *names]
    wanted, count = dense(lm, rows, 2)
    found = chat.get([2])[2]
    assert found.tokens == count
    assert (found.matrix - wanted).norm() < 1e-6 * wanted.norm()
    assert moments.stored([2], beside={CHAT: 1.0}) == []
    both = moments.get([2], beside={CHAT: 2.0})[2]
    assert torch.equal(both.matrix, moments.get([2])[2].matrix + 2.0 * found.matrix)
    assert moments.stored([2], beside={CHAT: 1.0}) == [2]


def test_a_model_without_a_chat_template_has_no_chat_turns(lm, tmp_path):
    moments = store(lm, tmp_path)
    assert moments.of_chat is None
    assert torch.equal(moments.get([2], beside={CHAT: 1.0})[2].matrix, moments.get([2])[2].matrix)


def test_a_template_that_begins_with_the_users_words_gives_no_beginning(lm, tmp_path):
    lm.tokenizer.bos_token = None
    lm.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert store(lm, tmp_path).of_chat is None or chat_head(lm.tokenizer)
