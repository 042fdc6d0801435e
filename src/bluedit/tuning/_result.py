"""What a search leaves: the tuning with its evidence, trials as tables, and the page."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import stdev
from typing import Any

from bluedit.evaluate.outcome import Outcome
from bluedit.explain.residual_data import as_csv, rows_as_json
from bluedit.files import write_file, write_json
from bluedit.methods.part import slots_of
from bluedit.methods.recipe import Recipe
from bluedit.methods.tuning_file import TuningFile
from bluedit.methods.tunings import Tuning, tuning_for
from bluedit.page import Axis, Chart, Dots, Line, document, table, write_document
from bluedit.page.plots import write_plots
from bluedit.tuning._request import Request
from bluedit.tuning._study import Search, Tried, front
from bluedit.tuning.trial_data import TrialRow
from bluedit.writing.writer import versions

_SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")
_FAIR_TRIALS, _HIGH_TRIALS, _HIGH_FACTS = 8, 20, 40
_COLUMNS = ("efficacy", "generalisation", "specificity", "strict", "strict_paraphrase", "perplexity", "passage_kl")


@dataclass(frozen=True, eq=False)
class Comparison:
    """The best trial against what the model had, on facts that the search did not see.

    Attributes:
        base, chosen: trials.
        before: the unedited model on the unseen facts.
        base_outcome, chosen_outcome: edited with either.
        facts: how many.
    """

    base: Tried
    chosen: Tried
    before: Outcome
    base_outcome: Outcome
    chosen_outcome: Outcome
    facts: int

    @property
    def gain(self) -> float:
        """Points of score that the chosen settings gain."""
        return self.chosen_outcome.score(self.before) - self.base_outcome.score(self.before)

    @property
    def is_better(self) -> bool:
        """Whether another setting than the base was chosen, and gains more than its noise on the unseen facts."""
        return self.chosen is not self.base and self.gain > self.noise

    @property
    def noise(self) -> float:
        """Standard error of the gain in success, in points: both are measured on the same facts, so it is that of the differences."""
        pairs = zip(self.chosen_outcome.by_fact, self.base_outcome.by_fact, strict=True)
        apart = [one - other for one, other in pairs if not math.isnan(one - other)]
        return 100 * stdev(apart) / math.sqrt(len(apart)) if len(apart) > 1 else 0.0

    def confidence(self, trials: int) -> str:
        """How far the result is to be trusted: "low" where it is no better, or few settings were tried; "high" where the gain is twice its noise
        over many facts after many trials."""
        if not self.is_better or trials < _FAIR_TRIALS:
            return "low"
        sure = trials >= _HIGH_TRIALS and self.facts >= _HIGH_FACTS and self.gain > 2 * self.noise
        return "high" if sure else "fair"


def tuning_file(request: Request, search: Search, compared: Comparison) -> TuningFile:
    """The tuning: the bundled numbers for other recipes, and those that were found for recipes like the base."""
    editor, base, trials = request.editor, request.base, len(search.tried)
    name = editor.lm.name
    config = editor.lm.model.config.get_text_config()
    start = editor.tuning or tuning_for(config, editor.lm.d_key)
    winner = compared.chosen if compared.is_better else compared.base
    confidence = compared.confidence(trials)
    source = f"bluedit tune, {base.name}: {trials} trials on {len(request.search)} facts, compared on {compared.facts} others"
    shape = {key: value for key in _SHAPE if isinstance(value := getattr(config, key, None), (int, str))}
    parts = (*start.parts, (kind_of(request.asked), dict(winner.settings)))
    tuning = Tuning(f"tuned-{editor.journal.base.fingerprint[:8]}", source, shape, dict(start.set), parts)
    evidence = {
        "model": Path(name).name if Path(name).exists() else name,  # the file is shared, a place on this machine is not
        "recipe": base.name,
        "trials": trials,
        "seed": request.effort.seed,
        "gain": round(compared.gain, 2),
        "noise": round(compared.noise, 2),
        "facts": [fact.id or fact.text for fact in request.search],
        "unseen_facts": [fact.id or fact.text for fact in request.unseen],
        "versions": versions(),
        "unseen_before": _rounded(compared.before),
        "unseen_base": _rounded(compared.base_outcome),
        "unseen_found": _rounded(compared.chosen_outcome),
        "tried": [{"score": round(one.score, 2), "on": one.facts, **one.settings} for one in search.tried],
    }
    return TuningFile(tuning, editor.journal.base.fingerprint, confidence, evidence)


def kind_of(recipe: Recipe) -> dict[str, Any]:
    """The parts of a recipe by slot: recipes of these parts get the numbers."""
    chosen = recipe.settings()
    wanted = {*slots_of(Recipe), *slots_of(type(recipe.update)), *slots_of(type(recipe.objective))}
    return {path: value for path, value in chosen.items() if path in wanted and isinstance(value, str)}


def _rounded(outcome: Outcome) -> dict[str, float]:
    return {name: round(value, 4) for name, value in outcome.numbers().items()}


def rows_of(tried: Sequence[Tried]) -> list[TrialRow]:
    """Trials as a table."""
    best = front(list(tried))
    return [
        TrialRow(
            number=one.number,
            settings=_shown(one.settings),
            **one.outcome.numbers(),
            success=one.outcome.success,
            score=one.score,
            facts=one.facts,
            front=one.number in best,
            seconds=round(one.seconds, 1),
        )
        for one in tried
    ]


def _shown(settings: Mapping[str, Any]) -> str:
    """Settings as `--set` writes them."""
    return " ".join(f"{path}={'+'.join(map(str, v)) if isinstance(v, list) else v}" for path, v in settings.items())


def write_results(
    folder: Path, request: Request, search: Search, compared: Comparison, written: TuningFile, plots: Sequence[str]
) -> tuple[Path, list[str]]:
    """Write everything; (the page, what was found in sentences).

    Raises:
        OSError: the folder cannot be written.
    """
    tried = search.tried
    summary, rows = summary_of(request, tried, compared, written.confidence), rows_of(tried)
    written.write(folder / "tuning.toml")
    write_file(folder / "trials.csv", as_csv(TrialRow, rows))
    unseen = {"before": compared.before, "base": compared.base_outcome, "found": compared.chosen_outcome}
    content = {"summary": summary, "effort": asdict(request.effort), "confidence": written.confidence}
    numbers = {name: outcome.numbers() for name, outcome in unseen.items()}
    write_json(folder / "results.json", content | {"unseen": numbers, "trials": rows_as_json(rows)})
    charts = charts_of(tried, compared)
    figures = "".join(chart.html() for chart in charts)
    lead = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in summary)
    about = html.escape(json.dumps({"settings": request.base.settings()}, indent=1))
    main = (
        f"<section><h2>What was found</h2>{lead}</section><section><h2>On unseen facts</h2>{_unseen(unseen)}</section>"
        f'<section><h2>Trials</h2><div class="charts">{figures}</div>{_trials(rows)}</section>'
        f"<section><details><summary>The recipe before</summary><pre>{about}</pre></details></section>"
    )
    page = write_document(folder / "tune.html", document(f"Tuning of {request.editor.lm.name}", _INTRODUCTION, main))
    write_plots(charts if plots else (), folder / "figures", plots)
    return page, summary


_INTRODUCTION = (
    "<p>Each trial is an edit of the same facts with other settings. It is scored by what it teaches and by what it costs; the best one is then "
    "compared with the numbers that the model had, on facts that no trial has seen.</p>"
)


def charts_of(tried: Sequence[Tried], compared: Comparison) -> list[Chart]:
    """Success against drift, and the score from trial to trial."""

    def place(one: Tried) -> tuple[float, float]:
        return one.outcome.passage_kl, one.outcome.success

    best = front(list(tried))
    edge = sorted(place(one) for one in tried if one.number in best)
    whole = [one for one in tried if not one.ended]
    best_so_far = [(one.number, max(other.score for other in whole[: i + 1])) for i, one in enumerate(whole)]
    return [
        Chart(
            "front",
            "Success against drift",
            Axis("KL on ordinary text, nats"),
            Axis("success", percent=True),
            (
                Dots("trials", [place(one) for one in whole], 0),
                Line("front", edge, 2),
                Line("before", [place(compared.base)], 1, hollow=True),
                Line("best score", [place(compared.chosen)], 3),
            ),
            "The front are the trials that no other one beats in both.",
        ),
        Chart(
            "scores",
            "Score",
            Axis("trial"),
            Axis("score, points"),
            (
                Dots("trial", [(one.number, one.score) for one in whole], 0),
                Line("best so far", best_so_far, 2),
            ),
            "Trial 0 is what the model had. Trials that ended early are not shown.",
        ),
    ]


def _unseen(outcomes: Mapping[str, Outcome]) -> str:
    rows = []
    for name, outcome in outcomes.items():
        numbers = outcome.numbers()
        rows.append((name, [f"<td>{_cell(column, numbers[column])}</td>" for column in _COLUMNS]))
    return table("", "", ["", *(column.replace("_", " ") for column in _COLUMNS)], rows)


def _cell(column: str, value: float) -> str:
    if math.isnan(value):
        return ""
    return {"perplexity": f"{value:.2f}", "passage_kl": f"{value:.4f}"}.get(column, f"{100 * value:.1f} %")


def _trials(rows: Sequence[TrialRow]) -> str:
    heads = ["trial", "facts", "score", "success", "KL", "specificity", "s", "settings"]
    body = []
    for row in rows:
        cells = [f"{row.score:.1f}", f"{100 * row.success:.1f} %", f"{row.passage_kl:.4f}"]
        cells += [_cell("specificity", row.specificity), f"{row.seconds:.0f}", html.escape(row.settings)]
        cells.insert(0, str(row.facts))
        body.append((f"{row.number}{' (front)' if row.front else ''}", [f"<td>{cell}</td>" for cell in cells]))
    return table("All trials", "", heads, body)


def summary_of(request: Request, tried: Sequence[Tried], compared: Comparison, confidence: str) -> list[str]:
    """What was found, a sentence each."""
    base, chosen = compared.base, compared.chosen
    early = sum(one.ended for one in tried)
    cut = f", {early} of which ended after {len(request.first)}" if early else ""
    said = [
        f"{len(tried)} trials of {request.base.name} on {len(request.search)} facts{cut}: the best score is {chosen.score:.1f}, and {base.score:.1f} with the numbers before."
    ]
    if compared.is_better:
        changed = {path: value for path, value in chosen.settings.items() if value != base.settings[path]}
        said.append(f"Found: {_shown(changed)}.")
    elif chosen is base:
        said.append("No setting scored better than the numbers before; they stay.")
    else:
        said.append("The best setting gains no more than its noise on unseen facts; the numbers before stay.")
    said.append(
        f"On {compared.facts} unseen facts the score changes by {compared.gain:+.1f} points (standard error {compared.noise:.1f}); confidence: {confidence}."
    )
    return said
