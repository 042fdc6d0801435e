"""The field's metrics and the stricter ones its critics ask for, fact by fact. Each says where it comes from and whether it is teacher-forced.

A suite measures several metrics from one batched run; its result has one number per metric and fact (NaN where a fact has nothing to
score), shares between 0 and 1, so that means, intervals and tables can be made of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from bluedit.errors import FactError
from bluedit.evaluate.answers import Answer, logits_at, score
from bluedit.evaluate.generate import continuations
from bluedit.facts.fact import Fact
from bluedit.lm.memory import EditableModel
from bluedit.lm.prompts import chunks_by_cost, encode
from bluedit.progress import Progress

Columns = dict[str, list[float]]
Unedited = Callable[[], AbstractContextManager[None]]
_NAN = float("nan")
_TOKENS_PER_PASS = 2048
_GENERATED = 12


@dataclass(frozen=True)
class Metric:
    """What a number means.

    Attributes:
        definition: one sentence.
        source: paper and section.
        teacher_forced: whether the answer's own tokens are fed to the model while it is scored.
        better: "higher" or "lower".
    """

    definition: str
    source: str
    teacher_forced: bool
    better: str = "higher"


_ROME = "ROME, arXiv 2202.05262, section 3.3"
_STRICT = "argmax form of ROME's metric, as EasyEdit (arXiv 2308.07269) reports"
_MEND = "MEND, arXiv 2110.11309, section 4; as MEMIT (arXiv 2210.07229) runs it"
_MIRAGE = "The Mirage of Model Editing, arXiv 2502.11177"

METRICS: Mapping[str, Metric] = {
    "efficacy": Metric("prompts where the new target is likelier than the old one, by mean log-probability per token", _ROME, True),
    "generalisation": Metric("paraphrases where the new target is likelier than the old one", _ROME, True),
    "specificity": Metric("neighbours whose true answer is likelier than the new target", _ROME, True),
    "strict": Metric("prompts where every token of the new target is the first choice", _STRICT, True),
    "strict_paraphrase": Metric("paraphrases where every token of the new target is the first choice", _STRICT, True),
    "strict_specificity": Metric("neighbours where every token of the true answer is the first choice", _STRICT, True),
    "accuracy": Metric("target tokens that are the first choice on the prompt", _MEND, True),
    "rephrase_accuracy": Metric("target tokens that are the first choice on the rephrased prompts", _MEND, True),
    "locality_answer": Metric("answer tokens that are the first choice on unrelated questions", _MEND, True),
    "locality_same": Metric("unrelated questions' answer tokens where edited and unedited model have the same first choice", _MEND, True),
    "generated": Metric("prompts whose greedy continuation begins with the new target", _MIRAGE, False),
    "generated_contains": Metric("prompts whose greedy continuation contains the new target", _MIRAGE, False),
    "generated_paraphrase": Metric("paraphrases whose greedy continuation begins with the new target", _MIRAGE, False),
    "generated_chat": Metric("prompts put through the chat template whose greedy answer contains the new target", _MIRAGE, False),
    "neighbour_kl": Metric("KL(unedited || edited) of the next token on neighbours, nats", "locality beyond the benchmark", False, "lower"),
    "neighbour_same": Metric("neighbours where edited and unedited model have the same first choice", "locality beyond the benchmark", False),
}  # fmt: skip


def counterfact(
    lm: EditableModel, facts: Sequence[Fact], unedited: Unedited, progress: Progress | None = None
) -> Columns:
    """Efficacy, generalisation, specificity and their strict forms. Facts need an old target. `unedited` is not used.

    Raises:
        FactError: a fact has no old target.
    """
    del unedited
    missing = [fact.text for fact in facts if fact.old_target is None]
    if missing:
        raise FactError(
            f"CounterFact's metrics compare with old_target, and {len(missing)} of {len(facts)} facts have none, "
            f"e.g. {missing[0]!r}; add old_target or leave the suite 'counterfact' out"
        )
    ask = _Questions()
    plan = []
    for fact in facts:
        old = fact.old_target or ""
        told = [ask.pair(prompt, fact.target, old) for prompt in (fact.text, *fact.paraphrases)]
        kept = [ask.pair(n.prompt, n.answer or old, fact.target) for n in fact.neighbours]
        plan.append((told, kept))
    answers = ask.answers(lm, progress)
    columns: Columns = {}
    for told, kept in plan:
        wins = [answers[a].mean_logprob > answers[b].mean_logprob for a, b in told]
        said = [answers[a].said for a, _ in told]
        _put(columns, "efficacy", wins[:1])
        _put(columns, "generalisation", wins[1:])
        _put(columns, "specificity", [answers[a].mean_logprob > answers[b].mean_logprob for a, b in kept])
        _put(columns, "strict", said[:1])
        _put(columns, "strict_paraphrase", said[1:])
        _put(columns, "strict_specificity", [answers[a].said for a, _ in kept])
    return columns


def zsre(lm: EditableModel, facts: Sequence[Fact], unedited: Unedited, progress: Progress | None = None) -> Columns:
    """Token accuracies on prompt, rephrasings and unrelated questions; the latter against the answer and against the unedited model."""
    ask = _Questions()
    plan = []
    for fact in facts:
        told = [ask.one(prompt, fact.target) for prompt in (fact.text, *fact.paraphrases)]
        plan.append((told, [ask.one(n.prompt, n.answer) for n in fact.neighbours if n.answer]))
    answers = ask.answers(lm, progress)
    with unedited():
        before = ask.answers(lm, progress)
    columns: Columns = {}
    for told, kept in plan:
        _put(columns, "accuracy", [answers[i].accuracy for i in told[:1]])
        _put(columns, "rephrase_accuracy", [answers[i].accuracy for i in told[1:]])
        _put(columns, "locality_answer", [answers[i].accuracy for i in kept])
        _put(columns, "locality_same", [_agreement(answers[i], before[i]) for i in kept])
    return columns


def generation(
    lm: EditableModel, facts: Sequence[Fact], unedited: Unedited, progress: Progress | None = None
) -> Columns:
    """What the model really says: greedy, with its own stop, plain and through the chat template. `unedited` is not used."""
    del unedited
    prompts = [prompt for fact in facts for prompt in (fact.text, *fact.paraphrases)]
    texts = iter(continuations(lm, prompts, _GENERATED, progress))
    template = getattr(lm.tokenizer, "chat_template", None)
    chats = iter(
        continuations(lm, [_chat(lm, fact.text) for fact in facts], 2 * _GENERATED, progress) if template else ()
    )
    columns: Columns = {}
    for fact in facts:
        said = [next(texts) for _ in range(1 + len(fact.paraphrases))]
        _put(columns, "generated", [_begins(said[0], fact.target)])
        _put(columns, "generated_contains", [_holds(said[0], fact.target)])
        _put(columns, "generated_paraphrase", [_begins(text, fact.target) for text in said[1:]])
        _put(columns, "generated_chat", [_holds(next(chats), fact.target)] if template else [])
    return columns


@torch.no_grad()
def locality(lm: EditableModel, facts: Sequence[Fact], unedited: Unedited, progress: Progress | None = None) -> Columns:
    """How far next-token distributions on neighbours moved from the unedited model's."""
    prompts = sorted({n.prompt for fact in facts for n in fact.neighbours})
    rows = [encode(lm.tokenizer, prompt)[0] for prompt in prompts]
    moved: dict[str, tuple[float, float]] = {}
    with (progress or Progress()).task("comparing with the unedited model", len(prompts), "prompts") as advance:
        for chunk in chunks_by_cost([len(row) for row in rows], _TOKENS_PER_PASS):
            part = [rows[i] for i in chunk]
            now = _next(lm, part)
            with unedited():
                before = _next(lm, part)
            kl = (before.exp() * (before - now)).sum(dim=-1).clamp(min=0).tolist()
            same = (before.argmax(dim=-1) == now.argmax(dim=-1)).tolist()
            moved.update({prompts[i]: (k, float(s)) for i, k, s in zip(chunk, kl, same, strict=True)})
            advance(len(chunk))
    columns: Columns = {}
    for fact in facts:
        _put(columns, "neighbour_kl", [moved[n.prompt][0] for n in fact.neighbours])
        _put(columns, "neighbour_same", [moved[n.prompt][1] for n in fact.neighbours])
    return columns


SUITES: Mapping[str, Callable[..., Columns]] = {
    "counterfact": counterfact,
    "zsre": zsre,
    "generation": generation,
    "locality": locality,
}


def means(columns: Columns) -> dict[str, float]:
    """Mean over the facts that have something to score; NaN if none has. Adds `score`, the harmonic mean of CounterFact's three."""
    out = {}
    for name, values in columns.items():
        scored = [v for v in values if not math.isnan(v)]
        out[name] = sum(scored) / len(scored) if scored else _NAN
    three = [out.get(name, _NAN) for name in ("efficacy", "generalisation", "specificity")]
    if all(v == v for v in three):
        out["score"] = 3 / sum(1 / v for v in three) if all(three) else 0.0
    return out


class _Questions:
    """(prompt, answer) pairs, each asked once however often it is needed."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str], int] = {}

    def one(self, prompt: str, answer: str) -> int:
        return self._places.setdefault((prompt, answer), len(self._places))

    def pair(self, prompt: str, first: str, second: str) -> tuple[int, int]:
        return self.one(prompt, first), self.one(prompt, second)

    def answers(self, lm: EditableModel, progress: Progress | None) -> list[Answer]:
        return score(lm, list(self._places), progress)


def _put(columns: Columns, name: str, values: Sequence[float]) -> None:
    columns.setdefault(name, []).append(sum(values) / len(values) if values else _NAN)


def _agreement(one: Answer, other: Answer) -> float:
    return sum(a == b for a, b in zip(one.first_choices, other.first_choices, strict=True)) / one.tokens


def _next(lm: EditableModel, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    return logits_at(lm, rows, range(len(rows)), [len(row) - 1 for row in rows]).log_softmax(dim=-1)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,;:!?\"'")


def _begins(text: str, target: str) -> float:
    return float(re.match(_whole(target), _plain(text)) is not None)


def _holds(text: str, target: str) -> float:
    return float(re.search(_whole(target), _plain(text)) is not None)


def _whole(target: str) -> str:
    """A pattern for the target as whole words ("Rome" is not in "Romeo"); scripts without spaces need no boundary."""
    return rf"(?<![a-z0-9]){re.escape(_plain(target))}(?![a-z0-9])"


def _chat(lm: EditableModel, prompt: str) -> str:
    message = [{"role": "user", "content": f"Complete the sentence in a few words: {prompt}"}]
    return lm.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
