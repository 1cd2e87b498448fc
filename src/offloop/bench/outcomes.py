"""What a bench has found, and the figures that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import geometric_mean, median
from typing import Any

from ..cli.amounts import counted
from ..model import Strategy
from .plan import PARALLEL, Variant

BUSY = 0.5  # of the cores: with more load than that, others were at work


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """The middle of some samples, and their range."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread | None:
    """Return the median and the range of some values; None of none."""
    return Spread(median=median(values), least=min(values), most=max(values)) if values else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What one variant has done.

    Attributes:
        variant: What was asked for.
        samples_s: Seconds that it took, by round.
        ran: Where it executed, as the run told.
        reason: Why there, as the run told.
        complaints: How that differs from what was asked for; where there is one, the row must not be read as its setting's.
        error: What went wrong; None where nothing did.
        remark: What else a reader has to know; None if nothing.
    """

    variant: Variant
    samples_s: tuple[float, ...] = ()
    ran: str = ""
    reason: str = ""
    complaints: tuple[str, ...] = ()
    error: str | None = None
    remark: str | None = None

    @property
    def time_s(self) -> Spread | None:
        """Median and range of its time."""
        return spread(self.samples_s)

    @property
    def is_sound(self) -> bool:
        """Whether it has times that belong to its setting."""
        return bool(self.samples_s) and self.error is None and not self.complaints

    @property
    def median_s(self) -> float:
        """The median of its time."""
        return median(self.samples_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class Regret:
    """How `auto` did on one number of items beside the best fixed setting that it could have chosen.

    Attributes:
        n_items: How many items.
        chosen: What it chose.
        best: The best setting.
        ratio: Its time ÷ that of the best, by round.
    """

    n_items: int
    chosen: str
    best: str
    ratio: Spread


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was measured of one function.

    Attributes:
        name: Of the function.
        description: What it is, in a few words; empty for a user's own.
        n_items: How many items there were to choose from.
        rows: What each variant has done.
        rounds: How often each was measured.
        left_out: The variants that there was no time for.
        notes: What a reader has to know besides.
        wall_s: Seconds that it took to find all this.
    """

    name: str
    description: str
    n_items: int
    rows: tuple[Row, ...]
    rounds: int
    left_out: tuple[Variant, ...] = ()
    notes: tuple[str, ...] = ()
    wall_s: float = 0.0

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of items that were measured, ascending."""
        return tuple(sorted({row.variant.n_items for row in self.rows if row.samples_s}))

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows with an error."""
        return tuple(row for row in self.rows if row.error is not None)

    def sound(self, *strategies: Strategy, n_items: int | None = None) -> list[Row]:
        """Return the rows that may be compared, of later calls, by these strategies and with this number of items."""
        return [
            row
            for row in self.rows
            if row.is_sound and not row.variant.is_first
            if not strategies or row.variant.strategy in strategies
            if n_items is None or row.variant.n_items == n_items
        ]

    def serial(self, n_items: int) -> Row | None:
        """Return the serial row of a number of items."""
        return next(iter(self.sound(Strategy.SERIAL, n_items=n_items)), None)

    def speed_up(self, row: Row) -> Spread | None:
        """Return how many times as fast as serial a row is, from samples of the same round."""
        serial = self.serial(row.variant.n_items)
        return None if serial is None else ratio(serial.samples_s, row.samples_s)

    def regrets(self) -> list[Regret]:
        """Return how `auto` did, by number of items, ascending."""
        found = (self._regret(count) for count in self.counts)
        return [regret for regret in found if regret is not None]

    def _regret(self, n_items: int) -> Regret | None:
        auto = next(iter(self.sound(Strategy.AUTO, n_items=n_items)), None)
        fixed = [row for row in self.sound(n_items=n_items) if row.variant.is_fixed]
        if auto is None or len(fixed) < 2:
            return None
        best = min(fixed, key=lambda row: row.median_s)
        quotient = ratio(auto.samples_s, best.samples_s)
        if quotient is None:
            return None
        chunk = "" if best.variant.chunk_size is None else f", chunks of {best.variant.chunk_size}"
        return Regret(n_items=n_items, chosen=auto.ran, best=best.variant.where + chunk, ratio=quotient)

    def widest(self, strategy: Strategy) -> list[Row]:
        """Return a strategy's rows with steered chunks and the most workers, by number of items, ascending."""
        found: dict[int, Row] = {}
        for row in self.sound(strategy):
            before = found.get(row.variant.n_items)
            if row.variant.chunk_size is None and (before is None or (row.variant.workers or 0) > (before.variant.workers or 0)):
                found[row.variant.n_items] = row
        return [found[count] for count in sorted(found)]

    def crossover(self) -> float | None:
        """Return the number of items from which parallel is faster than serial; None where that lies outside of what was measured."""
        found = min((crossing(self._lead(strategy)) for strategy in PARALLEL), default=math.inf)
        return found if 0 < found < math.inf else None

    def _lead(self, strategy: Strategy) -> list[tuple[int, float]]:
        """Return how far a strategy is ahead of serial, as a logarithm, by number of items."""
        pairs = ((row, self.serial(row.variant.n_items)) for row in self.widest(strategy))
        return [
            (row.variant.n_items, math.log(serial.median_s / row.median_s)) for row, serial in pairs if serial is not None
        ]

    @property
    def verdict(self) -> str:
        """What serial and parallel are good for here, in one sentence; empty where there was nothing to compare."""
        largest = next((count for count in reversed(self.counts) if self.serial(count)), None)
        rivals = [row for strategy in PARALLEL for row in self.widest(strategy) if row.variant.n_items == largest]
        if largest is None or not rivals:
            return ""
        best = min(rivals, key=lambda row: row.median_s)
        gain = self.speed_up(best)
        beginning = self.crossover()
        if gain is None or gain.median <= 1:
            return f"serial wins up to {counted(largest, 'item')}, the most that were measured"
        told = f"{best.variant.where} is {gain.median:.2f}× as fast as serial at {counted(largest, 'item')}"
        if gain.least <= 1:
            return f"{told}, though not in every round"
        return told if beginning is None else f"serial wins below about {counted(rounded(beginning), 'item')}; {told}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a bench has found, with what it was found on.

    Attributes:
        host: The machine, versions of libraries, and the time; nothing that names it.
        settings: The settings of the session by name: value and source.
        findings: By function.
    """

    host: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Findings, ...] = ()

    @property
    def warning(self) -> str:
        """What makes all figures doubtful; empty where nothing does."""
        load, cores = self.host.get("load_1_min"), self.host.get("usable_cores")
        if load is None or cores is None or load <= BUSY * cores:
            return ""
        busy = f"{load:g} processes wanted a core when this began, and {cores} can be used"
        return f"{busy}: what others took is missing in these figures, so measure again when the machine is quiet"


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Spread | None:
    """Return the spread of quotients of samples that belong to the same rounds; None without any."""
    pairs = list(zip(numerators, denominators, strict=False))
    return spread([above / below for above, below in pairs if below > 0])


def mean_regret(regrets: Sequence[Regret]) -> float:
    """Return the geometric mean of what `auto` took, as a multiple of the best."""
    return geometric_mean([regret.ratio.median for regret in regrets])


def crossing(points: Sequence[tuple[int, float]]) -> float:
    """Return where values become positive for good, interpolated on a logarithmic axis: 0 where they always are, infinite if never.

    Args:
        points: Positions, ascending, with values.
    """
    if not points or points[-1][1] <= 0:
        return math.inf
    for (before, low), (after, high) in zip(reversed(points[:-1]), reversed(points[1:]), strict=True):
        if low <= 0:
            return float(before * (after / before) ** (-low / (high - low)))
    return 0.0


def rounded(value: float) -> int:
    """Return a number with two digits that matter."""
    digits = max(0, math.floor(math.log10(value)) - 1) if value >= 1 else 0
    return int(round(value / 10**digits) * 10**digits)
