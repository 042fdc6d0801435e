"""A fact: what the model is to say, and how to tell that it says it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from bluedit.errors import FactError, did_you_mean

_INLINE = re.compile(r"^(?P<prompt>.*\{(?P<subject>[^{}]+)\}.*?)\s*=>\s*(?P<target>.*)$", re.DOTALL)


@dataclass(frozen=True)
class Neighbour:
    """A prompt whose answer must not change, e.g. ("Michel Rocard is a native speaker of", "French").

    `answer` may be None: then the edited model is compared with what the unedited one says.
    """

    prompt: str
    answer: str | None = None


@dataclass(frozen=True)
class Probe:
    """A question beyond the edited prompt, asked when an edit is evaluated.

    Attributes:
        kind: "portability" (what follows from the edit in one step), "multihop" (in several), "alias" (the same fact,
            the subject by another name), "subject" (something else about the subject, which must stay) or "generation"
            (a prompt to be continued freely, for fluency).
        prompt: full text.
        answers: names of the right answer, any of which counts. "subject" may have none: then the unedited model's
            answer is the right one. "generation" has none.
        further: where the right answer is several things (all siblings, say), the names of each of the others; all must be said.
    """

    kind: str
    prompt: str
    answers: Sequence[str] = ()
    further: Sequence[Sequence[str]] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.answers, str):
            object.__setattr__(self, "answers", tuple(self.answers))
        if not isinstance(self.further, str):
            further = tuple(names if isinstance(names, str) else tuple(names) for names in self.further)
            object.__setattr__(self, "further", further)


PROBES = ("portability", "multihop", "alias", "subject", "generation")
_ANSWERED = PROBES[:3]
_NAMED = 20  # conflicts, at most


@dataclass(frozen=True)
class Fact:
    """One change to a model's knowledge.

    Attributes:
        prompt: template with exactly one `{}` where the subject stands, ending just before the answer.
        subject: text that replaces `{}`.
        target: what the model is to say next; without leading space (the tokenizer decides on it).
        old_target: what the model says today, if known; used only in reports and metrics.
        paraphrases: other full prompts (no `{}`) that ask for the same fact.
        neighbours: prompts that must keep their answer.
        probes: further questions for evaluation.
        references: texts about entities of which the new target is true, for the metric consistency.
        id: any name; readers fill it from the data set.

    Raises:
        FactError: no `{}` or several, empty subject or target, white space around the subject, or a target equal to `old_target`.
    """

    prompt: str
    subject: str
    target: str
    old_target: str | None = None
    paraphrases: Sequence[str] = ()
    neighbours: Sequence[Neighbour] = ()
    probes: Sequence[Probe] = ()
    references: Sequence[str] = ()
    id: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in ("paraphrases", "references"):
            if isinstance(getattr(self, name), str):
                raise FactError(f"{name} must be a list of texts, not the text {getattr(self, name)!r}")
        for name in ("paraphrases", "neighbours", "probes", "references"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        faults = list(_faults(self))
        if faults:
            raise FactError(f"fact {self.id or self.prompt!r}: " + "; ".join(faults))

    @property
    def text(self) -> str:
        """The prompt with the subject in it."""
        return self.prompt.replace("{}", self.subject)

    @classmethod
    def from_text(cls, text: str, subject: str, target: str, **rest: object) -> Fact:
        """A fact from a full prompt that contains `subject`; its last occurrence is the one meant.

        Raises:
            FactError: the subject does not occur in the prompt.
        """
        at = text.rfind(subject) if isinstance(subject, str) and subject else -1
        if at < 0:
            raise FactError(
                f"subject {subject!r} does not occur in the prompt {text!r}; write it exactly as it stands there"
            )
        before, after = text[:at], text[at + len(subject) :]
        if "{}" in before + after:
            raise FactError(f"prompt {text!r} holds both the subject and '{{}}'; use one of them")
        return cls(before + "{}" + after, subject=subject, target=target, **rest)  # pyright: ignore[reportArgumentType]

    @classmethod
    def parse(cls, line: str) -> Fact:
        """A fact from one line such as "The mother tongue of {Danielle Darrieux} is => English".

        Raises:
            FactError: the line has not exactly one {subject} and one `=>`.
        """
        match = _INLINE.match(line.strip())
        if not match or line.count("{") != 1 or line.count("}") != 1 or line.count("=>") != 1:
            raise FactError(
                f"cannot read the fact {line!r}; write it as 'The capital of {{France}} is => Rome': "
                "the subject in braces once, then '=>' and the new target"
            )
        subject = match["subject"]
        return cls(
            match["prompt"].replace("{" + subject + "}", "{}"), subject=subject.strip(), target=match["target"].strip()
        )


def _faults(fact: Fact) -> list[str]:
    """Everything that is wrong with a fact, as sentence parts."""
    faults: list[str] = []
    for name in ("prompt", "subject", "target"):
        value = getattr(fact, name)
        if not isinstance(value, str):
            faults.append(f"{name} must be text, not {type(value).__name__}")
        elif not value.strip():
            faults.append(f"{name} is empty")
    if faults:
        return faults
    if fact.subject != fact.subject.strip():
        faults.append(
            f"the subject {fact.subject!r} begins or ends with white space; put that into the prompt, beside '{{}}'"
        )
    holes = fact.prompt.count("{}")
    if holes != 1:
        faults.append(
            f"the prompt must contain '{{}}' exactly once, where the subject stands; {fact.prompt!r} has it {holes} times"
        )
    if fact.old_target is not None and not isinstance(fact.old_target, str):
        return [*faults, f"old_target must be text or None, not {type(fact.old_target).__name__}"]
    if fact.old_target is not None and not fact.old_target.strip():
        faults.append("old_target is empty; leave it out where it is not known")
    elif fact.old_target is not None and fact.old_target.strip() == fact.target.strip():
        faults.append(f"target and old_target are both {fact.target!r}: there is nothing to change")
    if any(not isinstance(p, str) or not p.strip() for p in fact.paraphrases):
        faults.append("a paraphrase is empty or not text")
    if not all(_sound(neighbour) for neighbour in fact.neighbours):
        faults.append("a neighbour is not a Neighbour with a prompt and an answer that is text, not empty, or None")
    if any(not isinstance(r, str) or not r.strip() for r in fact.references):
        faults.append("a reference is empty or not text")
    return [*faults, *filter(None, map(_probe_fault, fact.probes))]


def _probe_fault(probe: object) -> str:
    if not isinstance(probe, Probe) or not isinstance(probe.prompt, str) or not probe.prompt.strip():
        return "a probe is not a Probe with a prompt"
    if probe.kind not in PROBES:
        hint = did_you_mean(str(probe.kind), PROBES)
        return f"the probe {probe.prompt!r} is of the unknown kind {probe.kind!r}; {hint}"
    if not _names(probe.answers):
        return f"the answers of the probe {probe.prompt!r} must be a list of texts, none of them empty"
    if isinstance(probe.further, str) or not all(names and _names(names) for names in probe.further):
        return f"the further answers of the probe {probe.prompt!r} must be lists of texts, none of them empty"
    if probe.further and not probe.answers:
        return f"the probe {probe.prompt!r} has further answers and no first one"
    if probe.kind in _ANSWERED and not probe.answers:
        return f"the probe {probe.prompt!r} has no answer"
    if probe.kind == "generation" and probe.answers:
        return f"the probe {probe.prompt!r} is to be continued freely; it takes no answers"
    return ""


def _names(answers: object) -> bool:
    return isinstance(answers, tuple) and all(isinstance(a, str) and a.strip() for a in answers)


def _sound(neighbour: object) -> bool:
    if not isinstance(neighbour, Neighbour) or not isinstance(neighbour.prompt, str):
        return False
    answer = neighbour.answer
    return bool(neighbour.prompt.strip()) and (answer is None or (isinstance(answer, str) and bool(answer.strip())))


def check_batch(facts: Sequence[Fact]) -> None:
    """Refuse a set of facts that cannot all hold at once.

    Raises:
        FactError: no facts, something else than facts, the same fact twice, or one prompt with two targets; the first such pairs are
            named.
    """
    if not all(isinstance(fact, Fact) for fact in facts):
        raise FactError(
            "facts must be a list of Fact; make one with Fact(...) or Fact.parse(line), or read a file with read_facts"
        )
    if not facts:
        raise FactError("no facts were given; pass at least one Fact")
    if faults := conflicts(facts):
        raise FactError(some_of(faults))


def some_of(faults: Sequence[str]) -> str:
    """The first faults, a line each, and how many there are besides."""
    more = [f"and {len(faults) - _NAMED} more"] if len(faults) > _NAMED else []
    return "\n".join([*faults[:_NAMED], *more])


def conflicts(facts: Sequence[Fact]) -> list[str]:
    """What repeats or contradicts an earlier fact, a sentence each."""
    first: dict[str, int] = {}
    faults: list[str] = []
    for i, fact in enumerate(facts):
        j = first.setdefault(fact.text, i)
        if j == i:
            continue
        if facts[j].target.strip() == fact.target.strip():
            faults.append(f"facts {j + 1} and {i + 1} are the same ({fact.text!r} => {fact.target!r}); keep one")
        else:
            faults.append(
                f"facts {j + 1} and {i + 1} contradict each other: {fact.text!r} => {facts[j].target!r} and {fact.target!r}; keep one"
            )
    return faults
