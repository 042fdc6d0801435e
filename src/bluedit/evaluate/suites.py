"""Suites: what is measured together, fact by fact, from batched runs.

A suite's result has one number per metric and fact (NaN where a fact has nothing to score), so that means, intervals and tables can
be made of them. What the model says when nothing is forced is in `said`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bluedit.errors import FactError
from bluedit.evaluate.answers import Answer, Questions
from bluedit.evaluate.drift import Unedited, next_token_drift
from bluedit.evaluate.metrics import Columns, put
from bluedit.evaluate.said import fluency, generation, portability
from bluedit.facts.fact import Fact, Neighbour
from bluedit.model.editable import EditableModel
from bluedit.progress import Progress

ABOUT = ("The most surprising thing about {} is", "{} is best known for")


def check_old_targets(facts: Sequence[Fact]) -> None:
    """Raises FactError when facts lack the old target that CounterFact's metrics compare with."""
    missing = [fact.text for fact in facts if fact.old_target is None]
    if missing:
        raise FactError(
            f"CounterFact's metrics compare with old_target, and {len(missing)} of {len(facts)} facts have none, "
            f"e.g. {missing[0]!r}; add old_target or choose other metrics than 'counterfact' (--suite)"
        )


def check_suites(names: Sequence[str], facts: Sequence[Fact]) -> None:
    """Raises FactError when facts have nothing that one of these suites could measure."""
    if "counterfact" in names:
        check_old_targets(facts)
    if "counterfact-plus" in names and not any(n.answer for fact in facts for n in fact.neighbours):
        raise FactError(
            "'counterfact-plus' asks neighbours with an answer, and no fact has one; leave it out (--suite)"
        )
    if "portability" in names and not any(p.answers for fact in facts for p in fact.probes):
        raise FactError(
            "'portability' asks the facts' probes, and no fact has one with an answer; leave it out (--suite)"
        )


def counterfact(
    lm: EditableModel, facts: Sequence[Fact], unedited: Unedited, progress: Progress | None = None
) -> Columns:
    """Efficacy, generalisation, specificity and their strict forms. Facts need an old target. `unedited` is not used.

    Raises:
        FactError: a fact has no old target.
    """
    del unedited
    check_old_targets(facts)
    ask = Questions()
    plan = []
    for fact in facts:
        old = fact.old_target or ""
        told = [ask.pair(prompt, fact.target, old) for prompt in (fact.text, *fact.paraphrases)]
        kept = [ask.pair(n.prompt, n.answer, fact.target) for n in fact.neighbours if n.answer and _tells(fact, n)]
        true = [ask.one(n.prompt, n.answer) for n in fact.neighbours if n.answer]
        plan.append((told, kept, true))
    answers = ask.answers(lm, progress)
    columns: Columns = {}
    for told, kept, true in plan:
        wins = [answers[a].mean_logprob > answers[b].mean_logprob for a, b in told]
        said = [answers[a].said for a, _ in told]
        put(columns, "efficacy", wins[:1])
        put(columns, "generalisation", wins[1:])
        put(columns, "specificity", [answers[a].mean_logprob > answers[b].mean_logprob for a, b in kept])
        put(columns, "strict", said[:1])
        put(columns, "strict_paraphrase", said[1:])
        put(columns, "strict_specificity", [answers[place].said for place in true])
    return columns


def counterfact_plus(
    lm: EditableModel, facts: Sequence[Fact], unedited: Unedited, progress: Progress | None = None
) -> Columns:
    """Specificity with the edited sentence said just before the neighbour's prompt, where editing methods fail most."""
    told = [[f"{fact.text} {fact.target}. {n.prompt}" for n in fact.neighbours] for fact in facts]
    ask = Questions()
    plan = [
        [
            ask.pair(prompt, n.answer, fact.target)
            for prompt, n in zip(prompts, fact.neighbours, strict=True)
            if n.answer and _tells(fact, n)
        ]
        for fact, prompts in zip(facts, told, strict=True)
    ]
    answers = ask.answers(lm, progress)
    moved = next_token_drift(lm, sorted({p for prompts in told for p in prompts}), unedited, progress)
    columns: Columns = {}
    for prompts, kept in zip(told, plan, strict=True):
        put(columns, "specificity_plus", [answers[a].mean_logprob > answers[b].mean_logprob for a, b in kept])
        put(columns, "plus_kl", [moved[p][0] for p in prompts])
    return columns


def zsre(lm: EditableModel, facts: Sequence[Fact], unedited: Unedited, progress: Progress | None = None) -> Columns:
    """Token accuracies on prompt, rephrasings and unrelated questions; the latter against the answer and against the unedited model."""
    edits, near = Questions(), Questions()
    plan = []
    for fact in facts:
        told = [edits.one(prompt, fact.target) for prompt in (fact.text, *fact.paraphrases)]
        plan.append((told, [near.one(n.prompt, n.answer) for n in fact.neighbours if n.answer]))
    answers, now = edits.answers(lm, progress), near.answers(lm, progress)
    with unedited():
        before = near.answers(lm, progress)
    columns: Columns = {}
    for told, kept in plan:
        put(columns, "accuracy", [answers[i].accuracy for i in told[:1]])
        put(columns, "rephrase_accuracy", [answers[i].accuracy for i in told[1:]])
        put(columns, "locality_answer", [now[i].accuracy for i in kept])
        put(columns, "locality_same", [_agreement(now[i], before[i]) for i in kept])
    return columns


def locality(lm: EditableModel, facts: Sequence[Fact], unedited: Unedited, progress: Progress | None = None) -> Columns:
    """How far next-token distributions moved from the unedited model's: on neighbours, and on prompts about the subject's other
    relations (the facts' probes; where there are none, two prompts that fit any subject)."""
    near = [[n.prompt for n in fact.neighbours] for fact in facts]
    same = [
        [p.prompt for p in fact.probes if p.kind == "subject"] or [t.format(fact.subject) for t in ABOUT]
        for fact in facts
    ]
    moved = next_token_drift(lm, sorted({p for prompts in (*near, *same) for p in prompts}), unedited, progress)
    columns: Columns = {}
    for name, plan in (("neighbour", near), ("subject", same)):
        for prompts in plan:
            put(columns, f"{name}_kl", [moved[p][0] for p in prompts])
            put(columns, f"{name}_same", [moved[p][1] for p in prompts])
    return columns


SUITES: Mapping[str, Callable[..., Columns]] = {
    "counterfact": counterfact,
    "counterfact-plus": counterfact_plus,
    "zsre": zsre,
    "generation": generation,
    "portability": portability,
    "fluency": fluency,
    "locality": locality,
}


def _tells(fact: Fact, neighbour: Neighbour) -> bool:
    """Whether a neighbour's answer can be compared with the new target: not where the new target is the truth there, too."""
    return (neighbour.answer or "").strip() != fact.target.strip()


def _agreement(one: Answer, other: Answer) -> float:
    return sum(a == b for a, b in zip(one.first_choices, other.first_choices, strict=True)) / one.tokens
