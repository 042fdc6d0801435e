"""`bluedit benchmark` and `report`."""

from __future__ import annotations

from cli_help import SETTINGS, assert_fails, run


def test_a_benchmark_runs_goes_on_and_refuses(model, tmp_path):
    pairs = ",".join(f"{path}={value}" for path, value in SETTINGS.items())
    recipe = f"memit-blue:{pairs.replace('[1,2,3]', '1+2+3')}"
    out = tmp_path / "run"
    wanted = ["benchmark", "-m", model, "-o", out, "--facts", "world:4", "--tokens", 480, "--batch-size", 2]
    wanted += ["--passage-tokens", 100, "--suite", "counterfact", "--suite", "zsre"]
    how = ["--precision", "full", "--tokens-per-step", 64, "--statistics-device", "cpu"]
    result = run(*wanted, *how, "-r", "unedited", "-r", recipe)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("| recipe | facts | efficacy |") and "| rephrase_accuracy |" in result.stdout
    assert (out / "results.md").read_text() == result.stdout
    again = run(*wanted, "-r", "unedited", "-r", recipe)  # how it is computed is not part of what is computed
    assert again.exit_code == 0 and again.stdout == result.stdout
    assert_fails(run(*wanted, "--skip", 1, "-r", "unedited"), 9, f"{out} holds another benchmark: facts")
    assert_fails(run(*wanted, "--suite", "zsr"), 9, "unknown suite of metrics 'zsr'; did you mean 'zsre'?")
    assert_fails(run(*wanted, "--passages", tmp_path / "none.txt"), 6, "there is no corpus")
    assert_fails(run(*wanted, "--precision", "bf61"), 5, "--precision cannot be 'bf61'; did you mean 'bf16'?")
    page = run("report", out, "-o", tmp_path / "page.html")
    assert page.stdout == f"Page written to {tmp_path / 'page.html'}\n"
    assert (tmp_path / "page.html").read_text("utf-8").startswith("<!")
