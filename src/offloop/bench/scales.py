"""Where values lie along an axis, and where its ticks are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..model import readable
from .charts import Axis, Chart, Point

MARGIN = 0.06  # of a logarithmic axis, or above a linear one's values
MOST_TICKS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """An axis with its ends.

    Attributes:
        low: Its first value.
        high: Its last one.
        is_log: Whether it is logarithmic.
        ticks: Where its ticks are, with what stands there.
    """

    low: float
    high: float
    is_log: bool
    ticks: tuple[tuple[float, str], ...]

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high one."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def horizontal(chart: Chart) -> Scale:
    """Return the scale of a chart's horizontal axis."""
    return _scale(chart.x, [point.x for point in _points(chart)])


def vertical(chart: Chart) -> Scale:
    """Return the scale of a chart's vertical axis; guides count."""
    values = [value for point in _points(chart) for value in (point.y.least, point.y.median, point.y.most)]
    return _scale(chart.y, values + [y for guide in chart.guides for _, y in (guide.start, guide.end)])


def _points(chart: Chart) -> list[Point]:
    return [point for line in chart.lines for point in line.points]


def _scale(axis: Axis, values: Sequence[float]) -> Scale:
    low, high = _ends(axis, values)
    ticks = thinned(axis.ticks, low, high, axis.is_log) if axis.ticks else log_ticks(low, high) if axis.is_log else linear_ticks(low, high)
    return Scale(low=low, high=high, is_log=axis.is_log, ticks=tuple((tick, _told(tick, axis, ticks)) for tick in ticks))


def _ends(axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if axis.is_log:
        margin = (high / low) ** MARGIN if high > low else 1.5
        return low / margin, high * margin
    width = (high - low) or abs(high) or 1.0
    if axis.ceiling is not None:
        high = max(axis.ceiling, high)
    bottom = axis.floor if axis.floor is not None and axis.floor <= low else low - MARGIN * width
    return bottom, high + MARGIN * ((high - bottom) or 1.0)


def thinned(ticks: Sequence[float], low: float, high: float, is_log: bool, gap: float = 0.09) -> list[float]:
    """Return those of some ticks that stand far enough apart, the last one among them."""
    scale = Scale(low=low, high=high, is_log=is_log, ticks=())
    kept: list[float] = []
    for tick in sorted(ticks, reverse=True):
        if not kept or scale.share(kept[-1]) - scale.share(tick) >= gap:
            kept.append(tick)
    return kept[::-1]


def linear_ticks(low: float, high: float) -> list[float]:
    """Return round values from one end to the other, in steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / (MOST_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten, and where these are few 2 and 5 times them."""
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(found) > MOST_TICKS:
            return found[:: math.ceil(len(found) / MOST_TICKS)]
        if len(found) >= 3:
            return found
    return found or [low, high]


def _told(tick: float, axis: Axis, ticks: Sequence[float]) -> str:
    if axis.is_time:
        return readable(tick) if tick > 0 else "0"
    return f"{tick:,.0f}" if tick >= 100 else f"{tick:.10g}"
