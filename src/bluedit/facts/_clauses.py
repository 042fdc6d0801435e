"""Questions for prompts that go on with a verb: "{} ships from", "Visiting hours on {} end at", "The fraud team of {} is led by"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bluedit.facts._dates import counted, is_amount, is_clock, is_duration, is_number, is_part_of_time, time_of
from bluedit.facts._grammar import (
    BE,
    DETERMINERS,
    DO,
    MODALS,
    MOST_WORDS,
    PARTICIPLE,
    PLAIN,
    PLURAL,
    RELATIVES,
    THIRD_PERSON,
    general_words,
    head_of,
    infinitive,
    is_noun,
    is_perfect,
    is_plural,
    is_somebody,
    looks_like_a_name,
    may_be_verb,
    may_end,
    names_something,
    prepositions,
    says_the_kind,
    verb_after_name,
    verb_after_noun,
    words_of,
)
from bluedit.facts._phrase_book import ARTICLES, Match, Relation

_MOST_DESCRIBED = 10
_ANYBODY = ("nobody", "everybody", "everyone", "anyone", "you", "we", "one")
_AT, _WHERE = ("in", "at", "on", "near"), ("from", "to")  # asked with where or when; asked with where
_HOW = {
    "": "How long",
    "for": "How long",
    "in": "How quickly",
    "within": "How soon",
    "every": "How often",
}  # before a length of time
_DESCRIBED_AS = {
    "Who": "The one that",
    "What": "What",
    "How much": "What",
    "Where": "The place where",
    "When": "The time when",
}
_WHICH = re.compile(r"(?:(\w+) which|Which) (.+)")  # "On which port", "Which line"
_SIGNS = ("$", "€", "£", "¥", "₹")
_REGULAR_PAST = re.compile(r"[a-z]{2,}ed")


@dataclass(frozen=True)
class _Clause:
    """A prompt taken apart.

    Attributes:
        named: what the sentence is about, with the subject in it: "visiting hours on {}".
        verb: its verb as written: "end".
        auxiliary: what stands before `named` in a question; empty where a direct question would need another form of the verb.
        infinitive: the verb after `named` in a question with "do"; empty where `auxiliary` is the verb itself.
        rest: the words between verb and answer: "at".
        setting: what the prompt says before all of this, up to a comma: "on Sundays".
    """

    named: str
    verb: str
    auxiliary: str
    infinitive: str
    rest: tuple[str, ...]
    setting: str = ""

    def questions(self, target: str, *, is_place: bool) -> Iterator[str]:
        """The direct question, if there is one, and the indirect one, which leaves the verb as it is."""
        ask, rest = _asked(self, target, is_place=is_place)
        if self.auxiliary:
            yield _question(ask, self.auxiliary, self.named, self.infinitive, *rest, self.setting)
        yield _question("Can you tell me", ask[0].lower() + ask[1:], self.named, self.verb, *rest, self.setting)

    def statement(self, target: str, *, is_place: bool) -> str:
        """The prompt as what its answer is: "What the drug {} is used to treat is", "The time when {} opens is"; empty where that reads badly."""
        ask, rest = _asked(self, target, is_place=is_place)
        begins = _DESCRIBED_AS.get(ask, "")
        if which := _WHICH.fullmatch(ask):
            ahead, noun = which.groups()
            begins = f"The {noun} {ahead.lower()} which" if ahead else f"The {noun} that"
        if not begins or (self.verb in BE and not rest):
            return ""
        return " ".join(filter(None, (begins, self.named, self.verb, *rest, self.setting, "is")))


def _question(*words: str) -> str:
    return " ".join(filter(None, words)) + "?"


def relation_of_clause(text: str, target: str, *, is_place: bool) -> Match | None:
    """A relation for a prompt that is a sentence without its last words; None for one that cannot be taken apart.

    Args:
        text: the prompt with `{}` for the subject, without an article at its end.
        target: the answer, which decides between question words.
        is_place: whether the answer is written like a place.
    """
    if any(mark in text for mark in "?;<>") or (clause := _clause_in_setting(text)) is None:
        return None
    bare = clause.verb in BE and clause.rest and len(without_hedges((clause.verb, *clause.rest), target)) == 1
    if bare and not counted(target):  # "is at least"
        return None
    sentence = inside(text)
    more = [template.replace("<statement>", sentence) for template in general_words()["verb_statements"]]
    described = clause.statement(target, is_place=is_place)
    return Match(
        Relation(
            f"general: {text}",
            statements=(text, *filter(None, (described,)), *more),
            questions=tuple(dict.fromkeys(clause.questions(target, is_place=is_place))),
        )
    )


def _clause_in_setting(text: str) -> _Clause | None:
    """A prompt taken apart that may begin with where or when it holds: "On Sundays, {} closes at", "In {}, glass is collected every"."""
    setting, comma, main = text.partition(", ")
    if not comma:
        return _clause(text) or _described(text)
    if "," in main or setting.partition(" ")[0].casefold() not in prepositions():
        return None
    setting = inside(setting)
    if "{}" in main:
        found = _clause(main) or _described(main)
        return found and replace(found, setting=setting)
    words = main.split()
    if setting.partition(" ")[0] not in (*_AT, "inside", "around", "under") or words[0] in _ANYBODY:
        return None
    verb = next((i for i, word in enumerate(words) if word in BE or word in MODALS), 0)
    return _clause(" ".join((*words[:verb], setting, *words[verb:]))) if verb else None


def _described(text: str) -> _Clause | None:
    """A prompt that describes what it asks for: "The river that runs through {} is", "The version of {} we use is"."""
    *words, verb = text.split()
    at = words.index("{}") if "{}" in words else 0
    ahead = [word.casefold() for word in words[:at]]
    if not at or verb not in BE or ahead[0] not in DETERMINERS or not {*BE, *MODALS}.isdisjoint(words):
        return None
    inner = [word for word in ahead if word not in DETERMINERS]
    joins = words_of("joins")
    noun, before = ("", "", *inner)[-2:]
    governed = before in prepositions() and noun not in joins | words_of("no_nouns")  # "trips to {}"
    does = before.endswith("ing")  # "the region hosting {}"
    clause = not RELATIVES.isdisjoint(inner)  # "the river that runs"
    goes_on = at + 1 < len(words) and not joins.isdisjoint(inner)  # "the version of {} we use"
    if len(words) > _MOST_DESCRIBED or not (governed or does or clause or goes_on):
        return None
    return _Clause(inside(" ".join(words)), verb, verb, "", ())


def _clause(text: str) -> _Clause | None:
    words = text.replace("{}'s", "{} 's").replace("{}’s", "{} 's").split()
    at = words.index("{}") if "{}" in words else -1
    ahead, after = words[:at], words[at + 1 :]
    if at < 0 or not after or not names_something(ahead):
        return None
    if after[0] == "'s":
        if (end := verb_after_noun(after)) is None:
            return None
        named, after = f"{' '.join((*ahead, '{}'))}{' '.join(after[:end])}", after[end:]
        plural = PLURAL.fullmatch(named.split()[-1]) is not None
    else:
        end = verb_after_name(after)
        plural = is_plural(ahead) or (end > 0 and PLURAL.fullmatch(after[end - 1]) is not None)
        named, after = " ".join((*ahead, "{}", *after[:end])), after[end:]
    verb, *rest = after
    forbidden = words_of("no_nouns") - words_of("joins") - words_of("ends") - words_of("helpers")
    if len(rest) > MOST_WORDS or not forbidden.isdisjoint(word.casefold() for word in rest):
        return None
    passive = verb in BE and rest and PARTICIPLE.fullmatch(rest[-1])
    asks_what = verb in MODALS and rest and may_be_verb(rest[-1]) and rest[:-1] in ([], ["not"])  # "must have"
    if rest and not (passive or asks_what or may_end(rest)):
        return None
    parts = _parts(verb, rest, plural=plural, described=len(ahead) > 1 and not says_the_kind(ahead))
    return None if parts is None else _Clause(inside(named), verb, *parts, tuple(rest))


def inside(text: str) -> str:
    """A text as it stands inside a sentence: without the capital letter of an article, a preposition or a noun at its beginning."""
    first, _, following = text.partition(" ")
    noun = first[1:].islower() and first.replace("-", "").isalpha() and following[:1].islower()
    little = first.casefold() in DETERMINERS | prepositions()
    return text[0].lower() + text[1:] if noun or little else text


def _parts(verb: str, rest: Sequence[str], *, plural: bool, described: bool) -> tuple[str, str] | None:
    """Auxiliary and infinitive of a question; None for a word that is no verb, or one that says too little."""
    if verb in BE:
        says_enough = len(rest) > 1 or bool(
            rest and (rest[-1] in words_of("classes") or rest[-1] == "worth" or PARTICIPLE.fullmatch(rest[-1]))
        )
        return (verb, "") if says_enough or (described and not rest) else None
    if verb in MODALS:
        return (verb, "") if rest else None
    if verb in DO:
        return (verb, "") if rest[:1] == ["not"] else None
    if verb in ("has", "have") and rest and is_perfect(rest):
        return verb, ""
    if verb == "has":
        return ("does", "have") if rest else None
    if verb in words_of("no_verbs") | words_of("adverbs") or (not rest and verb in words_of("linking")):
        return None
    if plural and verb in words_of("alike"):
        return "do", verb
    if THIRD_PERSON.fullmatch(verb):
        return "does", infinitive(verb)
    if verb in words_of("pasts") | words_of("alike") or (
        _REGULAR_PAST.fullmatch(verb) and verb not in words_of("participles")
    ):
        return None if rest[:1] == ["by"] else ("", "")
    return ("do", verb) if plural and PLAIN.fullmatch(verb) and verb not in words_of("ends") else None


def _asked(clause: _Clause, target: str, *, is_place: bool) -> tuple[str, tuple[str, ...]]:
    """The question's first words, and what stays of the words before the answer."""
    rest, ask = without_hedges((clause.verb, *clause.rest), target)[1:], general_words()["ask"]
    last = rest[-1] if rest and not (clause.verb in MODALS and len(rest) == 1) else ""
    if last in words_of("classes"):
        ahead = rest[-2] if len(rest) > 1 else ""
        if ahead in words_of("ends"):
            return f"{ahead.capitalize()} which {last}", tuple(rest[:-2])
        kind = f"{ahead} {last}" if is_noun(ahead) else last  # "shirt number"
        return f"Which {kind}", tuple(rest[: -2 if kind != last or ahead in ARTICLES else -1])
    lasts = last or clause.verb in (*BE, *MODALS) or clause.verb in words_of("lasting")
    if last in _HOW and (last == "every" or (is_duration(target) and lasts)):
        return _HOW[last], tuple(rest[:-1])
    if not last and clause.verb in words_of("amounts") and (is_amount(target) or target in ("nothing", "")):
        return "How much", ()
    if last in ("", "by", "worth") and (things := counted(target)):
        return f"{'By how' if last == 'by' else 'How'} many {things}", tuple(rest[:-1] if last == "by" else rest)
    timed = bool(time_of(target)[0]) or is_clock(target) or is_part_of_time(target)
    if last in words_of("times"):
        return f"{last.capitalize()} {'when' if timed else 'what'}", tuple(rest[:-1])
    if last in _AT and timed:
        return ask["date"], tuple(rest[:-1])
    if last == "by" and timed:
        return "By when", tuple(rest[:-1])
    if last == "at" and "degree" in target:
        return "At what temperature", tuple(rest[:-1])
    said = {clause.verb, *rest}
    is_place = is_place and target[:1] not in _SIGNS and not (last in ("at", *_WHERE) and is_number(target))
    if last in _AT and is_place and said.isdisjoint(words_of("at_things")):
        return ask["place"], tuple(rest[:-1])
    if last in _WHERE and is_place and not said.isdisjoint(words_of("motions")):
        return ask["place"], tuple(rest)
    by = last == "by" and said.isdisjoint(words_of("by_things"))
    person = looks_like_a_name(target) and (by or clause.verb in words_of("to_somebody"))
    if not rest and clause.verb in BE:
        person = is_somebody(head_of(clause.named.split()), target)
    return ask["person" if person else "thing"], tuple(rest)


def without_hedges(words: Sequence[str], target: str) -> list[str]:
    """Words before an answer without "about", "at least" and the like at their end, which a question leaves out; at least one word stays.

    What "is about" or "goes over" something that is no amount is about it, or goes over it, and who "presides over" two courts does that.
    """
    kept = list(words)
    while len(kept) > 1:
        size = next((n for n in (3, 2, 1) if n < len(kept) and " ".join(kept[-n:]) in words_of("hedges")), 0)
        keeps = kept[-1] in words_of("ends") and (not is_amount(target) or kept[-1 - size] in words_of("about_things"))
        if not size or (kept[-size:] != ["a", "total", "of"] and keeps):
            break
        del kept[-size:]
    return kept
