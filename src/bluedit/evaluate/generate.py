"""What a model says when it is simply asked: greedy continuations and the most probable next tokens."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from bluedit.lm.memory import EditableModel
from bluedit.lm.prompts import encode
from bluedit.lm.state import frozen
from bluedit.progress import Progress

_TOGETHER = 64


@dataclass(frozen=True)
class Sampling:
    """How text is sampled: its length in tokens, from how many of the likeliest tokens each is drawn, and the seed."""

    tokens: int
    top_k: int
    seed: int


@dataclass(frozen=True)
class Asked:
    """The answer to one prompt.

    Attributes:
        prompt, text: the prompt and its greedy continuation.
        top: (token text, probability) of the most probable next tokens.
    """

    prompt: str
    text: str
    top: tuple[tuple[str, float], ...]


@torch.no_grad()
def ask(lm: EditableModel, prompts: Sequence[str], tokens: int = 20, top: int = 5) -> list[Asked]:
    """Continue each prompt greedily by at most `tokens` tokens, stopping where the model stops. Nothing is sampled."""
    answers = []
    with frozen(lm.model):
        for prompt in prompts:
            ids, mask = lm.pad([encode(lm.tokenizer, prompt)[0]])
            first = (
                lm.model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1).logits[0, -1].float()
            )
            probabilities, best = first.softmax(dim=-1).topk(min(top, len(first)))
            shown = tuple((lm.tokenizer.decode([int(i)]), float(p)) for p, i in zip(probabilities, best, strict=True))
            answers.append(Asked(prompt, _continue(lm, ids, mask, tokens)[0], shown))
    return answers


@torch.no_grad()
def continuations(
    lm: EditableModel, prompts: Sequence[str], tokens: int | Sampling, progress: Progress | None = None
) -> list[str]:
    """Continuations of many prompts, greedy up to so many tokens or sampled, run together where they are equally long, so that nothing
    is padded."""
    rows = [encode(lm.tokenizer, prompt)[0] for prompt in prompts]
    by_length: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(i)
    texts = [""] * len(prompts)
    fork = torch.random.fork_rng() if isinstance(tokens, Sampling) else nullcontext()
    with (
        fork,
        frozen(lm.model),
        (progress or Progress()).task("continuing prompts", len(prompts), "prompts") as advance,
    ):
        if isinstance(tokens, Sampling):
            torch.manual_seed(tokens.seed)
        for same in by_length.values():
            for start in range(0, len(same), _TOGETHER):
                part = same[start : start + _TOGETHER]
                ids, mask = lm.pad([rows[i] for i in part])
                for i, text in zip(part, _continue(lm, ids, mask, tokens), strict=True):
                    texts[i] = text
                advance(len(part))
    return texts


def _continue(lm: EditableModel, ids: torch.Tensor, mask: torch.Tensor, tokens: int | Sampling) -> list[str]:
    sampled = isinstance(tokens, Sampling)
    room = min(tokens.tokens if sampled else tokens, lm.max_length - ids.shape[1])
    if room < 1:
        return [""] * len(ids)
    stop = lm.model.generation_config.eos_token_id if lm.model.generation_config else None
    pad = stop[0] if isinstance(stop, list) else stop
    out = lm.model.generate(  # pyright: ignore[reportCallIssue]
        ids,
        attention_mask=mask,
        max_new_tokens=room,
        min_new_tokens=room if sampled else None,  # one length for all: the entropy of shorter text is lower
        do_sample=sampled,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        temperature=1.0 if sampled else None,
        top_p=1.0 if sampled else None,
        top_k=tokens.top_k if sampled else None,
        pad_token_id=pad if pad is not None else 0,
    )
    return [lm.tokenizer.decode(row[ids.shape[1] :], skip_special_tokens=True) for row in out]
