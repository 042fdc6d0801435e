"""The front: what is said on unseen phrasings against how far the model has moved elsewhere."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bluedit.benchmark.entry import UNEDITED
from bluedit.benchmark.sweep import place_of
from bluedit.errors import BenchmarkError
from bluedit.files import write_file, write_json
from bluedit.page.charts import Axis, Chart, Line

if TYPE_CHECKING:
    from bluedit.benchmark.results import Row

SAID = "generated_unseen"
MOVED = ("passage_kl", "chat_kl", "neighbour_kl")
SUITES = ("generation", "locality")  # that measure both
_NAN = float("nan")
_GREY = 8


@dataclass(frozen=True)
class Point:
    """One measurement of one entry.

    Attributes:
        entry: its name.
        recipe, sweep, value: what was varied; for an entry that was not, its name, "" and NaN.
        facts: so far.
        said: share of unseen phrasings, chat included, on which the model says the new target.
        kl: mean of KL(unedited || edited) in nats on passages, in chat answers and after neighbours, as far as they were measured.
        best: whether no other point at this number of facts says at least as much with at most this KL.
        paraphrase, chat, passage_kl, chat_kl, neighbour_kl: what `said` and `kl` are means of; NaN where not measured.
    """

    entry: str
    recipe: str
    sweep: str
    value: float
    facts: int
    said: float
    kl: float
    best: bool = False
    paraphrase: float = _NAN
    chat: float = _NAN
    passage_kl: float = _NAN
    chat_kl: float = _NAN
    neighbour_kl: float = _NAN


def points_of(rows: Iterable[Row]) -> list[Point]:
    """The points of a benchmark's rows: those of edited models that have both numbers."""
    found = [point for row in rows if row.entry != UNEDITED and (point := _point(row))]
    return [replace(point, best=not any(_beats(other, point) for other in found)) for point in found]


def _point(row: Row) -> Point | None:
    scores = row.scores
    moved = [value for name in MOVED if not math.isnan(value := scores.get(name, _NAN))]
    said = scores.get(SAID, _NAN)
    if not moved or math.isnan(said):
        return None
    recipe, sweep, value = place_of(row.entry) or (row.entry, "", _NAN)
    return Point(
        entry=row.entry,
        recipe=recipe,
        sweep=sweep,
        value=value,
        facts=row.facts,
        said=said,
        kl=sum(moved) / len(moved),
        paraphrase=scores.get("generated_paraphrase", _NAN),
        chat=scores.get("generated_chat", _NAN),
        **{name: scores.get(name, _NAN) for name in MOVED},  # pyright: ignore[reportArgumentType]
    )


def _beats(one: Point, other: Point) -> bool:
    if one.facts != other.facts:
        return False
    better = one.said > other.said or one.kl < other.kl
    return better and one.said >= other.said and one.kl <= other.kl


def front_charts(points: Sequence[Point]) -> list[Chart]:
    """A chart for each number of facts at which several points were measured: a line for each recipe and what was varied."""
    charts = []
    for facts in sorted({point.facts for point in points}):
        here = [point for point in points if point.facts == facts]
        if len(here) < 2:
            continue
        series: dict[tuple[str, str], list[Point]] = {}
        for point in sorted(here, key=lambda point: (math.isnan(point.value), point.value, point.kl)):
            series.setdefault((point.recipe, point.sweep), []).append(point)
        recipes = list(dict.fromkeys(point.recipe for point in here))
        lines = [
            Line(
                f"{recipe}, {sweep}" if sweep else recipe,
                [(point.kl, point.said) for point in own],
                colour=recipes.index(recipe) % _GREY,
                hollow=not sweep,
            )
            for (recipe, sweep), own in series.items()
        ]
        x = Axis("KL to the unedited model on passages, chat and neighbours, nats", include=(0.0,))
        y = Axis("said on unseen phrasings and in chat", percent=True)
        charts.append(Chart(f"front-{facts}", f"The front at {facts:,} facts: top left is best", x, y, lines))
    return charts


def write_front(rows: Sequence[Row], folder: Path) -> list[Point]:
    """Write front.csv and front.json. Nothing is written if no entry was varied.

    Raises:
        OSError: the folder cannot be written.
    """
    points = points_of(rows)
    if not any(point.sweep for point in points):
        return []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Point)])
    for point in points:
        writer.writerow([_cell(value) for value in asdict(point).values()])
    write_file(folder / "front.csv", text.getvalue().encode())
    write_json(folder / "front.json", [asdict(point) for point in points])
    return points


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value).lower() if isinstance(value, bool) else value


def check_front(suites: Sequence[str]) -> None:
    """Raises BenchmarkError when these suites do not measure what a front needs."""
    missing = [name for name in SUITES if name not in suites]
    if missing:
        raise BenchmarkError(
            f"a front needs the suites {' and '.join(SUITES)}, and {' and '.join(missing)} is missing; add --suite {missing[0]}"
        )
