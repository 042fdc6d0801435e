"""A fact: a prompt with a subject, and the answer that the model should give."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bluedit.errors import FactError, did_you_mean
from bluedit.facts._spaces import settle_phrasings, settle_space
from bluedit.facts.inline import split_line
from bluedit.facts.places import filled, other_name
from bluedit.facts.probe import NOT_A_NEIGHBOUR, NOT_A_PROBE, PROBES, Neighbour, Probe
from bluedit.facts.words import HALF_PAIR, UNSEEN, ends_in, find_mention, names, similar, visible
from bluedit.spacing import continuation

log = logging.getLogger(__name__)

_LISTS = ("phrasings", "paraphrases", "neighbours", "probes", "references")
# what other programs write for the subject's place
_NO_NAMES = ("subject", "entity", "name", "object", "s", "x")
_PLACE = re.compile(r"\{\s*\w*\s*\}|%s|\[(?:subject|X)\]|<subject>")


@dataclass(frozen=True)
class Fact:
    """One change to a model's knowledge.

    Spacing: by default the text decides whether a space stands between prompt and target. A target that begins with a space
    asks for one. A space at the end of the prompt moves before the target, with a warning, because a tokenizer joins it
    to the next word. Either way `target` itself is stored without it and `joined` is False.

    Attributes:
        prompt: template with exactly one `{}`, the subject's place, ending just before the answer.
        subject: the text that replaces `{}`.
        target: the new answer.
        old_target: what the model says today, if known; used only in reports and metrics.
        paraphrases: other full prompts that ask for the same fact; they are asked, never taught. A `{}` in one that does
            not name the subject is replaced by it.
        neighbours: prompts whose answer must not change.
        probes: further questions for evaluation.
        references: texts about entities of which the new target is true, for the metric consistency.
        id: any name; readers fill it from the data set.
        phrasings: other templates like `prompt` that are taught with it. One may have another name of the subject in braces in
            place of `{}`: "The {Danish} capital is" for a fact about Denmark.
        joined: whether the target follows the prompt without a space; None lets the text decide. It concerns `prompt` only:
            phrasings and paraphrases have ends of their own.

    Raises:
        FactError: a prompt or phrasing without exactly one place of the subject, empty subject or target, white space around the subject, a
            phrasing that gives the answer, a target equal to `old_target`, or text that is not valid Unicode. All faults
            are named together.
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
    phrasings: Sequence[str] = field(default=(), kw_only=True)
    joined: bool | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("phrasings", "paraphrases", "references"):
            if isinstance(getattr(self, name), str):
                raise FactError(f"{name} must be a list of texts, not the text {getattr(self, name)!r}")
        for name in _LISTS:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        faults = _type_faults(self) or [*self._settle(), *_text_faults(self)]
        if faults:
            raise FactError(f"fact {self.id or self.prompt!r}: " + "; ".join(faults))

    def _settle(self) -> list[str]:
        """Put spaces, phrasings and paraphrases into their final form, with what is wrong with the spaces."""
        subject = _without_unseen("subject", self.subject)
        target = _without_unseen("target", self.target)
        prompt, target, joined, fault = settle_space(self.prompt, target, self.joined)
        settled = {"prompt": prompt, "subject": subject, "target": target, "joined": joined}
        settled["phrasings"] = settle_phrasings(prompt, [_with_place(text, subject) for text in self.phrasings])
        settled["paraphrases"] = tuple(_filled_in(text, subject) for text in self.paraphrases)
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        return [fault] if fault else []

    @property
    def text(self) -> str:
        """The prompt with the subject in it."""
        return self.prompt.replace("{}", self.subject)

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is taught: the prompt and the phrasings, with the subject in them."""
        return (self.text, *(filled(phrasing, self.subject) for phrasing in self.phrasings))

    @property
    def names(self) -> tuple[str, ...]:
        """The subject, and the other names of it that phrasings have in braces."""
        return tuple(dict.fromkeys((self.subject, *filter(None, (other_name(text)[1] for text in self.phrasings)))))

    @property
    def statement(self) -> str:
        """The prompt with the subject in it, followed by the target."""
        return self.text + continuation(self.text, self.target, self.joined)

    def named_in(self, sentence: str) -> str:
        """A sentence with the subject and the answers in place of `{subject}`, `{target}` and `{old}`.

        An old answer that is not known is the new one.
        """
        names = {"{subject}": self.subject, "{target}": self.target, "{old}": self.old_target or self.target}
        for place, name in names.items():
            sentence = sentence.replace(place, name)
        return sentence

    @classmethod
    def from_text(cls, text: str, subject: str, target: str, **rest: object) -> Fact:
        """A fact from a full prompt that names `subject`.

        The last mention counts, whole words before parts of words. If the prompt spells the subject in other case, Unicode form
        or typography, the prompt's spelling becomes the subject. That, and a subject found only inside a longer word, is logged.

        Raises:
            FactError: the prompt does not name the subject, or holds `{}` besides.
        """
        prompt, found, note = marked(text, subject)
        if note:
            log.warning("%s", note)
        return cls(prompt, subject=found, target=target, **rest)  # pyright: ignore[reportArgumentType]

    @classmethod
    def parse(cls, line: str) -> Fact:
        """A fact from one line such as "The mother tongue of {Danielle Darrieux} is => English".

        The one `{...}` is the subject; the first `=>` after it ends the prompt. The rest is the target as it stands, so
        it may hold braces and arrows. In the prompt write `\\{`, `\\}` and `\\=>` for characters that are meant literally.

        Raises:
            FactError: no subject in braces or several, or no `=>` after it.
        """
        try:
            prompt, subject, target = split_line(line)
        except ValueError as error:
            raise FactError(str(error)) from None
        return cls(prompt, subject=subject, target=target)


def marked(text: str, subject: str, name: str = "prompt") -> tuple[str, str, str]:
    """A full prompt, or another text of that name, with `{}` in place of the subject, the subject as the prompt spells it, and a note if that needs one.

    Raises:
        FactError: the prompt does not name the subject, or holds `{}` besides.
    """
    mention = find_mention(text, subject) if isinstance(subject, str) else None
    if mention is None:
        close = similar(text, subject) if isinstance(subject, str) and subject.strip() else None
        hint = f"did you mean {close!r}?" if close else "write it as it stands there"
        if place := _PLACE.search(text):
            hint = f"write '{{}}' in place of {place[0]!r} if the subject stands there"
        raise FactError(f"subject {subject!r} does not occur in the {name} {text!r}; {hint}")
    before, after = text[: mention.start], text[mention.end :]
    if before.endswith("{") and after.startswith("}"):
        raise FactError(
            f"the {name} {text!r} has its subject in braces, as --fact takes it; here write it without them, or '{{}}' in its place"
        )
    if "{}" in before + after:
        raise FactError(
            f"the {name} {text!r} holds both '{{}}' and the subject {subject!r}; '{{}}' marks the subject's place and cannot "
            "be part of the text: use one of them"
        )
    return before + "{}" + after, text[mention.start : mention.end], mention.note and f"{text!r}: {mention.note}"


def _without_unseen(name: str, text: str) -> str:
    """A text without characters at its ends that cannot be seen; white space stays."""
    inner = text.strip(UNSEEN)
    if inner != text:
        log.warning("the %s %r begins or ends with characters that cannot be seen; they are dropped", name, text)
    return inner


def _filled_in(text: object, subject: str) -> object:
    if not isinstance(text, str) or text.count("{}") != 1 or names(text, subject):
        return text
    return text.replace("{}", subject)


def _with_place(phrasing: str, subject: str) -> str:
    """A phrasing with `{}` in place of the subject in braces."""
    template, name = other_name(phrasing) if isinstance(phrasing, str) else (phrasing, "")
    return template if name == subject else phrasing


def _type_faults(fact: Fact) -> list[str]:
    """Faults that make it impossible to look at the texts."""
    faults: list[str] = []
    for name in ("prompt", "subject", "target"):
        value = getattr(fact, name)
        if not isinstance(value, str):
            faults.append(f"{name} must be text, not {type(value).__name__}")
        elif not visible(value):
            faults.append(f"{name} is empty")
    if fact.old_target is not None and not isinstance(fact.old_target, str):
        faults.append(f"old_target must be text or None, not {type(fact.old_target).__name__}")
    if fact.joined is not None and not isinstance(fact.joined, bool):
        faults.append(f"joined must be True, False or None, not {fact.joined!r}")
    return faults or [
        f"{name} has half a surrogate pair in {text!r}; write the character itself"
        for name, text in _texts(fact)
        if HALF_PAIR.search(text)
    ]


def _texts(fact: Fact) -> Iterator[tuple[str, str]]:
    """Every text in a fact with the name of its place."""
    values: list[tuple[str, object]] = [
        *((name, getattr(fact, name)) for name in ("prompt", "subject", "target", "old_target", "id")),
        *(("a phrasing", text) for text in fact.phrasings),
        *(("a paraphrase", text) for text in fact.paraphrases),
        *(("a reference", text) for text in fact.references),
    ]
    for neighbour in fact.neighbours:
        if isinstance(neighbour, Neighbour):
            values += [("a neighbour", neighbour.prompt), ("a neighbour's answer", neighbour.answer)]
    for probe in fact.probes:
        if isinstance(probe, Probe):
            answers = [*probe.answers, *(name for names in probe.further for name in names)]
            values += [("a probe", probe.prompt), *(("a probe's answer", answer) for answer in answers)]
    yield from ((name, value) for name, value in values if isinstance(value, str))


def _text_faults(fact: Fact) -> Iterator[str]:
    """Everything that is wrong with the texts of a fact, as parts of a sentence."""
    if fact.subject != fact.subject.strip():
        yield f"the subject {fact.subject!r} begins or ends with white space; put that into the prompt, beside '{{}}'"
    if fault := _template_fault("prompt", fact.prompt):
        yield fault
    if fact.old_target is not None and not fact.old_target.strip():
        yield "old_target is empty; leave it out where it is not known"
    elif fact.old_target is not None and fact.old_target.strip() == fact.target:
        yield f"target and old_target are both {fact.target!r}: there is nothing to change"
    yield from filter(None, (_phrasing_fault(fact, phrasing) for phrasing in fact.phrasings))
    if any(not isinstance(p, str) or not p.strip() for p in fact.paraphrases):
        yield "a paraphrase is empty or not text"
    yield from _first(n.fault() if isinstance(n, Neighbour) else NOT_A_NEIGHBOUR for n in fact.neighbours)
    if any(not isinstance(r, str) or not r.strip() for r in fact.references):
        yield "a reference is empty or not text"
    yield from filter(None, map(_probe_fault, fact.probes))


def _first(faults: Iterator[str]) -> Iterator[str]:
    """The first of several faults in the same words."""
    return iter([fault] if (fault := next(filter(None, faults), "")) else [])


def _template_fault(name: str, template: str) -> str:
    holes = template.count("{}")
    if holes == 1:
        return ""
    return f"the {name} must contain '{{}}' exactly once, where the subject stands; {template!r} has it {holes} times"


def _phrasing_fault(fact: Fact, phrasing: object) -> str:
    if not isinstance(phrasing, str) or not phrasing.strip():
        return "a phrasing is empty or not text"
    if ends_in(phrasing.rstrip(), fact.target):
        return f"the phrasing {phrasing!r} already ends in the target {fact.target!r}; end it just before the answer"
    template, name = other_name(phrasing)
    if name != name.strip():
        return f"the name in braces in the phrasing {phrasing!r} begins or ends with white space; write it without"
    if name and names(phrasing, fact.subject):
        return f"the phrasing {phrasing!r} holds both the subject and another name in braces; write '{{}}' in the subject's place"
    if name.casefold() in _NO_NAMES or name.isdecimal():
        return f"{{{name}}} in the phrasing {phrasing!r} is no name of the subject; write '{{}}' in its place"
    return _template_fault("phrasing", template)


def _probe_fault(probe: object) -> str:
    if not isinstance(probe, Probe):
        return NOT_A_PROBE
    fault = probe.fault()
    return f"{fault}; {did_you_mean(str(probe.kind), PROBES)}" if fault and probe.kind not in PROBES else fault
