"""Facts about the real world that ship with bluedit, each with a counterfactual target to edit towards.

The facts are in `world.toml` beside this file. They are for demonstrations, tests and benchmarks when no data set is at hand.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import islice
from random import Random
from types import MappingProxyType

from bluedit.errors import FactError, did_you_mean
from bluedit.facts.fact import Fact
from bluedit.facts.probe import Neighbour


@dataclass(frozen=True)
class Relation:
    """One kind of fact, e.g. country -> capital.

    Attributes:
        id: short name, e.g. "country-capital".
        prompt: template with one `{}` for the subject, ending just before the answer.
        paraphrases: other such templates.
        facts: subject -> true answer. The answers exclude each other, so any other answer is false for a subject.
    """

    id: str
    prompt: str
    paraphrases: tuple[str, ...]
    facts: Mapping[str, str] = field(hash=False, repr=False)

    @property
    def objects(self) -> tuple[str, ...]:
        """The different answers, in the order of the file."""
        return tuple(dict.fromkeys(self.facts.values()))


@cache
def relations() -> tuple[Relation, ...]:
    """All bundled relations, in the order of `world.toml` (read once)."""
    rows = tomllib.loads(files("bluedit.facts").joinpath("world.toml").read_text(encoding="utf-8"))["relation"]
    return tuple(
        Relation(row["id"], row["prompt"], tuple(row["paraphrases"]), MappingProxyType(row["facts"])) for row in rows
    )


def world_facts(
    count: int | None = None, *, seed: int = 0, relations: Sequence[str] | None = None, neighbours: int = 3
) -> list[Fact]:
    """A seeded sample of counterfactual edits, spread evenly over the relations.

    The same arguments always give the same facts, in the same order; a smaller `count` gives the first of the same
    edits (their neighbours may differ). No subject occurs twice, even in different relations: two edits of one subject
    disturb each other. `target` is a false answer of the same relation, `old_target` the true one, and `id` is
    "relation/subject".

    Args:
        count: how many facts; None for as many as there are.
        seed: picks the facts, their targets and their neighbours.
        relations: ids of the relations to draw from; None for all.
        neighbours: the most neighbours per fact. Those with the same true answer come first. A prompt that another of
            the returned facts edits is never a neighbour, so a sample of nearly everything has fewer of them.

    Raises:
        FactError: an unknown relation or none, a count below 1 or above the number of different subjects, or a
            negative number of neighbours.
    """
    chosen = _choose(relations)
    if count is not None and count < 1:
        raise FactError(f"count is {count}; ask for at least 1 fact, or leave it out for all of them")
    if neighbours < 0:
        raise FactError(f"neighbours is {neighbours}; ask for 0 or more per fact")
    drawn = list(islice(_draw(chosen, seed), count))
    if count is not None and count > len(drawn):
        raise FactError(
            f"{count} facts were asked for, but the bundled relations ({', '.join(r.id for r in chosen)}) have only "
            f"{len(drawn)} different subjects; ask for at most {len(drawn)}"
        )
    edited = {(relation.id, subject) for relation, subject in drawn}
    return [_fact(relation, subject, seed, neighbours, edited) for relation, subject in drawn]


def _choose(ids: Sequence[str] | None) -> list[Relation]:
    """The relations with these ids, each once."""
    known = {relation.id: relation for relation in relations()}
    wanted = list(known if ids is None else dict.fromkeys(ids))
    if not wanted:
        raise FactError(f"no relation was named; {did_you_mean('', known)}")
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise FactError("\n".join(f"unknown relation {name!r}; {did_you_mean(name, known)}" for name in unknown))
    return [known[name] for name in wanted]


def _draw(chosen: Sequence[Relation], seed: int) -> Iterator[tuple[Relation, str]]:
    """Every different subject once: one from each relation in turn, until all are exhausted."""
    turns = Random(seed).sample(chosen, len(chosen))
    queues = [(relation, iter(_shuffled(relation.facts, f"{seed}/{relation.id}"))) for relation in turns]
    used: set[str] = set()
    while queues:
        remaining = []
        for relation, queue in queues:
            subject = next((s for s in queue if s not in used), None)
            if subject is not None:
                used.add(subject)
                remaining.append((relation, queue))
                yield relation, subject
        queues = remaining


def _fact(relation: Relation, subject: str, seed: int, neighbours: int, edited: set[tuple[str, str]]) -> Fact:
    """The edit of one subject. Its target depends on the seed and its id alone; `edited` prompts are no neighbours."""
    name, truth = f"{relation.id}/{subject}", relation.facts[subject]
    near = [s for s in _shuffled(relation.facts, f"{seed}/{name}/neighbours") if (relation.id, s) not in edited]
    near.sort(key=lambda s: relation.facts[s] != truth)
    return Fact(
        prompt=relation.prompt,
        subject=subject,
        target=Random(f"{seed}/{name}").choice([o for o in relation.objects if o != truth]),
        old_target=truth,
        paraphrases=[template.replace("{}", subject) for template in relation.paraphrases],
        neighbours=[Neighbour(relation.prompt.replace("{}", s), relation.facts[s]) for s in near[:neighbours]],
        id=name,
    )


def _shuffled(items: Mapping[str, str], seed: str) -> list[str]:
    """The keys in a seeded order (text seeds are hashed by value, so they do not change between runs)."""
    return Random(seed).sample(list(items), len(items))
