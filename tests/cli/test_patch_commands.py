"""`bluedit show`, `apply`, `ask` and `fetch`."""

from __future__ import annotations

from dataclasses import replace

import torch
from cli_help import EDIT, FACT, assert_fails, assert_fits, edit, files, flat, run
from transformers import AutoModelForCausalLM

from bluedit import Editor, Patch
from bluedit.evaluate.generate import ask
from bluedit.model.loading import load
from toys import toy_gpt2, toy_llama, toy_tokenizer

PROMPT = "The mother tongue of Danielle Darrieux is"


def test_show(patch):
    result = run("show", patch)
    assert result.exit_code == 0
    assert_fits(
        result.stdout.split("More:")[0],
        "Patch Edits Facts edit recipe facts said perplexity made",
        PROMPT,
        "English Rome",
    )
    text = flat(result.stdout)
    for part in ("facts 2", "layers 1, 3", "facts said: ", f"More: bluedit show {patch} --details"):
        assert part in text, part


def test_show_with_details(patch):
    result = run("show", patch, "--details")
    assert result.exit_code == 0
    assert_fits(result.stdout, "batch layer rank norm of change reach", PROMPT)
    text = flat(result.stdout)
    for part in (
        "facts 2 facts in 1 batch",
        "Edit 1",
        "paper https://arxiv.org/abs/2210.07229",
        "objective.steps=4",
        "layers=1+2+3",
        "model.layers.1.mlp.down_proj.weight",
        "key statistics 480 tokens of self",
        "precision=auto",
        "What changed",
        f"{PROMPT} => English",
        "p(new answer)",
    ):
        assert part in text, part


def test_show_a_patch_of_several_edits(model, patch, tmp_path):
    fact = "The rain in {Berlin} is => mild"
    edit(model, tmp_path / "both", "--patch", patch, "-f", fact, "-r", "memit-blue", "--no-report")
    short, details = run("show", tmp_path / "both"), run("show", tmp_path / "both", "--details")
    assert short.exit_code == details.exit_code == 0
    rows = [line.split() for line in short.stdout.splitlines()]
    assert [row[:3] for row in rows if row and row[0] in ("1", "2") and "-blue" in row[1]] == [
        ["1", "memit-seq-blue", "2"],
        ["2", "memit-blue", "1"],
    ]
    assert [row[-1] for row in rows if row[:1] == ["3"]] == ["–"]  # the second edit was not measured
    assert "Edit 1" in details.stdout and "Edit 2" in details.stdout
    assert details.stdout.count("What changed") == 1


def test_show_says_which_facts_a_later_edit_taught_again(model, patch, tmp_path):
    edit(
        model,
        tmp_path / "both",
        "--patch",
        patch,
        "-f",
        FACT,
        "-f",
        "The rain in {Berlin} is => mild",
        "--known",
        "edit",
    )
    shown = run("show", tmp_path / "both").stdout
    rows = {
        row[0]: row for row in map(str.split, shown.splitlines()) if row and row[0] in ("1", "2") and "-blue" in row[1]
    }
    assert (rows["1"][2:4], rows["2"][2:4]) == (["2", "0"], ["1", "1"])
    assert shown.count("Danielle Darrieux") == 1


def test_show_takes_what_is_said_from_the_last_edit_that_wrote_a_fact(model, patch, tmp_path):
    edit(model, tmp_path / "both", "--patch", patch, "-f", FACT, "--known", "edit", "--no-report")
    rows = [line.split() for line in run("show", tmp_path / "both").stdout.splitlines() if "Darrieux" in line]
    assert [row[-1] for row in rows] == ["–"]


def test_apply_saves_an_edited_checkpoint(model, patch, tmp_path):
    before = files(model)
    result = run("apply", patch, "-m", model, "--save", tmp_path / "edited")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"2 facts written. The edited model is in {tmp_path / 'edited'}\n"
    assert files(model) == before
    editor = Editor(load(str(model)))
    editor.apply(patch)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "edited", dtype="auto").state_dict()
    expected = editor.model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    again = run("apply", patch, "-m", model, "--save", tmp_path / "edited")
    assert_fails(again, 4, f"{tmp_path / 'edited'} exists already; choose a new folder for the edited model")


def test_ask_with_and_without_the_patch(model, patch):
    result = run("ask", "-m", model, "--patch", patch, "--tokens", 3, PROMPT, "The capital of France is")
    assert result.exit_code == 0, result.stderr
    assert_fits(result.stdout, PROMPT, "unedited with the patch")
    token, probability = ask(load(str(model)), [PROMPT], tokens=3)[0].top[0]
    assert f"{token!r} {probability:.1%}" in result.stdout
    plain = run("ask", "-m", model, "--tokens", 3, PROMPT)
    assert plain.exit_code == 0
    assert "answer" in plain.stdout and "with the patch" not in plain.stdout
    assert f"{token!r} {probability:.1%}" in plain.stdout


def test_without_model_it_is_the_one_that_the_patch_names(model, patch, tmp_path):
    named = run("ask", "--patch", patch, "--tokens", 3, PROMPT)
    assert named.exit_code == 0, named.stderr
    assert named.stdout == run("ask", "-m", model, "--patch", patch, "--tokens", 3, PROMPT).stdout
    assert run("apply", patch, "--save", tmp_path / "edited").exit_code == 0
    half = edit(model, tmp_path / "half", "--dtype", "bfloat16", "-f", FACT, "--no-report")
    assert half.exit_code == 0, half.stderr
    assert run("ask", "--patch", tmp_path / "half", PROMPT).exit_code == 0, "in the type that it was made for"
    assert run("ask", "-m", model, "--patch", tmp_path / "half", PROMPT).exit_code == 0


def test_a_patch_whose_model_is_elsewhere(patch, tmp_path):
    moved = replace(Patch.load(patch), base=replace(Patch.load(patch).base, model=str(tmp_path / "gone")))
    moved.save(tmp_path / "moved")
    result = run("ask", "--patch", tmp_path / "moved", PROMPT)
    gone = f"there is no model '{tmp_path / 'gone'}': no such folder, and it is not built in; choose one of smollm2"
    assert_fails(result, 4, f"{gone}. The patch names this model; if it is elsewhere, say where with --model")


def test_code_of_a_model_that_only_the_patch_names_is_not_run(patch, tmp_path):
    for command in (["ask", "--patch", patch, PROMPT], ["apply", patch, "--save", tmp_path / "edited"]):
        result = run(*command, "--trust-remote-code")
        assert result.exit_code == 4 and "name the model that you trust with --model" in result.stderr
    result = run("export", patch, tmp_path / "out", "--to", "checkpoint", "--trust-remote-code")
    assert result.exit_code == 12 and "name the model that you trust" in result.stderr


def test_a_model_by_a_relative_path_is_found_from_elsewhere(model, tmp_path, monkeypatch):
    monkeypatch.chdir(model.parent)
    assert edit(model.name, tmp_path / "p", "-f", FACT, "--no-report").exit_code == 0
    monkeypatch.chdir(tmp_path)
    assert run("ask", "--patch", "p", PROMPT).exit_code == 0


def test_the_current_folder_is_no_place_for_a_model(patch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (["apply", patch, "--save", "."], ["export", patch, ".", "--to", "checkpoint"]):
        result = run(*command)
        assert result.exit_code and "it is the folder that the command runs in" in result.stderr
        assert not list(tmp_path.iterdir())


def test_a_fact_that_was_taught_twice_is_one_fact(model, tmp_path):
    weak = ("--set", "reteach=1", "--set", "objective.clamp=0.001")
    edit(model, tmp_path / "p", "-f", FACT, "-f", "The capital of {France} is => Rome", *weak)
    assert len(Patch.load(tmp_path / "p").facts) == 4
    shown = flat(run("show", tmp_path / "p").stdout)
    assert "facts 2" in shown and shown.count("Danielle Darrieux") == 1
    assert "edit recipe facts again said" in shown and "taught once more" in shown
    assert run("apply", tmp_path / "p", "--save", tmp_path / "m").stdout.startswith("2 facts written.")


def test_a_model_without_a_chat_form_cannot_be_asked_in_chat(model):
    result = run("ask", "-m", model, "--chat", PROMPT)
    assert_fails(result, 3, f"the tokenizer of {model} has no chat template; ask without --chat (chat=False)")


def test_fetch_says_what_it_sees(model):
    result = run("fetch", model)
    assert result.exit_code == 0
    assert f"{model}: LlamaForCausalLM, 5 layers, d_key 48, torch.float32\n" in result.stdout
    assert "layers that will be edited: 1, 2\n" in result.stdout
    assert "tuning: generic (a guess from the model's depth and width, not measured)\n" in result.stdout


def test_a_patch_of_another_model(patch, tmp_path):
    toy_llama(dtype=torch.float32, seed=1).save_pretrained(tmp_path / "other")
    toy_gpt2(dtype=torch.float32, square=True).save_pretrained(tmp_path / "gpt2")
    for name in ("other", "gpt2"):
        toy_tokenizer(bos=True).save_pretrained(tmp_path / name)
    before = files(tmp_path)
    for command in (["apply", patch, "--save", tmp_path / "edited"], ["ask", "--patch", patch, "I am"]):
        result = run(*command, "-m", tmp_path / "other")
        assert_fails(result, 7, "the patch was made for other weights: ")
        assert "or pass force=True (--force) to use the patch anyway" in flat(result.stderr)
        result = run(*command, "-m", tmp_path / "gpt2", "--force")
        assert_fails(result, 7, "the patch changes 32 x 48 weights at layer 1, but ")
    result = run("edit", "-m", tmp_path / "other", "-o", tmp_path / "new", "-f", FACT, "--patch", patch, *EDIT)
    assert_fails(result, 7, "the patch was made for other weights: ")
    assert files(tmp_path) == before
    assert run("ask", "-m", tmp_path / "other", "--patch", patch, "--force", "--tokens", 1, "I am").exit_code == 0


def test_a_patch_of_the_library_is_shown_too(tmp_path):
    """One without a report and without anything about its making."""
    Patch().save(tmp_path / "empty")
    result = run("show", tmp_path / "empty")
    assert result.exit_code == 0, result.output
    assert "facts 0" in flat(result.stdout)
