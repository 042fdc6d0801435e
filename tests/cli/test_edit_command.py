"""`bluedit edit`: the patch it writes, what it prints, and its exit code."""

from __future__ import annotations

import torch
from cli_help import EDIT, FACT, SETTINGS, assert_fails, edit, files, flat, run

from bluedit import Editor, Execution, Fact, Patch
from bluedit.cli.edit_output import print_edit
from bluedit.editing.edit import Edit
from bluedit.methods.presets import DEFAULT, preset
from bluedit.model.loading import load


def same_factors(one: Patch, other: Patch) -> bool:
    pairs = zip(one.batches, other.batches, strict=True)
    updates = [(a, b) for x, y in pairs for a, b in zip(x.updates, y.updates, strict=True)]
    return all(torch.equal(a.R, b.R) and torch.equal(a.A, b.A) for a, b in updates)


def test_it_writes_a_patch_and_leaves_the_model_alone(model, tmp_path):
    before = files(model)
    out = tmp_path / "patch"
    result = edit(model, out, "-f", FACT)
    assert result.stderr == ""
    assert "What changed" in result.stdout
    assert "perplexity of ordinary text: " in result.stdout
    assert f"\nPatch written to {out}\nThe model itself is unchanged. Ask it with the patch:\n" in result.stdout
    assert f"bluedit ask --patch {out} 'The mother tongue of Danielle Darrieux is'\n" in result.stdout
    assert files(model) == before
    saved = Patch.load(out)
    assert saved.facts == (Fact("The mother tongue of {} is", "Danielle Darrieux", "English"),)
    assert saved.base.model == str(model)
    origin = saved.origins[0]
    assert origin.recipe == "memit-seq-blue"
    assert origin.settings["objective.steps"] == 4 and origin.settings["layers"] == [1, 2, 3]
    live = Editor(load(str(model)), tokens=480)
    assert same_factors(saved, live.edit(list(saved.facts), "memit-seq-blue", settings=SETTINGS, known="edit").patch)


def test_the_default_recipe(model, tmp_path):
    out = tmp_path / "patch"
    result = run(
        *("edit", "-m", model, "-o", out, "-f", FACT, "--known", "edit", "--tokens", 480, "--no-report"),
        *("--set", "layers=1", "--set", "objective.steps=1"),
    )
    assert result.exit_code == 0, result.stderr
    assert Patch.load(out).origins[0].recipe == DEFAULT


def test_an_edit_on_top_of_a_patch_contains_both(model, patch, tmp_path):
    edit(model, tmp_path / "both", "--patch", patch, "-f", "The rain in {Berlin} is => mild")
    assert [f.target for f in Patch.load(tmp_path / "both").facts] == ["English", "Rome", "mild"]


def test_without_report_and_with_a_file_of_facts(model, tmp_path):
    (tmp_path / "facts.csv").write_text(
        "prompt,subject,target\nThe capital of {} is,France,Rome\n{} plays the,Élise,drum kit\n", "utf-8"
    )
    out = tmp_path / "patch"
    result = edit(model, out, "--facts", tmp_path / "facts.csv", "--no-report", "--batch-size", 1, "-r", "memit")
    assert "2 facts written with memit into layers 1, 2, 3; not measured" in flat(result.stdout)
    assert len(Patch.load(out).batches) == 2
    assert run("show", out).exit_code == 0


def test_records_that_cannot_be_used(model, tmp_path):
    (tmp_path / "facts.csv").write_text("prompt,subject,target\nThe capital of {} is,France,Rome\nIt,France,Rome\n")
    arguments = ["--facts", tmp_path / "facts.csv", "--no-report"]
    refused = run("edit", "-m", model, "-o", tmp_path / "patch", *EDIT, *arguments)
    assert_fails(refused, 3, f"{tmp_path / 'facts.csv'}: 1 of 2 records cannot be used")
    edit(model, tmp_path / "patch", *arguments, "--bad-records", "skip")
    assert [f.text for f in Patch.load(tmp_path / "patch").facts] == ["The capital of France is"]


def test_the_choice_of_bundled_facts(model, tmp_path):
    chosen = []
    for seed in (0, 1):
        edit(model, tmp_path / str(seed), "--facts", "world:2", "--seed", seed, "--no-report")
        chosen.append([fact.text for fact in Patch.load(tmp_path / str(seed)).facts])
    assert chosen[0] != chosen[1]


def test_a_patch_that_is_there_is_replaced_only_if_asked(model, patch, tmp_path):
    out = tmp_path / "patch"
    Patch.load(patch).save(out)
    before = files(out)
    arguments = ["edit", "-m", tmp_path / "no model", "-o", out, "-f", FACT]  # the place is checked first
    sentence = f"{out} holds a patch already; choose another folder, or replace it with force=True (--force)"
    assert_fails(run(*arguments), 7, sentence)
    assert files(out) == before
    edit(model, out, "-f", "The rain in {Berlin} is => mild", "--force", "--no-report")
    assert [f.target for f in Patch.load(out).facts] == ["mild"]


def test_how_it_is_computed(model, tmp_path):
    how = ["--precision", "full", "--tokens-per-step", 64, "--statistics-device", "cpu"]
    edit(model, tmp_path / "patch", "-f", FACT, "--no-report", *how)
    saved = Patch.load(tmp_path / "patch")
    expected = {"precision": "full", "tokens_per_step": 64, "statistics_device": "cpu"}
    assert saved.origins[0].about["execution"] == expected
    live = Editor(load(str(model)), tokens=480, execution=Execution(**expected))
    done = live.edit(list(saved.facts), "memit-seq-blue", settings=SETTINGS, known="edit", report=False)
    assert same_factors(saved, done.patch)


def test_facts_that_were_not_learned(model, tmp_path):
    """They end in a sentence with what to try and an exit code of their own; the patch is written all the same."""
    arguments = ["edit", "-m", model, "-f", FACT, *(word for word in EDIT if word != "--allow-missed")]
    weak = ["--set", "objective.clamp=0.01", "--set", "objective.steps=1"]
    out = tmp_path / "a patch"
    result = run(*arguments, *weak, "-o", out)
    assert result.exit_code == 10
    assert flat(result.stderr) == flat(
        f"bluedit: 1 fact of 1 was not learned; why, and what to try: bluedit show '{out}' --details "
        "(objective.clamp is 0.01 now, objective.steps 1)"
    )
    assert f"Patch written to {out}\n" in result.stdout
    assert "Not said" in result.stdout
    for printed in (result.stdout, run("show", out, "--details").stdout):
        (why,) = (line for line in printed.splitlines() if line.startswith("  why "))
        assert why.endswith(".") or len(why) > 60
        assert "  to try " in printed
    assert len(Patch.load(out).facts) == 1
    allowed = run(*arguments, *weak, "-o", out, "--force", "--allow-missed")
    assert allowed.exit_code == 0
    assert allowed.stderr == ""
    assert "1 fact of 1 was not learned; why, and what to try: " in allowed.stdout


def test_facts_that_were_learned(model, tmp_path):
    arguments = [word for word in EDIT if word != "--allow-missed"]
    fact = "We all live in {France} => The"  # one token, right after the subject: a toy can learn that
    result = run("edit", "-m", model, "-f", fact, "-o", tmp_path / "patch", *arguments, "--set", "objective.steps=40")
    assert result.exit_code == 0, result.stderr
    assert "facts said: 1 of 1" in result.stdout
    assert "not learned" not in result.stdout


def test_a_report_that_failed_is_said(capsys):
    recipe = preset("memit").override({"layers": [1, 2]})
    done = Edit((Fact("{} is", "It", "so"),), recipe, Patch(), None, lambda _: None, "ValueError: [red] herring")
    print_edit(done, details=False)
    expected = "1 fact written with memit into layers 1, 2; the report failed: ValueError: [red] herring"
    assert flat(capsys.readouterr().out) == expected


def test_wordings(model, tmp_path):
    """Phrasings are taught and kept in the patch; --no-phrasings teaches the prompt alone."""
    plain = ["edit", "-m", model, "--known", "edit", "--tokens", 480, "--no-report", "--set", "layers=1", *("-f", FACT)]
    plain += ["--set", "objective.steps=1"]
    phrasing = "What is the mother tongue of {}?"
    for out, options in (("all", ["--phrasing", phrasing]), ("prompt", ["--no-phrasings"])):
        result = run(*plain, "-o", tmp_path / out, *options)
        assert result.exit_code == 0, result.stderr
    every, alone = (Patch.load(tmp_path / name) for name in ("all", "prompt"))
    assert phrasing in every.facts[0].phrasings
    assert alone.origins[0].settings["wordings"] == "prompt" != every.origins[0].settings["wordings"]
    two = run(*plain, "-o", tmp_path / "two", "-f", "The capital of {France} is => Rome", "--phrasing", phrasing)
    assert_fails(two, 3, "--phrasing is for a single --fact, and there are 2 facts; give phrasings in a file")
