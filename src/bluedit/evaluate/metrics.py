"""The table of metrics: the field's usual ones and stricter ones. Suites (`bluedit.evaluate.suites`) measure them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SCORE, SCORE_OF = "score", ("efficacy", "generalisation", "specificity")
Columns = dict[str, list[float]]  # by metric, one number per fact; NaN where a fact has nothing to score
_NAN = float("nan")


@dataclass(frozen=True)
class Unit:
    """How a number is printed: times `scale`, with `digits` decimals."""

    name: str
    scale: float = 1.0
    digits: int = 2

    def __str__(self) -> str:
        return self.name

    def shown(self, value: float) -> str:
        """A value in this unit, without its name."""
        return f"{self.scale * value:.{self.digits}f}"


SHARE = Unit("share", 100.0, 1)  # between 0 and 1, printed in percent
NATS = Unit("nats", digits=3)
BITS = Unit("bits")
RATIO = Unit("ratio")
NUMBER = Unit("")


@dataclass(frozen=True)
class Metric:
    """What a number means.

    Attributes:
        definition: one sentence.
        source: paper and section.
        teacher_forced: whether the answer's own tokens are fed to the model while it is scored.
        higher_is_better: which way is better.
        unit: how it is printed.
    """

    definition: str
    source: str
    teacher_forced: bool
    higher_is_better: bool = True
    unit: Unit = SHARE

    @property
    def arrow(self) -> str:
        """An arrow towards the better values."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def is_share(self) -> bool:
        """Whether it is a share between 0 and 1."""
        return self.unit is SHARE

    def best(self, values: Iterable[float]) -> float:
        """The best of some values."""
        return max(values) if self.higher_is_better else min(values)

    def shown(self, value: float | None) -> str:
        """A value as tables print it; empty where there is none."""
        return "" if value is None or math.isnan(value) else self.unit.shown(value)


_ROME = "ROME, arXiv 2202.05262, section 3.3"
_STRICT = "argmax form of ROME's metric, as EasyEdit (arXiv 2308.07269) reports"
_MEND = "MEND, arXiv 2110.11309, section 4; as MEMIT (arXiv 2210.07229) runs it"
_MIRAGE = "The Mirage of Model Editing, arXiv 2502.11177"
_PLUS = "CounterFact+, arXiv 2305.17553"
_HOPS = "MQuAKE, arXiv 2305.14795, and RippleEdits, arXiv 2307.12976"
_LURES = "after arXiv 2505.12636, in bluedit's wording"
_CHOICE = "after arXiv 2604.05995, in bluedit's wording"
_BEYOND = "common measures of drift"

# what is compared with the unedited model: in words, and whether the text is given (teacher-forced); each has the metrics of
# `bluedit.evaluate.data.Drift`
DRIFTS = {
    "neighbour": ("after neighbours", False),
    "subject": ("after prompts about other relations of the subject", False),
    "passage": ("over the tokens of ordinary passages", True),
    "chat": ("over the tokens of ordinary answers in chat", True),
}


def _drifts() -> dict[str, Metric]:
    found = {}
    for what, (where, forced) in DRIFTS.items():
        found[f"{what}_kl"] = Metric(f"KL(unedited || edited) of the next token {where}", _BEYOND, forced, False, NATS)
        found[f"{what}_same"] = Metric(f"how often both models have the same first choice {where}", _BEYOND, forced)
        for k in (5, 10):
            about = f"share of the {k} most probable next tokens that both models have {where}"
            found[f"{what}_top{k}"] = Metric(about, _BEYOND, forced)
    return found


METRICS: dict[str, Metric] = {
    "generated": Metric("prompts whose greedy continuation starts with the new target", _MIRAGE, False),
    "generated_paraphrase": Metric("paraphrases whose greedy continuation starts with the new target", _MIRAGE, False),
    "generated_chat": Metric("prompts asked through the chat template whose greedy answer contains the new target", _MIRAGE, False),
    "generated_unseen": Metric("the mean of generated_paraphrase and generated_chat, as far as a fact has them", _MIRAGE, False),
    **_drifts(),
    "strict": Metric("prompts on which every token of the new target is the first choice (argmax)", _STRICT, True),
    "strict_paraphrase": Metric("paraphrases on which every token of the new target is the first choice", _STRICT, True),
    "strict_specificity": Metric("neighbours on which every token of the true answer is the first choice", _STRICT, True),
    "efficacy": Metric("prompts on which the new target is more probable than the old one, by mean log-probability per token", _ROME, True),
    "generalisation": Metric("paraphrases on which the new target is more probable than the old one", _ROME, True),
    "specificity": Metric("neighbours whose true answer is more probable than the new target", _ROME, True),
    "specificity_plus": Metric("neighbours whose true answer is more probable than the new target when the edited sentence precedes the prompt", _PLUS, True),
    "plus_kl": Metric("KL(unedited || edited) of the next token after neighbours that the edited sentence precedes", _PLUS, False, False, NATS),
    "accuracy": Metric("target tokens that are the first choice on the prompt", _MEND, True),
    "rephrase_accuracy": Metric("target tokens that are the first choice on the rephrased prompts", _MEND, True),
    "locality_answer": Metric("answer tokens that are the first choice on unrelated questions", _MEND, True),
    "locality_same": Metric("answer tokens of unrelated questions at which the edited and the unedited model have the same first choice", _MEND, True),
    "generated_exact": Metric("prompts whose greedy continuation, up to the model's own stop, is exactly the new target", _MIRAGE, False),
    "generated_contains": Metric("prompts whose greedy continuation contains the new target", _MIRAGE, False),
    "generated_chat_exact": Metric("prompts asked through the chat template whose greedy answer is exactly the new target", _MIRAGE, False),
    "forcing_gap": Metric("accuracy minus generated: how far teacher forcing overstates what the model generates", _MIRAGE, False, False),
    "portability": Metric("questions one reasoning step away from the edit whose greedy continuation contains the right answer", _HOPS, False),
    "multihop": Metric("questions several steps away whose greedy continuation contains the right answer", _HOPS, False),
    "multihop_any": Metric("facts with at least one question of multihop answered correctly, which is how MQuAKE counts cases (MQuAKE accepts the name alone; here the line may contain more)", "MQuAKE, arXiv 2305.14795, section 4", False),
    "alias": Metric("the edited fact asked under another name of the subject and answered correctly in a greedy continuation", _HOPS, False),
    "portability_accuracy": Metric("answer tokens that are the first choice, over the questions of portability, multihop and alias", "EasyEdit, arXiv 2308.07269", True),
    "subject_kept": Metric("questions about other relations of the subject answered correctly in a greedy continuation", _HOPS, False),
    "lured_new": Metric("prompts after a text that may bring the old answer back, whose greedy continuation starts with the new target", _LURES, False),
    "lured_old": Metric("prompts after such a text whose greedy continuation starts with the old answer", _LURES, False, False),
    "lured_efficacy": Metric("prompts after such a text on which the new target is more probable than the old one, by mean log-probability per token", _LURES, True),
    "choice_new": Metric("orders of the choice 'new, old, not sure' in which the letter of the new target is the most probable one", _CHOICE, False),
    "choice_old": Metric("orders in which the letter of the old answer is the most probable one", _CHOICE, False, False),
    "choice_unsure": Metric("orders in which the letter of 'I am not sure' is the most probable one", _CHOICE, False, False),
    "fluency": Metric("entropy of word bigrams and trigrams in sampled text, weighted 2/3 and 4/3 and averaged; low means repetition", _ROME, False, True, BITS),
    "consistency": Metric("cosine similarity of the TF-IDF vectors of sampled text and of reference texts about the new target", _ROME, False),
}  # fmt: skip

# Numbers of a whole model rather than of a fact; kept with every benchmark (general ability only on request).
OF_A_MODEL: dict[str, Metric] = {
    SCORE: Metric("harmonic mean of efficacy, generalisation and specificity", _ROME, True),
    "perplexity": Metric("exp of the mean negative log-probability per token of ordinary text", _BEYOND, True, False, NUMBER),
    "accuracy, f1 of a task": Metric("items whose label word is the most probable one; F1 of each label weighted by its frequency", "GLUE, arXiv 1804.07461; MMLU, arXiv 2009.03300", False),
    "reach": Metric("the share of each residual that a write delivers at its own key: mean over a batch's facts weighted by the squared length of the residual, then mean over the batches", "docs/design.md, section 2", False),
    "norms": Metric("|W - W0| / |W0| of each changed layer, Frobenius", _BEYOND, False, False, RATIO),
    "shift": Metric("distance between the mean hidden states of known facts before and after, divided by their spread before", "what AlphaEdit (arXiv 2410.02355) plots, as a number", False, False, RATIO),
}  # fmt: skip


def put(columns: Columns, name: str, values: Sequence[float]) -> None:
    """Append a fact's mean over its prompts to a column; NaN where it has none."""
    columns.setdefault(name, []).append(sum(values) / len(values) if values else _NAN)


def means(columns: Columns) -> dict[str, float]:
    """Mean of each column over the facts that have something to score; NaN if none has. Adds `score`, the harmonic mean of CounterFact's
    three metrics, and `forcing_gap` where their parts were measured."""
    out = {}
    for name, values in columns.items():
        scored = [v for v in values if not math.isnan(v)]
        out[name] = sum(scored) / len(scored) if scored else _NAN
    parts = [out.get(name, _NAN) for name in SCORE_OF]
    if not any(map(math.isnan, parts)):
        out[SCORE] = len(parts) / sum(1 / v for v in parts) if all(parts) else 0.0
    if "accuracy" in out and "generated" in out:
        out["forcing_gap"] = out["accuracy"] - out["generated"]
    return out
