"""Fingerprints: every change shows, nothing that does not matter does, and a tensor is read in chunks."""

import hashlib

import pytest
import torch

import bluedit.model.fingerprint as module
from bluedit.model.fingerprint import (
    chain,
    exact_digest,
    tensor_digest,
    text_fingerprint,
    tokenizer_fingerprint,
    weights_fingerprint,
)
from toys import toy_gpt2, toy_tokenizer


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


# chunks


def whole_digest(tensor):
    """The definition of `tensor_digest`, computed on the whole tensor at once."""
    flat = tensor.contiguous().reshape(-1)
    bits = flat.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()])
    halves = bits.view(2, -1) if len(bits) % 2 == 0 else bits.view(1, -1)
    sums = halves.sum(dim=1, dtype=torch.int64).tolist()
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((str(tensor.dtype), tuple(tensor.shape), sums)).encode())
    digest.update(bits[:: max(1, len(bits) // 2048)].numpy().tobytes())
    return digest.digest()


@pytest.mark.parametrize("chunk", [7, 64, 10_000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (4097,), (61, 83), (1, 5000), (5000, 2), (3, 40, 50)])
def test_chunks_do_not_change_digests(chunk, dtype, shape, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    for one in (tensor, tensor.transpose(0, -1), tensor[..., ::2]):
        assert tensor_digest(one) == whole_digest(one)
        integers = one.contiguous().view(torch.int16 if dtype == torch.bfloat16 else dtype)
        assert exact_digest(one) == hashlib.blake2b(integers.numpy().tobytes(), digest_size=16).digest()


def test_no_more_than_a_chunk_is_copied(monkeypatch):
    """Also of a transposed weight, which has no contiguous form in memory."""
    copied = []
    contiguous, long = torch.Tensor.contiguous, torch.Tensor.long

    def counted(self):
        copied.append(0 if self.is_contiguous() else self.nbytes)
        return contiguous(self)

    monkeypatch.setattr(torch.Tensor, "contiguous", counted)
    monkeypatch.setattr(torch.Tensor, "long", lambda self: copied.append(8 * self.numel()) or long(self))
    large = torch.zeros(3000, 3001)
    for one in (large, large.T):
        tensor_digest(one)
        exact_digest(one)
    assert max(copied) <= 8 * module._CHUNK < large.nbytes / 8


# chains of edits


def test_a_chain_of_digests_depends_on_every_part_and_their_order():
    start = weights_fingerprint(toy_gpt2(layers=1))
    states = {
        start,
        chain(start, b"one"),
        chain(start, b"two"),
        chain(chain(start, b"one"), b"two"),
        chain(chain(start, b"two"), b"one"),
        chain(start + "o", b"ne"),
    }
    assert len(states) == 6
    assert chain(start, b"one") == chain(start, "one")
    assert all(len(state) == 24 for state in states if state)
