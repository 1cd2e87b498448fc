"""What the figures of a bench are drawn as: charts by their data, whatever draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..model import Strategy
from .outcomes import Findings, Row, Spread, rounded, spread
from .plan import PARALLEL

LINEAR_RATIO = 8  # of times: with more between them the short ones could not be told apart on a linear axis

Colour = Literal["serial", "threads", "processes", "auto", "plain"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A value, with its range.

    Attributes:
        x: Where.
        y: The value and its range.
        label: What stands beside it; nothing if empty.
    """

    x: float
    y: Spread
    label: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """Values that belong together.

    Attributes:
        name: Stands at its end.
        colour: What it is of.
        points: Its values, by ascending x.
        is_joined: Whether they are joined.
    """

    name: str
    colour: Colour
    points: tuple[Point, ...]
    is_joined: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Guide:
    """A straight line to compare with.

    Attributes:
        name: Stands at its end.
        start: Where it begins, in the units of the axes.
        end: Where it ends.
    """

    name: str
    start: tuple[float, float]
    end: tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One of two axes.

    Attributes:
        name: What is measured, with its unit.
        is_log: Whether it is logarithmic.
        is_time: Whether its values are seconds, to be written with the unit that fits.
        ticks: Where its ticks are to be; chosen if there are none.
        floor: The least value that has to be in it; None: as the values are.
        ceiling: The largest value that has to be in it; None: likewise.
    """

    name: str
    is_log: bool = False
    is_time: bool = False
    ticks: tuple[float, ...] = ()
    floor: float | None = None
    ceiling: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """One chart.

    Attributes:
        key: In names of files.
        title: What it shows.
        x: The horizontal axis.
        y: The vertical axis.
        lines: What was measured.
        guides: What to compare it with.
    """

    key: str
    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    guides: tuple[Guide, ...] = ()


def charts(findings: Findings) -> list[Chart]:
    """Return the charts that there are figures for."""
    drawn = (speed_up_chart(findings), time_chart(findings), regret_chart(findings), chunk_chart(findings))
    return [chart for chart in drawn if chart is not None]


def speed_up_chart(findings: Findings) -> Chart | None:
    """Return how much faster than serial more workers are, on the most items; None where only one number was measured."""
    largest = findings.counts[-1] if findings.counts else 0
    lines: list[Line] = []
    for strategy in PARALLEL:
        rows = [row for row in findings.sound(strategy, n_items=largest) if row.variant.chunk_size is None]
        gains = [(row.variant.workers or 1, findings.speed_up(row)) for row in rows]
        points = tuple(Point(x=workers, y=gain) for workers, gain in sorted(gains, key=lambda each: each[0]) if gain is not None)
        if points:
            lines.append(Line(name=strategy.value, colour=_COLOURS[strategy], points=points))
    workers = sorted({point.x for line in lines for point in line.points})
    if len(workers) < 2:
        return None
    most = workers[-1]
    return Chart(
        key="workers",
        title=f"Speed-up over workers, {largest:,} items",
        x=Axis(name="workers", ticks=tuple(workers)),
        y=Axis(name="times as fast as serial", floor=0.0),
        lines=tuple(lines),
        guides=(
            Guide(name="ideal", start=(workers[0], workers[0]), end=(most, most)),
            Guide(name="serial", start=(workers[0], 1.0), end=(most, 1.0)),
        ),
    )


def time_chart(findings: Findings) -> Chart | None:
    """Return how long an item takes, by how many there are and by strategy; None where only one number was measured.

    By item, since times of all items would be dominated by their number.
    """
    lines = []
    for strategy in (Strategy.SERIAL, *PARALLEL, Strategy.AUTO):
        rows = findings.widest(strategy)
        if rows:
            name = rows[-1].variant.where if strategy in PARALLEL else strategy.value
            lines.append(Line(name=name, colour=_COLOURS[strategy], points=_per_item(rows)))
    counts = findings.counts
    if len(counts) < 2 or len(lines) < 2:
        return None
    beginning = findings.crossover()
    guides: tuple[Guide, ...] = ()
    if beginning is not None:
        times = [point.y.median for line in lines for point in line.points]
        name = f"serial wins below about {rounded(beginning):,}"
        guides = (Guide(name=name, start=(beginning, min(times)), end=(beginning, max(times))),)
    return Chart(
        key="items",
        title="Time per item over number of items",
        x=Axis(name="items", is_log=True, ticks=tuple(map(float, counts))),
        y=Axis(name="time per item", is_log=True, is_time=True),
        lines=tuple(lines),
        guides=guides,
    )


def regret_chart(findings: Findings) -> Chart | None:
    """Return how long `auto` took beside the best fixed setting, by number of items; None where only one is known."""
    regrets = findings.regrets()
    if len(regrets) < 2:
        return None
    points = tuple(Point(x=regret.n_items, y=regret.ratio, label=regret.chosen) for regret in regrets)
    counts = tuple(float(regret.n_items) for regret in regrets)
    ends = (counts[0], counts[-1])
    return Chart(
        key="regret",
        title="Regret of auto: its time ÷ that of the best fixed setting",
        x=Axis(name="items", is_log=True, ticks=counts),
        y=Axis(name="times as long as the best", floor=0.8, ceiling=1.5),
        lines=(Line(name="auto", colour="auto", points=points, is_joined=False),),
        guides=(Guide(name="best", start=(ends[0], 1.0), end=(ends[1], 1.0)),),
    )


def chunk_chart(findings: Findings) -> Chart | None:
    """Return how long chunk sizes take on the most items with the most workers; None where no two were measured."""
    largest = findings.counts[-1] if findings.counts else 0
    lines: list[Line] = []
    guides: list[Guide] = []
    for strategy in PARALLEL:
        rows = findings.sound(strategy, n_items=largest)
        most = max((row.variant.workers or 1 for row in rows), default=1)
        rows = [row for row in rows if row.variant.workers == most]
        sized = sorted((row for row in rows if row.variant.chunk_size), key=lambda row: row.variant.chunk_size or 0)
        if len(sized) < 2:
            continue
        points = tuple(Point(x=row.variant.chunk_size or 1, y=time) for row in sized if (time := row.time_s) is not None)
        lines.append(Line(name=sized[0].variant.where, colour=_COLOURS[strategy], points=points))
        steered = next((row.median_s for row in rows if row.variant.chunk_size is None), None)
        if steered is not None:
            guides.append(Guide(name="steered" if not guides else f"steered, {strategy.value}", start=(points[0].x, steered), end=(points[-1].x, steered)))
    if not lines:
        return None
    sizes = sorted({point.x for line in lines for point in line.points})
    times = [point.y.median for line in lines for point in line.points]
    is_log = max(times) > LINEAR_RATIO * min(times)
    return Chart(
        key="chunks",
        title=f"Time over chunk size, {largest:,} items",
        x=Axis(name="items per chunk", is_log=True, ticks=tuple(sizes)),
        y=Axis(name="time", is_time=True, is_log=is_log, floor=None if is_log else 0.0),
        lines=tuple(lines),
        guides=tuple(guides),
    )


_COLOURS: dict[Strategy, Colour] = {
    Strategy.SERIAL: "serial",
    Strategy.THREADS: "threads",
    Strategy.PROCESSES: "processes",
    Strategy.AUTO: "auto",
}


def _per_item(rows: Sequence[Row]) -> tuple[Point, ...]:
    found = ((row.variant.n_items, spread([sample_s / row.variant.n_items for sample_s in row.samples_s])) for row in rows)
    return tuple(Point(x=count, y=time) for count, time in found if time is not None)
