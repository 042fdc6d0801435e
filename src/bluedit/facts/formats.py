"""The formats of fact files. Each is a row of `FORMATS` with the function that turns a record into facts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from itertools import islice

from bluedit.errors import FactError, did_you_mean
from bluedit.facts._counterfact import read_akew, read_counterfact, read_mquake
from bluedit.facts._easyedit import read_easyedit, read_wikibio
from bluedit.facts._fields import Fields
from bluedit.facts._known import read_known
from bluedit.facts._questions import read_hallueditbench, read_unke, read_wikibigedit
from bluedit.facts._rippleedits import CRITERIA, read_rippleedits
from bluedit.facts._zsre import is_mzsre, read_mzsre, read_zsre
from bluedit.facts.fact import Fact
from bluedit.facts.records import ALIASES, KEYS, OPTIONAL, REQUIRED, csv_fact, own_fact

COLUMNS = tuple(key for key in (*KEYS, *ALIASES) if key != "probes")
_TELLING = 20  # records that are asked for their format

Record = Mapping[str, object]


@dataclass(frozen=True)
class Format:
    """One way of writing facts down.

    Attributes:
        name: its name for `read_facts(format=...)`.
        description: one sentence for help texts.
        needs: the keys without which a record cannot be of this format; "a|b" is either.
        convert: one record to its facts, or none if it has nothing to teach. Raises a FactError with all faults of the record.
        others: more keys of the format; all keys together tell how near an unknown record is to it.
        test: how a record is recognised, if not by having all needed keys.
        layouts: how the records of a file may be stored, "json" (also JSONL and data sets of the hub) or "csv".
        aliases: other names for it.
        variant: makes the conversion for "name:variant", if the format has variants.
        own_keys: whether bluedit's own optional keys are read as well.
    """

    name: str
    description: str
    needs: tuple[str, ...]
    convert: Callable[[Fields], list[Fact]]
    others: tuple[str, ...] = ()
    test: Callable[[Record], bool] | None = None
    layouts: tuple[str, ...] = ("json",)
    aliases: tuple[str, ...] = ()
    variant: Callable[[str], Callable[[Fields], list[Fact]]] | None = None
    own_keys: bool = False

    @property
    def keys(self) -> frozenset[str]:
        """All keys that are known to belong to the format."""
        return frozenset(self.others).union(*(need.split("|") for need in self.needs))

    def recognises(self, record: Record) -> bool:
        """Whether a record is of this format."""
        return self.test(record) if self.test else not self.missing(record)

    def missing(self, record: Iterable[object]) -> list[str]:
        """Which of the needed keys a record lacks."""
        present = set(record)
        return [key for key in self.needs if present.isdisjoint(key.split("|"))]

    def nearness(self, keys: Iterable[str]) -> tuple[float, int]:
        """Larger for records that are nearer: the share of needed keys that are there, then how many keys are known at all.

        A key that is nearly right counts half.
        """
        keys = list(keys)
        present = sum(max(_alike(one, keys) for one in need.split("|")) for need in self.needs)
        return present / max(1, len(self.needs)), len(self.keys.intersection(keys))

    def unread(self, fields: Fields) -> list[str]:
        """A fault for each of bluedit's own optional keys that a record has, if the format does not read them."""
        given = [] if self.own_keys else [k for k in OPTIONAL if fields.has(k) and fields.record[k] not in ("", [])]
        return [
            f"{key!r} is a key of bluedit's own format, which {self.name} does not read; leave it out, or convert the file "
            "with `bluedit facts FILE --out facts.jsonl` and add it there"
            for key in given
            if key not in self.keys
        ]


def _alike(key: str, keys: list[str]) -> float:
    return 1.0 if key in keys else 0.5 * bool(get_close_matches(key, keys, 1, 0.75))


def _has_edits(record: Record) -> bool:
    return "requested_rewrite" in record and (isinstance(record["requested_rewrite"], list) or "questions" in record)


def _two_of_three(record: Record) -> bool:
    return len(set(record).intersection(REQUIRED)) >= 2


FORMATS: tuple[Format, ...] = (
    # before counterfact, whose needed key it has
    Format(
        "mquake",
        "MQuAKE (CF, CF-3k, T, Remastered) as its authors publish it: JSON with requested_rewrite (a list of edits, each of "
        "which becomes a fact), questions, new_answer, new_answer_alias and new_single_hops",
        ("requested_rewrite",),
        read_mquake,
        ("questions", "new_answer", "new_answer_alias", "new_single_hops", "single_hops", "case_id"),
        _has_edits,
    ),
    Format(
        "counterfact",
        "CounterFact as ROME and MEMIT publish it (also multi_counterfact): JSON with requested_rewrite, "
        "paraphrase_prompts, neighborhood_prompts and generation_prompts",
        ("requested_rewrite",),
        read_counterfact,
        ("paraphrase_prompts", "neighborhood_prompts", "generation_prompts", "attribute_prompts", "case_id"),
        aliases=("multi_counterfact",),
    ),
    Format(
        "easyedit",
        "CounterFact as EasyEdit publishes it: JSON or JSONL with prompt, subject, target_new, ground_truth, "
        "rephrase_prompt, locality_prompt and locality_ground_truth; KnowEdit's portability and locality become probes",
        ("prompt", "subject", "target_new"),
        read_easyedit,
        (
            "ground_truth",
            "target_old",
            "rephrase_prompt",
            "rephrase",
            "locality_prompt",
            "portability",
            "locality",
            "case_id",
        ),
        aliases=("knowedit",),
        own_keys=True,
    ),
    Format(
        "wikibio",
        "WikiBio as KnowEdit publishes it: JSON with text, labels (the sentence that goes on with it), concept and locality",
        ("text", "labels", "concept"),
        read_wikibio,
        ("locality",),
    ),
    Format(
        "zsre",
        "zsRE as MEND publishes it: JSON or JSONL with src, subject, answers, rephrase, loc and loc_ans; "
        "the model is taught answers[0], as in ROME and MEMIT",
        ("src", "subject", "answers|alt"),
        read_zsre,
        ("rephrase", "loc", "loc_ans", "pred", "cond", "portability"),
    ),
    Format(
        "mzsre",
        "MzsRE and Bi-ZsRE: JSON whose records have a language in each key and a zsRE record under it; the first language "
        "is taught alt and the others are asked; mzsre:LANGUAGE teaches another one",
        (),
        read_mzsre,
        test=lambda record: is_mzsre(dict(record)),
        aliases=("bizsre",),
        variant=lambda language: partial(read_mzsre, language=language),
    ),
    Format(
        "rippleedits",
        "RippleEdits (popular, random, recent) as its authors publish it: JSON with edit, whose prompt is a sentence, and "
        f"the tests {', '.join(CRITERIA)}",
        ("edit", "|".join(CRITERIA)),
        read_rippleedits,
        ("example_type",),
    ),
    Format(
        "wikibigedit",
        "WikiBigEdit as its authors publish it: JSON with update (a question), subject, ans, rephrase, personas, loc, loc_ans, "
        "mhop and mhop_ans",
        ("update", "subject", "ans"),
        read_wikibigedit,
        ("rephrase", "personas", "loc", "loc_ans", "mhop", "mhop_ans", "tag", "relation", "object"),
        layouts=("json", "csv"),
    ),
    Format(
        "hallueditbench",
        "HalluEditBench as its authors publish it: CSV with question, subject, object (the target), paraphrased_question, "
        "locality_question and question_2hop, answer_2hop and so on",
        ("question", "subject", "object"),
        read_hallueditbench,
        (
            "topic",
            "relation",
            "paraphrased_question",
            "locality_question",
            "yes_question",
            "question_2hop",
            "answer_2hop",
        ),
        layouts=("csv", "json"),
    ),
    Format(
        "unke",
        "UnKE as its authors publish it: JSON with question, answer (a passage, which is the target), para_question, "
        "sub_question and sub_answer; the subject is what question and answer share, unless a key subject names it",
        ("question", "answer", "para_question|sub_question"),
        read_unke,
        ("id", "sub_answer", "subject"),
    ),
    Format(
        "akew",
        "AKEW's unstructured edits: JSON with requested_rewrite and fact_new_uns (a passage, which is the target); this "
        "format has to be named, otherwise its files are read as counterfact or mquake, with their short targets",
        ("requested_rewrite",),
        read_akew,
        ("paraphrase_prompts", "case_id"),
        test=lambda _record: False,
    ),
    Format(
        "known",
        "ROME's known facts for causal tracing: JSON with prompt (the full text), subject, and the true answer as attribute",
        ("prompt", "subject", "attribute"),
        read_known,
        ("template", "prediction", "relation_id", "known_id"),
        aliases=("known_facts",),
    ),
    Format(
        "csv",
        "CSV with the columns prompt, subject and target, and optionally old_target, joined, phrasings, paraphrases, neighbours "
        "and references (several separated by ' | ' or as a JSON list, a neighbour may be 'prompt => answer') and id",
        REQUIRED,
        csv_fact,
        COLUMNS,
        _two_of_three,
        layouts=("csv",),
        own_keys=True,
    ),
    Format(
        "bluedit",
        "bluedit's own: JSON or JSONL with prompt, subject and target, and optionally old_target, joined, phrasings, "
        "paraphrases (or queries), neighbours (texts, or objects with prompt and answer), probes (objects with kind, prompt and "
        "answers), references and id",
        REQUIRED,
        own_fact,
        (*KEYS, *ALIASES),
        _two_of_three,
        aliases=("fastedit",),
        own_keys=True,
    ),
)


def formats() -> dict[str, str]:
    """The formats `read_facts` understands: name to one-sentence description."""
    return {f.name: f.description for f in FORMATS}


def named(name: str) -> Format:
    """The format with this name or alias; "mzsre:zh" is one of its variants.

    Raises:
        FactError: there is none.
    """
    table = {n: f for f in FORMATS for n in (f.name, *f.aliases)}
    base, colon, variant = name.partition(":")
    if base not in table:
        raise FactError(f"unknown format {name!r} of a fact file; {did_you_mean(base, table)}")
    found = table[base]
    if not colon:
        return found
    if found.variant is None or not variant:
        able = ", ".join(f"{f.name}:..." for f in FORMATS if f.variant)
        raise FactError(f"the format {base!r} has no variant {variant!r}; only {able} has variants")
    return dataclasses.replace(found, convert=found.variant(variant))


def recognised(record: Record, layout: str) -> Format | None:
    """The first format of this layout that knows such a record; bluedit's own if the record has all the keys that it needs.

    No other format uses those three together, so further keys of such a record are faults and do not change what is taught.
    """
    fitting = [f for f in FORMATS if layout in f.layouts and f.recognises(record)]
    own = (f for f in fitting if f.needs == REQUIRED and not f.missing(record))
    return next(own, fitting[0] if fitting else None)


def told(records: Iterable[Record], layout: str) -> Format | None:
    """The format of most of the first records that tell one; those that have all keys that their format needs go before others."""
    formats_ = ((found, not found.missing(record)) for record in records if (found := recognised(record, layout)))
    first = list(islice(formats_, _TELLING))
    votes = Counter([f for f, whole in first if whole] or [f for f, _ in first])
    return votes.most_common(1)[0][0] if votes else None


def nearest_first(keys: Iterable[str]) -> list[Format]:
    """All formats, those first whose keys are most like the given ones."""
    keys = list(keys)
    return sorted(FORMATS, key=lambda f: f.nearness(keys), reverse=True)
