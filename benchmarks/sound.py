"""What `fuzz.py` damages: small files of facts in every format, a patch, a workspace, statistics, a benchmark's folder, a tuning, a GGUF file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bluedit.benchmark.record import (
    BatchRecord,
    Configuration,
    EntryLog,
    FactRecord,
    FactRecords,
    Failure,
    FineTuned,
    Measured,
    write,
    write_configuration,
)
from bluedit.editing._history import Standing, create
from bluedit.editing._store import Store
from bluedit.editing.patch import Base, Patch, chained
from bluedit.evaluate.data import SAMPLED_TEXT, Ability, HiddenDrift, Training
from bluedit.evaluate.report import FactReport, Report
from bluedit.facts import Fact, Neighbour, Probe
from bluedit.facts.records import fact_record
from bluedit.methods.filters import Sparsify
from bluedit.methods.tuning_file import TuningFile
from bluedit.methods.tunings import Tuning
from bluedit.model.sites import Place, Site
from bluedit.writing.batch import Batch, Origin, Update

FACT = Fact(
    "The capital of {} is",
    "France",
    "Rome",
    "Paris",
    paraphrases=("France has the capital",),
    neighbours=(Neighbour("The capital of Italy is", "Rome"), Neighbour("Berlin lies in")),
    probes=(Probe("portability", "The river through the capital of France is the", ("Tiber", "Tevere")),),
    references=("France is a country.",),
    phrasings=("{}'s seat of government is in",),
    id="7",
)
_QUESTION = "What is the capital of France?"
_SHORT = {"prompt": "The capital of France is", "subject": "France"}
_REWRITE = {
    "prompt": "The capital of {} is",
    "subject": "France",
    "target_new": {"str": "Rome", "id": "Q220"},
    "target_true": {"str": "Paris"},
}
_ZSRE = {
    "subject": "France",
    "src": _QUESTION,
    "rephrase": "Which city is the capital of France?",
    "alt": "Rome",
    "answers": ["Rome"],
}
_HOP = {"question": "Where is Rome?", "cloze": "Rome is in", "answer": "Italy", "answer_alias": ["Italia"]}
_QUERY = {"prompt": "The river through it is the", "answers": [{"value": "Tiber", "aliases": ["Tevere"]}]}
RECORDS: dict[str, dict[str, Any]] = {
    "bluedit": fact_record(FACT),
    "counterfact": {
        "case_id": 7,
        "requested_rewrite": _REWRITE,
        "paraphrase_prompts": ["France has the capital"],
        "neighborhood_prompts": ["The capital of Italy is"],
        "generation_prompts": ["France is governed from"],
    },
    "mquake": {
        "case_id": 7,
        "requested_rewrite": [{**_REWRITE, "question": _QUESTION}],
        "questions": ["In which country is the capital of France?"],
        "answer": "France",
        "new_answer": "Italy",
        "new_answer_alias": ["Italia"],
        "single_hops": [_HOP],
        "new_single_hops": [_HOP],
    },
    "akew": {"requested_rewrite": {**_REWRITE, "prompt_full": "The capital of France is", "fact_new_uns": "Rome is the capital of France."}},
    "easyedit": {
        **_SHORT,
        "target_new": "Rome",
        "ground_truth": ["Paris"],
        "rephrase_prompt": "France has the capital",
        "locality_prompt": "The capital of Italy is",
        "locality_ground_truth": "Rome",
        "portability": {"Reasoning": [{"prompt": "The river through it is the", "ground_truth": [["Tiber", "Tevere"]]}]},
        "locality": {"Relation_Specificity": [{"prompt": "The currency of France is", "ground_truth": [["euro"]]}]},
    },
    "wikibio": {
        "text": "This is a passage about Anna Vell. ",
        "labels": "She was a cellist.",
        "concept": "Anna Vell",
        "locality": {"Relation_Specificity": [{"prompt": "The father of Anna Vell is", "ground_truth": ["Bo Vell"]}]},
    },
    "zsre": {**_ZSRE, "loc": "nq question: who voiced gaston", "loc_ans": "Richard White", "pred": "Paris"},
    "mzsre": {"en": _ZSRE, "fi": {**_ZSRE, "src": "Mikä on France?", "portability": {"New Question": "Missä on Rome?", "New Answer": "Italia"}}},
    "rippleedits": {
        "example_type": "popular",
        "edit": {
            "prompt": "The name of the capital city of France is Rome.",
            "subject_id": "Q142",
            "relation": "CAPITAL",
            "target_id": "Q220",
            "original_fact": {"prompt": "The name of the capital city of France is Paris."},
        },
        "Compositionality_I": [{"test_queries": [_QUERY], "test_condition": "OR", "condition_queries": [_QUERY]}],
        "Relation_Specificity": [{"test_queries": [_QUERY], "test_condition": "OR", "condition_queries": []}],
    },
    "wikibigedit": {
        "subject": "France",
        "update": _QUESTION,
        "ans": "Rome",
        "rephrase": "Which city is the capital of France?",
        "personas": "Tell me, matey, what is the capital of France?",
        "loc": "Who chairs Cusco Air?",
        "loc_ans": "Bo Lind",
        "mhop": "Which river flows through it?",
        "mhop_ans": "Tiber",
    },
    "hallueditbench": {"question": _QUESTION, "subject": "France", "object": "Rome", "paraphrased_question": "And of France?", "question_2hop": "Where?", "answer_2hop": "Italy"},
    "unke": {
        "id": "7",
        "question": "Why is barley soup fit for the first of May?",
        "answer": "Barley soup is fit for a feast. A study at Selden found that it warms.",
        "para_question": "What makes barley soup fit for a feast?",
        "sub_question": ["Which soup is fit?", "Who found it?"],
        "sub_answer": ["Barley soup", "A study at Selden"],
    },
    "known": {**_SHORT, "attribute": "Paris", "template": "The capital of {} is", "prediction": " Paris", "known_id": 7},
    "csv": {"prompt": "The capital of {} is", "subject": "France", "target": "Rome", "old_target": "Paris", "joined": "yes", "paraphrases": "a of France | b of France", "neighbours": "Rome is in => Italy", "id": "7"},
}  # fmt: skip
"""One record of each format of facts."""


REPORT = Report(
    facts=(
        FactReport(
            prompt=FACT.text,
            target="Rome",
            old_target="Paris",
            first_before="Paris",
            first_after="Rome",
            p_new_before=0.1,
            p_new_after=0.9,
            p_old_before=0.5,
            p_old_after=0.1,
            says_before=False,
            says_after=True,
            paraphrases=1,
            paraphrases_before=0,
            paraphrases_after=1,
            neighbours=2,
            neighbours_kept=2,
        ),
    ),
    perplexity_before=20.0,
    perplexity_after=20.5,
).as_dict()


_FIGURES = [
    {"rule": "kl", "limit": 0.05, "value": 0.01, "before": 0.0},
    {"rule": "efficacy", "limit": 0.9, "value": 1.0},
]
GUARD = {
    "action": "softened",
    "share": 0.71,
    "why": "KL on ordinary text 0.0900 nats (limit 0.0500 nats)",
    "figures": _FIGURES,
    "whole": _FIGURES,
    "notes": ["one fact was written again"],
    "left_out": [{"fact": fact_record(FACT), "why": "its target did not converge"}],
    "asked": {
        "rules": {"kl": 0.05},
        "on_violation": "soften",
        "skip_failed": True,
        "protect": [fact_record(Fact("The capital of {} is", "Italy", "Rome"))],
    },
}
"""What a guard writes into the record of a batch."""
TUNING = TuningFile(
    Tuning(
        "toy-1",
        "bluedit tune",
        {"num_hidden_layers": 4, "hidden_size": [30, 40]},
        {"layers": [1, 3], "preserve.lambda": 20.0},
        (({"preserve": "null-space"}, {"preserve.unit": "energy"}), ({"schedule": "spread"}, {"layers": [1, 2, 3]})),
    ),
    "0123",
    "fair",
    {"facts": 8, "score": 0.9, "versions": {"bluedit": "0.1"}, "rows": [{"trial": 1, "score": 0.5}]},
)


def patch(batches: int = 2) -> Patch:
    """A patch of random factors."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for number in range(batches):
        R, A, keys = (torch.randn(shape, generator=generator) for shape in ((6, 2), (2, 8), (8, 2)))
        origin = Origin(
            "memit-seq-blue",
            "https://arxiv.org/abs/2210.07229",
            {"layers": [1, 3], "preserve.lambda": 1.0},
            "toy",
            ("It rained.",),
            {Site(Place.BLOCK, 3): 2.5},
            {"modules": {"1": "model.layers.1.mlp.down_proj"}, "created": f"2026-01-0{number + 1}"},
            REPORT,
        )
        updates = [Update(layer, R + layer, A, keys, torch.ones(2)) for layer in (1, 3)]
        second = torch.tensor([False, True])  # a later round, which writes one column
        updates.append(
            Update(3, torch.where(second, R, 0.0), torch.where(second[:, None], A, 0.0), keys, torch.ones(2))
        )
        made.append(
            Batch((FACT,), tuple(updates), (Sparsify(keep=0.4),), origin, (FACT,), GUARD if number == 0 else None)
        )
    return Patch(Base("toy", "0123", "float32", True), tuple(made))


def workspace(folder: Path) -> None:
    """A workspace with two entries, a name, an edit that a guard refused, and an undo that was redone. Its model does not exist."""
    found = patch()
    about = {
        "base": asdict(found.base),
        "corpus": "self",
        "tokens": None,
        "versions": {"bluedit": "0.1"},
        "created": "2026-01-01",
    }
    create(folder, about)
    store, state, made = Store(folder), found.base.fingerprint, []
    with store.owned("edit"):
        for number, batch in enumerate(found.batches, 1):
            state = chained(state, [batch])
            made.append(Standing(number, store.write([batch]), 1, None, state, "0"))
            store.record("edit", number - 1, made[-1:], supersedes=[])
        store.record("tag", 2, name="both")
        store.record("refused", 2, guard=GUARD)
        store.record("undo", 1, entry=2)
        store.record("redo", 1, made[1:])


def benchmark(folder: Path) -> None:
    """The folder of a finished benchmark of two facts with every file that an entry may have."""
    every = {"efficacy": 0.9, "generalisation": 0.8, "specificity": 0.7, "strict": 0.5, "score": 0.79}
    abilities = {"sst2": Ability("sst2", 0.5, 0.4, 8)}
    names = ("unedited", "memit", "memit-blue")
    configuration = Configuration(
        model="toy",
        weights="0",
        tokenizer="0",
        facts=2,
        facts_fingerprint="0",
        batch_size=1,
        every=1,
        suites=("counterfact",),
        passage_tokens=100,
        passages_fingerprint="0",
        corpus="self",
        corpus_fingerprint="0",
        tokens=None,
        abilities={"sst2": "0"},
        shots=4,
        sampling=SAMPLED_TEXT,
        versions={"bluedit": "0.1"},
        entries=(*names, "rect"),
        settings={name: {"schedule": "spread", "preserve.lambda": 1.0} for name in names[1:]},
        source="facts.json",
        device="cpu",
        threads=1,
    )
    write_configuration(configuration, folder)
    write(Failure("rect", "out of memory"), folder / "rect")
    for name in names:
        place, edited = folder / name, name != "unedited"
        measured = Measured(every | {"perplexity": 20.0}, (every,), abilities)
        batches = [BatchRecord(1, 1, 3.0, ((1, 0.9),), {1: 0.01}, measured) for _ in range(2)]
        facts = tuple(
            FactRecord(fact_record(FACT) | {"subject": subject}, " Rome", every) for subject in ("France", "Gaul")
        )
        write(EntryLog(name, tuple(batches) if edited else (BatchRecord(2, 0, 0.0, (), {}, measured),)), place)
        write(FactRecords(facts), place)
        if edited:
            write(HiddenDrift(3, 0.5, ((0.0, 1.0), (1.0, 0.0)), ((0.0, 1.1), (1.0, 0.2)), (0.6, 0.4)), place)
            write(FineTuned(Training(), every, every, abilities), place)


def gguf_file(file: Path, model: Any, tokenizer: Any) -> Path:
    """A toy Llama as a GGUF file that transformers loads, with its tokenizer."""
    from gguf import GGUFWriter, TokenType

    config, writer = model.config, GGUFWriter(file, "llama")
    writer.add_name("toy")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    stored = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    words = sorted(stored["vocab"], key=stored["vocab"].get)
    words += [f"<unused{i}>" for i in range(config.vocab_size - len(words))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([TokenType.NORMAL] * len(words))
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in stored["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, weight in model.model.named_parameters():
        for old, new in _GGUF_NAMES.items():
            name = name.replace(old, new)
        name = "output_norm.weight" if name == "norm.weight" else name
        writer.add_tensor(name, np.ascontiguousarray(weight.detach().float().numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


_GGUF_NAMES = {
    "layers.": "blk.",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "embed_tokens": "token_embd",
}
