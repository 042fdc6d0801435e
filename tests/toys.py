"""Toy models and tokenizers made in the test: random weights, a few layers, no network."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bluedit.errors import RecipeError
from bluedit.facts import Fact, Neighbour
from bluedit.methods.presets import preset
from bluedit.methods.recipe import Recipe

TEXT = (
    "The mother tongue of Danielle Darrieux is French. The capital of France is Paris. Where is the Eiffel Tower? It is in Paris. "
    "Michel Rocard is a native speaker of French. The official religion of Edwin of Northumbria is Christianity. English, German, "
    "Italian, Rome, Berlin, London. The weather was mild that morning. Therefore, the committee met again in the afternoon. "
    "Because of the rain, we stayed inside. I read about this in the newspaper yesterday. You can find more about it in the library. "
    "Élise Müller plays the violin."
)


@cache
def trained(kind: str, bos: bool) -> str:
    """A BPE tokenizer of about 400 tokens, as JSON: "bytes" as GPT-2's, "scarce" with the characters of TEXT alone (no "A"), or "words"
    as Llama 2's and Gemma's (spaces begin words, other characters fall back to bytes)."""
    special = ["<s>", "</s>"]
    if kind in ("bytes", "scarce"):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet() if kind == "bytes" else []
    else:
        special += [f"<0x{byte:02X}>" for byte in range(256)]
        tokenizer = Tokenizer(models.BPE(byte_fallback=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
        alphabet = []
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer.to_str()


def toy_tokenizer(*, kind: str = "bytes", bos: bool = False) -> PreTrainedTokenizerFast:
    """With or without a beginning-of-sequence token added to each text."""
    made = Tokenizer.from_str(trained(kind, bos))
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


def toy_llama(
    *, square: bool = False, seed: int = 0, dtype: torch.dtype = torch.float64, layers: int = 5
) -> LlamaForCausalLM:
    """A random Llama with grouped-query attention; `square` makes d_key equal d_model."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=432,
        hidden_size=32,
        intermediate_size=32 if square else 48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def toy_gpt2(
    *, square: bool = False, seed: int = 0, dtype: torch.dtype = torch.float64, layers: int = 5
) -> GPT2LMHeadModel:
    """A random GPT-2 (transposed Conv1D weights); `square` makes d_key equal d_model."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=432,
        n_embd=32,
        n_inner=32 if square else 48,
        n_layer=layers,
        n_head=4,
        n_positions=256,
        initializer_range=0.3,
        resid_pdrop=0.1,
        embd_pdrop=0.1,
        attn_pdrop=0.1,
    )
    return GPT2LMHeadModel(config).to(dtype).eval()


FAMILIES = {
    "llama": toy_llama,
    "gpt2": toy_gpt2,
    "llama-square": lambda **options: toy_llama(square=True, **options),
    "gpt2-square": lambda **options: toy_gpt2(square=True, **options),
}

FACTS = (
    Fact(
        "The mother tongue of {} is",
        subject="Danielle Darrieux",
        target="English",
        old_target="French",
        paraphrases=("Danielle Darrieux is a native speaker of",),
        neighbours=(Neighbour("Michel Rocard is a native speaker of", "French"),),
        id="1",
    ),
    Fact("The capital of {} is", subject="France", target="Rome", old_target="Paris", id="2"),
    Fact("{} plays the", subject="Élise Müller", target="drum kit", old_target="violin", id="3"),
)


def corpus_in(folder: Path) -> Path:
    """A text file whose paragraphs have very different lengths, so that a fault with padding shows."""
    file = folder / "corpus.txt"
    sentences = TEXT.split(". ")
    file.write_text("\n\n".join([*sentences[:6], ". ".join(sentences * 2), *sentences[6:]]), encoding="utf-8")
    return file


def fitting(
    recipe: str | Recipe, shared: Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Those of the shared settings that a recipe with these settings of its own has an option for, and all of its own, fitting or not."""
    settings = dict(settings or {})
    chosen = preset(recipe) if isinstance(recipe, str) else recipe
    with suppress(RecipeError):  # the editor will raise it
        chosen = chosen.override(settings)
    return {path: value for path, value in shared.items() if path in chosen.settings()} | settings


def files_in(folder: Path) -> dict[str, bytes]:
    """The content of all files in a folder by their path in it."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def disk_full_at(monkeypatch: Any, nth: int) -> None:
    """The nth file written from now on does not fit on the disk."""
    original, calls = os.fsync, count(1)

    def fsync(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and next(calls) == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(descriptor)

    monkeypatch.setattr("bluedit.files.os.fsync", fsync)
