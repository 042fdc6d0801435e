"""Fingerprints of weights, tokenizers and texts, so that stored results are never used with another model or other settings.

Tensors are read in chunks: at most 64 MiB of memory beyond the model, however large a tensor is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from bluedit.shapes import Int, Tensor

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SAMPLES = 2048
# Elements of a chunk. As int64 a chunk on the CPU stays in the cache, which makes it ten times faster; an accelerator wants larger ones.
_CHUNK, _ACCELERATOR_CHUNK = 2**19, 2**22


def tensor_digest(tensor: Tensor) -> bytes:
    """Fast 16-byte digest of a tensor: its dtype, its shape, a sample of 2,048 elements and a sum over the bits of each half.

    Every change of a single element changes a sum. It is not a cryptographic hash: exchanging two elements of the same half goes
    unnoticed unless one of them is in the sample. `exact_digest` sees that, at a twentieth of the speed.
    """
    size = tensor.numel()
    stride = max(1, size // _SAMPLES)
    half = size // 2 if size and size % 2 == 0 else size
    sums = torch.zeros(1 if half == size else 2, dtype=torch.int64, device=tensor.device)
    # filled in place: small tensors allocated between the chunks would fragment the heap by a chunk each
    sample = torch.empty(-(-size // stride), dtype=_INTEGERS[tensor.element_size()])
    start = 0
    for bits in _chunks(tensor):
        end = start + len(bits)
        sample[-(-start // stride) : -(-end // stride)] = bits[-start % stride :: stride]
        if start < half:
            sums[0] += bits[: half - start].long().sum()
        if end > half:
            sums[1] += bits[max(0, half - start) :].long().sum()
        start = end
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((str(tensor.dtype), tuple(tensor.shape), sums.tolist())).encode())
    digest.update(sample.numpy().tobytes())
    return digest.digest()


def exact_digest(tensor: Tensor) -> bytes:
    """16-byte BLAKE2b hash of all bytes of a tensor in row order, about half a gigabyte a second."""
    digest = hashlib.blake2b(digest_size=16)
    for bits in _chunks(tensor):
        digest.update(bits.cpu().numpy().data)
    return digest.digest()


def _chunks(tensor: Tensor) -> Iterator[Int[Tensor, "elements"]]:
    """The elements in row order as integers of their bits, a chunk at a time; only chunks are copied where strides require it."""
    limit = _CHUNK if tensor.device.type == "cpu" else _ACCELERATOR_CHUNK
    tensor = tensor.detach()
    if tensor.is_contiguous() or tensor.numel() <= limit:
        flat = tensor.contiguous().reshape(-1)
        yield from flat.view(_INTEGERS[flat.element_size()]).split(limit)
    elif len(tensor) == 1:
        yield from _chunks(tensor[0])
    else:
        for part in tensor.split(max(1, limit * len(tensor) // tensor.numel())):
            yield from _chunks(part)


def weights_fingerprint(model: nn.Module, names: Iterable[str] | None = None) -> str:
    """Fingerprint of all parameters of a model, or of the named ones, from `tensor_digest`: 24 hexadecimal digits."""
    chosen = None if names is None else set(names)
    return parameters_fingerprint((n, p) for n, p in model.named_parameters() if chosen is None or n in chosen)


def parameters_fingerprint(parameters: Iterable[tuple[str, Tensor]]) -> str:
    """The same for parameters in the order of their model; each is needed only while it is read."""
    return _joined((name, tensor_digest(parameter)) for name, parameter in parameters)


def fingerprint_and_digests(model: nn.Module) -> tuple[str, dict[str, bytes]]:
    """`weights_fingerprint` of all parameters, and `tensor_digest` of each by name."""
    digests = {name: tensor_digest(parameter) for name, parameter in model.named_parameters()}
    return _joined(digests.items()), digests


def _joined(digests: Iterable[tuple[str, bytes]]) -> str:
    joined = hashlib.blake2b(digest_size=12)
    for name, digest in digests:
        joined.update(name.encode())
        joined.update(digest)
    return joined.hexdigest()


def chain(state: str, digest: bytes | str) -> str:
    """Fingerprint of the state that a change with this digest makes of an earlier state: 24 hexadecimal digits.

    A chain of digests names the weights after each edit without reading the model again.
    """
    change = digest if isinstance(digest, bytes) else digest.encode()
    joined = hashlib.blake2b(digest_size=12)
    for part in (state.encode(), change):
        joined.update(len(part).to_bytes(8, "little"))
        joined.update(part)
    return joined.hexdigest()


def text_fingerprint(*parts: Any) -> str:
    """Fingerprint of any values that JSON can represent, as 24 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Fingerprint of a tokenizer: vocabulary, merges and the template that adds special tokens. Padding and truncation do not count."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        parts = json.loads(backend.to_str())
        return text_fingerprint({k: v for k, v in parts.items() if k not in ("padding", "truncation")})
    return text_fingerprint(sorted(tokenizer.get_vocab().items()))
