"""Ordering the units of several branches: dearest first, what brings parallelism of its own alone.

Longest processing time first is never beyond 4/3 of the best makespan (Graham 1969), where the costs are known. What
isn't known is begun first, one unit of each lot: it has to be done anyway, and tells what the others will take. Until then
a lot counts for as long as its unit has run so far.

What runs alone and what runs side by side add up to the same makespan in whatever order, so that they come in the order in which
units finish soonest on average: by seconds per unit (Smith 1956).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import count


class Lot:
    """Units of one branch that may be expected to take about as long.

    Args:
        n_waiting: How many units there are.
        cost_s: Seconds that one takes, if that is known.
        is_exclusive: Whether each runs alone.
    """

    def __init__(self, n_waiting: int, cost_s: float | None = None, *, is_exclusive: bool = False) -> None:
        self.n_waiting, self.is_exclusive = n_waiting, is_exclusive
        self._cost_s = cost_s
        self._begun: list[float] = []  # when those under way were begun
        self._n_over, self._took_s = 0, 0.0

    @property
    def cost_s(self) -> float | None:
        """Seconds that a unit takes: as it was here, else as it is known from before."""
        return self._took_s / self._n_over if self._n_over else self._cost_s

    def so_far_s(self, now: float) -> float:
        """Return for how long the first of those under way has been running."""
        return now - self._begun[0] if self._begun else 0.0

    def begin(self, now: float) -> None:
        """Note that a unit is begun."""
        self.n_waiting -= 1
        self._begun.append(now)

    def end(self, begun: float, took_s: float) -> None:
        """Note that the unit is over that was begun then, and how long it has executed."""
        self._begun.remove(begun)
        self._n_over += 1
        self._took_s += took_s


class Ordering:
    """Which lot's unit is next.

    Args:
        lots: All that there are.
        n_lanes: How many units run side by side at most.
    """

    def __init__(self, lots: Sequence[Lot], n_lanes: int) -> None:
        self._phases = deque(_Phase(part) for part in _in_phases(lots, n_lanes))
        self._n_under_way = 0

    @property
    def is_empty(self) -> bool:
        """Whether no unit waits."""
        return not any(phase.has_waiting for phase in self._phases)

    def begin(self, now: float) -> Lot | None:
        """Return the lot of which a unit is to begin now; None if that has to wait for one that is under way, or all have begun."""
        while len(self._phases) > 1 and not self._phases[0].has_waiting and not self._n_under_way:
            self._phases.popleft()
        phase = self._phases[0] if self._phases else None
        if phase is None or not phase.has_waiting or (phase.is_exclusive and self._n_under_way):
            return None
        self._n_under_way += 1
        return phase.begin(now)

    def end(self, lot: Lot, begun: float, took_s: float) -> None:
        """Note that a unit is over that was begun then, and how long it has executed."""
        self._n_under_way -= 1
        lot.end(begun, took_s)
        self._phases[0].learned(lot)


class _Phase:
    """Lots whose units run side by side, or one lot whose units run alone."""

    def __init__(self, lots: Sequence[Lot]) -> None:
        self.is_exclusive = lots[0].is_exclusive
        self._numbers = count()
        self._n_waiting = sum(lot.n_waiting for lot in lots)
        self._unknown: deque[Lot] = deque()
        self._begun: list[Lot] = []  # likewise, with a unit under way
        self._known: list[tuple[float, int, Lot]] = []  # a heap, the dearest first; of a lot's entries the last holds
        self._costs: dict[Lot, float] = {}
        for lot in lots:
            if (cost_s := lot.cost_s) is None:
                self._unknown.append(lot)
            else:
                self._costs[lot] = cost_s
                self._known.append((-cost_s, next(self._numbers), lot))
        heapify(self._known)

    @property
    def has_waiting(self) -> bool:
        return self._n_waiting > 0

    def learned(self, lot: Lot) -> None:
        """Put a lot where it belongs by what is known of it now."""
        if lot in self._begun:
            self._begun.remove(lot)
        if lot.n_waiting and lot.cost_s is not None:
            self._costs[lot] = lot.cost_s
            heappush(self._known, (-lot.cost_s, next(self._numbers), lot))

    def begin(self, now: float) -> Lot:
        """Begin a unit of the next lot."""
        lot = self._next(now)
        lot.begin(now)
        self._n_waiting -= 1
        return lot

    def _next(self, now: float) -> Lot:
        if self._unknown:
            lot = self._unknown.popleft()
            self._begun.append(lot)
            return lot
        while self._known and not self._holds(*self._known[0]):
            heappop(self._known)
        begun = max((lot for lot in self._begun if lot.n_waiting), key=lambda lot: lot.so_far_s(now), default=None)
        if begun is not None and (not self._known or begun.so_far_s(now) > -self._known[0][0]):
            return begun
        return self._known[0][2]

    def _holds(self, cost: float, _: int, lot: Lot) -> bool:
        return lot.n_waiting > 0 and self._costs[lot] == -cost


def _in_phases(lots: Sequence[Lot], n_lanes: int) -> list[list[Lot]]:
    """Return the lots that run together, in the order of seconds per unit; of light ones unknown costs count as none."""
    waiting = [lot for lot in lots if lot.n_waiting]
    light = [lot for lot in waiting if not lot.is_exclusive]
    blocks = [(math.inf if lot.cost_s is None else lot.cost_s, [lot]) for lot in waiting if lot.is_exclusive]
    if light:
        seconds = sum((lot.cost_s or 0.0) * lot.n_waiting for lot in light) / n_lanes
        blocks.insert(0, (seconds / sum(lot.n_waiting for lot in light), light))
    return [block for _, block in sorted(blocks, key=lambda block: block[0])]
