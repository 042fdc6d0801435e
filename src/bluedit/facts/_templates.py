"""Templates of the phrase book, filled in as a prompt needs them: tense, number, articles, dates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bluedit.facts._phrase_book import ARTICLES, SLOT, Match

PREPOSITIONS = frozenset(
    ["in", "on", "at", "by", "to", "from", "of", "for", "under", "since", "with", "as", "after", "within", "into"]
)


@dataclass(frozen=True)
class Phrases:
    """Wordings of one relation, which fit the prompt they were found for.

    Attributes:
        id: the relation's name in the book, e.g. "capital".
        statements: templates with one `{}` that end just before the answer. The first is the canonical one.
        questions: templates with one `{}` that end in "?" and are answered by the canonical statement. The first is the
            plainest, the second says it in other words.
    """

    id: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """How the templates of a match have to be filled in.

    Attributes:
        named: the subject with what belongs to it.
        past, plural: of the verb.
        time: preposition of a date, and "year" or "date".
        opens: whether the prompt begins with the subject.
        article, sign: what the prompt ends in before the answer.
    """

    named: str
    past: bool
    plural: bool
    time: tuple[str, str] = ("", "")
    opens: bool = False
    article: str = ""
    sign: str = ""


def fill_in(match: Match, form: Form, subject: str, target: str) -> Phrases | None:
    """The templates of a match, filled in, without those that the subject or target does not fit; None if nothing is left."""
    relation = match.relation
    indefinite = (form.article or target.partition(" ")[0]) in ("a", "an")
    templates = relation.kind_statements if indefinite and relation.kind_statements else relation.statements
    end = " ".join(filter(None, (form.article, form.sign)))
    filled = _with_possessives(_filled(templates, match, form), relation.nouns, form.named)
    statements = [f"{text} {end}" if end else text for text in filled]
    statements = [text for text in statements if _continues(text, target)]
    if subject[:1].islower() and form.named == "{}" and not form.opens:
        statements = [text for text in statements if not text.startswith("{}")] or statements
    questions = list(_with_possessive(_filled(relation.questions, match, form), relation.nouns, form.named))
    if not statements or not questions:
        return None
    return Phrases(relation.id, tuple(dict.fromkeys(statements)), tuple(dict.fromkeys(questions)))


def _filled(templates: Sequence[str], match: Match, form: Form) -> Iterator[str]:
    """Templates with their slots filled; those with a slot that has no content are left out."""
    nouns = match.relation.nouns
    noun = match.noun or (nouns[0] if nouns else "")
    slots = {
        "noun": noun,
        "other": next((n for n in nouns if n != noun), ""),
        "when": form.time[0],
        "year": form.time[1],
    }
    for template in templates:
        values = {slot: slots[slot] if slot in slots else _verb(slot, form) for slot in SLOT.findall(template)}
        if not all(values.values()):
            continue
        text = SLOT.sub(lambda slot: values[slot[1]], template)  # noqa: B023 - called at once
        text = text.replace("{}", form.named)
        yield text[0].upper() + text[1:]


def _with_possessives(statements: Iterable[str], nouns: Sequence[str], named: str) -> Iterator[str]:
    """Statements, each followed by its possessive form if it has one: "The price of the {} is", "The {}'s price is"."""
    for text in statements:
        yield text
        noun, of, rest = text.partition(f" of {named} ")
        if of and noun.removeprefix("The ") in nouns:
            yield f"{named[0].upper()}{named[1:]}'s {noun.removeprefix('The ')} {rest}"


def _with_possessive(questions: Iterable[str], nouns: Sequence[str], named: str) -> Iterator[str]:
    """Questions, the first one followed by its possessive form if it has one: "Who is the CEO of {}?", "Who is {}'s CEO?"."""
    for number, text in enumerate(questions):
        yield text
        ask, _, noun = text.removesuffix(f" of {named}?").partition(" the ")
        if number == 0 and noun in nouns:
            yield f"{ask} {named}'s {noun}?"


def _verb(slot: str, form: Form) -> str:
    """The form of a verb: singular/past, or singular|plural|past, with a fourth for the plural past."""
    if "|" not in slot:
        present, past = slot.split("/")
        return past if form.past else present
    forms = slot.split("|")
    return forms[(2 + form.plural if len(forms) == 4 else 2) if form.past else form.plural]


def _continues(statement: str, target: str) -> bool:
    """Whether a target reads well after a statement: not two prepositions or articles in a row."""
    last, first = statement.rsplit(" ", 1)[-1].casefold(), target.casefold().partition(" ")[0]
    return not any(last in words and first in words for words in (PREPOSITIONS, ARTICLES))
