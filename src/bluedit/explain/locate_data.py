"""What `locate` measures, as rows of tables: each becomes one CSV file and one list in results.json.

Facts are numbered from 0, those that are traced and those that are probed each for themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

STATE, MLP, ATTENTION = "state", "mlp", "attention"
KINDS = (STATE, MLP, ATTENTION)
FIRST, MIDDLE, LAST_OF_SUBJECT = "first of subject", "middle of subject", "last of subject"
NEXT, FURTHER, LAST = "first after", "further", "last token"
ROLES = (FIRST, MIDDLE, LAST_OF_SUBJECT, NEXT, FURTHER, LAST)


@dataclass(frozen=True)
class Traced:
    """A fact that the model knows, and what noise on its subject does.

    Attributes:
        prompt, answer: full text, and the true answer.
        clean: probability of the answer's first token.
        noisy: the same with noise on the subject's embeddings, mean over the samples.
    """

    fact: int
    prompt: str
    answer: str
    clean: float
    noisy: float


@dataclass(frozen=True)
class Effect:
    """The indirect effect of one place: by how much the answer's probability rises when its clean activation is put back.

    Attributes:
        kind: state (the block's output), mlp or attention.
        layer: of the place, or the middle of the window of layers that are restored at once.
        role: of the token; where a prompt has several tokens of a role, the mean over them.
        effect: mean over the samples of the noise.
    """

    kind: str
    layer: int
    role: str
    fact: int
    effect: float


@dataclass(frozen=True)
class Target:
    """The search for z* of one fact at one layer of the unedited model.

    Attributes:
        steps, loss: of the search.
        said: whether the model says the target when the vector is added at the layer (1 or 0).
        length: |delta| over |h|.
        match: k^T C^-1 k over d_key: 1 is what a key of ordinary text has; the larger, the less a write there touches other keys.
        cost: sqrt(|delta|^2 / k^T C^-1 k) over |h|: how much the smallest exact write of this fact changes an ordinary token's output
            (root mean square), in units of the fact's hidden state.
        delivered: share of the vector that the write delivered at its own key.
    """

    layer: int
    fact: int
    steps: int
    loss: float
    said: float
    length: float
    match: float
    cost: float
    delivered: float


@dataclass(frozen=True)
class Layer:
    """An edit of all probed facts that writes this layer alone, as shares of facts or prompts, and what it does to ordinary text.

    Attributes:
        strict, strict_paraphrase, efficacy, generalisation, specificity: see `bluedit.evaluate.metrics`.
        specificity_before: of the unedited model.
        passage_kl: KL(unedited || edited) of the next token on ordinary text, in nats.
        perplexity: of the same text; `perplexity_before` of the unedited model.
        score: see `bluedit.evaluate.outcome.Outcome.score`.
    """

    layer: int
    strict: float
    strict_paraphrase: float
    efficacy: float
    generalisation: float
    specificity: float
    specificity_before: float
    passage_kl: float
    perplexity: float
    perplexity_before: float
    score: float


TABLES: dict[str, type[Any]] = {"traced": Traced, "effects": Effect, "targets": Target, "layers": Layer}
