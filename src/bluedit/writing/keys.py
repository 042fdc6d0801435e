"""Keys and values of facts, read at the subject's last token of their prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from bluedit.facts.fact import Fact
from bluedit.forward import RisingKeys, observe
from bluedit.methods.recipe import Recipe
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Place, Site
from bluedit.model.sums import sum_by_owner
from bluedit.shapes import Float, Tensor
from bluedit.text.prompts import drift_row, other_rows, teacher_ids
from bluedit.text.rows import Repeat, Row, measured_rows
from bluedit.text.wordings import chat_form, wording_rows
from bluedit.writing.target import Targets


class KeyPlace(NamedTuple):
    """Where in its texts the keys of a column are read.

    Attributes:
        after: at the token after the subject, not at its last one.
        word: the tokens of the subject's last word there; empty for any.
    """

    after: bool
    word: tuple[int, ...] = ()

    @classmethod
    def of(cls, row: Row, *, spellings: bool) -> KeyPlace:
        """The place in a row; with `spellings`, and for another name of the subject, by the tokens of its last word."""
        if row.at_start and row.target_start > 1:
            return cls(after=True)
        return cls(after=False, word=row.word if spellings or row.name else ())


@dataclass(frozen=True)
class BatchRows:
    """The rows of a batch.

    Attributes:
        facts: what they teach.
        rows: prompts and drift rows; `Row.fact` is the column of K and R.
        owners: for each column the indices of its facts.
        places: for each column where its keys are read.
    """

    facts: tuple[Fact, ...]
    rows: tuple[Row, ...]
    owners: tuple[tuple[int, ...], ...]
    places: tuple[KeyPlace, ...]

    @property
    def n(self) -> int:
        """Number of columns."""
        return len(self.owners)

    @property
    def after_subject(self) -> frozenset[int]:
        """Columns whose keys are read at the token after the subject. Such keys resemble each other, so one least-squares write delivers a
        small part of their residuals."""
        return frozenset(column for column, place in enumerate(self.places) if place.after)

    @property
    def columns(self) -> list[tuple[tuple[int, ...], KeyPlace]]:
        """What tells each column from the others: its facts, and where its keys are read."""
        return list(zip(self.owners, self.places, strict=True))

    def owners_of(self, columns: Iterable[int]) -> list[int]:
        """Indices of the facts of some columns, each once."""
        return list(dict.fromkeys(i for column in columns for i in self.owners[column]))


def batch_rows(tokenizer: Any, facts: Sequence[Fact], prefixes: Sequence[str], recipe: Recipe) -> BatchRows:
    """All rows of a batch. Facts that share a column have one drift row.

    The first token of a text is an attention sink: its hidden state is some eight times longer than others and nearly the same in every
    text. Nothing can be stored under its key. So where a subject is just that token, the text is written at the token after it, in a
    column of its own with a target of its own, and the fact's first column is that of its other texts.

    At the beginning of a text or after a quote, many tokenizers make other tokens of a word than after a space. Where those of the subject's
    last word differ, the keys do, and a target stored under one is not found under the other. `subjects.spellings` gives each a column.
    So does another name of the subject in a phrasing.
    """
    columns, spellings = recipe.subjects.columns(facts), recipe.subjects.spellings
    owners: list[list[int]] = [[] for _ in range(1 + max(columns))]
    of_subject: dict[int, dict[KeyPlace, int]] = {}  # the columns of each; the first one is the subject's own
    rows: list[Row] = []
    with_drift: set[int] = set()
    chat = chat_form(tokenizer)
    for i, (fact, subject) in enumerate(zip(facts, columns, strict=True)):
        groups, before = recipe.wordings.groups(fact, chat), [fact.named_in(prefix) for prefix in prefixes]
        texts = wording_rows(tokenizer, groups, fact.subject, subject, before)
        if recipe.objective.teacher:
            told = fact.statement, fact.text
            texts = [replace(row, teacher=teacher_ids(tokenizer, *told, row)) if row.is_bare else row for row in texts]
        places = [KeyPlace.of(row, spellings=spellings) for row in texts]
        names = {place: row.name for row, place in zip(reversed(texts), reversed(places), strict=True)}
        own_name = (place for row, place in zip(texts, places, strict=True) if not place.after and not row.name)
        first = next(own_name, places[0])
        own = of_subject.setdefault(subject, {first: subject})
        for place in dict.fromkeys(places):
            if place not in own:
                own[place] = len(owners)
                owners.append([])
            owners[own[place]].append(i)
        among = columns[:i].count(subject) if recipe.wordings.weighs_facts else 0
        for row, place in zip(texts, places, strict=True):
            subject_last = row.subject_last + place.after
            again = _with_columns(row, own, spellings=spellings)
            rows.append(replace(row, fact=own[place], subject_last=subject_last, among=among, again=again))
        for place, column in own.items():
            if column not in with_drift:
                with_drift.add(column)
                name = names.get(place) or fact.subject
                rows.append(drift_row(tokenizer, name, column, earliest=int(place.after)))
                rows += other_rows(tokenizer, name, column, recipe.objective.others)
    known = {column: place for own in of_subject.values() for place, column in own.items()}
    own_places = tuple(known[column] for column in range(len(owners)))
    return BatchRows(tuple(facts), tuple(rows), tuple(map(tuple, owners)), own_places)


def _with_columns(row: Row, own: Mapping[KeyPlace, int], *, spellings: bool) -> tuple[Repeat, ...]:
    """The later mentions of a row's subject that have a column among its subject's."""
    any_word = None if spellings else own.get(KeyPlace(after=False))
    found = [(m, own.get(KeyPlace(after=False, word=m.word), any_word)) for m in row.again]
    return tuple(m._replace(column=column) for m, column in found if column is not None)


def key_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows at whose subject's last token keys are read: all but drift rows, and each once more for every later mention in it."""
    prompts = [row for row in rows if not row.is_drift]
    again = [
        replace(row, fact=m.column, subject_last=m.at, word=m.word, again=()) for row in prompts for m in row.again
    ]
    return prompts + again


def read_keys(
    lm: EditableModel, rows: Sequence[Row], layers: Sequence[int], n: int
) -> dict[int, Float[Tensor, "d_key n"]]:
    """Keys of n facts at these layers on the weights as they are, from one pass."""
    prompts = key_rows(rows)
    seen = observe(lm, prompts, [Site(Place.KEY, layer) for layer in layers])
    return {layer: average_keys(prompts, seen[Site(Place.KEY, layer)], n) for layer in layers}


def keys_after(lm: EditableModel, batch_of: BatchRows, layers: Sequence[int]) -> dict[int, Float[Tensor, "d_key n"]]:
    """The keys of a batch on the weights as they are, by layer, in main memory."""
    keys = read_keys(lm, batch_of.rows, layers, batch_of.n)
    return {layer: found.cpu() for layer, found in keys.items()}


class WrittenKeys:
    """The keys of a batch while it is written: as they are when a layer is, and after all of it."""

    def __init__(self, lm: EditableModel, batch_of: BatchRows, recipe: Recipe) -> None:
        self.lm, self.batch_of, self.recipe = lm, batch_of, recipe
        self._rows = key_rows(batch_of.rows)
        self._rising = RisingKeys(lm, self._rows)
        self._read: list[tuple[int, Float[Tensor, "d_key n"]]] = []

    def read(self, layer: int) -> Float[Tensor, "d_key n"]:
        """The keys of a layer that is written next; nothing below the last one may have changed since."""
        keys = average_keys(self._rows, self._rising.read(layer), self.batch_of.n)
        self._read.append((layer, keys))
        return keys

    def after(self) -> dict[int, Float[Tensor, "d_key n"]]:
        """The keys on the weights as they are now, by layer, in main memory.

        A layer's keys depend on the layers below it. So where layers were written upwards, each once, and nothing was filtered afterwards,
        they are those that were read before the write.
        """
        layers = [layer for layer, _ in self._read]
        upwards = layers == sorted(set(layers)) and set(layers) == set(self.recipe.written)
        if not upwards or self.recipe.update.batch_filters:
            return keys_after(self.lm, self.batch_of, self.recipe.written)
        return {layer: keys.cpu() for layer, keys in self._read}


def read_values(lm: EditableModel, rows: Sequence[Row], site: Site, n: int) -> Float[Tensor, "d_value n"]:
    """The value of each column at a site on the weights as they are: that of its bare prompt."""
    return read_moved_values(lm, rows, [site], n, {})[site]


def from_all_texts(
    lm: EditableModel, found: Targets, rows: Sequence[Row], site: Site, columns: Sequence[int]
) -> Targets:
    """Targets as seen from their columns' values in all texts. An evaluation of `objective.rotate` starts from some of them only."""
    start = read_values(lm, rows, site, 1 + max(columns))[:, list(columns)]
    return replace(found, z=start + (found.z - found.start), start=start)


def read_moved_values(
    lm: EditableModel,
    rows: Sequence[Row],
    sites: Sequence[Site],
    n: int,
    added: Mapping[Site, Float[Tensor, "d_value n"]],
) -> dict[Site, Float[Tensor, "d_value n"]]:
    """As `read_values` at several sites, with vectors added at others."""
    measured = {i for own in measured_rows(rows).values() for i in own}
    chosen = [row for i, row in enumerate(rows) if i in measured]
    owner = [row.fact for row in chosen]
    seen = observe(lm, chosen, sites, {site: vectors[:, owner].T for site, vectors in added.items()})
    return {site: average_values(chosen, seen[site], n) for site in sites}


def read_written_values(lm: EditableModel, rows: Sequence[Row], site: Site, n: int) -> Float[Tensor, "d_value n"]:
    """W k (and the bias) of each fact for its averaged key: the projection is linear, so its outputs average as its inputs do."""
    prompts = key_rows(rows)
    return average_keys(prompts, observe(lm, prompts, [site])[site], n)


def average_keys(rows: Sequence[Row], activations: Float[Tensor, "rows d_key"], n: int) -> Float[Tensor, "d_key n"]:
    """Half the bare prompt's key, half the mean over the prefixed ones; one kind alone where a column lacks the other.

    Other wordings are groups of their own, and the key is the mean over groups. Where facts share a subject without them (MEMIT-Merge),
    "the bare prompt's" is the mean over theirs.
    """
    kinds: dict[tuple[int, int, int], set[str]] = {}
    groups: dict[int, set[tuple[int, int, int]]] = {}
    for row in rows:
        if not row.is_drift:
            kinds.setdefault(row.family, set()).add(row.kind)
            groups.setdefault(row.fact, set()).add(row.family)
    shares = [0.0 if r.is_drift else 1 / len(kinds[r.family]) / len(groups[r.fact]) for r in rows]
    return _average(rows, activations, n, shares)


def average_values(
    rows: Sequence[Row], activations: Float[Tensor, "rows d_value"], n: int
) -> Float[Tensor, "d_value n"]:
    """The mean over the rows of each column."""
    groups = Counter({row.fact: 0 for row in rows})
    for column, *_ in {row.family for row in rows}:
        groups[column] += 1
    return _average(rows, activations, n, [1 / groups[row.fact] for row in rows])


def _average(rows: Sequence[Row], activations: Tensor, n: int, shares: Sequence[float]) -> Tensor:
    """Weighted sums by column; the share of a kind is divided among the rows of that kind in a group."""
    count = Counter((row.family, row.kind) for row in rows)
    weights = [share / count[row.family, row.kind] for row, share in zip(rows, shares, strict=True)]
    owner = torch.tensor([row.fact for row in rows], device=activations.device)
    weight = torch.tensor(weights, device=activations.device, dtype=activations.dtype)
    sums = sum_by_owner(activations * weight[:, None], owner, n)
    # with the strides that a file gives back, for one fact too: products of other strides may round otherwise
    return sums.T.clone(memory_format=torch.contiguous_format)
