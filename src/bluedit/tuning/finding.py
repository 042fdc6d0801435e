"""Finding a model's hyperparameters: layers from `locate`, then a search over settings, and a comparison on facts that it never saw."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bluedit.editing.editor import Editor
from bluedit.errors import EditError, ExplainError, RecipeError, StatisticsError
from bluedit.evaluate.outcome import Outcome
from bluedit.execution import Execution
from bluedit.explain.folder import claimed, saving
from bluedit.explain.unedited import unedited
from bluedit.facts.fact import Fact
from bluedit.methods.presets import DEFAULT, preset
from bluedit.methods.recipe import Recipe
from bluedit.methods.tuning_file import BUNDLED, TuningFile, kept_file
from bluedit.methods.tunings import Tuning
from bluedit.methods.update import ClosedForm
from bluedit.model.editable import EditableModel
from bluedit.page.plots import check_plots
from bluedit.progress import Progress, as_progress
from bluedit.tuning._clock import Clock
from bluedit.tuning._request import Effort, Request, split_facts
from bluedit.tuning._result import Comparison, tuning_file, write_results
from bluedit.tuning._study import JOURNAL, Search, Tried, best_of, optuna_module

__all__ = ["Effort", "FoundTuning", "find_tuning"]

_TARGETS = "targets"
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FoundTuning:
    """What was found, and where it is kept.

    Attributes:
        folder: holds tuning.toml, the page, and the trials as CSV and JSON.
        file: the tuning, for `Editor(tuning=...)` and `--tuning`.
        kept: the same in the user's folder, where editors of these weights find it; None if it was not kept.
        page: one HTML file that needs nothing else.
        settings: what differs from the numbers that the model had.
        confidence: low, fair or high.
        trials: how many were made.
        summary: what was found, a sentence each.
    """

    folder: Path
    file: Path
    kept: Path | None
    page: Path
    settings: Mapping[str, Any]
    confidence: str
    trials: int
    summary: tuple[str, ...]


def find_tuning(
    model: Editor | EditableModel,
    out: str | Path,
    *,
    facts: Sequence[Fact] | None = None,
    recipe: str | Recipe = DEFAULT,
    settings: Mapping[str, Any] | None = None,
    effort: Effort | None = None,
    tuning: str | Path | Tuning = BUNDLED,
    keep: bool = True,
    plots: Sequence[str] = (),
    corpus: str = "self",
    tokens: int | None = None,
    statistics: str | Path | None = None,
    execution: Execution | None = None,
    progress: bool | Progress = False,
) -> FoundTuning:
    """Search layers and numbers of a recipe for a model, and write them as a tuning. The model is left as it was.

    Everything is kept in `out`; after an interruption, or to give it more time, the same call goes on.

    Args:
        model: an editor without edits, or an editable model.
        out: folder for the tuning, the page, trials and targets.
        facts: what is taught; None means bundled facts. Facts that the model says already are left out.
        recipe: what is tuned; closed form.
        settings: parts and options that are fixed.
        effort: minutes, trials, and how many facts.
        tuning: the numbers that the search starts from and is compared with.
        keep: put the result into the user's folder, where editors of these weights find it, if it is better than what the model had.
        plots: formats of further image files of the figures: png, svg, pdf.
        corpus, tokens, statistics, execution, progress: as in `Editor`.

    Raises:
        ExplainError: the request cannot be carried out, optuna is not installed, or the folder holds something else.
        FactError, RecipeError, ModelError, StatisticsError: as `Editor.edit`.
    """
    from bluedit.tuning._layers import space_of

    started, folder, effort = time.monotonic(), Path(out), effort or Effort()
    check_plots(plots)
    optuna_module()
    given = {"corpus": corpus, "tokens": tokens, "statistics": statistics, "execution": execution, "tuning": tuning}
    editor = Editor(unedited(model), targets=folder / _TARGETS, progress=as_progress(progress), **given)
    base = editor.recipe(recipe, settings)
    if not isinstance(base.update, ClosedForm) or base.sequential:
        raise ExplainError(
            f"the recipe {base.name} does not write batches in closed form; tune one such as natural-blue, memit-seq-blue or alphaedit-blue"
        )
    asked = (preset(recipe) if isinstance(recipe, str) else recipe).override(settings or {})
    request = Request(editor, base, asked, *split_facts(editor, facts, effort), effort)
    about = request.described()
    begun = (folder / JOURNAL).exists()
    with claimed(folder, about, file="tune.json", what="tune", begun=begun), saving(folder):
        search = Search(folder, space_of(request, folder), effort.seed)
        clock = Clock(started, effort.minutes)
        _run(request, search, _befores(request), clock)
        compared = _compare(request, search, clock)
        written = tuning_file(request, search, compared)
        page, summary = write_results(folder, request, search, compared, written, plots)
        kept = _kept(written, compared) if keep else None
    better = compared.chosen.settings if compared.is_better else {}
    return FoundTuning(
        folder, folder / "tuning.toml", kept, page, better, written.confidence, len(search.tried), tuple(summary)
    )


@dataclass(frozen=True)
class Befores:
    """The unedited model on all search facts, and on the first ones."""

    all: Outcome
    first: Outcome


def _befores(request: Request) -> Befores:
    measure = request.yardstick.outcome
    whole = measure(request.search)
    return Befores(whole, measure(request.first) if request.first else whole)


def _run(request: Request, search: Search, before: Befores, clock: Clock) -> None:
    """Trials until the time is up or there are enough. The first, which is the base, is always made. Time is left for the comparison."""
    effort, most = request.effort, request.effort.trials
    with request.editor.progress.task("tuning", most or 0, "trials") as bar:
        while True:
            tried = search.tried
            if tried and (clock.is_up(search.whole, len(request.unseen)) or (most and len(tried) >= most)):
                return
            asked = search.ask()
            if asked is None:
                log.info(
                    "all settings near those that were tried are tried: the search ends after %d trials", len(tried)
                )
                return
            trial, settings = asked
            try:
                found = _tried(request, search, settings, before)
            except (EditError, RecipeError, StatisticsError) as error:
                if not tried:
                    raise
                log.warning("settings %s cannot be used: %s", settings, error)
                search.fail(trial)
                continue
            search.tell(trial, found)
            log.info(
                "trial %d of seed %d%s: score %.1f on %d facts with %s",
                *(len(tried) + 1, effort.seed, ", ended early" if found.ended else "", found.score, found.facts),
                settings,
            )
            bar()


def _tried(request: Request, search: Search, settings: dict[str, Any], before: Befores) -> Tried:
    """A trial: on the first facts, and on all of them unless the best trial so far is better on the first ones."""
    recipe, number = search.space.recipe(settings), len(search.tried)
    began, first = time.monotonic(), request.first
    score = math.nan
    if first:
        outcome = measured(request, recipe, first)
        score = outcome.score(before.first)
        if (whole := search.whole) and score < best_of(whole).first:
            return Tried(number, settings, outcome, score, score, len(first), time.monotonic() - began, ended=True)
    outcome = measured(request, recipe, request.search)
    seconds = time.monotonic() - began
    return Tried(number, settings, outcome, outcome.score(before.all), score, len(request.search), seconds)


def measured(request: Request, recipe: Recipe, facts: Sequence[Fact]) -> Outcome:
    """An edit of all facts at once, measured and taken back."""
    yardstick = request.yardstick
    try:
        request.editor.edit(facts, recipe, known="edit", report=False)
        return yardstick.outcome(facts)
    finally:
        request.editor.reset()


def _compare(request: Request, search: Search, clock: Clock) -> Comparison:
    """The best trial and the base on facts that the search did not see, as many as there is time for."""
    whole = search.whole
    base, best = whole[0], best_of(whole)
    unseen = request.unseen[: clock.comparable(whole, len(request.unseen))]
    before = request.yardstick.outcome(unseen)

    def on_unseen(one: Tried) -> Outcome:
        return measured(request, search.space.recipe(dict(one.settings)), unseen)

    own = on_unseen(base)
    return Comparison(base, best, before, own, own if best is base else on_unseen(best), len(unseen))


def _kept(written: TuningFile, compared: Comparison) -> Path | None:
    """The tuning in the user's folder; what is there for other recipes stays. A result that is no better changes nothing."""
    if not compared.is_better:
        return None
    file = kept_file(written.weights)
    if file.is_file():
        earlier = TuningFile.read(file).tuning
        mine = written.tuning.parts[-1]
        parts = (*(part for part in earlier.parts if part[0] != mine[0]), mine)
        written = replace(written, tuning=replace(written.tuning, set=earlier.set, parts=parts))
    try:
        written.write(file)
    except OSError as error:
        raise ExplainError(
            f"cannot keep the tuning in {file}: {error.strerror or error}; it is in the folder, use it with --tuning, or set BLUEDIT_DATA"
        ) from error
    return file
