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
from bluedit.errors import ExplainError
from bluedit.execution import Execution
from bluedit.explain._residual_folder import FIGURES, TARGETS, Tables, claimed, write_tables
from bluedit.explain._residual_page import charts_of, write_page
from bluedit.explain._residual_request import configuration_of, facts_of, recipes_of, unedited
from bluedit.explain._residual_setting import Setting, Switch
from bluedit.explain._residual_stages import measure
from bluedit.explain._residual_summary import summary_of
from bluedit.facts.fact import Fact
from bluedit.methods.recipe import Recipe
from bluedit.model.editable import EditableModel
from bluedit.page.plots import check_plots, write_plots
from bluedit.progress import Progress, as_progress
from bluedit.statistics.store import MomentStore
from bluedit.text.contexts import sampled_prefixes
from bluedit.text.corpus import Corpus
from bluedit.writing.keys import batch_rows
from bluedit.writing.target import TargetSource
from bluedit.writing.target_store import TargetStore
from bluedit.writing.writer import versions


@dataclass(frozen=True, eq=False)
class ResidualAnalysis:
    """What was measured, and where it is kept.

    Attributes:
        folder: holds results.json, a CSV file per table, and the page.
        page: one HTML file that needs nothing else.
        tables: rows by name, see `bluedit.explain.residual_data`.
        summary: what was found, a sentence each.
        resumed: stages whose results were kept from an earlier, interrupted run.
    """

    folder: Path
    page: Path
    tables: Tables
    summary: tuple[str, ...]
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
    fluent: int = 50,
    known: str = "refuse",
    plots: Sequence[str] = (),
    corpus: str = "self",
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
        recipe: the method whose distribution is looked into; it must write batches in closed form. Its other wordings are left out.
        layers: the critical layers, ascending; None means the recipe's.
        settings: parts and options of the recipe by path.
        batches: into how many batches the facts are cut for what is measured over a sequence.
        fluent: on how many facts fluency is measured after each single-layer edit; 0 leaves it out.
        known: what to do with facts that the model says already: "refuse", "skip" or "edit".
        plots: formats of further image files of all figures: png, svg, pdf.
        corpus, tokens, statistics: key statistics, as in `Editor`.
        targets: where targets come from; None optimises them and keeps them in `out`.
        execution, progress: as in `Editor`.

    Raises:
        ExplainError: the request cannot be carried out, or the folder holds something else; nothing was computed.
        FactError, RecipeError, ModelError, StatisticsError: as `Editor.edit`.
    """
    folder = Path(out)
    check_plots(plots)
    lm, store = unedited(model), Path(statistics) if statistics else None
    switch = Switch(targets)
    editor = Editor(
        lm,
        corpus=corpus,
        tokens=tokens,
        statistics=store,
        targets=switch,
        execution=execution,
        trace=switch,
        progress=as_progress(progress),
    )
    weights = editor.journal.base.fingerprint
    if targets is None:
        switch.source = TargetStore(folder / TARGETS, weights)
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
        batch=batch_rows(lm.tokenizer, chosen, prefixes, host),
        moments=MomentStore(lm, weights, Corpus(corpus), tokens, store, editor.execution.statistics_device),
        batches=min(batches, len(chosen)),
        fluent=min(fluent, len(chosen)),
    )
    return _run(setting, folder, configuration_of(setting, weights, corpus, tokens), plots)


def _run(setting: Setting, folder: Path, configuration: Mapping[str, Any], plots: Sequence[str]) -> ResidualAnalysis:
    try:
        with claimed(folder, configuration) as stages:
            tables = measure(setting, stages)
            summary = summary_of(tables)
            about = {**configuration, "versions": versions(), "execution": asdict(setting.editor.execution)}
            write_tables(folder, tables, about, summary)
            page = write_page(folder, tables, about)
            write_plots(charts_of(tables) if plots else (), folder / FIGURES, plots)
    except OSError as error:
        raise ExplainError(
            f"cannot write to {folder}: {error.strerror or error}; make room or choose another place, and run the same again: finished stages stay"
        ) from error
    return ResidualAnalysis(folder, page, tables, tuple(summary), tuple(stages.done))
