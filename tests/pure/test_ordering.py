"""deciding/ordering.py: which unit of several branches is begun next."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.deciding.ordering import Lot, Ordering

CLOSE = 1 + 1e-9


class Given(NamedTuple):
    """A lot: what its units take, what is known of that, and whether each runs alone."""

    durations: tuple[float, ...]
    cost_s: float | None = None
    is_exclusive: bool = False


class Began(NamedTuple):
    """A unit was begun: of which lot, when, beside how many others, and what was known of all lots just before."""

    lot: int
    at: float
    others: tuple[int, ...]
    costs: tuple[float | None, ...]
    waiting: tuple[int, ...]


class Host:
    """Lanes that do what an ordering says, by a clock of their own."""

    def __init__(self, given: list[Given], n_lanes: int) -> None:
        self.given, self.n_lanes = given, n_lanes
        self.lots = [Lot(len(one.durations), one.cost_s, is_exclusive=one.is_exclusive) for one in given]
        self.ordering = Ordering(self.lots, n_lanes)
        self.under_way: list[tuple[float, int, int, float]] = []  # a heap: end, number, lot, begin
        self.began: list[Began] = []
        self.now = 0.0
        self.n_left = sum(len(one.durations) for one in given)

    def execute(self) -> Host:
        """Execute all units, and return itself."""
        numbers, left = count(), [list(one.durations) for one in self.given]
        while self.n_left or self.under_way:
            for lot in self._begin():
                heappush(self.under_way, (self.now + left[lot].pop(0), next(numbers), lot, self.now))
            assert self.under_way, "nothing is under way, and nothing begins"
            self.now, _, lot, begun = heappop(self.under_way)
            self.ordering.end(self.lots[lot], begun, self.now - begun)
        assert self.ordering.is_empty
        assert self.ordering.begin(self.now) is None
        return self

    def _begin(self) -> Iterator[int]:
        while len(self.under_way) < self.n_lanes and not self.ordering.is_empty:
            costs, waiting = tuple(lot.cost_s for lot in self.lots), tuple(lot.n_waiting for lot in self.lots)
            chosen = self.ordering.begin(self.now)
            if chosen is None:
                return
            lot = self.lots.index(chosen)
            self.began.append(Began(lot, self.now, tuple(other for *_, other, _ in self.under_way), costs, waiting))
            self.n_left -= 1
            yield lot

    @property
    def order(self) -> list[int]:
        """The lots in which units were begun, one after another."""
        return [one.lot for one in self.began]


SECONDS = st.sampled_from([0.0, 0.001, 0.5, 1.0, 2.0, 3.0, 7.0, 60.0])
LANES = st.integers(1, 4)
LOTS = st.lists(
    st.builds(
        Given,
        st.lists(SECONDS, min_size=1, max_size=4).map(tuple),
        st.none() | SECONDS,
        st.sampled_from([False, False, True]),
    ),
    max_size=7,
)
KNOWN = st.builds(
    lambda n, seconds, is_exclusive: Given((seconds,) * n, seconds, is_exclusive),
    st.integers(1, 3),
    SECONDS,
    st.sampled_from([False, False, True]),
)


@given(LOTS, LANES)
def test_each_unit_is_begun_once(given: list[Given], n_lanes: int) -> None:
    """Whatever is known and whatever units take, all are begun, none twice, and something is always under way meanwhile."""
    host = Host(given, n_lanes).execute()
    assert [host.order.count(lot) for lot in range(len(given))] == [len(one.durations) for one in given]
    assert not any(lot.n_waiting for lot in host.lots)


@given(LOTS, LANES)
def test_what_is_exclusive_is_alone(given: list[Given], n_lanes: int) -> None:
    """Beside a unit that brings parallelism of its own nothing is under way, nor does anything begin before it is over."""
    for one in Host(given, n_lanes).execute().began:
        assert not (given[one.lot].is_exclusive and one.others)
        assert not any(given[other].is_exclusive for other in one.others)


@given(LOTS, LANES)
def test_light_units_leave_no_lane_idle(given: list[Given], n_lanes: int) -> None:
    """Whatever is known, units that run side by side are over as soon as any order without gaps would have them at the latest."""
    light = [second for one in given if not one.is_exclusive for second in one.durations]
    alone_s = sum(sum(one.durations) for one in given if one.is_exclusive)
    latest_s = sum(light) / n_lanes + (1 - 1 / n_lanes) * max(light, default=0.0)  # Graham 1966, for any list
    assert Host(given, n_lanes).execute().now <= (alone_s + latest_s) * CLOSE


@given(LOTS, LANES)
def test_what_is_unknown_is_begun_once_before_anything_else(given: list[Given], n_lanes: int) -> None:
    """Of each lot whose cost is unknown one unit is begun before any second one, and before what is known."""
    seen: set[int] = set()
    for one in Host(given, n_lanes).execute().began:
        unseen = {i for i, lot in enumerate(given) if lot.cost_s is None and not lot.is_exclusive} - seen
        if unseen and not given[one.lot].is_exclusive:
            assert one.lot in unseen
        seen.add(one.lot)


@given(LOTS, LANES)
def test_the_dearest_is_next(given: list[Given], n_lanes: int) -> None:
    """Where costs are known, by hint, from before or from siblings, none of those that wait beside it costs more."""
    for one in Host(given, n_lanes).execute().began:
        cost_s = one.costs[one.lot]
        if cost_s is None or given[one.lot].is_exclusive:
            continue
        waits = [i for i, lot in enumerate(given) if one.waiting[i] and not lot.is_exclusive]
        assert cost_s >= max(one.costs[i] or 0.0 for i in waits)


@given(st.lists(KNOWN, max_size=4), st.integers(1, 3))
def test_known_costs_end_within_four_thirds_of_the_best(given: list[Given], n_lanes: int) -> None:
    """No assignment of the units to lanes is over in less than three quarters of the time (Graham 1969)."""
    light = sorted((s for one in given if not one.is_exclusive for s in one.durations), reverse=True)
    alone_s = sum(sum(one.durations) for one in given if one.is_exclusive)
    assert Host(given, n_lanes).execute().now <= (alone_s + 4 / 3 * best_makespan(light, n_lanes)) * CLOSE


def best_makespan(seconds: list[float], n_lanes: int) -> float:
    """Return the least time in which lanes can do what takes so long, by trying all that differs."""
    loads = {(0.0,) * n_lanes}
    for one in seconds:
        loads = {tuple(sorted((*load[:i], load[i] + one, *load[i + 1 :]))) for load in loads for i in range(n_lanes)}
    return min(load[-1] for load in loads)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param([Given((1,), 1), Given((5,), 5), Given((3,), 3)], [1, 2, 0], id="dearest first"),
        pytest.param([Given((1,), 1), Given((9,)), Given((2,))], [1, 2, 0], id="unknown first"),
        pytest.param([Given((1, 1)), Given((5, 5)), Given((2, 2), 2)], [0, 1, 1, 2, 2, 0], id="as was learned meanwhile"),
        pytest.param([Given((5, 1, 1, 1), 5), Given((3, 3), 3)], [0, 0, 1, 1, 0, 0], id="less than was thought"),
        pytest.param([Given((1,), 1), Given((0.5,), 0.5, True)], [1, 0], id="alone first, as it is soon over"),
        pytest.param([Given((1, 1), 1), Given((9,), 9, True), Given((4,), 4, True)], [0, 0, 2, 1], id="alone last"),
        pytest.param([Given((9,), None, True), Given((1,), 1), Given((2,))], [2, 1, 0], id="alone and unknown"),
        pytest.param([], [], id="nothing"),
    ],
)
def test_orders(given: list[Given], expected: list[int]) -> None:
    """The order on one lane, by what is known at the time."""
    assert Host(given, 1).execute().order == expected


def test_what_has_run_for_long_is_dear() -> None:
    """Before its first unit is over, a lot counts for as long as that has been running."""
    lots = [Lot(2), Lot(3, 2.0)]
    ordering = Ordering(lots, 3)
    assert [ordering.begin(0.0), ordering.begin(1.0), ordering.begin(2.5)] == [lots[0], lots[1], lots[0]]


def test_what_runs_side_by_side_shares_the_lanes() -> None:
    """With more lanes light units are sooner over, so that they come before what runs alone for as long."""
    given = [Given((3, 3, 3, 3), 3), Given((2,), 2, True)]
    assert Host(given, 1).execute().order == [1, 0, 0, 0, 0]
    assert Host(given, 4).execute().order == [0, 0, 0, 0, 1]


def test_a_lot_knows_what_its_units_have_taken() -> None:
    """Once a unit is over, what was measured counts instead of what was known before."""
    lot = Lot(3, 10.0)
    assert lot.cost_s == 10.0
    lot.begin(1.0)
    lot.begin(2.0)
    assert lot.so_far_s(5.0) == 4.0
    lot.end(1.0, 3.0)
    assert (lot.cost_s, lot.so_far_s(5.0), lot.n_waiting) == (3.0, 3.0, 1)
    lot.end(2.0, 5.0)
    assert (lot.cost_s, lot.so_far_s(9.0)) == (4.0, 0.0)
