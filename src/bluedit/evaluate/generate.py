"""Generating text: greedy continuations, sampled text, and the most probable next tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import LogitsProcessor

from bluedit.errors import FactError
from bluedit.evaluate.data import Asked, Sampling
from bluedit.model.products import fast_products
from bluedit.model.state import frozen
from bluedit.progress import Progress
from bluedit.text.prompts import encode
from bluedit.text.wordings import chat_form

if TYPE_CHECKING:
    from bluedit.model.editable import EditableModel

PROMPTS_PER_PASS = 64


@torch.no_grad()
def ask(
    lm: EditableModel, prompts: Sequence[str], tokens: int = 20, top: int = 5, *, chat: bool = False
) -> list[Asked]:
    """Continue each prompt greedily by at most `tokens` tokens, stopping at the model's own end token, and give the `top` most probable
    next tokens. With `chat` each prompt is the user's turn in the model's chat form.

    Raises:
        FactError: a prompt is longer than the model's context, or there is no chat form.
    """
    form = chat_form(lm.tokenizer) if chat else None
    if chat and form is None:
        raise FactError(f"the tokenizer of {lm.name} has no chat template; ask without --chat (chat=False)")
    answers = []
    with frozen(lm.model):
        for prompt in prompts:
            text = form(prompt, "")[0] if form else prompt
            ids, mask = lm.pad([encode(lm.tokenizer, text)[0]])
            first = lm.run(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1).logits[0, -1].float()
            probabilities, best = first.softmax(dim=-1).topk(min(top, len(first)))
            shown = tuple((lm.tokenizer.decode([int(i)]), float(p)) for p, i in zip(probabilities, best, strict=True))
            answers.append(Asked(prompt, _continue(lm, ids, mask, tokens, None)[0], shown))
    return answers


@torch.no_grad()
def continuations(
    lm: EditableModel,
    prompts: Sequence[str],
    tokens: int | Sampling,
    progress: Progress | None = None,
    *,
    prompts_per_pass: int = PROMPTS_PER_PASS,
) -> list[str]:
    """Continuations of many prompts: greedy with at most `tokens` tokens, or sampled. Prompts of equal length run together, without
    padding.

    Raises:
        FactError: a prompt is longer than the model's context.
    """
    rows = [encode(lm.tokenizer, prompt)[0] for prompt in prompts]
    by_length: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(i)
    texts = [""] * len(prompts)
    with frozen(lm.model), (progress or Progress()).task("continuing prompts", len(prompts), "prompts") as advance:
        for same in by_length.values():
            for start in range(0, len(same), prompts_per_pass):
                part = same[start : start + prompts_per_pass]
                ids, mask = lm.pad([rows[i] for i in part])
                sampler = Sampler(tokens, [prompts[i] for i in part]) if isinstance(tokens, Sampling) else None
                most = tokens.tokens if isinstance(tokens, Sampling) else tokens
                for i, text in zip(part, _continue(lm, ids, mask, most, sampler), strict=True):
                    texts[i] = text
                advance(len(part))
    return texts


class Sampler(LogitsProcessor):
    """Samples each row's next token from the most probable ones by adding Gumbel noise. The noise depends on seed and prompt only, so a
    text does not depend on the other rows of its batch."""

    def __init__(self, sampling: Sampling, prompts: Sequence[str]) -> None:
        self._noise = iter(gumbel_noise(sampling, prompts))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores that leave only the sampled token of each row."""
        del input_ids
        token = drawn(scores, next(self._noise))
        return torch.full_like(scores, -torch.inf).scatter(1, token[:, None], 0.0)


def gumbel_noise(sampling: Sampling, prompts: Sequence[str]) -> torch.Tensor:
    """Gumbel noise (tokens x prompts x top_k) for the most probable tokens, from seed and prompt."""
    seeds = [hashlib.sha256(f"{sampling.seed} {prompt}".encode()).digest()[:8] for prompt in prompts]
    uniform = [
        torch.rand(sampling.tokens, sampling.top_k, generator=torch.Generator().manual_seed(int.from_bytes(seed) >> 1))
        for seed in seeds
    ]
    return -(-torch.stack(uniform, dim=1).log()).log()


def drawn(scores: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The token of each row (rows x vocabulary) that noise (rows x top_k) on its most probable ones draws."""
    top = scores.topk(min(noise.shape[1], scores.shape[1]))
    best = (top.values + noise[:, : top.values.shape[1]].to(scores)).argmax(dim=-1, keepdim=True)
    return top.indices.gather(1, best)[:, 0]


def _continue(
    lm: EditableModel, ids: torch.Tensor, mask: torch.Tensor, most: int, sampler: Sampler | None
) -> list[str]:
    """At most `most` tokens after each row: greedy up to the model's end token, or exactly that many from a sampler."""
    room = min(most, lm.max_length - ids.shape[1])
    if room < 1:
        return [""] * len(ids)
    stop = lm.model.generation_config.eos_token_id if lm.model.generation_config else None
    pad = stop[0] if isinstance(stop, list) else stop
    least = room if sampler else None  # shorter text has lower entropy, so all sampled texts get the same length
    with fast_products(lm.device, lm.dtype):
        out = lm.model.generate(  # pyright: ignore[reportCallIssue]
            ids,
            attention_mask=mask,
            max_new_tokens=room,
            min_new_tokens=least,
            logits_processor=[sampler] if sampler else None,
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
