"""Running a benchmark: every entry is measured after every batch, and the model is left as it was."""

import json
from contextlib import contextmanager
from dataclasses import replace

import pytest
from benchmark_help import BLUE, FACTS, NAMES, PASSAGES, RECT, SETTINGS, Stopped, batches, plan, run, without_time

from bluedit.benchmark import BenchmarkTrace, Entry, run_benchmark
from bluedit.benchmark.reading import read_benchmark
from bluedit.editing.patch import Patch
from bluedit.evaluate.data import Training
from bluedit.facts import Neighbour
from bluedit.methods.presets import preset
from bluedit.progress import Progress
from toys import toy_gpt2


def same_weights(lm):
    fresh = toy_gpt2().state_dict()
    return all((tensor == fresh[name]).all() for name, tensor in lm.model.state_dict().items())


def test_every_entry_is_measured_after_every_batch(lm, whole):
    folder, rows = whole
    assert [(row.entry.split(":")[0], row.facts) for row in rows] == [
        ("unedited", 4), ("memit-seq-blue", 2), ("memit-seq-blue", 4), ("rect", 2), ("rect", 4),
    ]  # fmt: skip
    assert {"efficacy", "generalisation", "specificity", "strict", "score", "perplexity"} <= set(rows[2].scores)
    assert set(rows[2].reach) == {1, 3}
    facts = json.loads(next(folder.glob("rect*/facts.json")).read_text())["facts"]
    assert [entry["fact"]["subject"] for entry in facts] == list(NAMES)
    assert all(0 <= entry["scores"]["efficacy"] <= 1 for entry in facts)
    text = (folder / "results.md").read_text()
    assert "| recipe | facts | strict | strict_paraphrase | strict_specificity | efficacy |" in text
    assert text.count("first batch") == 2
    assert (folder / "results.csv").read_text().count("\n") == text.count("\n") - 1
    assert same_weights(lm)


def test_what_is_kept_of_each_batch(whole):
    first, second = batches(next(whole[0].glob("rect*")))
    assert len(first["measured"]["by_batch"]) == 1
    one, two = (scores["efficacy"] for scores in second["measured"]["by_batch"])
    assert (one + two) / 2 == second["measured"]["all"]["efficacy"]


def test_finished_work_is_not_done_again(lm, whole):
    folder, rows = whole
    assert without_time(run(lm, folder, Stopped("on_start"))) == without_time(rows)


def test_finished_entries_are_counted(lm, tmp_path):
    seen = []

    class Counted(Progress):
        @contextmanager
        def task(self, title, total, unit=""):
            seen.append((title, total, unit))
            yield lambda count=1: seen.append((title, count))

    run_benchmark(lm, plan(entries=("unedited", RECT)), tmp_path, Counted())
    own = [event for event in seen if event[0] == "benchmark"]
    assert own == [("benchmark", 2, "entries"), ("benchmark", 1), ("benchmark", 1)]
    assert seen[-1] == own[-1] and seen.index(own[1]) < seen.index(("editing", 2, "facts"))


def test_what_a_trace_is_told(lm, tmp_path):
    seen = []

    class Followed(BenchmarkTrace):
        def __getattribute__(self, name):
            if not name.startswith("on_"):
                return super().__getattribute__(name)
            return lambda entry, *rest: seen.append((name.removeprefix("on_"), entry.name, *rest[:1]))

    run(lm, tmp_path / "r", Followed(), entries=("unedited", BLUE), batch_size=4)
    edited = [(event, BLUE, 1) for event in ("start", "written", "measured", "saved", "finished")]
    assert seen == [*((e, "unedited", 1) for e in ("start", "written", "measured", "finished")), *edited]


def test_entries_may_be_added(lm, tmp_path):
    more = (BLUE, "unedited")
    first = run(lm, tmp_path / "r", entries=("unedited",))
    both = run(lm, tmp_path / "r", entries=more)
    assert without_time(both[-1:]) == without_time(first) and len(both) == 3
    alone = run(lm, tmp_path / "r", Stopped("on_start"), entries=("unedited",) * 2)
    assert without_time(alone) == without_time([*both[2:], *both[:2]]), "first what was asked for, then the rest"
    table = (tmp_path / "r" / "results.csv").read_text()
    assert f"{BLUE.split(':')[0]}:layers" in table and "unedited" in table


def test_a_recipe_object_is_an_entry(lm, whole, tmp_path):
    """Tuned or not, with settings or without: the numbers are those of the recipe's name."""
    settings = dict(pair.split("=") for pair in SETTINGS.split(","))
    tuned = preset("memit-seq-blue").override(settings)
    rows = run(lm, tmp_path / "r", entries=(tuned, Entry("mine", "memit-seq-blue", settings)))
    expected = without_time(whole[1][1:3])
    assert [row.entry for row in rows] == ["memit-seq-blue"] * 2 + ["mine"] * 2
    for found in (rows[:2], rows[2:]):
        assert [row | {"entry": BLUE} for row in without_time(found)] == expected


def test_batches_of_one_edit_end_as_an_edit_does(lm, whole, tmp_path):
    """They are measured once, after it; a recipe that does nothing at an edit's end gives the weights of separate edits."""
    rows = run(lm, tmp_path / "r", entries=(BLUE,), edit_size=4)
    assert [row.facts for row in rows] == [4]
    last = without_time(whole[1][1:3])[-1]
    assert without_time(rows)[0]["scores"] == last["scores"]
    saved = Patch.load(tmp_path / "r" / Entry.parse(BLUE).folder / "patch")
    assert [len(batch.facts) for batch in saved.batches] == [2, 2]
    again = run(lm, tmp_path / "r", entries=(BLUE,), edit_size=4)
    assert without_time(again) == without_time(rows)


def test_batches_of_one_edit_are_refined_together(lm, tmp_path):
    settings = "refine.steps=4,refine.together=2,refine.least=1,refine.texts=2,refine.tokens=64"
    entry = f"memit-seq-blue:{SETTINGS},{settings}"
    apart = run(lm, tmp_path / "apart", entries=(entry,), every=2)
    together = run(lm, tmp_path / "together", entries=(entry,), edit_size=4)
    assert without_time(apart) != without_time(together)


def test_a_fact_asked_twice_is_no_obstacle_to_merging(lm, tmp_path):
    facts = [FACTS[0], replace(FACTS[0], target="London"), *FACTS[1:3]]
    rows = run(lm, tmp_path / "r", facts=facts, entries=(f"memit:{SETTINGS},subjects=merge",), batch_size=4)
    assert [row.facts for row in rows] == [3, 4]


def test_facts_about_one_subject_are_reported_in_their_order(lm, tmp_path, caplog):
    """Batches hold a subject once, so their order is not the data set's."""
    again = replace(FACTS[0], prompt="{} is in", paraphrases=())
    facts = [FACTS[0], again, *FACTS[1:], replace(again, target="London")]
    merge = f"memit:{SETTINGS},subjects=merge"
    run(lm, tmp_path / "r", facts=facts, entries=(BLUE, merge))
    assert "1 facts repeat or contradict earlier ones" in caplog.text
    for entry in read_benchmark(tmp_path / "r").entries:
        assert [fact.target for fact in entry.facts] == [fact.target for fact in facts]
        assert [fact.text for fact in entry.facts] == [fact.text for fact in facts]
    first = {e: Patch.load(tmp_path / "r" / Entry.parse(e).folder / "patch").batches[0].facts for e in (merge, BLUE)}
    assert [fact.subject for fact in first[merge]] == ["France", "France"]
    assert [fact.subject for fact in first[BLUE]] == ["France", "London"]


@pytest.fixture
def items(tmp_path):
    file = tmp_path / "items.jsonl"
    file.write_text("\n".join(json.dumps({"sentence": f"film {i}", "label": i % 2}) for i in range(8)))
    return file


def test_general_ability_is_asked_at_the_end(lm, tmp_path, items):
    rows = run(lm, tmp_path / "run", abilities={"sst2": items}, entries=("unedited", BLUE))
    assert [bool(row.abilities) for row in rows] == [True, False, True]
    assert rows[-1].abilities["sst2"].items == 4
    assert (tmp_path / "run" / "results.md").read_text().count("| accuracy / F1 | facts | sst2 |") == 1


def test_general_ability_is_asked_half_way_too_in_a_longer_run(lm, tmp_path, items):
    rows = run(lm, tmp_path / "run", abilities={"sst2": items}, entries=(BLUE,), batch_size=1, every=3)
    assert [(row.facts, bool(row.abilities)) for row in rows] == [(2, True), (3, False), (4, True)]


def test_locality_and_hidden_states_are_kept(lm, tmp_path):
    facts = [replace(fact, neighbours=(*fact.neighbours, Neighbour(f"{fact.subject} is in"))) for fact in FACTS]
    more = {"suites": ("counterfact", "locality"), "every": 2, "entries": ("unedited", BLUE)}
    unedited, edited = run(lm, tmp_path / "r", facts=facts, **more)
    assert unedited.scores["passage_kl"] == 0 and unedited.scores["passage_same"] == 1
    assert edited.scores["passage_kl"] > 0 and edited.scores["neighbour_kl"] > 0
    hidden = json.loads(next((tmp_path / "r").glob("memit-seq-blue*/hidden.json")).read_text())
    assert hidden["shift"] > 0 and len(hidden["before"]) == len(hidden["after"]) == 5


def test_further_training_is_measured_once(lm, tmp_path):
    folder, training = tmp_path / "r", Training(steps=2, learning_rate=1e-4, rows=2)
    more = {"passages": PASSAGES * 60, "passage_tokens": 100, "every": 2, "entries": ("unedited", BLUE)}
    run(lm, folder, **more)
    assert not list(folder.glob("*/finetuned.json"))
    run(lm, folder, Stopped("on_start"), then_finetune=training, **more)  # edits are taken from the folder
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("*/finetuned.json"))]
    assert len(found) == 2 and all(entry["before"] != entry["after"] for entry in found)
    assert all(entry["training"] == {"steps": 2, "learning_rate": 1e-4, "rows": 2, "seed": 0} for entry in found)
    run(lm, folder, Stopped("on_finetune"), then_finetune=training, **more)
    assert same_weights(lm)


def test_further_training_is_compared_with_the_model_before_it(lm, tmp_path):
    training = Training(steps=2, learning_rate=1e-4, rows=2)
    more = {"passages": PASSAGES * 60, "passage_tokens": 100, "suites": ("counterfact", "locality")}
    (row,) = run(lm, tmp_path / "l", then_finetune=training, entries=("unedited",), **more)
    found = json.loads((tmp_path / "l" / "unedited" / "finetuned.json").read_text())
    assert row.scores["passage_kl"] == 0 and found["before"]["passage_kl"] == 0
    assert found["after"]["passage_kl"] > 0 and found["after"]["neighbour_kl"] > 0
