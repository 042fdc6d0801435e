"""The table of metrics: the field's own and the stricter ones its critics ask for. Each says where it comes from and whether it is
teacher-forced. They are measured by the suites in `suites`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Columns = dict[str, list[float]]
_NAN = float("nan")


@dataclass(frozen=True)
class Metric:
    """What a number means.

    Attributes:
        definition: one sentence.
        source: paper and section.
        teacher_forced: whether the answer's own tokens are fed to the model while it is scored.
        better: "higher", "lower", or "" where neither is.
        unit: "share" (0 to 1), "nats", "bits", "ratio" or "" for a bare number.
    """

    definition: str
    source: str
    teacher_forced: bool
    better: str = "higher"
    unit: str = "share"

    def shown(self, value: float | None) -> str:
        """A value as tables print it: shares in percent; empty where there is none."""
        if value is None or value != value:
            return ""
        return (
            f"{100 * value:.1f}" if self.unit == "share" else f"{value:.3f}" if self.unit == "nats" else f"{value:.2f}"
        )


_ROME = "ROME, arXiv 2202.05262, section 3.3"
_STRICT = "argmax form of ROME's metric, as EasyEdit (arXiv 2308.07269) reports"
_MEND = "MEND, arXiv 2110.11309, section 4; as MEMIT (arXiv 2210.07229) runs it"
_MIRAGE = "The Mirage of Model Editing, arXiv 2502.11177"
_PLUS = "CounterFact+, arXiv 2305.17553"
_HOPS = "MQuAKE, arXiv 2305.14795, and RippleEdits, arXiv 2307.12976"
_BEYOND = "locality beyond the benchmark"

METRICS: dict[str, Metric] = {
    "efficacy": Metric("prompts where the new target is likelier than the old one, by mean log-probability per token", _ROME, True),
    "generalisation": Metric("paraphrases where the new target is likelier than the old one", _ROME, True),
    "specificity": Metric("neighbours whose true answer is likelier than the new target", _ROME, True),
    "strict": Metric("prompts where every token of the new target is the first choice", _STRICT, True),
    "strict_paraphrase": Metric("paraphrases where every token of the new target is the first choice", _STRICT, True),
    "strict_specificity": Metric("neighbours where every token of the true answer is the first choice", _STRICT, True),
    "specificity_plus": Metric("neighbours whose true answer is likelier than the new target with the edited sentence said just before", _PLUS, True),
    "plus_kl": Metric("KL(unedited || edited) of the next token on the same prompts", _PLUS, False, "lower", "nats"),
    "accuracy": Metric("target tokens that are the first choice on the prompt", _MEND, True),
    "rephrase_accuracy": Metric("target tokens that are the first choice on the rephrased prompts", _MEND, True),
    "locality_answer": Metric("answer tokens that are the first choice on unrelated questions", _MEND, True),
    "locality_same": Metric("unrelated questions' answer tokens where edited and unedited model have the same first choice", _MEND, True),
    "generated": Metric("prompts whose greedy continuation begins with the new target", _MIRAGE, False),
    "generated_exact": Metric("prompts whose greedy continuation up to the model's own stop is the new target and nothing else", _MIRAGE, False),
    "generated_contains": Metric("prompts whose greedy continuation contains the new target", _MIRAGE, False),
    "generated_paraphrase": Metric("paraphrases whose greedy continuation begins with the new target", _MIRAGE, False),
    "generated_chat": Metric("prompts put through the chat template whose greedy answer contains the new target", _MIRAGE, False),
    "generated_chat_exact": Metric("the same where the answer is the new target and nothing else", _MIRAGE, False),
    "forcing_gap": Metric("accuracy minus generated: what scoring token by token with the answer's own tokens before it adds to what is said without them", _MIRAGE, False, "lower"),
    "portability": Metric("questions one step away from the edit whose greedy continuation contains the right answer", _HOPS, False),
    "multihop": Metric("questions several steps away whose greedy continuation contains the right answer", _HOPS, False),
    "multihop_any": Metric("cases of which any such question is answered rightly, as MQuAKE counts cases; it asks for the name alone, here the answer's line may hold more", "MQuAKE, arXiv 2305.14795, section 4", False),
    "alias": Metric("the edited fact asked about the subject by another name, answered rightly in a greedy continuation", _HOPS, False),
    "portability_accuracy": Metric("answer tokens that are the first choice, over all these questions", "EasyEdit, arXiv 2308.07269", True),
    "subject_kept": Metric("questions about the subject's other relations answered rightly in a greedy continuation", _HOPS, False),
    "neighbour_kl": Metric("KL(unedited || edited) of the next token on neighbours", _BEYOND, False, "lower", "nats"),
    "neighbour_same": Metric("neighbours where edited and unedited model have the same first choice", _BEYOND, False),
    "subject_kl": Metric("KL(unedited || edited) of the next token on prompts about the subject's other relations", _BEYOND, False, "lower", "nats"),
    "subject_same": Metric("such prompts where edited and unedited model have the same first choice", _BEYOND, False),
    "passage_kl": Metric("KL(unedited || edited) of the next token, mean over the tokens of ordinary passages", _BEYOND, True, "lower", "nats"),
    "passage_same": Metric("tokens of ordinary passages where edited and unedited model have the same first choice", _BEYOND, True),
    "fluency": Metric("entropy of the words' bigrams and trigrams in sampled text, weighted 2/3 and 4/3 and averaged; low means repetition", _ROME, False, "higher", "bits"),
    "consistency": Metric("cosine of the TF-IDF vectors of sampled text and reference texts about the new target", _ROME, False),
}  # fmt: skip

# Kept with every run (general ability where it is asked for): numbers of a whole model, not of a fact.
OF_A_MODEL: dict[str, Metric] = {
    "score": Metric("harmonic mean of efficacy, generalisation and specificity", _ROME, True),
    "perplexity": Metric("exp of the mean negative log-probability per token of ordinary text", _BEYOND, True, "lower", ""),
    "accuracy, f1 of a task": Metric("items whose label word is the likeliest, and F1 of each label weighted by its frequency", "GLUE, arXiv 1804.07461; MMLU, arXiv 2009.03300", False),
    "reach": Metric("of each residual the part that a write delivers at its own key, mean over a batch's facts weighted by the residuals' squared lengths, then over the batches", "docs/design.md, section 2", False),
    "norms": Metric("|W - W0| / |W0| of each changed layer, Frobenius", _BEYOND, False, "lower", "ratio"),
    "shift": Metric("distance of the mean hidden states of known facts before and after, over the spread before", "what AlphaEdit (arXiv 2410.02355) plots, as a number", False, "lower", "ratio"),
}  # fmt: skip


def put(columns: Columns, name: str, values: Sequence[float]) -> None:
    """Add a fact's mean over its prompts to a column; NaN where it has none."""
    columns.setdefault(name, []).append(sum(values) / len(values) if values else _NAN)


def means(columns: Columns) -> dict[str, float]:
    """Mean over the facts that have something to score; NaN if none has. Adds `score`, the harmonic mean of CounterFact's three,
    and `forcing_gap`."""
    out = {}
    for name, values in columns.items():
        scored = [v for v in values if not math.isnan(v)]
        out[name] = sum(scored) / len(scored) if scored else _NAN
    three = [out.get(name, _NAN) for name in ("efficacy", "generalisation", "specificity")]
    if all(v == v for v in three):
        out["score"] = 3 / sum(1 / v for v in three) if all(three) else 0.0
    if "accuracy" in out and "generated" in out:
        out["forcing_gap"] = out["accuracy"] - out["generated"]
    return out
