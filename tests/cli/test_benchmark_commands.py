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
    assert result.stdout.startswith("| recipe | facts | strict |") and "| rephrase_accuracy |" in result.stdout
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


def test_a_front_is_drawn_and_faults_are_said(model, tmp_path):
    pairs = ",".join(f"{path}={value}" for path, value in SETTINGS.items())
    recipe = f"memit:{pairs.replace('[1,2,3]', '1+2+3')}"
    out = tmp_path / "run"
    wanted = ["benchmark", "-m", model, "-o", out, "--facts", "world:2", "--tokens", 480, "--batch-size", 1]
    wanted += ["--passage-tokens", 60, "-r", recipe, "--front", "strength"]
    result = run(*wanted, "--front-values", "0.5", "--at", "1,2", "--plots", "svg")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("| recipe | facts | generated |")
    assert (
        result.stdout.count(f"| {recipe},strength=") == 6
    )  # two values, two numbers of facts, and the first batch of each
    assert {"front.csv", "front.json", "front-1.svg", "front-2.svg"} <= {file.name for file in out.iterdir()}
    for more, code, message in (
        (
            ["--front-values", "half"],
            9,
            "--front-values 'half' is not a list of numbers; write for example --front-values 0.5",
        ),
        (["--at", "1.5"], 9, "--at '1.5' is not a list of numbers; write for example --at 100,300,1000"),
        (["--at", "3"], 9, "there are 2 facts, and measuring is asked for after 3"),
        (["--entries", "honst"], 9, "unknown list of entries 'honst'; did you mean 'honest'?"),
        (["--front", "power"], 9, "sweep cannot be 'power'"),
        (["--plots", "gif"], 11, "unknown format of figures 'gif'"),
    ):
        assert_fails(run(*wanted, *more), code, message)
