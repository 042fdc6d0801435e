"""What cannot be run is refused before anything is written, and how entries are named."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from benchmark_help import FACTS, plan, run

from bluedit.benchmark import Entry
from bluedit.benchmark.entry import entries_of
from bluedit.errors import BenchmarkError, FactError, RecipeError
from bluedit.evaluate.data import Training
from bluedit.facts import Neighbour
from bluedit.methods.presets import preset


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"facts": []}, BenchmarkError, "there are no facts to write; give a file with --facts or world:N"),
        (
            {"suites": ("counterfacts",)},
            BenchmarkError,
            "unknown suite of metrics 'counterfacts'; did you mean 'counterfact'",
        ),
        ({"then_finetune": Training(steps=0)}, BenchmarkError, "needs at least one step and .* not 0 steps at 2e-05"),
        (
            {"then_finetune": Training(learning_rate=-1.0)},
            BenchmarkError,
            "a learning rate above 0, not 50 steps at -1",
        ),
        ({"then_finetune": Training()}, BenchmarkError, "further fine-tuning needs 1024 tokens of text beyond"),
        ({"passages": ()}, BenchmarkError, "there is no text to measure perplexity on: 0 passages, 8000 tokens"),
        ({"passage_tokens": 1}, BenchmarkError, "there is no text to measure perplexity on: 1 passages, 1 tokens"),
        ({"facts": [replace(FACTS[0], old_target=None)]}, FactError, "1 of 1 facts have none"),
        ({"suites": ("portability",)}, FactError, "'portability' asks the facts' probes, and no fact has one"),
        ({"suites": ("counterfact-plus",), "facts": [replace(FACTS[0], neighbours=())]}, FactError, "no fact has one"),
        ({"batch_size": 0}, BenchmarkError, "batch size and every must be at least 1, and they are 0 and 1"),
        ({"edit_size": 1}, BenchmarkError, "an edit of 1 facts is smaller than a batch of 2"),
        ({"entries": ()}, BenchmarkError, "there are no entries; name a recipe"),
        ({"entries": ("memit:layers",)}, RecipeError, "'layers' in 'memit:layers' is not an option; write NAME:option"),
        ({"entries": ("memti",)}, RecipeError, "unknown recipe 'memti'; did you mean 'memit'"),
        ({"entries": ("memit", Entry("memit", "rect"))}, BenchmarkError, "two entries are called 'memit' and 'memit'"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(lm, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        run(lm, tmp_path / "run", **changes)
    assert not (tmp_path / "run" / "config.json").exists()


def test_texts_that_are_too_long_are_refused_before_anything_is_edited(lm, tmp_path):
    long = replace(FACTS[0], neighbours=(Neighbour("The capital of France is " * 80, "London"),))
    items = tmp_path / "items.jsonl"
    items.write_text("\n".join(json.dumps({"sentence": "a film " * 30, "label": i % 2}) for i in range(8)))
    message = rf"longer than the {lm.max_length} tokens of toy's context, the longest has \d+ .*; shorten them or leave"
    for changes in ({"facts": [long, *FACTS[1:]]}, {"abilities": {"sst2": items}}):
        with pytest.raises(FactError, match=message):
            run(lm, tmp_path / "r", **changes)
    assert not (tmp_path / "r").exists()


def test_entries_are_written_with_their_settings():
    assert Entry.parse("memit") == Entry("memit", "memit", {})
    assert Entry.parse("memit:preserve.lambda=1e+3").settings == {"preserve.lambda": "1e+3"}
    rect = Entry.parse("rect-blue:layers=4+8,filter.keep=0.3")
    assert (rect.recipe, rect.settings) == ("rect-blue", {"layers": "4+8", "filter.keep": "0.3"})
    assert Entry.parse("unedited").recipe is None
    assert Entry.of(preset("memit")) == Entry("memit", preset("memit"))


def test_entries_have_folders_of_their_own():
    assert Entry("memit:layers=4+8,x=0.3", "memit").folder == "memit_layers_4+8_x_0.3"
    long = [Entry(f"memit:{'x' * 300}{i}", "memit").folder for i in range(2)]
    assert long[0] != long[1] and all(len(name) <= 200 for name in long)
    for name in ("targets", "", "..", ".lock"):
        with pytest.raises(
            BenchmarkError, match=r"an entry cannot be called .*; give it another name: Entry\(name, recipe\)"
        ):
            entries_of([Entry(name, "memit")])
    with pytest.raises(BenchmarkError, match="two entries are called 'my rect' and 'my_rect', which share a folder"):
        entries_of([Entry("my rect", "rect"), Entry("my_rect", "rect")])
    assert entries_of(["memit", "memit"]) == [Entry.parse("memit")]


def test_tables_and_records_load_no_torch():
    """The command line lists suites and metrics in its help, and a folder can be read without what runs a benchmark."""
    modules = "bluedit.evaluate.suites, bluedit.evaluate.metrics, bluedit.benchmark.reading, bluedit.benchmark.results"
    code = f"import sys, {modules}; print(sorted({{'torch', 'transformers'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"at": (1, 2)}, "no batch of 2 facts ends after 1; that is measured when the next one ends"),
        ({"edit_size": 4, "at": (2, 3, 4)}, "no edit of 4 facts ends after 2, 3; that is measured"),
        ({"at": (2, 4)}, ""),
    ],
)
def test_numbers_at_which_nothing_ends_are_named(changes, words, caplog):
    plan(**changes).check()
    assert words in caplog.text and bool(words) == bool(caplog.messages)
