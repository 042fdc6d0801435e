"""What the model says when nothing is forced: greedy answers with the model's own stop, and sampled text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from bluedit.evaluate.answers import Questions
from bluedit.evaluate.drift import Unedited
from bluedit.evaluate.generate import Sampling, continuations
from bluedit.evaluate.metrics import Columns, put
from bluedit.facts.fact import Fact, Probe
from bluedit.model.editable import EditableModel
from bluedit.progress import Progress
from bluedit.text.chat import in_chat
from bluedit.text.prompts import UNSPACED, encode_answer

_ANSWER = 12  # tokens of a greedy answer
_SLACK = 2  # tokens of it beyond the target's own, at least
TEXT = Sampling(tokens=100, top_k=5, seed=0)  # as ROME samples
_WEIGHTS = {2: 2 / 3, 3: 4 / 3}  # of bigrams and trigrams
_CUE = "\nAnswer:"
_KINDS = {"portability": "portability", "multihop": "multihop", "alias": "alias", "subject": "subject_kept"}


def generation(
    lm: EditableModel, facts: Sequence[Fact], unedited: Unedited, progress: Progress | None = None
) -> Columns:
    """What the model really says: greedy, with its own stop, plain and through the chat template; and the
    teacher-forced figures beside it. `unedited` is not used."""
    del unedited
    prompts = [(prompt, fact.target) for fact in facts for prompt in (fact.text, *fact.paraphrases)]
    texts = iter(_said(lm, prompts, 1, progress))
    template = getattr(lm.tokenizer, "chat_template", None)
    asked = [(in_chat(lm, fact.text), fact.target) for fact in facts] if template else []
    chats = iter(_said(lm, asked, 2, progress))
    ask = Questions()
    forced = [ask.one(fact.text, fact.target) for fact in facts]
    answers = ask.answers(lm, progress)
    columns: Columns = {}
    for fact, place in zip(facts, forced, strict=True):
        put(columns, "strict", [answers[place].said])
        put(columns, "accuracy", [answers[place].accuracy])
        said = [next(texts) for _ in range(1 + len(fact.paraphrases))]
        put(columns, "generated", [_begins(said[0], fact.target)])
        put(columns, "generated_exact", [_is(said[0], fact.target)])
        put(columns, "generated_contains", [_holds(said[0], fact.target)])
        put(columns, "generated_paraphrase", [_begins(text, fact.target) for text in said[1:]])
        answer = [next(chats)] if template else []
        put(columns, "generated_chat", [_holds(text, fact.target) for text in answer])
        put(columns, "generated_chat_exact", [_is(text, fact.target) for text in answer])
    return columns


def _said(lm: EditableModel, asked: Sequence[tuple[str, str]], times: int, progress: Progress | None) -> list[str]:
    """Greedy continuations of prompts, each with room for its target: `times` 12 tokens, or as many more dozens as a long target needs."""
    rooms = [-(-(len(encode_answer(lm.tokenizer, *pair)[1]) + _SLACK) // _ANSWER) * _ANSWER * times for pair in asked]
    texts = [""] * len(asked)
    for room in sorted(set(rooms)):
        places = [i for i, own in enumerate(rooms) if own == room]
        for i, text in zip(places, continuations(lm, [asked[i][0] for i in places], room, progress), strict=True):
            texts[i] = text
    return texts


def portability(
    lm: EditableModel, facts: Sequence[Fact], unedited: Unedited, progress: Progress | None = None
) -> Columns:
    """Whether what follows from the edits is said, and what does not is kept: the facts' probes. `unedited` is not used."""
    del unedited
    asked = [[p for p in fact.probes if p.answers] for fact in facts]
    prompts = [
        (question(p.prompt), " ".join(max(n, key=len) for n in (p.answers, *p.further)))
        for probes in asked
        for p in probes
    ]
    texts = iter(_said(lm, prompts, 2, progress))
    texts = (
        _first_line(text) if prompt.endswith(_CUE) else text for text, (prompt, _) in zip(texts, prompts, strict=True)
    )
    ask = Questions()
    forced = [[ask.one(question(p.prompt), p.answers[0]) for p in probes if p.kind != "subject"] for probes in asked]
    answers = ask.answers(lm, progress) if prompts else []
    columns: Columns = {}
    for probes, places in zip(asked, forced, strict=True):
        right = [(p.kind, _right(text, p)) for p, text in zip(probes, texts, strict=False)]
        for kind, name in _KINDS.items():
            put(columns, name, [found for k, found in right if k == kind])
        hops = [found for k, found in right if k == "multihop"]
        put(columns, "multihop_any", [max(hops)] if hops else [])
        put(columns, "portability_accuracy", [answers[place].accuracy for place in places])
    return columns


def fluency(lm: EditableModel, facts: Sequence[Fact], unedited: Unedited, progress: Progress | None = None) -> Columns:
    """Entropy of sampled text, and its likeness to reference texts, for facts that have some. Prompts are the facts' probes of kind
    "generation", or the subject alone. `unedited` is not used."""
    del unedited
    asked = [[p.prompt for p in fact.probes if p.kind == "generation"] or [fact.subject] for fact in facts]
    texts: Iterator[str] = iter(continuations(lm, [p for prompts in asked for p in prompts], TEXT, progress))
    weights = _idf([" ".join(fact.references) for fact in facts if fact.references])
    columns: Columns = {}
    for fact, prompts in zip(facts, asked, strict=True):
        said = [f"{prompt}{text}" for prompt, text in zip(prompts, texts, strict=False)]
        put(columns, "fluency", [ngram_entropy(text) for text in said])
        reference = " ".join(fact.references)
        put(columns, "consistency", [_cosine(" ".join(said), reference, weights)] if reference else [])
    return columns


def ngram_entropy(text: str) -> float:
    """Mean over n = 2, 3 of weight x entropy of the distribution of the text's word n-grams, bits (ROME, section 3.3)."""
    words = _words(text)
    total = 0.0
    for n, weight in _WEIGHTS.items():
        grams = Counter(zip(*(words[i:] for i in range(n)), strict=False))
        count = sum(grams.values())
        total += weight * -sum(c / count * math.log2(c / count) for c in grams.values())
    return total / len(_WEIGHTS)


def _words(text: str) -> list[str]:
    """Words and punctuation marks; a script without spaces is taken character by character."""
    return re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|\w+|[^\w\s]", text)


def _idf(documents: Sequence[str]) -> dict[str, float]:
    """Smoothed inverse document frequency of each word: ln((1 + N) / (1 + n)) + 1."""
    counts = Counter(word for text in documents for word in set(_words(text.casefold())))
    return {word: math.log((1 + len(documents)) / (1 + n)) + 1 for word, n in counts.items()}


def _cosine(one: str, other: str, weights: dict[str, float]) -> float:
    a, b = (
        {w: c * weights[w] for w, c in Counter(_words(text.casefold())).items() if w in weights}
        for text in (one, other)
    )
    size = math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))
    return sum(a[w] * b[w] for w in a.keys() & b.keys()) / size if size else 0.0


def question(prompt: str) -> str:
    """A question is put so that a language model answers it; a sentence is continued."""
    return f"Question: {prompt.strip()}{_CUE}" if prompt.rstrip().endswith("?") else prompt


def _first_line(text: str) -> str:
    """An answer as MQuAKE takes it: what comes after the line is no part of it, such as a next question of the model's own."""
    return text.strip().partition("\n")[0]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,;:!?\"'")


def _is(text: str, target: str) -> float:
    return float(_plain(text) == _plain(target))


def _begins(text: str, target: str) -> float:
    return float(re.match(_whole(target), _plain(text)) is not None)


def _holds(text: str, target: str) -> float:
    return float(re.search(_whole(target), _plain(text)) is not None)


def _right(text: str, probe: Probe) -> float:
    """1 if each of the probe's answers is said by one of its names."""
    return min(max(_holds(text, name) for name in names) for names in (probe.answers, *probe.further))


def _whole(target: str) -> str:
    """A pattern for the target as whole words ("Rome" is not in "Romeo"); scripts without spaces need no boundary."""
    letter = rf"[^\W{UNSPACED}]"
    return rf"(?<!{letter}){re.escape(_plain(target))}(?!{letter})"
