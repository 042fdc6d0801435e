"""Key statistics: the numbers, the store, interruptions, fingerprints, corpora."""

import json
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file

import bluedit.statistics.store as module
from bluedit.errors import RecipeError, StatisticsError
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import tensor_digest, text_fingerprint, tokenizer_fingerprint, weights_fingerprint
from bluedit.progress import Progress
from bluedit.statistics.store import MomentStore
from bluedit.text import sampling
from bluedit.text.contexts import NEUTRAL, make_prefixes
from bluedit.text.corpus import ROW_LENGTH, SAMPLED_LENGTH, Corpus, total_tokens
from bluedit.text.prompts import rows_of
from bluedit.text.sampling import sample_rows
from toys import FACTS, TEXT, toy_gpt2, toy_llama, toy_tokenizer

MODELS = {"llama": toy_llama, "gpt2": toy_gpt2}


def toy(family="llama", **options):
    return EditableModel.of(MODELS[family](**options), toy_tokenizer(bos=True), family)


def store(lm, folder, corpus="self", tokens=200, **options):
    return MomentStore(lm, weights_fingerprint(lm.model), Corpus(str(corpus)), tokens, folder, **options)


@pytest.fixture
def lm():
    return toy()


@pytest.fixture
def corpus(tmp_path):
    """Texts of very different lengths, so that padding would show."""
    file = tmp_path / "corpus.txt"
    sentences = TEXT.split(". ")
    file.write_text("\n\n".join([*sentences[:6], ". ".join(sentences * 2), *sentences[6:]]), encoding="utf-8")
    return file


class Counting(Progress):
    """Raises KeyboardInterrupt when the key statistics have reported this many texts; counts what was reported."""

    def __init__(self, stop=None):
        self.stop, self.seen = stop, []

    def task(self, title, total, unit=""):
        @contextmanager
        def of_statistics():
            def advance(count=1):
                if title == "key statistics":
                    self.seen.append(count)
                    if self.stop is not None and sum(self.seen) >= self.stop:
                        raise KeyboardInterrupt

            yield advance

        return of_statistics()


def dense(lm, rows, layer):
    """Mean of k k^T, one unpadded row at a time."""
    module = lm.anatomy.projections[layer].module
    total, count = 0, 0
    for row in rows:
        seen = []
        handle = module.register_forward_pre_hook(lambda _m, args, seen=seen: seen.append(args[0][0]))
        with torch.no_grad():
            lm.model(input_ids=torch.tensor([row]))
        handle.remove()
        for k in seen[0]:
            total, count = total + torch.outer(k, k), count + 1
    return total / count, count


def silence(lm, monkeypatch):
    def forward(*_args, **_kwargs):
        raise AssertionError("the model ran")

    monkeypatch.setattr(lm.model, "forward", forward)


# the numbers


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("tokens", [60, 150, 5000])
def test_moment_is_the_mean_over_tokens(family, tokens, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TOKENS_PER_PASS", 300)
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
    assert torch.allclose(found.cholesky.times(torch.eye(len(found.matrix)).double()), found.matrix)


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


def damage(file, how, moments):
    if how == "cut off":
        file.write_bytes(file.read_bytes()[:-100])
    elif how == "no metadata":
        save_file({"second_moment": torch.eye(48)}, file)
    elif how == "not safetensors":
        file.write_text("second moment")
    elif how == "bad metadata":
        save_file({"second_moment": torch.eye(48)}, file, {"identity": "{", "tokens_seen": "1", "layer": "1"})
    elif how == "no tensor":
        metadata = {"identity": json.dumps(moments.identity), "tokens_seen": "200", "layer": "1"}
        save_file({"something": torch.eye(48)}, file, metadata)


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


# interruptions


def test_an_interrupted_pass_goes_on_where_it_was(lm, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(module, "_SAVE_COST", 0.0)
    monkeypatch.setattr(module, "_TOKENS_PER_PASS", 60)
    wanted = store(lm, tmp_path / "whole", corpus, 5000).get([1, 2])
    rows = len(Corpus(str(corpus)).rows(lm, 5000, Progress()))
    interrupted = store(lm, tmp_path / "s", corpus, 5000)
    with pytest.raises(KeyboardInterrupt):
        interrupted.get([1, 2], Counting(stop=rows - 3))
    (partial,) = interrupted.place.iterdir()
    assert partial.name == "partial-1-2.safetensors"
    assert not any(m._forward_pre_hooks for m in lm.model.modules())

    runs, real = [], lm.model.forward
    monkeypatch.setattr(lm.model, "forward", lambda *a, **k: runs.append(len(k["input_ids"])) or real(*a, **k))
    counting = Counting()
    resumed = store(lm, tmp_path / "s", corpus, 5000).get([1, 2], counting)
    assert sum(runs) < rows / 2
    assert counting.seen[0] == rows - sum(runs) > 0
    assert sum(counting.seen) == rows
    for layer in (1, 2):
        assert torch.equal(resumed[layer].matrix, wanted[layer].matrix)
        assert resumed[layer].tokens == wanted[layer].tokens
    assert {f.name for f in interrupted.place.iterdir()} == {"layer-1.safetensors", "layer-2.safetensors"}


def test_text_drawn_from_the_model_is_kept(lm, tmp_path, monkeypatch):
    """A pass for another layer reads the same text; one that was damaged is drawn again."""
    wanted = {layer: store(lm, tmp_path / str(layer)).get([layer])[layer].matrix for layer in (1, 2, 3)}
    moments = store(lm, tmp_path / "s")
    moments.get([1])
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "_draw", lambda *_: pytest.fail("text was drawn again"))
        assert torch.equal(moments.get([2])[2].matrix, wanted[2])
    (moments.place / "text.json").write_text("[[1, 2")
    assert torch.equal(moments.get([3])[3].matrix, wanted[3])


def test_partial_sums_stay_until_all_is_stored_and_need_not_be_saved(lm, corpus, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "_SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(module, "_SAVE_COST", 0.0)
    monkeypatch.setattr(module, "_TOKENS_PER_PASS", 60)
    wanted = store(lm, tmp_path / "whole", corpus, 5000).get([1, 2])
    write, full = module.write_file, "layer-2"

    def limited(file, data):
        if file.name.startswith(full):
            raise OSError(28, "No space left on device")
        write(file, data)

    monkeypatch.setattr(module, "write_file", limited)
    moments = store(lm, tmp_path / "s", corpus, 5000)
    with pytest.raises(StatisticsError, match="cannot store key statistics"):
        moments.get([1, 2])
    assert {f.name for f in moments.place.iterdir()} == {"layer-1.safetensors", "partial-1-2.safetensors"}
    assert torch.equal(moments.get([2])[2].matrix, wanted[2].matrix), "what was computed is at hand"
    full = "partial"
    found = store(lm, tmp_path / "t", corpus, 5000).get([1, 2])
    assert "cannot be saved" in caplog.text
    assert torch.equal(found[1].matrix, wanted[1].matrix)


@pytest.mark.parametrize("how", ["not safetensors", "no metadata"])
def test_an_unreadable_partial_file_only_costs_time(lm, corpus, tmp_path, how):
    wanted = store(lm, tmp_path / "whole", corpus).get([1])
    moments = store(lm, tmp_path / "s", corpus)
    moments.place.mkdir(parents=True)
    damage(moments.place / "partial-1.safetensors", how, moments)
    assert torch.equal(moments.get([1])[1].matrix, wanted[1].matrix)


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


# corpora


def rows_from(lm, path, tokens=1000):
    return Corpus(str(path)).rows(lm, tokens, Progress())


def test_rows_of_a_text_file(lm, corpus):
    rows = rows_from(lm, corpus, 10**6)
    texts = [t for t in corpus.read_text(encoding="utf-8").split("\n\n") if t.strip()]
    assert [i for row in rows for i in row] == [i for text in texts for i in lm.tokenizer(text)["input_ids"]]
    assert max(map(len, rows)) <= ROW_LENGTH
    assert total_tokens(rows_from(lm, corpus, 333)) == 333


def test_rows_of_json_lines_and_folders(lm, tmp_path):
    folder = tmp_path / "texts"
    (folder / "b").mkdir(parents=True)
    (folder / "a.jsonl").write_text('{"text": "The capital"}\n\n"of France"\n', encoding="utf-8")
    (folder / "b" / "c.md").write_text("is\n\nParis", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    wanted = [lm.tokenizer(text)["input_ids"] for text in ("The capital", "of France", "is", "Paris")]
    assert rows_from(lm, folder) == wanted


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'text': 1}", "line 3: not JSON (Expecting property name enclosed in double quotes"),
        ('{"txt": "x"}', "line 3: expected an object with a 'text' field"),
        ('{"text": 5}', "line 3: expected an object with a 'text' field"),
        ("[1]", "line 3: expected an object with a 'text' field"),
    ],
)
def test_bad_lines_are_named(lm, tmp_path, line, message):
    file = tmp_path / "c.jsonl"
    file.write_text('{"text": "one"}\n\n' + line + "\n", encoding="utf-8")
    with pytest.raises(StatisticsError) as caught:
        rows_from(lm, file)
    assert str(caught.value).startswith(f"{file}, {message}")


def test_missing_corpus(lm, tmp_path, corpus):
    with pytest.raises(StatisticsError) as caught:
        rows_from(lm, tmp_path / "corpsu.txt")
    assert str(caught.value).replace("?.", "?") == (
        f"there is no corpus {str(tmp_path / 'corpsu.txt')!r}; did you mean 'corpus.txt'? "
        "Give a file, a folder, 'hf:DATASET', or 'self' for text sampled from the model"
    )
    with pytest.raises(StatisticsError, match="the folder does not exist either"):
        rows_from(lm, tmp_path / "no" / "corpus.txt")


def test_other_unusable_corpora(lm, tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n \n")
    (tmp_path / "latin.txt").write_bytes("Élise".encode("latin-1"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(StatisticsError, match=r"empty.txt holds no text; give a text or JSONL file"):
        rows_from(lm, tmp_path / "empty.txt")
    with pytest.raises(StatisticsError, match=r"^cannot read the corpus file .*latin.txt: 'utf-8' codec"):
        rows_from(lm, tmp_path / "latin.txt")
    with pytest.raises(StatisticsError, match=r"folder holds no .txt, .md, .jsonl, .json file$"):
        rows_from(lm, tmp_path / "folder")


def test_corpus_fingerprints(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one")
    same = tmp_path / "b.txt"
    same.write_text("one")
    prints = {
        Corpus(str(file)).fingerprint(9),
        Corpus(str(file)).fingerprint(8),
        Corpus().fingerprint(9),
        Corpus(seed=1).fingerprint(9),
    }
    assert len(prints) == 4
    assert Corpus(str(same)).fingerprint(9) == Corpus(str(file)).fingerprint(9)


# text from the model itself


def test_sampled_rows_are_seeded(lm):
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one, again, other = (sample_rows(lm, 6, 16, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    torch.manual_seed(6)
    assert torch.equal(sample_rows(lm, 6, 16, seed=1), one)


def test_sampled_rows(lm):
    rows = sample_rows(lm, 40, 20, seed=0, openers=("The", "I"))
    assert rows.shape == (40, 20)
    bos = lm.tokenizer.bos_token_id
    assert (rows[:, 0] == bos).all()  # this tokenizer puts it there at inference, too
    assert not (rows[:, 1:] == bos).any()
    assert not (rows == lm.tokenizer.eos_token_id).any()
    assert set(rows[:, 1].tolist()) == {lm.tokenizer("The")["input_ids"][1], lm.tokenizer("I")["input_ids"][1]}
    assert len({tuple(row) for row in rows.tolist()}) == 40


def test_sampling_follows_the_models_distribution(monkeypatch):
    """With one token after the opener: frequencies of the likeliest token against its probability."""
    lm, count = EditableModel.of(toy_llama(layers=2), toy_tokenizer(), "toy"), 4000
    start = lm.tokenizer("The")["input_ids"]
    rows = sample_rows(lm, count, len(start) + 1, seed=0, openers=("The",))
    logits = lm.model(input_ids=torch.tensor([start])).logits[0, -1].detach()
    logits[[0, 1]] = -torch.inf
    p = logits.softmax(-1)
    top = int(p.argmax())
    share = float((rows[:, -1] == top).float().mean())
    assert share == pytest.approx(float(p[top]), abs=4 * float((p[top] * (1 - p[top]) / count).sqrt()))
    assert p[top] > 0.01


def test_rows_of_a_large_model_are_drawn_in_parts(lm, monkeypatch):
    whole = sample_rows(lm, 6, 16, seed=1)
    one_row = 2 * lm.anatomy.n_layers * lm.model.config.hidden_size * lm.dtype.itemsize * 16
    monkeypatch.setattr(sampling, "_TOGETHER", 4 * one_row)
    parts = sample_rows(lm, 6, 16, seed=1)
    assert parts.shape == whole.shape
    assert torch.equal(parts, sample_rows(lm, 6, 16, seed=1)) and not torch.equal(parts[4:, 2:], parts[:2, 2:])
    assert torch.equal(parts[:, :2], whole[:, :2])


def test_each_step_sees_all_earlier_tokens(lm, monkeypatch):
    """With the likeliest token drawn each time: what a forward pass of the whole row says, although keys are kept in growing room."""
    monkeypatch.setattr(sampling, "_draw", lambda logits, _generator: logits.argmax(dim=-1, keepdim=True))
    monkeypatch.setattr(sampling, "reduced_linears", lambda *_: None)
    rows = sample_rows(lm, 4, 24, seed=0, openers=("The", "I"))
    logits = lm.model(input_ids=rows).logits.detach()
    logits[:, :, sorted(set(lm.tokenizer.all_special_ids))] = -torch.inf
    assert torch.equal(rows[:, 2:], logits[:, 1:-1].argmax(dim=-1))
    assert len(set(rows[0, 2:].tolist())) > 1


def test_one_long_opener_does_not_drop_the_others(lm):
    rows = sample_rows(lm, 6, 8, seed=0, openers=("The", "I", "In the newspaper"))
    first = {row[1] for row in rows.tolist()}
    assert {lm.tokenizer("The")["input_ids"][1], lm.tokenizer("I")["input_ids"][1]} <= first


# prefixes


def test_neutral_prefixes(lm):
    assert make_prefixes(lm, "neutral", 0, 0) == ()
    assert make_prefixes(lm, "neutral", 3, 99) == NEUTRAL[:3]
    with pytest.raises(RecipeError) as caught:
        make_prefixes(lm, "neutral", 11, 0)
    assert (
        str(caught.value)
        == "contexts.count is 11; there are 10 neutral prefixes, so choose 0 to 10 or contexts.kind=sampled"
    )
    with pytest.raises(RecipeError, match=r"^unknown contexts.kind 'sample'; did you mean 'sampled'\?$"):
        make_prefixes(lm, "sample", 1, 0)


def test_sampled_prefixes(lm):
    one, again, other = (make_prefixes(lm, "sampled", 5, seed) for seed in (0, 0, 1))
    assert one == again != other
    assert len(one) == 5
    for prefix in one:
        assert prefix.endswith(".")
        assert not prefix.endswith("..")
        assert "\n" not in prefix
        assert "{" not in prefix and "}" not in prefix
    assert make_prefixes(lm, "sampled", 0, 0) == ()
    assert rows_of(lm.tokenizer, FACTS, one)


# fingerprints


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_one_bit_of_one_weight_shows(dtype):
    integers = {8: torch.int64, 4: torch.int32, 2: torch.int16}
    model = toy_gpt2(dtype=dtype)
    before = weights_fingerprint(model)
    weight = model.transformer.h[3].mlp.c_proj.weight.data
    bits = weight.view(integers[weight.element_size()])
    for place in (0, 777, weight.numel() - 1):
        for bit in (0, 7, 8 * weight.element_size() - 2):
            bits.view(-1)[place] ^= 1 << bit
            assert weights_fingerprint(model) != before
            bits.view(-1)[place] ^= 1 << bit
    assert weights_fingerprint(model) == before
    assert weights_fingerprint(model, ["lm_head.weight"]) == weights_fingerprint(model, ["lm_head.weight"])


def test_digest_sees_shape_dtype_and_layout():
    x = torch.arange(12.0)
    prints = {tensor_digest(t) for t in (x, x.reshape(3, 4), x.reshape(4, 3), x.double(), x.flip(0), x + 1)}
    assert len(prints) == 6
    assert tensor_digest(x.reshape(3, 4).T.contiguous().T) == tensor_digest(x.reshape(3, 4))
    assert tensor_digest(torch.empty(0)) != tensor_digest(torch.zeros(1))


def test_tokenizer_fingerprint():
    tokenizer = toy_tokenizer(bos=True)
    tokenizer.pad_token = "</s>"
    before = tokenizer_fingerprint(tokenizer)
    tokenizer(["a", "The capital of France"], padding=True, truncation=True, max_length=3)
    tokenizer.padding_side = "left"
    tokenizer(["a", "The capital of France"], padding="max_length", max_length=9)
    assert tokenizer_fingerprint(tokenizer) == before == tokenizer_fingerprint(toy_tokenizer(bos=True))
    assert tokenizer_fingerprint(toy_tokenizer(bos=False)) != before
    tokenizer.add_tokens(["Darrieux"])
    assert tokenizer_fingerprint(tokenizer) != before


def test_text_fingerprint_keeps_parts_apart():
    assert (
        len(
            {
                text_fingerprint("ab", "c"),
                text_fingerprint("a", "bc"),
                text_fingerprint("abc"),
                text_fingerprint("ab", "c", 1),
            }
        )
        == 4
    )
