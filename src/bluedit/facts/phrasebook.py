"""Other wordings of a fact's prompt, from a bundled phrase book of relations such as capital, CEO or price."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bluedit.facts._asked_clauses import relation_of_question
from bluedit.facts._clauses import inside, relation_of_clause, without_hedges
from bluedit.facts._dates import is_amount, is_dated, is_duration, is_weekday, time_of
from bluedit.facts._general import general_relation
from bluedit.facts._grammar import DETERMINERS, is_noun
from bluedit.facts._phrase_book import ARTICLES, Book, Match, Relation, book, normal, split
from bluedit.facts._templates import PREPOSITIONS, Form, Phrases, fill_in
from bluedit.facts.fact import Fact
from bluedit.facts.words import find_mention, is_question

_LONGEST = 400  # characters of a prompt that is looked up
_SIGNS = tuple("$€£¥₹")
_VERBS = "is are was were do does did has have had can could will would should may must"
_CONTINUATIONS = "is are was were has not to located situated based known called named being held said and or but"
_AUXILIARIES = frozenset(_VERBS.split())
_PREDICATES = frozenset(_CONTINUATIONS.split())  # a target that begins so names nothing
_PAST = frozenset(("was", "were", "did", "had"))
_PLURAL_BEFORE, _PLURAL_AFTER = frozenset(("are", "were", "do")), frozenset(("are", "were"))
_OWNED = ("its", "their", "his", "her")  # may stand before an answer, as articles do: "is famous for its"
_PERSONS = ("office", "person")
_TAKE_NAMES = ("employer", "network", "owner")  # whose prompts may also ask for a time: "{} airs on", "{} works for"


@dataclass(frozen=True)
class _Reading:
    """A prompt taken apart.

    Attributes:
        text: all of it, as it is written, with `{}` for the subject.
        words: its words, without what is named below.
        at: index of `{}` in `words`.
        article: article or possessive at its end, before the answer.
        sign: currency sign at its end.
    """

    text: str
    words: tuple[str, ...]
    at: int
    article: str
    sign: str


def wordings_of(prompt: str, *, subject: str = "", target: str = "") -> Phrases | None:
    """Other wordings of a prompt whose relation is in the book; None for every other prompt, and where two relations fit.

    The wordings keep the article before the subject ("The {} costs" -> "How much does the {} cost?"), tense and number, and
    they accept the prompt's answer as it stands: a prompt that ends in "the" gets statements that end in "the".

    Args:
        prompt: template with one `{}`, or a text that names the subject.
        subject: with it, statements that would begin with a name in lower case are avoided.
        target: the answer. It decides between relations ("{} was founded in" a year or a town) and between "in" and "on".
    """
    if (reading := _read(prompt.strip(), subject)) is None:
        return None
    found = list(_fitting(reading, target.strip()))
    if len({match.relation.id for match, _ in found}) > 1:
        found = [
            item for item in found if (item[0].relation.kind == "date" if target.strip() else item[0].relation.assumed)
        ]
    if len({match.relation.id for match, _ in found}) != 1:
        return None
    match, named = max(found, key=lambda item: bool(item[0].noun))
    return fill_in(match, _form(reading, named, target.strip()), subject, target.strip())


def _read(text: str, subject: str) -> _Reading | None:
    """Take a prompt apart; None if it is too long, has not exactly one `{}`, or says more after a question."""
    if len(text) > _LONGEST:
        return None
    if subject and "{}" not in text and (mention := find_mention(text, subject)):
        text = f"{text[: mention.start]}{{}}{text[mention.end :]}"
    words = split(text)
    if text.count("{}") != 1 or len(words) < 2:
        return None
    for wrapper in book().wrappers:
        if words[: len(wrapper)] == wrapper:
            words = words[len(wrapper) :]
    if "?" in words:
        end = words.index("?")
        rest = normal(words[end + 1 :])
        if rest and rest not in book().tails:
            return None
        words = words[:end]
    sign = words.pop() if words and words[-1] in _SIGNS else ""
    if words and words[-1] == ",":
        words[-1] = ":"
    if "{}" not in words:
        return None
    return _Reading(text, tuple(words), words.index("{}"), words[-1] if words[-1] in (*ARTICLES, *_OWNED) else "", sign)


def _fitting(reading: _Reading, target: str) -> Iterator[tuple[Match, str]]:
    """What the prompt may ask for, with the subject as it is named there ("the {}", "the film {}")."""
    for start, stop in _mentions(reading, book()):
        words = (*reading.words[:start], "{}", *reading.words[stop:])
        named = " ".join(reading.words[start:stop])
        keys = {normal(words)}
        if words[-1] == ":":
            keys.add(normal(words[:-1]))
        if reading.article:
            keys.add(normal(words[:-1]))
        for key in sorted(keys):
            if key in book().loose and target and not _looks_like_a_place(f"{reading.article} {target}".strip()):
                continue
            exact = key.endswith((" the", " a"))
            for match in book().matches(key):
                if _accepts(match.relation, reading, target, exact):
                    yield match, named


def _mentions(reading: _Reading, known: Book) -> Iterator[tuple[int, int]]:
    """The words that may belong to the subject: "{}", "the {}", "the {} team", "the film {}", "the city of {}", "{} airport" before "'s"."""
    words, at = reading.words, reading.at
    if at >= 1 and words[at - 1] in DETERMINERS:
        yield at - 1, at + 1
        if at + 1 < len(words) and words[at + 1] in known.things:
            yield at - 1, at + 2
        return
    yield at, at + 1
    if at + 2 < len(words) and words[at + 2] == "'s" and is_noun(words[at + 1]):
        yield at, at + 2
    if at >= 2 and words[at - 2] in DETERMINERS and words[at - 1] in known.things:
        yield at - 2, at + 1
    if at >= 3 and words[at - 3] in DETERMINERS and words[at - 2] in known.places and words[at - 1] == "of":
        yield at - 3, at + 1


def _accepts(relation: Relation, reading: _Reading, target: str, exact: bool) -> bool:
    """Whether a relation can have this answer after this end of the prompt; `exact`: its pattern has the article, too."""
    if reading.sign and not relation.symbols:
        return False
    if reading.article and not exact:
        allowed = relation.the if reading.article == "the" else reading.article in ARTICLES and relation.kind_statements
        if not allowed:
            return False
    if not target:
        return True
    first = target.split()[0]
    if first in _PREDICATES or (first in ("a", "an") and relation.kind in _PERSONS):
        return False
    if relation.kind == "date":
        return is_dated(target) and (relation.weekdays or not is_weekday(target))
    if relation.id in _TAKE_NAMES and (is_weekday(target) or is_duration(target)):
        return False
    return relation.kind != "place" or not time_of(target)[0]


def _looks_like_a_place(target: str) -> bool:
    """Whether a target is written like a place: "Berlin", "the cellar" or "room 3", but not "beta", "German" or "US dollars"."""
    words = split(target)
    named = not target[0].islower() or words[0] in DETERMINERS or any(character.isdecimal() for character in target)
    return named and book().no_places.isdisjoint(words)


def _form(reading: _Reading, named: str, target: str) -> Form:
    words, known = reading.words, book()
    start = reading.at - named.split().index("{}")
    stop = start + len(named.split())
    has_auxiliary = not _AUXILIARIES.isdisjoint(words)
    verbs = {
        word for word, after in zip(words, (*words[1:], ""), strict=True) if after != "by"
    }  # "made by" is no tense
    past = not _PAST.isdisjoint(words) or (not has_auxiliary and not known.pasts.isdisjoint(verbs))
    ahead, after = "".join(words[start - 1 : start]), "".join(words[stop : stop + 1])
    heads = ahead not in PREPOSITIONS  # in "the hours of {} are" the verb belongs to the hours
    alone = _AUXILIARIES.isdisjoint(words[:start])  # in "does {} have" the verb says nothing about the number
    plural = ahead in _PLURAL_BEFORE or (heads and (after in _PLURAL_AFTER or (alone and after in known.plurals)))
    time = time_of(target, words[-1])
    return Form(named, past, plural, time, words[0] == "{}", reading.article, reading.sign)


def general_wordings_of(prompt: str, *, subject: str = "", target: str = "") -> Phrases | None:
    """Wordings of a prompt that calls its relation by any noun or verb: "The chief engineer of {} is" -> "Who is the chief engineer of {}?",
    "{} ships from" -> "Where does {} ship from?".

    They are plainer than those of `wordings_of`, which is to be asked first. None for a prompt that is worded in another way.

    Args:
        prompt, subject, target: as for `wordings_of`.
    """
    reading, target = _read(prompt.strip(), subject), target.strip()
    if reading is None or reading.sign or _PREDICATES.intersection(target.split()[:1]):
        return None
    for start, stop in _mentions(reading, book()):
        named = " ".join(reading.words[start:stop])
        words = (*reading.words[:start], "{}", *reading.words[stop:])
        past, plural = not _PAST.isdisjoint(words), not _PLURAL_AFTER.isdisjoint(words)
        form = Form(named, past, plural, opens=words[0] == "{}", article=reading.article)
        asked = general_relation(normal(_without_amount(words[:-1] if reading.article else words, target)))
        if asked and (noun := find_mention(prompt, asked.noun)):
            return fill_in(asked.match(inside(prompt)[noun.start : noun.end], target), form, subject, target)
    text = reading.text.removesuffix(reading.article).rstrip() if reading.article else reading.text
    is_place = bool(target) and _looks_like_a_place(f"{reading.article} {target}".strip())
    match = relation_of_question(text, target) or relation_of_clause(text, target, is_place=is_place)
    form = Form("{}", False, False, opens=not is_question(text), article=reading.article)
    return match and fill_in(match, form, subject, target)


def _without_amount(words: Sequence[str], target: str) -> Sequence[str]:
    """The words of a prompt without "about" and the like before an amount: "The half-life of {} is about"."""
    kept = without_hedges(words, target) if is_amount(target) else words
    return kept if kept[-1] in ("is", "was") else words


def made_questions(fact: Fact) -> list[str]:
    """The questions among a fact's phrasings, with its subject filled in, that were made by `general_wordings_of`."""
    asked = {"subject": fact.subject, "target": fact.target}
    if wordings_of(fact.prompt, **asked) or not (made := general_wordings_of(fact.prompt, **asked)):
        return []
    return [question.replace("{}", fact.subject) for question in made.questions if question in fact.phrasings]
