"""What a model says when it is simply asked: greedy continuations and the most probable next tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import LogitsProcessor

from bluedit.model.editable import EditableModel
from bluedit.model.state import frozen
from bluedit.progress import Progress
from bluedit.text.prompts import encode

_TOGETHER = 64


@dataclass(frozen=True)
class Sampling:
    """How text is sampled: its length in tokens, from how many of the likeliest tokens each is drawn, and the seed, which with the
    prompt alone decides what is drawn."""

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
    with frozen(lm.model), (progress or Progress()).task("continuing prompts", len(prompts), "prompts") as advance:
        for same in by_length.values():
            for start in range(0, len(same), _TOGETHER):
                part = same[start : start + _TOGETHER]
                ids, mask = lm.pad([rows[i] for i in part])
                how = _Draw(tokens, [prompts[i] for i in part]) if isinstance(tokens, Sampling) else tokens
                for i, text in zip(part, _continue(lm, ids, mask, how), strict=True):
                    texts[i] = text
                advance(len(part))
    return texts


class _Draw(LogitsProcessor):
    """Draws each row's next token among the likeliest by adding Gumbel noise, which only the row's prompt and the seed decide, so that
    a text does not depend on what is asked beside it."""

    def __init__(self, how: Sampling, prompts: Sequence[str]) -> None:
        self.room = how.tokens
        seeds = [hashlib.sha256(f"{how.seed} {prompt}".encode()).digest()[:8] for prompt in prompts]
        chances = [
            torch.rand(how.tokens, how.top_k, generator=torch.Generator().manual_seed(int.from_bytes(seed) >> 1))
            for seed in seeds
        ]
        self._noise = iter(-(-torch.stack(chances, dim=1).log()).log())

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        del input_ids
        noise = next(self._noise)
        top = scores.topk(min(noise.shape[1], scores.shape[1]))
        drawn = (top.values + noise[:, : top.values.shape[1]].to(scores)).argmax(dim=-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter(1, top.indices.gather(1, drawn), 0.0)


def _continue(lm: EditableModel, ids: torch.Tensor, mask: torch.Tensor, how: int | _Draw) -> list[str]:
    """Greedy up to so many tokens, or drawn."""
    draw, most = (how, how.room) if isinstance(how, _Draw) else (None, how)
    room = min(most, lm.max_length - ids.shape[1])
    if room < 1:
        return [""] * len(ids)
    stop = lm.model.generation_config.eos_token_id if lm.model.generation_config else None
    pad = stop[0] if isinstance(stop, list) else stop
    out = lm.model.generate(  # pyright: ignore[reportCallIssue]
        ids,
        attention_mask=mask,
        max_new_tokens=room,
        min_new_tokens=room if draw else None,  # one length for all: the entropy of shorter text is lower
        logits_processor=[draw] if draw else None,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=pad if pad is not None else 0,
    )
    return [lm.tokenizer.decode(row[ids.shape[1] :], skip_special_tokens=True) for row in out]
