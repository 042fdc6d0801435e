"""Charts as image files, through matplotlib, which is optional."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from functools import singledispatch
from importlib import resources
from pathlib import Path
from typing import Any

from bluedit.errors import ExplainError, did_you_mean
from bluedit.files import write_file
from bluedit.page.charts import Axis, Chart
from bluedit.page.heat_map import HeatMap

FORMATS = ("png", "svg", "pdf")
_SIZE = (6.4, 4.2)  # inches
# no date in a file: the same chart gives the same bytes
_DATES: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def check_plots(formats: Sequence[str]) -> None:
    """Raises ExplainError when a format is not one of `FORMATS`, or matplotlib is not installed."""
    for name in formats:
        if name not in FORMATS:
            raise ExplainError(f"unknown format of figures {name!r}; {did_you_mean(name, FORMATS)}")
    if formats:
        _matplotlib()


def formats_of(text: str) -> list[str]:
    """The formats in "png, svg". Raises ExplainError as `check_plots`."""
    formats = [name.strip() for name in text.split(",") if name.strip()]
    check_plots(formats)
    return formats


def write_plots(charts: Sequence[Chart | HeatMap], folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write each chart as FOLDER/ID.FORMAT.

    Raises:
        ExplainError: as `check_plots`.
        OSError: the folder cannot be written.
    """
    check_plots(formats)
    return [_write(chart, folder / f"{chart.id}.{name}", name) for chart in charts for name in formats]


def _matplotlib() -> Any:
    """A class of figures that needs no display.

    Raises:
        ExplainError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ExplainError(
            "figures as files need matplotlib, which is not installed; pip install 'bluedit[plots]', or leave out --plots: "
            "the page has all figures without it"
        ) from None
    return Figure


def _write(chart: Chart | HeatMap, file: Path, format: str) -> Path:
    from matplotlib import rc_context

    figure = _matplotlib()(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    _paint(chart, axes)
    axes.set_title(chart.title, fontsize=10, wrap=True)
    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": chart.id}):  # it numbers the parts, at random without it
        figure.savefig(stream, format=format, dpi=150, metadata=_DATES.get(format))
    write_file(file, stream.getvalue())
    return file


@singledispatch
def _paint(chart: Any, axes: Any) -> None:
    """Draw a figure on matplotlib's axes."""
    raise TypeError(f"{type(chart).__name__} cannot be drawn on {axes}")


@_paint.register
def _(chart: HeatMap, axes: Any) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    blue, orange = _colours()[:2]
    ends = [orange, "white", blue] if chart.negative else ["white", blue]
    shown = axes.imshow(
        chart.values,
        aspect="auto",
        cmap=LinearSegmentedColormap.from_list("bluedit", ends),
        vmin=-chart.largest if chart.negative else 0.0,
        vmax=chart.largest or 1.0,
    )
    axes.set_xticks(list(chart.ticks), [chart.columns[i] for i in chart.ticks])
    axes.set_yticks(range(len(chart.rows)), chart.rows)
    axes.set_xlabel(chart.across)
    axes.figure.colorbar(shown, ax=axes, label=chart.name, orientation="horizontal", shrink=0.7)


@_paint.register
def _(chart: Chart, axes: Any) -> None:
    colours = _colours()
    for one in chart.series:
        points = [one.points[i] for i in chart.drawable(one)]
        if points:
            chart.drawn(one).plot(axes, colours[one.colour])
    for axis, setter, side in ((chart.x, axes.set_xlabel, "x"), (chart.y, axes.set_ylabel, "y")):
        setter(axis.name)
        _set_axis(axes, axis, side)
    axes.grid(alpha=0.3)
    if not chart.is_empty:
        axes.legend(fontsize=8)


def _set_axis(axes: Any, axis: Axis, side: str) -> None:
    if axis.log:
        getattr(axes, f"set_{side}scale")("log")
    if axis.ticks:
        values, labels = zip(*axis.ticks, strict=True)
        getattr(axes, f"set_{side}ticks")(values, labels)
    if axis.percent:
        from matplotlib.ticker import PercentFormatter

        getattr(axes, f"{side}axis").set_major_formatter(PercentFormatter(1.0, decimals=0))
    for value in axis.include:
        getattr(axes, f"ax{'v' if side == 'x' else 'h'}line")(value, lw=0.8, color="grey", alpha=0.5)


def _colours() -> list[str]:
    """The page's colours on a light background, by number."""
    style = resources.files("bluedit.page").joinpath("page.css").read_text("utf-8")
    return [re.findall(rf"--k{number}: (#\w+)", style)[0] for number in range(9)]
