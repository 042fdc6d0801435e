"""Which layers of a model hold its facts, and at which of them new ones are best written.

Causal tracing (ROME, arXiv 2202.05262, section 2.1) shows where facts pass on their way from subject to answer. It does not say where an edit
works best (arXiv 2301.04213), so a second measurement writes new facts into one layer at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluedit.evaluate.outcome import Yardstick
from bluedit.execution import Execution
from bluedit.explain._locate_page import charts_of, summary_of, write_page
from bluedit.explain._locate_probe import Probe, Watch
from bluedit.explain._locate_request import Request, Tracing, check_counts, host_of, probed_of, prompts_of
from bluedit.explain._locate_tokens import Prompt, spread_of_embeddings
from bluedit.explain._locate_trace import Noise, Tracer
from bluedit.explain._stages import FIGURES, TARGETS, Stages, Tables, staged, write_tables
from bluedit.explain.folder import saving
from bluedit.explain.locate_data import TABLES
from bluedit.explain.unedited import unedited
from bluedit.facts.fact import Fact
from bluedit.methods.recipe import Recipe
from bluedit.model.devices import solve_device
from bluedit.model.editable import EditableModel
from bluedit.model.memory import known_free_memory
from bluedit.model.precision import reduced_linears
from bluedit.page.plots import check_plots, write_plots
from bluedit.progress import Progress, as_progress
from bluedit.writing.writer import versions

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor

__all__ = ["Location", "Tracing", "locate"]


@dataclass(frozen=True, eq=False)
class Location:
    """What was measured, and where it is kept.

    Attributes:
        folder: holds results.json, a CSV file per table, and the page.
        page: one HTML file that needs nothing else.
        tables: rows by name, see `bluedit.explain.locate_data`.
        summary: what was found, a sentence each.
        resumed: stages whose results were kept from an earlier, interrupted run.
    """

    folder: Path
    page: Path
    tables: Tables
    summary: tuple[str, ...]
    resumed: tuple[str, ...] = ()

    @property
    def best(self) -> list[int]:
        """The probed layers, those with the highest score first."""
        return [row.layer for row in sorted(self.tables.get("layers", []), key=lambda row: -row.score)]


def locate(
    model: Editor | EditableModel,
    out: str | Path,
    *,
    facts: Sequence[Fact] | None = None,
    tracing: Tracing | None = None,
    probe: Sequence[Fact] | None = None,
    probe_count: int = 32,
    layers: Sequence[int] | None = None,
    every: int = 1,
    recipe: str | Recipe = "memit-blue",
    settings: Mapping[str, Any] | None = None,
    plots: Sequence[str] = (),
    corpus: str = "self",
    tokens: int | None = None,
    statistics: str | Path | None = None,
    execution: Execution | None = None,
    progress: bool | Progress = False,
) -> Location:
    """Trace known facts, probe layers with new ones, and write a page. The model is left as it was.

    Every fact's and every layer's results are kept in `out` as soon as they are there; after an interruption the same call goes on.

    Args:
        model: an editor without edits, or an editable model.
        out: folder for page, tables and kept results.
        facts: true statements to trace, of which those that the model knows are used; the true answer of a fact is its `old_target`, or its
            `target` where it has none. None means the bundled ones.
        tracing: how many facts, and how.
        probe: new facts to write, one layer at a time; None means bundled ones that the model does not say.
        probe_count: how many of them; 0 leaves the probe out.
        layers: which are probed; None means every `every`-th.
        recipe: gives objective and update of the probe; closed form. It writes the prompt alone, in one batch, one layer.
        settings: parts and options of the recipe by path.
        plots: formats of further image files of all figures: png, svg, pdf.
        corpus, tokens, statistics, execution, progress: as in `Editor`.

    Raises:
        ExplainError: the request cannot be carried out, the model knows none of the facts, or the folder holds something else.
        FactError, RecipeError, ModelError, StatisticsError: as `Editor.edit`.
    """
    from bluedit.editing.editor import Editor

    folder, tracing, watch = Path(out), tracing or Tracing(), Watch()
    check_plots(plots)
    check_counts(tracing, probe_count, every)
    lm = unedited(model)
    chosen = list(layers) if layers is not None else list(range(0, lm.anatomy.n_layers, every))
    lm.anatomy.check_layers(chosen)
    given = {"corpus": corpus, "tokens": tokens, "statistics": statistics, "execution": execution}
    editor = Editor(lm, trace=watch, targets=folder / TARGETS, progress=as_progress(progress), **given)
    request = Request(
        editor=editor,
        watch=watch,
        host=host_of(editor, recipe, settings),
        prompts=prompts_of(editor, facts, tracing),
        tracing=tracing,
        probed=probed_of(editor, probe, probe_count, tracing.seed),
        layers=chosen,
    )
    about = request.described()
    with staged(folder, about, TABLES, file="location.json", what="locate") as stages:
        return _written(folder, _measure(request, stages), about, plots, stages)


def _written(folder: Path, tables: Tables, about: Mapping[str, Any], plots: Sequence[str], stages: Stages) -> Location:
    summary = summary_of(tables)
    described = {**about, "versions": versions()}
    with saving(folder):
        write_tables(folder, tables, TABLES, {"about": described, "summary": list(summary)})
        page = write_page(folder, tables, described, summary)
        write_plots(charts_of(tables) if plots else (), folder / FIGURES, plots)
    return Location(folder, page, tables, tuple(summary), tuple(stages.done))


def _measure(request: Request, stages: Stages) -> Tables:
    """All tables that have rows: what is kept is read, the rest computed."""
    tables: Tables = {name: [] for name in TABLES}
    editor, progress = request.editor, request.editor.progress

    def add(found: Tables) -> None:
        for name, rows in found.items():
            tables[name] += rows

    if request.prompts:
        tracer = _tracer(request)
        with progress.task("tracing", len(request.prompts), "facts") as bar:
            for number, prompt in enumerate(request.prompts):

                def traced(prompt: Prompt = prompt, number: int = number) -> Tables:
                    return dict(zip(("traced", "effects"), tracer.trace(prompt, number), strict=True))

                add(stages.get(f"fact-{number}", traced))
                bar()
    if request.probed:
        _statistics(editor, request.layers)
        yardstick = Yardstick(editor.lm, progress)
        before = yardstick.outcome(request.probed)
        probe = Probe(editor, request.watch, request.host, request.probed, yardstick, before)
        with progress.task("probing", len(request.layers), "layers") as bar:
            for layer in request.layers:
                add(
                    stages.get(
                        f"layer-{layer}",
                        lambda at=layer: dict(zip(("targets", "layers"), probe.at(at), strict=True)),
                    )
                )
                bar()
    return {name: rows for name, rows in tables.items() if rows}


def _tracer(request: Request) -> Tracer:
    lm, tracing, prompts = request.editor.lm, request.tracing, request.prompts
    noise = Noise(tracing.noise * spread_of_embeddings(lm, prompts), tracing.samples, tracing.seed)
    reduced = reduced_linears(lm, request.editor.execution.precision, lm.anatomy.blocks)
    return Tracer(lm, noise, request.window, reduced=reduced).checked(prompts[0])


def _statistics(editor: Editor, layers: Sequence[int]) -> None:
    """Key statistics of all layers, computed in as few passes as the free memory allows."""
    size = 8 * editor.lm.d_key**2
    free = known_free_memory(solve_device(editor.lm.device, editor.execution.statistics_device))
    most = len(layers) if free is None else max(1, int(0.4 * free / size))
    for start in range(0, len(layers), most):
        editor.moments.get(layers[start : start + most], editor.progress)
