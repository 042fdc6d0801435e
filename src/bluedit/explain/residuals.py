"""The analysis of residual distribution (BLUE, arXiv 2502.03748, section 3) on any model and facts.

MEMIT and its relatives optimise one residual at the last critical layer and give each layer a share of it. BLUE's paper argues that a share
is not what the layer needs. `explain_residuals` measures this: what each layer would need, what it is given, and what comes of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bluedit.editing.editor import Editor
from bluedit.execution import Execution
from bluedit.explain._residual_notes import notes_of
from bluedit.explain._residual_page import Findings, write_page
from bluedit.explain._residual_request import check_numbers, configuration_of, facts_of, recipes_of
from bluedit.explain._residual_setting import Setting, Switch
from bluedit.explain._residual_shift import unrelated_facts
from bluedit.explain._residual_stages import measure
from bluedit.explain._stages import FIGURES, TARGETS, Tables, staged, write_tables
from bluedit.explain.folder import saving
from bluedit.explain.residual_data import TABLES
from bluedit.explain.unedited import unedited
from bluedit.facts.fact import Fact
from bluedit.methods.recipe import Recipe
from bluedit.methods.tuning_file import BUNDLED
from bluedit.model.editable import EditableModel
from bluedit.page.plots import check_plots, write_plots
from bluedit.progress import Progress
from bluedit.text.contexts import sampled_prefixes
from bluedit.writing.keys import batch_rows
from bluedit.writing.target import TargetSource
from bluedit.writing.target_store import TargetStore
from bluedit.writing.trace import Trace
from bluedit.writing.writer import versions


@dataclass(frozen=True, eq=False)
class ResidualAnalysis:
    """What was measured, and where it is kept.

    Attributes:
        folder: holds results.json, a CSV file per table, and the page.
        page: one HTML file that needs nothing else.
        tables: rows by name, see `bluedit.explain.residual_data`.
        summary: what was found, a sentence each.
        notes: what was left out or done otherwise than one may expect, a sentence each.
        resumed: stages whose results were kept from an earlier, interrupted run.
    """

    folder: Path
    page: Path
    tables: Tables
    summary: tuple[str, ...]
    notes: tuple[str, ...] = ()
    resumed: tuple[str, ...] = ()


def explain_residuals(
    model: Editor | EditableModel,
    facts: Sequence[Fact],
    out: str | Path,
    *,
    recipe: str | Recipe = "memit",
    layers: Sequence[int] | None = None,
    settings: Mapping[str, Any] | None = None,
    batches: int = 4,
    fluent: int = 25,
    sample: int = 50,
    known: str = "refuse",
    plots: Sequence[str] = (),
    corpus: str | None = None,
    tokens: int | None = None,
    statistics: str | Path | None = None,
    targets: TargetSource | None = None,
    execution: Execution | None = None,
    progress: bool | Progress = False,
) -> ResidualAnalysis:
    """Measure what distributing a residual costs (arXiv 2502.03748), and write a page. The model is left as it was.

    Every stage's results are kept in `out` as soon as they are there; after an interruption the same call goes on with the next stage.

    Args:
        model: an editor without edits, or an editable model.
        facts: what would be edited; of several facts about one subject only the first is used.
        out: folder for page, tables and kept results.
        recipe: the method to analyse; it must write batches in closed form. Its other wordings are left out.
        layers: the critical layers, ascending; None means the recipe's.
        settings: parts and options of the recipe by path.
        batches: into how many batches the facts are cut for what is measured over a sequence.
        fluent: on how many facts fluency is measured after each single-layer edit, the first ones; 0 leaves it out.
        sample: how many facts, the first ones, are written by several schedules and in sequences.
        known: what to do with facts that the model says already: "refuse", "skip" or "edit".
        plots: formats of further image files of all figures: png, svg, pdf.
        corpus, tokens, statistics: key statistics, as in `Editor`.
        targets: where targets come from; without any they are optimised and kept in `out`.
        execution, progress: as in `Editor`. What is left out, of these and of the three before, is an editor's own where one is passed; its trace
            is told of every write.

    Raises:
        ExplainError: the request cannot be carried out, or the folder holds something else; nothing was computed. Or the folder cannot be written.
        FactError, RecipeError, ModelError, StatisticsError: as `Editor.edit`.
    """
    check_plots(plots)
    check_numbers(batches, fluent, sample)
    lm = unedited(model)
    options = {"corpus": corpus, "tokens": tokens, "statistics": statistics, "execution": execution, "targets": targets}
    editor, switch = _watched(model, lm, options, progress)
    folder = Path(out)
    if switch.source is None:
        switch.source = TargetStore(folder / TARGETS, editor.journal.base.fingerprint, editor.moments)
    host, plain, with_blue = recipes_of(editor, recipe, layers, settings)
    chosen = facts_of(editor, facts, known)
    prefixes = host.contexts.prefixes(partial(sampled_prefixes, lm))
    setting = Setting(
        editor=editor,
        switch=switch,
        host=host,
        plain=plain,
        blue=with_blue,
        facts=chosen,
        unrelated=unrelated_facts(chosen),
        batch=batch_rows(lm.tokenizer, chosen, prefixes, host),
        prefixes=prefixes,
        batches=min(batches, len(chosen)),
        fluent=min(fluent, len(chosen)),
        most=min(sample, len(chosen)),
    )
    return _run(setting, folder, plots)


def _watched(
    model: Editor | EditableModel, lm: EditableModel, options: Mapping[str, Any], progress: bool | Progress
) -> tuple[Editor, Switch]:
    """An editor whose targets and trace can be exchanged, with the given options and an editor's own for those that are None."""
    given = {name: value for name, value in options.items() if value is not None}
    trace = Trace()
    if isinstance(model, Editor):
        moments, trace, progress = model.moments, model.trace, progress or model.progress
        own = {"corpus": moments.corpus.name, "tokens": moments.tokens, "statistics": moments.folder}
        how = {"execution": model.execution, "targets": model.targets, "tuning": model.tuning or BUNDLED}
        given = own | how | given
    switch = Switch(given.pop("targets", None), trace)
    return Editor(lm, **given, targets=switch, trace=switch, progress=progress), switch


def _run(setting: Setting, folder: Path, plots: Sequence[str]) -> ResidualAnalysis:
    configuration = configuration_of(setting)
    with staged(folder, configuration, TABLES, file="analysis.json", what="explain residuals") as stages:
        tables = measure(setting, stages)
        found = Findings.of(tables, tuple(notes_of(setting)), type(setting.host.objective.descent).__name__)
        about = {**configuration, "versions": versions(), "execution": asdict(setting.editor.execution)}
        with saving(folder):
            analysis = {name: value for name, value in about.items() if name != "facts"}
            said = {"summary": list(found.summary), "notes": list(found.notes)}
            write_tables(folder, tables, TABLES, {"analysis": analysis, **said})
            page = write_page(folder, found, about)
            write_plots(found.charts, folder / FIGURES, plots)
    return ResidualAnalysis(folder, page, tables, tuple(found.summary), tuple(found.notes), tuple(stages.done))
