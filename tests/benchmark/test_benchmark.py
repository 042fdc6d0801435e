"""Benchmarks: the same numbers however often a run is interrupted, one benchmark a folder, the model as it was."""

import errno
import json
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from filelock import FileLock

import bluedit.benchmark.run as module
from bluedit.benchmark import Benchmark, parse_run, place_of, run_benchmark
from bluedit.benchmark.runs import FORMAT, read_run
from bluedit.editing.patch import Patch
from bluedit.errors import BenchmarkError, EditError, FactError, RecipeError
from bluedit.evaluate.data import Training
from bluedit.export.checkpoint import save_checkpoint
from bluedit.facts import Fact, Neighbour, write_facts
from bluedit.model.editable import EditableModel
from bluedit.progress import Progress
from toys import toy_gpt2, toy_tokenizer

SETTINGS = "layers=1+2+3,objective.steps=3,contexts.count=1,preserve.lambda=1"
NAMES = ("France", "London", "Rome", "Berlin")
FACTS = [
    Fact(
        "The capital of {} is",
        subject=name,
        target="Rome",
        old_target="Paris",
        paraphrases=(f"{name} has the capital",),
        neighbours=(Neighbour("The capital of England is", "London"),),
    )
    for name in NAMES
]
PASSAGES = ("The weather was mild that morning, so the committee met again in the afternoon.",)


def plan(**changes):
    recipes = ("unedited", f"memit-seq-blue:{SETTINGS}", f"rect:{SETTINGS}")
    return replace(Benchmark(FACTS, recipes, batch_size=2, passages=PASSAGES, tokens=480), **changes)


@pytest.fixture(scope="module")
def lm():
    return EditableModel.of(toy_gpt2(), toy_tokenizer(), "toy")


def run(lm, folder, **changes):
    return run_benchmark(lm, plan(**changes), folder, Progress())


@pytest.fixture(scope="module")
def whole(lm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, run(lm, folder)


def without_time(rows):
    return json.loads(json.dumps([{k: v for k, v in row.items() if k != "seconds_per_edit"} for row in rows]))


def test_a_run_measures_every_recipe_after_every_batch(whole):
    folder, rows = whole
    assert [(row["recipe"].split(":")[0], row["facts"]) for row in rows] == [
        ("unedited", 4), ("memit-seq-blue", 2), ("memit-seq-blue", 4), ("rect", 2), ("rect", 4),
    ]  # fmt: skip
    last = rows[2]
    assert {"efficacy", "generalisation", "specificity", "strict", "score", "perplexity"} <= set(last)
    assert set(last["reach"]) == {1, 3}
    facts = json.loads(next(folder.glob("rect*/facts.json")).read_text())
    assert [entry["fact"]["subject"] for entry in facts] == list(NAMES)
    assert all(0 <= entry["efficacy"] <= 1 for entry in facts)
    text = (folder / "results.md").read_text()
    assert "| recipe | facts | efficacy | generalisation | specificity | strict |" in text
    assert text.count("first batch") == 2
    assert (folder / "results.csv").read_text().count("\n") == text.count("\n") - 1


def test_the_model_is_as_before(lm, whole):
    fresh = toy_gpt2().state_dict()
    assert all((tensor == fresh[name]).all() for name, tensor in lm.model.state_dict().items())


def test_finished_work_is_not_done_again(lm, whole, monkeypatch):
    folder, rows = whole
    monkeypatch.setattr(module._Run, "_write", lambda *_: pytest.fail("edited again"))
    assert without_time(run(lm, folder)) == without_time(rows)


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("where", ["_write", "_measure"])
def test_an_interrupted_run_goes_on_and_gives_the_same(lm, whole, tmp_path, monkeypatch, stop, where):
    calls = []
    real = getattr(module._Run, where)

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == stop + (where == "_measure"):
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module._Run, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(lm, tmp_path / "run")
    assert without_time(run(lm, tmp_path / "run")) == without_time(whole[1])


def test_killed_between_patch_and_log(lm, whole, tmp_path, monkeypatch):
    """The patch is then one batch ahead of the log."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _killed_before_batch(patch, 1)
        run(lm, tmp_path / "run")
    assert without_time(run(lm, tmp_path / "run")) == without_time(whole[1])


def _killed_before_batch(patch, number):
    """The process ends just before a recipe's log of so many batches is written."""
    real = module.write_json

    def killed(file, value):
        if file.name == "batches.json" and value[-1]["patches"] and len(value) == number:
            raise KeyboardInterrupt
        real(file, value)

    patch.setattr(module, "write_json", killed)


def test_norms_that_targets_are_anchored_to_survive_an_interruption(lm, tmp_path, monkeypatch):
    anchored = (f"memit-seq-blue:{SETTINGS},objective.norm_anchor=true",)
    whole = run(lm, tmp_path / "whole", recipes=anchored)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _killed_before_batch(patch, 2)
        run(lm, tmp_path / "run", recipes=anchored)
    rest = run(lm, tmp_path / "run", recipes=anchored, targets=tmp_path / "whole" / "targets")
    assert without_time(rest) == without_time(whole)


def test_another_benchmark_in_the_folder(lm, whole):
    folder, _ = whole
    before = (folder / "results.md").read_text()
    for change, name in (({"batch_size": 3}, "batch_size"), ({"facts": FACTS[:3]}, "facts, facts_fingerprint")):
        with pytest.raises(BenchmarkError, match=f"holds another benchmark: {name} differ"):
            run(lm, folder, **change)
    other = EditableModel.of(toy_gpt2(seed=1), toy_tokenizer(), "toy")
    with pytest.raises(BenchmarkError, match="holds another benchmark: weights differ"):
        run(other, folder)
    assert (folder / "results.md").read_text() == before


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (("versions", "torch"), "versions differ"),
        (("settings", plan().recipes[1], "objective.steps"), "settings of memit-seq-blue"),
    ],
)
def test_a_run_begun_with_other_numbers(lm, whole, tmp_path, path, message):
    """Such as those of another version of bluedit, whose tuning is another one."""
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    config = json.loads((folder / "config.json").read_text())
    *place, last = path
    inner = config
    for key in place:
        inner = inner[key]
    inner[last] = 99
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BenchmarkError, match=message):
        run(lm, folder)
    assert json.loads((folder / "config.json").read_text()) == config


def test_a_folder_in_which_nothing_is_finished_may_become_another_benchmarks(lm, whole, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"format": FORMAT, "facts": 99, "order": ["rome"]}))
    (tmp_path / ".config.json.123").write_text("{")
    assert without_time(run(lm, tmp_path)) == without_time(whole[1])
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".config.json.123").write_text("{")
    run(lm, tmp_path / "new", recipes=("unedited",))


@pytest.mark.parametrize("text", ["{", "3", "[1]"])
def test_an_unreadable_configuration(lm, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BenchmarkError, match=r"config\.json is unreadable"):
        run(lm, tmp_path)
    assert (tmp_path / "config.json").read_text() == text


def test_a_run_of_another_version(lm, tmp_path):
    config = json.dumps({"format": 99, "facts": 4})
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(BenchmarkError, match="written by another version of bluedit"):
        run(lm, tmp_path)
    assert (tmp_path / "config.json").read_text() == config and len(list(tmp_path.iterdir())) == 1


def test_a_model_that_is_not_finite(tmp_path):
    broken = EditableModel.of(toy_gpt2(), toy_tokenizer(), "broken")
    facts = [replace(fact, neighbours=(*fact.neighbours, Neighbour(f"{fact.subject} is in"))) for fact in FACTS]
    for number, weight in enumerate((broken.anatomy.head.weight, broken.model.transformer.h[1].mlp.c_fc.weight)):
        with torch.no_grad():
            weight[0] = float("nan")
        place = tmp_path / str(number)
        with pytest.raises(BenchmarkError, match="broken gives numbers that are not finite"):
            run(broken, place, recipes=("unedited",), facts=facts, suites=("counterfact", "fluency", "locality"))
        assert [file.name for file in place.glob("*/*.json")] == ["failed.json"]


def test_a_model_that_is_not_finite_at_one_neighbour_only(tmp_path):
    """Perplexity does not see it, and a comparison with NaN would count as lost."""
    broken = EditableModel.of(toy_gpt2(), toy_tokenizer(), "broken")
    token = broken.tokenizer(" London", add_special_tokens=False)["input_ids"][0]
    with torch.no_grad():
        broken.model.transformer.wte.weight[token] = float("nan")
    facts = [replace(FACTS[0], neighbours=(Neighbour("The capital of London is", "Rome"),))]
    for suite in ("counterfact", "locality"):
        with pytest.raises(BenchmarkError, match="broken gives numbers that are not finite"):
            run(broken, tmp_path / suite, recipes=("unedited",), facts=facts, suites=(suite,))


def test_a_recipe_that_fails_does_not_stop_the_others(lm, whole, tmp_path):
    """Two facts with one key cannot both be met exactly."""
    twice = [FACTS[0], replace(FACTS[0], prompt="{} is in", paraphrases=()), *FACTS[1:]]
    bad = f"emmet:{SETTINGS},subjects=merge,schedule=single"
    real, calls = module._Run._write, []

    def broken(self, part):
        if self.run == bad:
            calls.append(part)
            if len(calls) == 2:
                raise EditError("this batch cannot be written")
        return real(self, part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._Run, "_write", broken)
        with pytest.raises(
            BenchmarkError,
            match=r"^1 of 2 recipes could not be finished \(emmet:.*: this batch cannot be written\)\. What",
        ):
            run(lm, tmp_path / "r", facts=twice, recipes=(bad, "unedited"))
    assert "unedited" in (tmp_path / "r" / "results.csv").read_text()
    found = read_run(tmp_path / "r")
    assert [r.name for r in found.recipes] == ["unedited"] and found.failed == {bad: "this batch cannot be written"}
    run(lm, tmp_path / "r", facts=twice, recipes=(bad, "unedited"))
    assert read_run(tmp_path / "r").failed == {}


def test_a_damaged_log_does_not_stop_the_others(lm, tmp_path):
    run(lm, tmp_path / "r", recipes=("unedited",))
    (tmp_path / "r" / "unedited" / "batches.json").write_text("[{")
    other = f"memit:{SETTINGS}"
    with pytest.raises(BenchmarkError, match=r"^1 of 2 recipes could not be finished \(unedited: .*is unreadable"):
        run(lm, tmp_path / "r", recipes=("unedited", other))
    table = (tmp_path / "r" / "results.csv").read_text()
    assert "memit" in table and "unedited" not in table


@pytest.mark.parametrize("recipe", ["memit-seq-blue", "alphaedit"])
def test_interrupted_between_batches_of_one_fact(lm, tmp_path, recipe):
    """What is remembered of one fact is the same bits whether it was computed or read from the patch."""
    wanted = {"recipes": (f"{recipe}:{SETTINGS},preserve.unit=energy,preserve.threshold=0.3",), "batch_size": 1}
    undisturbed = run(lm, tmp_path / "whole", **wanted)
    for number in (2, 3):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            _killed_before_batch(patch, number)
            run(lm, tmp_path / str(number), **wanted)
        assert without_time(run(lm, tmp_path / str(number), **wanted)) == without_time(undisturbed)


def test_what_is_kept_of_each_batch(whole):
    log = json.loads(next(whole[0].glob("rect*/batches.json")).read_text())
    assert [len(entry["by_batch"]) for entry in log] == [1, 2]
    first, second = (entry["efficacy"] for entry in log[-1]["by_batch"])
    assert log[-1]["by_batch"][0] == log[-1]["first"] and (first + second) / 2 == log[-1]["all"]["efficacy"]


def test_what_is_too_long_is_refused_before_anything_is_edited(lm, tmp_path):
    long = replace(FACTS[0], neighbours=(Neighbour("The capital of France is " * 80, "London"),))
    items = tmp_path / "items.jsonl"
    items.write_text("\n".join(json.dumps({"sentence": "a film " * 30, "label": i % 2}) for i in range(8)))
    for wanted in ({"facts": [long, *FACTS[1:]]}, {"abilities": {"sst2": items}}):
        with pytest.raises(
            FactError, match=rf"longer than the {lm.max_length} tokens toy can read, the longest has \d+"
        ):
            run(lm, tmp_path / "r", **wanted)
    assert not (tmp_path / "r").exists()


def test_another_text_in_the_same_file_is_another_corpus(lm, tmp_path):
    text, recipes = tmp_path / "text.txt", (plan().recipes[1],)
    text.write_text("The capital of France is in London. " * 40)
    run(lm, tmp_path / "r", corpus=str(text), recipes=recipes)
    text.write_text("The mother tongue of Rome is in Paris. " * 40)
    with pytest.raises(BenchmarkError, match="holds another benchmark: corpus_fingerprint differ"):
        run(lm, tmp_path / "r", corpus=str(text), recipes=recipes)


def test_a_fact_asked_twice_is_no_obstacle_to_merging(lm, tmp_path):
    facts = [FACTS[0], replace(FACTS[0], target="London"), *FACTS[1:3]]
    rows = run(lm, tmp_path / "r", facts=facts, recipes=(f"memit:{SETTINGS},subjects=merge",), batch_size=4)
    assert [row["facts"] for row in rows] == [3, 4]


def test_killed_at_any_moment(lm, whole, tmp_path):
    """kill -9, three times, of the command in a process of its own; what it then ends with is what it ends with undisturbed."""
    model, facts, text = tmp_path / "model", tmp_path / "facts.jsonl", tmp_path / "text.txt"
    save_checkpoint(lm, model)
    write_facts(facts, FACTS)
    text.write_text(PASSAGES[0])
    command = [sys.executable, "-m", "bluedit", "--threads", "1", "benchmark", "--facts", facts, "--model", model]
    command += ["--batch-size", 2, "--passages", text, "--tokens", 480]
    command += [item for recipe in plan().recipes for item in ("-r", recipe)]

    def start(folder):
        return subprocess.Popen([*map(str, command), "--out", str(folder)], stdout=subprocess.DEVNULL)

    def done(folder):
        return len(list(folder.glob("*/batches.json"))) + len(list(folder.glob("*/facts.json")))

    killed, moments = tmp_path / "killed", []
    for progress in (1, 3, 5):
        process = start(killed)
        while process.poll() is None and done(killed) < progress:
            time.sleep(0.002)
        moments.append(random.random() * 0.5)  # any moment from then on
        time.sleep(moments[-1])
        process.kill()
        process.wait()
    assert start(killed).wait() == 0
    undisturbed = tmp_path / "undisturbed"
    assert start(undisturbed).wait() == 0
    for file in undisturbed.glob("*/*.json"):
        one, other = (
            _timeless(json.loads((f / file.parent.name / file.name).read_text())) for f in (killed, undisturbed)
        )
        assert one == other, f"killed {moments} seconds after files 1, 3 and 5 were there"


def _timeless(value):
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key != "seconds"}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def test_more_recipes_may_be_added(lm, whole):
    folder, rows = whole
    more = run(lm, folder, recipes=(*plan().recipes, f"emmet-blue:{SETTINGS}"))
    assert without_time(more[:5]) == without_time(rows) and len(more) == 7
    alone = run(lm, folder, recipes=(f"emmet-blue:{SETTINGS}",) * 2)
    assert without_time(alone) == without_time([*more[5:], *more[:5]]), "what was asked for first, then the rest"
    table = (folder / "results.csv").read_text()
    assert all(f"{name}:layers" in table for name in ("memit-seq-blue", "rect", "emmet-blue"))


def test_a_folder_of_other_things(lm, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(BenchmarkError, match="holds other things than a benchmark"):
        run(lm, tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_folder_of_a_model(lm, tmp_path):
    """Its configuration has the same name as a benchmark's."""
    save_checkpoint(lm, tmp_path / "model")
    before = {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    with pytest.raises(BenchmarkError, match=r"config\.json is not of a benchmark; choose a new or empty folder"):
        run(lm, tmp_path / "model")
    assert {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()} == before


def test_two_benchmarks_at_once_in_one_folder(lm, whole):
    folder, rows = whole
    before = (folder / "config.json").read_bytes()
    with FileLock(folder / ".lock"), pytest.raises(BenchmarkError, match="another bluedit benchmark is at work in"):
        run(lm, folder, recipes=("unedited", f"emmet:{SETTINGS}"))
    assert (folder / "config.json").read_bytes() == before
    assert without_time(run(lm, folder)[: len(rows)]) == without_time(rows)


def test_a_patch_that_lacks_what_the_log_tells(lm, whole, tmp_path):
    """Going on from it would edit other weights than those that were measured."""
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    place = next(folder.glob("rect*"))
    saved, log = Patch.load(place / "patch"), json.loads((place / "batches.json").read_text())
    Patch((), saved.info).save(place / "patch")
    (place / "batches.json").write_text(json.dumps(log[:1]))
    with pytest.raises(BenchmarkError, match="logs 1 batches and its patch holds 0; delete that folder"):
        run(lm, folder)


def test_other_threads_are_told(lm, whole, tmp_path, caplog):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"threads": 99}))
    run(lm, folder)
    assert f"was begun with threads 99, now it is {torch.get_num_threads()}" in caplog.text


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"facts": []}, BenchmarkError, "there are no facts to write"),
        (
            {"suites": ("counterfacts",)},
            BenchmarkError,
            "unknown suite of metrics 'counterfacts'; did you mean 'counterfact'",
        ),
        ({"then_finetune": Training(steps=0)}, BenchmarkError, "needs at least one step"),
        ({"then_finetune": Training(learning_rate=-1.0)}, BenchmarkError, "a learning rate above 0"),
        ({"then_finetune": Training()}, BenchmarkError, "further fine-tuning needs 1024 tokens of text beyond"),
        ({"passages": ()}, BenchmarkError, "there is no text to measure perplexity on"),
        ({"passage_tokens": 1}, BenchmarkError, "there is no text to measure perplexity on"),
        ({"facts": [replace(FACTS[0], old_target=None)]}, FactError, "1 of 1 facts have none"),
        ({"suites": ("portability",)}, FactError, "'portability' asks the facts' probes, and no fact has one"),
        ({"suites": ("counterfact-plus",), "facts": [replace(FACTS[0], neighbours=())]}, FactError, "no fact has one"),
        ({"batch_size": 0}, BenchmarkError, "batch size and every must be at least 1"),
        ({"recipes": ("memit:layers",)}, RecipeError, "'layers' in 'memit:layers' is no option"),
        ({"recipes": ("memti",)}, RecipeError, "unknown recipe 'memti'; did you mean 'memit'"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_written(lm, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        run(lm, tmp_path / "run", **changes)
    assert not (tmp_path / "run" / "config.json").exists()


def test_runs_are_written_with_their_settings():
    assert parse_run("memit") == ("memit", {})
    assert parse_run("memit:preserve.lambda=1e+3") == ("memit", {"preserve.lambda": "1e+3"})
    assert parse_run("rect-blue:layers=4+8,filter.keep=0.3") == ("rect-blue", {"layers": "4+8", "filter.keep": "0.3"})


def test_general_ability_is_asked_at_the_end(lm, tmp_path):
    items = tmp_path / "items.jsonl"
    items.write_text("\n".join(json.dumps({"sentence": f"film {i}", "label": i % 2}) for i in range(8)))
    rows = run(lm, tmp_path / "run", abilities={"sst2": items})
    assert [bool(row["abilities"]) for row in rows] == [True, False, True, False, True]
    assert rows[-1]["abilities"]["sst2"]["items"] == 4
    assert (tmp_path / "run" / "results.md").read_text().count("| accuracy / F1 | facts | sst2 |") == 1


def test_general_ability_is_asked_half_way_too_in_a_longer_run(lm, tmp_path):
    items = tmp_path / "items.jsonl"
    items.write_text("\n".join(json.dumps({"sentence": f"film {i}", "label": i % 2}) for i in range(8)))
    recipe = plan().recipes[1]
    rows = run(lm, tmp_path / "run", abilities={"sst2": items}, recipes=(recipe,), batch_size=1, every=3)
    assert [(row["facts"], bool(row["abilities"])) for row in rows] == [(2, True), (3, False), (4, True)]


def test_a_full_disk_is_said_and_finished_batches_stay(lm, whole, tmp_path, monkeypatch):
    real = module.write_json

    def full(file, value):
        if file.name == "facts.json" and "memit" in str(file):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, value)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", full)
        with pytest.raises(
            BenchmarkError, match="No space left on device; make room or choose another place, and run the same again"
        ):
            run(lm, tmp_path / "run")
    fresh = toy_gpt2().state_dict()
    assert all((tensor == fresh[name]).all() for name, tensor in lm.model.state_dict().items())
    assert without_time(run(lm, tmp_path / "run")) == without_time(whole[1])
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_table", lambda *_: full(tmp_path / "memit" / "facts.json", None))
        with pytest.raises(
            BenchmarkError, match="No space left on device; make room or choose another place, and run the same again"
        ):
            run(lm, tmp_path / "run")


def test_facts_about_one_subject_are_reported_in_their_order(lm, tmp_path, caplog):
    """Batches hold a subject once, so that their order is not the data set's."""
    again = replace(FACTS[0], prompt="{} is in", paraphrases=())
    facts = [FACTS[0], again, *FACTS[1:], replace(again, target="London")]
    merge = f"memit:{SETTINGS},subjects=merge"
    run(lm, tmp_path / "r", facts=facts, recipes=(*plan().recipes[:2], merge))
    assert "1 facts repeat or contradict earlier ones" in caplog.text
    for recipe in read_run(tmp_path / "r").recipes:
        assert [fact["fact"]["target"] for fact in recipe.facts] == [fact.target for fact in facts]
        assert [fact["fact"]["prompt"] for fact in recipe.facts] == [fact.prompt for fact in facts]
    first = {r: Patch.load(tmp_path / "r" / place_of(r) / "patch").batches[0].facts for r in (merge, plan().recipes[1])}
    assert [fact.subject for fact in first[merge]] == ["France", "France"]
    assert [fact.subject for fact in first[plan().recipes[1]]] == ["France", "London"]


def test_locality_and_hidden_states_are_kept_with_the_run(lm, tmp_path):
    facts = [replace(fact, neighbours=(*fact.neighbours, Neighbour(f"{fact.subject} is in"))) for fact in FACTS]
    rows = run(lm, tmp_path / "r", facts=facts, suites=("counterfact", "locality"), every=2)
    unedited, edited = rows[0], rows[1]
    assert unedited["passage_kl"] == 0 and unedited["passage_same"] == 1
    assert edited["passage_kl"] > 0 and edited["neighbour_kl"] > 0
    hidden = json.loads(next((tmp_path / "r").glob("memit-seq-blue*/hidden.json")).read_text())
    assert hidden["shift"] > 0 and len(hidden["before"]) == len(hidden["after"]) == 5


def test_further_training_is_measured_once(lm, tmp_path, monkeypatch):
    folder, training = tmp_path / "r", Training(steps=2, learning_rate=1e-4, rows=2)
    more = {"passages": PASSAGES * 60, "passage_tokens": 100, "every": 2}
    run(lm, folder, **more)
    assert not list(folder.glob("*/finetuned.json"))
    run(lm, folder, then_finetune=training, **more)  # edits are taken from the folder
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("*/finetuned.json"))]
    assert len(found) == 3 and all(entry["before"] != entry["after"] for entry in found)
    assert all(entry["training"]["steps"] == 2 and entry["tokens"] == 512 for entry in found)
    for place in folder.glob("*/finetuned.json"):
        place.unlink()
    with_locality = run(lm, tmp_path / "l", then_finetune=training, suites=("counterfact", "locality"), **more)
    found = json.loads((tmp_path / "l" / "unedited" / "finetuned.json").read_text())
    assert with_locality[0]["passage_kl"] == 0 and found["before"]["passage_kl"] == 0
    assert found["after"]["passage_kl"] > 0 and found["after"]["neighbour_kl"] > 0, (
        "compared with the model before the training"
    )
    run(lm, folder, then_finetune=training, **more)
    monkeypatch.setattr(module, "trained", lambda *_: pytest.fail("trained again"))
    run(lm, folder, then_finetune=training, **more)
    fresh = toy_gpt2().state_dict()
    assert all((tensor == fresh[name]).all() for name, tensor in lm.model.state_dict().items())
