"""`bluedit edit --guard ...`, outside a workspace and in one: what is printed, written and returned."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cli_help import EDIT, FACT, assert_fails, edit, files, flat, run

from bluedit import Patch, Workspace
from bluedit.editing import workspace as workspace_module

ROME = "The capital of {France} is => Rome"
PROTECTED = {"prompt": "The library of {} is in", "subject": "London", "target": "Italian"}


@pytest.fixture
def protected(tmp_path):
    (tmp_path / "protected.jsonl").write_text(json.dumps(PROTECTED))
    return tmp_path / "protected.jsonl"


def limit(model, tmp_path, share):
    """A limit on the KL that the fact breaks."""
    edit(model, tmp_path / "whole", "-f", FACT, "--no-report", "--guard", "kl=9", "--on-violation", "warn")
    (figure,) = Patch.load(tmp_path / "whole").batches[0].guard["figures"]
    return f"kl={share * figure['value']}"


def test_a_guard_that_lets_an_edit_pass(model, protected, tmp_path):
    rules = ["--guard", "norm=9", "--guard", "kl=9", "--guard", "perplexity=9", "--protect", protected]
    result = edit(model, tmp_path / "patch", "-f", FACT, "-f", ROME, *rules, "--guard", "protected=1")
    assert "Guard: kept. norm of a written weight +" in result.stdout
    assert "largest change of a protected fact 0." in flat(result.stdout)
    record = Patch.load(tmp_path / "patch").batches[0].guard
    assert record["asked"]["rules"] == {"norm": 9.0, "kl": 9.0, "perplexity": 9.0, "protected": 1.0}
    shown = run("show", tmp_path / "patch")
    assert "Guard: kept." in flat(shown.stdout) and " guard " in flat(shown.stdout)
    assert "Guard: kept." in flat(run("show", tmp_path / "patch", "--details").stdout)


def test_a_softened_edit(model, tmp_path):
    result = edit(model, tmp_path / "patch", "-f", FACT, "--no-report", "--guard", limit(model, tmp_path, 0.4))
    assert "% of the change is written. The whole change broke a rule: KL on ordinary text" in flat(result.stdout)
    assert "softened to 0." in flat(run("show", tmp_path / "patch").stdout)
    assert run("ask", "-m", model, "--patch", tmp_path / "patch", "The capital of France is").exit_code == 0


def test_a_refused_edit_leaves_nothing_behind(model, tmp_path):
    before = files(model)
    arguments = ["edit", "-m", model, "-o", tmp_path / "patch", *EDIT, "-f", FACT]
    result = run(*arguments, "--guard", "kl=0.00001", "--on-violation", "reject")
    assert_fails(result, 15, "the guard refuses the edit: KL on ordinary text 0.")
    assert "Nothing was changed" in result.stderr
    assert not (tmp_path / "patch").exists() and files(model) == before


def test_facts_that_are_left_out_have_the_exit_code_of_those_not_learned(model, tmp_path):
    learned = "We all live in {France} => The"
    arguments = ["edit", "-m", model, "--set", "objective.steps=40", "-f", learned, "-f", FACT]
    options = [word for word in EDIT if word != "--allow-missed"]
    guard = ["--guard", "efficacy=1", "--no-report"]
    result = run(*arguments[:3], *options, *arguments[3:], *guard, "-o", tmp_path / "patch")
    assert result.exit_code == 10, (result.stdout, result.stderr)
    assert "1 fact of 2 was left out; why, and what to try: bluedit show" in flat(result.stderr)
    assert "Left out: The mother tongue of Danielle Darrieux is => English (facts said 50 % (at least 100 %))." in flat(
        result.stdout
    )
    assert [fact.target for fact in Patch.load(tmp_path / "patch").facts] == ["The"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--guard", "klm=1"], 5, "guard has no rule 'klm'; did you mean 'kl'"),
        (["--guard", "norm=x"], 5, "guard.norm.limit must be a number, not 'x'"),
        (["--on-violation", "regect"], 5, "on_violation cannot be 'regect'; did you mean 'reject'"),
        (["--guard", "protected"], 3, "the guard's rule 'protected' needs facts whose answers must not change"),
        (["--protect", "nowhere.jsonl"], 3, "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_is_loaded(arguments, code, text, tmp_path):
    out = ["-m", tmp_path / "no model", "-o", tmp_path / "patch"]
    result = run("edit", *out, "-f", FACT, *arguments)
    assert result.exit_code == code and text in flat(result.stderr)
    assert "Traceback" not in result.stderr and not (tmp_path / "patch").exists()


def test_in_a_workspace(model, tmp_path):
    folder = tmp_path / "w"
    assert run("init", folder, "-m", model, "--tokens", 480).exit_code == 0
    base = ["-C", folder, "edit", "--no-report", *[w for w in EDIT if w not in ("--tokens", "480")]]
    done = run(*base, "-f", FACT, "--guard", limit(model, tmp_path, 0.4))
    assert done.exit_code == 0, done.stderr
    refused = run(*base, "-f", ROME, "--guard", "kl=0.00001", "--on-violation", "reject")
    assert refused.exit_code == 15 and "before this batch already" in refused.stderr
    assert "softened to 0." in flat(run("-C", folder, "log").stdout)
    assert "refused by the guard: KL on ordinary text" in flat(run("-C", folder, "log", "--events").stdout)
    assert "Guard: softened" in flat(run("-C", folder, "show", 1).stdout)
    assert len(Workspace.open(folder).log()) == 1
    assert run("-C", folder, "verify").exit_code == 0


def test_healing_under_a_guard(model, tmp_path, monkeypatch):
    folder = tmp_path / "w"
    assert run("init", folder, "-m", model, "--tokens", 480).exit_code == 0
    base = ["-C", folder, "edit", "--no-report", *[w for w in EDIT if w not in ("--tokens", "480")]]
    assert run(*base, "-f", FACT).exit_code == 0
    heal = ["-C", folder, "heal", "--no-report"]
    assert_fails(run(*heal, "--guard", "klm=1"), 5, "guard has no rule 'klm'; did you mean 'kl'")
    ask = workspace_module.fact_health
    unsaid = lambda *given: [replace(one, said=False) for one in ask(*given)]  # noqa: E731
    monkeypatch.setattr(workspace_module, "fact_health", unsaid)
    refused = run(*heal, "--guard", "kl=0.00001", "--on-violation", "reject")
    assert refused.exit_code == 15 and "before this batch already" in refused.stderr
    healed = run(*heal, "--guard", "kl=9", "--on-violation", "warn")
    assert healed.exit_code == 10 and "1 fact written again" in healed.stdout, (healed.stdout, healed.stderr)
    assert "1 of 1 fact written again is still not said" in flat(healed.stderr)
    assert run(*heal, "--guard", "kl=9", "--on-violation", "warn", "--allow-missed").exit_code == 0
    assert "kept" in flat(run("-C", folder, "log").stdout)
    missed = run(*heal[:3], "--guard", "kl=9")
    assert missed.exit_code == 10 and "1 fact of 1 was not learned; why, and what to try:" in flat(missed.stderr)
    assert run(*heal[:3], "--guard", "kl=9", "--allow-missed").exit_code == 0
