"""Turns the texts of a record into a `Fact`, as leniently as the meaning allows. Shared by several formats."""

from __future__ import annotations

from typing import Any

from bluedit.errors import FactError
from bluedit.facts._fields import Fields, json_name
from bluedit.facts._spaces import without_last_space
from bluedit.facts.fact import Fact, marked
from bluedit.facts.places import other_name
from bluedit.facts.probe import Neighbour, Probe
from bluedit.facts.words import find_mention, names

_SHORT = 3  # characters of a subject that is likely to be found in other words


def build(fields: Fields, prompt: str, subject: str, target: str, *, marker: bool = False, **rest: Any) -> Fact:
    """The fact of one record; where it was read leniently, a note is added to `fields.notes`.

    A prompt or phrasing without `{}` must name the subject.

    Args:
        marker: whether `{}` in the prompt is certainly the subject's place. If False, a prompt with `{}` that also names
            the subject is refused, for either may be meant. So is such a phrasing.
        rest: other attributes of the fact.

    Raises:
        FactError: the prompt does not name the subject, or the fact has other faults.
    """
    marker = marker or fields.flag("template") or False
    fields.check()
    subject = subject.strip()
    whole = "{}" in subject and subject in prompt  # code, such as println!("{}")
    if ("{}" in prompt and not whole) or not prompt.strip() or not subject:
        if not marker:
            _check_marker(fields, prompt, subject)
    else:
        prompt, subject, note = marked(prompt, subject)
        fields.notes += [note] if note else []
    short = without_last_space(prompt)
    if short != prompt and not rest.get("joined"):
        fields.notes.append(f"the prompt {prompt!r} ends in a space, which is moved before the target")
        prompt, rest["joined"] = short, False
    rest["phrasings"] = [_phrasing(fields, text, subject, marker=marker) for text in rest.get("phrasings", ())]
    return Fact(prompt, subject, target, **rest)


def _check_marker(fields: Fields, prompt: str, subject: str, name: str = "prompt") -> None:
    """Refuse a template that names the subject beside `{}`; note one that does so in another spelling or part of a word."""
    if names_beside_marker(prompt, subject):
        raise FactError(
            f"the {name} {prompt!r} holds both '{{}}' and the subject {subject!r}, so the subject's place is not clear: "
            "write only one of them, or add \"template\": true if '{}' is the place"
        )
    other = find_mention(prompt.replace("{}", "\n"), subject) if len(subject) > _SHORT else None
    if other is not None:
        fields.notes.append(
            f"{prompt!r}: '{{}}' is taken for the place of the subject {subject!r}, although the {name} also has a name like it"
        )


def names_beside_marker(prompt: str, subject: str) -> bool:
    """Whether a template contains the subject besides `{}`."""
    return "{}" in prompt and names(prompt.replace("{}", "\n"), subject)


def _phrasing(fields: Fields, text: str, subject: str, *, marker: bool) -> str:
    """A phrasing with `{}`, or another name in braces, in the subject's place, read as leniently as the prompt."""
    if "{}" in text:
        if not marker:
            _check_marker(fields, text, subject, "phrasing")
    elif text.strip() and (not other_name(text)[1] or names(text, subject)):
        whole = text
        text, found, note = marked(text, subject, "phrasing")
        if found != subject:
            note = f"the phrasing {whole!r} names the subject as {found!r}; it is taught with {subject!r}, as the prompt has it"
        fields.notes += [note] if note else []
    short = without_last_space(text)
    if short != text:
        fields.notes.append(f"the phrasing {text!r} ends in a space, which is dropped")
    return short


def read_neighbours(
    fields: Fields, name: str, *, key: str, default: str | None = None, strict: bool = False
) -> list[Neighbour]:
    """Prompts, or objects with a prompt and its answer under `key`; a prompt alone gets the default answer."""
    found = []
    for i, item in enumerate(fields.items(name)):
        if isinstance(item, str):
            item = {"prompt": item, key: default}
        if not isinstance(item, dict):
            fields.faults.append(f"'{name}[{i}]' must be text or an object, not {json_name(item)}")
            continue
        inner = fields.inner(item, f"{name}[{i}]")
        if strict:
            inner.known(("prompt", key))
        answer, prompt = inner.maybe(key) if strict else inner.trimmed(key), inner.text("prompt")
        if inner.has("prompt") and isinstance(item["prompt"], str) and not prompt.strip():
            fields.faults.append(f"the prompt of '{name}[{i}]' is empty; write it, or leave the item out")
        found.append(Neighbour(prompt, answer))
    return found


def one_hop(fields: Fields) -> list[Probe]:
    """The question one step away that EasyEdit (arXiv 2305.13172) adds to records of CounterFact and zsRE."""
    if not isinstance(fields.record.get("portability"), dict):
        return []
    asked = fields.section("portability")
    question, answer = asked.trimmed("New Question"), asked.trimmed("New Answer")
    return [Probe("portability", question, (answer,))] if question and answer else []
