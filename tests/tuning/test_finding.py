"""`tune`: the search is seeded, resumable and scored as it says; its result is kept, found again by weights, and used by an edit."""

import csv
import json
import tomllib
import warnings

import pytest
import torch
from cli_help import assert_fails, run

import bluedit
from bluedit.errors import EditError, ExplainError, RecipeError
from bluedit.evaluate.outcome import Outcome
from bluedit.facts import Fact, world_facts
from bluedit.methods.tuning_file import TuningFile, kept_file
from bluedit.model.editable import EditableModel
from bluedit.tuning import finding
from bluedit.tuning._clock import Clock
from bluedit.tuning._study import Tried
from bluedit.tuning.finding import Effort, find_tuning
from toys import corpus_in, files_in, toy_llama, toy_tokenizer

SETTINGS = {"layers": [1, 2], "objective.steps": 4, "contexts.count": 1, "preserve.lambda": 1.0}
FEW = Effort(trials=3, search=2, unseen=2, traced=0, probed=2)


@pytest.fixture(scope="module")
def toy():
    return EditableModel.of(toy_llama(dtype=torch.float32), toy_tokenizer(bos=True), "toy")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, toy):
    """tuned(out, **options): a search on a toy whose outcomes depend on its settings alone, with statistics that all tests share."""
    folder = tmp_path_factory.mktemp("shared")
    shared = {"corpus": str(corpus_in(folder)), "tokens": 400, "statistics": folder / "statistics"}
    shared |= {"facts": world_facts(4), "recipe": "memit-seq-blue", "settings": SETTINGS, "effort": FEW}
    return lambda out, model=toy, **options: find_tuning(model, out, **shared | options)


@pytest.fixture
def canned(monkeypatch):
    """Outcomes made up from the recipe: a small clamp is best. Gives the recipes that were asked for."""
    asked = []

    def measured(editor, recipe, facts):
        asked.append((recipe, tuple(facts)))
        options = recipe.settings()
        share = 1 / (1 + abs(options["objective.clamp"] - 0.4))
        return Outcome(share, share, share, share, 0.5, 0.01, 20.0)

    monkeypatch.setattr(finding, "measured", measured)
    return asked


def clamp_of(recipe):
    return recipe.settings()["objective.clamp"]


def test_a_real_search_end_to_end(tuned, toy, tmp_path):
    before = {name: p.clone() for name, p in toy.model.named_parameters()}
    found = tuned(tmp_path / "out", keep=False)
    assert all(torch.equal(p, before[name]) for name, p in toy.model.named_parameters())
    assert found.trials == 3 and found.kept is None and found.confidence == "low"
    with (found.folder / "trials.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows] == ["0", "1", "2"] and "layers=1+2 " in rows[0]["settings"]
    assert any(row["front"] == "True" for row in rows)
    results = json.loads((found.folder / "results.json").read_text("utf-8"))
    for row in results["trials"]:
        assert row["success"] == pytest.approx(
            (row["strict"] + (row["strict_paraphrase"] + row["generalisation"]) / 2) / 2
        )
    assert "Success against drift" in found.page.read_text("utf-8")
    content = tomllib.loads(found.file.read_text("utf-8"))
    assert content["weights"] == bluedit.Editor(toy).journal.base.fingerprint
    assert content["evidence"]["versions"]["bluedit"] and len(content["evidence"]["tried"]) == 3
    assert (
        content["match"]["hidden_size"] == 32 and content["evidence"]["facts"] and content["evidence"]["unseen_facts"]
    )


def test_the_file_does_not_say_where_the_model_lies(tuned, toy, canned, tmp_path):
    folder = tmp_path / "models" / "my-model"
    folder.mkdir(parents=True)
    named = EditableModel.of(toy.model, toy.tokenizer, str(folder))
    found = tuned(tmp_path / "out", model=named, effort=Effort(trials=1, search=2, unseen=2, traced=0, probed=2))
    text = found.file.read_text("utf-8")
    assert tomllib.loads(text)["evidence"]["model"] == "my-model" and str(tmp_path) not in text


def test_the_best_is_compared_on_unseen_facts_and_kept(tuned, toy, canned, tmp_path):
    found = tuned(tmp_path / "out", effort=Effort(trials=9, search=2, unseen=2, traced=0, probed=2))
    trials, (base, best) = canned[:-2], canned[-2:]
    seen = {facts for _, facts in trials}
    assert len(seen) == 1 and base[1] == best[1] and not set(base[1]) & set(next(iter(seen)))
    assert clamp_of(trials[0][0]) == clamp_of(base[0])
    assert (
        abs(clamp_of(best[0]) - 0.4)
        == min(abs(clamp_of(recipe) - 0.4) for recipe, _ in trials)
        < abs(clamp_of(base[0]) - 0.4)
    )
    assert found.settings["objective.clamp"] == clamp_of(best[0]) and found.confidence == "fair"
    editor = bluedit.Editor(toy)  # finds it by the weights
    assert found.kept == kept_file(editor.journal.base.fingerprint)
    recipe = editor.recipe("memit-seq-blue")
    assert recipe.tuning.startswith("tuned-") and clamp_of(recipe) == clamp_of(best[0])
    assert recipe.layers == best[0].layers
    bundled = bluedit.Editor(toy, tuning="bundled")
    other = editor.recipe("memit").settings()
    assert other == bundled.recipe("memit").settings(), "other recipes keep their numbers"
    assert bundled.recipe("memit-seq-blue").tuning == "generic"
    other_model = EditableModel.of(toy_llama(dtype=torch.float32, seed=1), toy_tokenizer(bos=True), "other")
    assert bluedit.Editor(other_model).recipe().tuning == "generic"
    by_path = bluedit.Editor(other_model, tuning=found.file).recipe("memit-seq-blue")
    assert clamp_of(by_path) == clamp_of(best[0])


def test_a_second_search_keeps_what_was_found_for_another_recipe(tuned, toy, canned, tmp_path):
    many = Effort(trials=6, search=2, unseen=2, traced=0, probed=2)
    first = tuned(tmp_path / "first", effort=many)
    second = tuned(tmp_path / "second", effort=many, recipe="memit", settings=SETTINGS)
    editor = bluedit.Editor(toy)
    for found, name in ((first, "memit-seq-blue"), (second, "memit")):
        assert found.kept and clamp_of(editor.recipe(name)) == found.settings["objective.clamp"], name


def outcome(*by_fact):
    share = sum(by_fact) / len(by_fact)
    return Outcome(share, share, share, share, 0.5, 0.01, 20.0, by_fact)


def test_a_gain_within_its_noise_changes_nothing(tuned, toy, monkeypatch, tmp_path):
    """The best trial is better on one of two unseen facts and worse on the other: a gain of 7.5 points with a standard error of 12.5."""

    def measured(_editor, recipe, _facts):
        return outcome(0.5, 0.5) if clamp_of(recipe) == of_base else outcome(0.45, 0.7)

    of_base = clamp_of(bluedit.Editor(toy).recipe("memit-seq-blue", SETTINGS))
    monkeypatch.setattr(finding, "measured", measured)
    many = Effort(trials=9, search=2, unseen=2, traced=0, probed=2)
    found = tuned(tmp_path / "out", effort=many)
    assert found.kept is None and found.settings == {} and found.confidence == "low"
    assert "The best setting gains no more than its noise on unseen facts; the numbers before stay." in found.summary
    assert "On 2 unseen facts the score changes by +7.5 points (standard error 12.5); confidence: low." in found.summary


def test_trials_that_are_behind_on_the_first_facts_end_there(tuned, canned, tmp_path):
    effort = Effort(trials=9, search=16, unseen=8, traced=0, probed=2)
    found = tuned(tmp_path / "out", facts=world_facts(30), effort=effort, keep=False)
    trials, ended = canned[:-2], 0
    rows = json.loads((found.folder / "results.json").read_text())["trials"]
    best, asked = -1.0, iter(trials)
    for row in rows:
        recipe, facts = next(asked)
        assert len(facts) == 4 and f"objective.clamp={clamp_of(recipe)}" in row["settings"]
        if row["facts"] == 16:
            whole = next(asked)
            assert whole[0] is recipe and whole[1][:4] == facts and len(whole[1]) == 16
            best = max(best, row["success"])
        else:
            ended += 1
            assert row["facts"] == 4 and row["success"] < best and not row["front"]
    assert next(asked, None) is None and len(rows) == 9 and 0 < ended < 8
    assert f"9 trials of memit-seq-blue on 16 facts, {ended} of which ended after 4" in found.summary[0]
    assert clamp_of(canned[-1][0]) == min((clamp_of(r) for r, _ in trials), key=lambda clamp: abs(clamp - 0.4))


@pytest.mark.parametrize(
    ("left", "up", "comparable"), [(600, False, 24), (361, False, 18), (359, True, 17), (90, True, 8), (-5, True, 8)]
)
def test_an_expensive_recipe_is_compared_on_fewer_facts(left, up, comparable, monkeypatch):
    """A trial of 16 facts takes 160 s, so a comparison on all 24 would take 480 of 600 s."""
    clock = Clock(1000.0, 10)
    monkeypatch.setattr("bluedit.tuning._clock.time.monotonic", lambda: 1600.0 - left)
    whole = [Tried(0, {}, outcome(1.0), 0.0, 0.0, 16, 160.0)]
    assert clock.is_up(whole, 24) == up
    assert clock.comparable(whole, 24) == comparable


def test_a_result_that_is_no_better_changes_nothing(tuned, toy, monkeypatch, tmp_path):
    monkeypatch.setattr(finding, "measured", lambda *_: Outcome(0.5, 0.5, 0.5, 0.5, 0.5, 0.01, 20.0))
    found = tuned(tmp_path / "out")
    assert found.kept is None and found.settings == {} and found.confidence == "low"
    assert "No setting scored better than the numbers before; they stay." in found.summary
    assert not kept_file(bluedit.Editor(toy).journal.base.fingerprint).exists()


def test_an_interrupted_search_goes_on_as_it_would_have(tuned, canned, monkeypatch, tmp_path):
    effort = Effort(trials=8, search=2, unseen=2, traced=0, probed=2)
    whole = tuned(tmp_path / "whole", effort=effort, keep=False)
    original, calls = finding.measured, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(finding, "measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path / "again", effort=effort, keep=False)
    again = tuned(tmp_path / "again", effort=effort, keep=False)
    assert len(calls) == 4 + 5 + 2  # three were kept
    rows = [json.loads((found.folder / "results.json").read_text())["trials"] for found in (whole, again)]
    names = [[row["settings"] for row in found] for found in rows]
    assert names[0][:4] == names[1][:4] and len(names[1]) == 8
    more = tuned(tmp_path / "again", effort=Effort(trials=9, search=2, unseen=2, traced=0, probed=2), keep=False)
    assert more.trials == 9


def test_settings_that_cannot_be_used_are_left_out(tuned, canned, monkeypatch, tmp_path):
    original, calls = finding.measured, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise EditError("the loss of 1 facts is not finite")
        return original(*arguments)

    monkeypatch.setattr(finding, "measured", failing)
    assert tuned(tmp_path / "out", keep=False).trials == 3


def test_time_is_kept(tuned, canned, monkeypatch, tmp_path):
    found = tuned(tmp_path / "out", effort=Effort(minutes=1e-6, search=2, unseen=2, traced=0, probed=2), keep=False)
    assert found.trials == 1


def test_requests_that_cannot_be_carried_out(tuned, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ExplainError, match=r"minutes is 0; give the search some time, e.g. 15 \(--minutes\)"):
        Effort(minutes=0)
    with pytest.raises(ExplainError, match="trials is 0; it must be at least 1"):
        Effort(trials=0)
    with pytest.raises(ExplainError, match="the recipe rome does not write batches in closed form"):
        tuned(out, recipe="rome", settings={"layers": [1]})
    with pytest.raises(ExplainError, match="3 of the 3 facts can be used, and tune needs at least 4"):
        tuned(out, facts=world_facts(3))
    assert not out.exists()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExplainError, match=r"contains files that tune did not write \(notes.txt\)"):
        tuned(tmp_path)


def test_a_folder_of_another_search_is_left_alone(tuned, canned, tmp_path):
    tuned(tmp_path / "out", keep=False)
    before = files_in(tmp_path / "out")
    with pytest.raises(ExplainError, match="holds the results of another request: settings differ"):
        tuned(tmp_path / "out", settings=SETTINGS | {"preserve.lambda": 2.0})
    assert files_in(tmp_path / "out") == before


def test_tuning_files_that_cannot_be_used(tuned, toy, canned, tmp_path):
    found = tuned(tmp_path / "out", keep=False)
    text = found.file.read_text("utf-8")
    assert TuningFile.read(found.file).tuning.name.startswith("tuned-")
    wrong = tmp_path / "wrong.toml"
    for content, message in (
        ("format = 2\n", "has format 2, and this version reads 1"),
        ("name = ", "is not a tuning that bluedit can read"),
        (text.replace("hidden_size = 32", "hidden_size = 64"), "was made for a model of another shape: this one has"),
        (text.replace('"objective.clamp" =', '"objective.clmap" ='), "unknown option 'objective.clmap'"),
    ):
        wrong.write_text(content)
        with pytest.raises(RecipeError, match=message):
            bluedit.Editor(toy, tuning=wrong)
    with pytest.raises(RecipeError, match=r"cannot read the tuning .*missing\.toml: No such file"):
        bluedit.Editor(toy, tuning=tmp_path / "missing.toml")


def test_the_commands(tmp_path):
    model = tmp_path / "toy"
    toy_llama(dtype=torch.float32).save_pretrained(model)
    toy_tokenizer(bos=True).save_pretrained(model)
    assert_fails(run("tune", model, "--minutes", "0", "--out", tmp_path / "out"), 11, "minutes is 0")
    few = ["--search", "2", "--unseen", "2", "--traced", "0", "--probed", "1", "--trials", "1", "--tokens", "480"]
    numbers = ["layers=1,2", "objective.steps=2", "contexts.count=1", "preserve.lambda=1"]
    few += [word for number in numbers for word in ("--set", number)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run("tune", model, "--recipe", "memit-seq-blue", "--out", tmp_path / "out", *few)
    assert result.exit_code == 0, result.stderr
    assert "1 trials of memit-seq-blue on 2 facts" in result.stdout and "Tuning written to" in result.stdout
    edit = ["edit", "-m", model, "-f", "The capital of {France} is => Rome", "-r", "memit-seq-blue", "--tokens", "480"]
    done = run(
        *edit,
        "--allow-missed",
        "--no-report",
        "--tuning",
        tmp_path / "out" / "tuning.toml",
        "--out",
        tmp_path / "patch",
    )
    assert done.exit_code == 0, done.stderr
    (origin,) = bluedit.Patch.load(tmp_path / "patch").origins
    assert origin.tuning.startswith("tuned-") and origin.settings["preserve.lambda"] == 1.0
    assert isinstance(bluedit.Patch.load(tmp_path / "patch").facts[0], Fact)
