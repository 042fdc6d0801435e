"""Fingerprints: short names for exact weights, vocabularies and texts, so that nothing is used with what it was not made for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from bluedit.shapes import Tensor

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SAMPLES = 2048


def tensor_digest(tensor: Tensor) -> bytes:
    """Digest of dtype, shape, an evenly spaced sample, and two sums over the bits of all elements.

    Any single changed bit changes a sum, so this sees every edit at memory speed (a cryptographic hash of all bytes is ten times slower).
    """
    flat = tensor.detach().contiguous().reshape(-1)
    bits = flat.view(_BITS[flat.element_size()])
    stride = max(1, bits.numel() // _SAMPLES)
    halves = bits.view(2, -1) if bits.numel() % 2 == 0 and bits.numel() else bits.view(1, -1)
    sums = halves.sum(dim=1, dtype=torch.int64).tolist()
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((str(tensor.dtype), tuple(tensor.shape), sums)).encode())
    digest.update(bits[::stride].cpu().numpy().tobytes())
    return digest.digest()


def exact_digest(tensor: Tensor) -> bytes:
    """Hash of all bytes of a tensor, about 1 GB a second."""
    bits = tensor.detach().contiguous().view(_BITS[tensor.element_size()])
    return hashlib.blake2b(bits.cpu().numpy().tobytes(), digest_size=16).digest()


def weights_fingerprint(model: nn.Module, names: Iterable[str] | None = None) -> str:
    """Fingerprint of all parameters of a model, or of the named ones."""
    wanted = None if names is None else set(names)
    digest = hashlib.blake2b(digest_size=12)
    for name, parameter in model.named_parameters():
        if wanted is None or name in wanted:
            digest.update(name.encode())
            digest.update(tensor_digest(parameter))
    return digest.hexdigest()


def text_fingerprint(*parts: Any) -> str:
    """Fingerprint of anything JSON can write."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Fingerprint of a tokenizer: vocabulary, merges and the template that adds special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        parts = json.loads(backend.to_str())
        return text_fingerprint({k: v for k, v in parts.items() if k not in ("padding", "truncation")})
    return text_fingerprint(sorted(tokenizer.get_vocab().items()))
