"""deciding/estimate.py: each term of the completion-time model, by numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from offloop.deciding.chunking import FLOOR_S
from offloop.deciding.estimate import (
    BRIDGE,
    GIL_FREE,
    HORIZON_S,
    ITEM_TRIP_S,
    LATE,
    NEAR,
    Estimate,
    _counts,
    estimate_processes,
    estimate_serial,
    estimate_threads,
    items_left,
    moving_s,
)
from offloop.model import Host, Strategy, Workload

from .deciding import hosts, works

# Round numbers, so that each term can be told apart in a sum.
HOST = Host(
    cores=8, worker_start_s=0.4, round_trip_s=0.001, thread_trip_s=0.0001, bytes_per_s=1e8
)
WORK = Workload(fn="f", n_items=100, item_s=0.01, transport_s=0.0, idle_workers=8)


def near(seconds: float) -> Any:
    """Return what compares equal to a time but for rounding."""
    return pytest.approx(seconds, rel=1e-9, abs=1e-12)


def processes(work: Workload, most: int, host: Host = HOST, *, may_bridge: bool = True) -> Estimate:
    """Estimate worker processes."""
    return estimate_processes(host, work, most, may_bridge=may_bridge)


# --- serial ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 1.0001),  # 100 × 10 ms, one trip
        ({"n_done": 40}, 0.6001),
        ({"n_done": 100}, 0.0001),
        ({"n_done": 120}, 0.0001),
        ({"local_backlog_s": 0.25}, 1.2501),
        ({"item_s": 0.0}, 0.0001),
        ({"item_s": None}, 0.0001),
        ({"payload_bytes": 1e9, "gil_held": 1.0, "workers_backlog_s": 9.0}, 1.0001),  # none of which counts here
    ],
)
def test_serial_is_the_sum(changes: dict[str, Any], seconds: float) -> None:
    """In the local thread items take their sum, after what waits for it already."""
    assert estimate_serial(HOST, replace(WORK, **changes)) == (near(seconds), 1, 0.0)


# --- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "most", "seconds", "workers"),
    [
        ({"gil_held": 0.0}, 4, 0.25 + 0.00025, 4),  # 25 rounds, and trips of 1 + 3/2
        ({"gil_held": 0.0}, 1, 1.0 + 0.0001, 1),
        ({"gil_held": 0.0, "n_done": 60}, 4, 0.1 + 0.00025, 4),
        ({"gil_held": GIL_FREE * 0.99}, 4, 0.25 + 0.00025, 4),  # what a busy machine looks like
        ({"gil_held": 0.5}, 4, 0.5 + 0.00015, 2),  # half of it one after another: no more than two have anything of it
        ({"gil_held": 0.3}, 4, 0.3 + 0.00025, 4),
        ({"gil_held": 1.0}, 4, 1.0 + 0.0001, 1),
        ({"gil_held": None}, 4, 1.0 + 0.0001, 1),
        ({"gil_held": 0.0, "longest_s": 0.5}, 4, 0.5 + 0.00015, 2),
        ({"gil_held": 0.0, "n_items": 5}, 4, 0.02 + 0.0001 * 2, 3),  # two rounds, for which three do
        ({"gil_held": 0.0, "bias": {Strategy.THREADS: 1.5}}, 4, 1.5 * (0.25 + 0.00025), 4),
        ({"gil_held": 0.0, "bias": {Strategy.PROCESSES: 1.5}}, 4, 0.25 + 0.00025, 4),
    ],
)
def test_threads(changes: dict[str, Any], most: int, seconds: float, workers: int) -> None:
    """Threads share the items in rounds, but what holds the GIL goes one after another."""
    assert estimate_threads(HOST, replace(WORK, **changes), most) == (near(seconds), workers, 0.0)


def test_without_a_gil_nothing_is_held() -> None:
    """Where there is no GIL threads share everything."""
    work = replace(WORK, gil_held=1.0)
    free = estimate_threads(replace(HOST, has_gil=False), work, 4)
    assert free == estimate_threads(HOST, replace(work, gil_held=0.0), 4)


# --- processes that are up -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "most", "seconds", "workers"),
    [
        ({}, 4, 0.25 + 0.0025, 4),
        ({}, 8, 0.13 + 0.0045, 8),  # 13 rounds
        ({}, 1, 1.0 + 0.001, 1),
        ({"n_items": 9}, 8, 0.02 + 0.003, 5),  # two rounds, for which five do
        ({"n_items": 8}, 8, 0.01 + 0.0045, 8),
        ({"n_items": 1}, 8, 0.01 + 0.001, 1),
        ({"n_done": 96}, 8, 0.01 + 0.0025, 4),
        ({"longest_s": 0.2}, 8, 0.2 + 0.0045, 8),
        ({"longest_s": 5.0}, 8, 1.0 + 0.001, 1),  # no longer than all together
        ({"gil_held": 1.0, "local_backlog_s": 9.0}, 4, 0.25 + 0.0025, 4),  # which counts elsewhere
        ({"workers_backlog_s": 0.8}, 4, 0.2 + 0.25 + 0.0025, 4),  # shared by four
        ({"bias": {Strategy.PROCESSES: 2.0}}, 4, 2 * (0.25 + 0.0025), 4),
        ({"bias": {Strategy.THREADS: 2.0}}, 4, 0.25 + 0.0025, 4),
        ({"n_items": 200, "item_s": 1e-5}, 8, FLOOR_S + 0.0015, 2),  # chunks of no less than FLOOR_S
        ({"n_items": 50, "item_s": 1e-5}, 8, 0.0005 + 0.001, 1),  # a single one, of less
    ],
)
def test_warm_processes(changes: dict[str, Any], most: int, seconds: float, workers: int) -> None:
    """Workers that are up share the items in rounds, after what waits for them, with a trip for each."""
    assert processes(replace(WORK, **changes), most) == (near(seconds), workers, 0.0)


@pytest.mark.parametrize(
    ("moved", "seconds", "workers"),
    [
        ({"transport_s": 0.001}, 25 * 0.011 + 0.0025, 4),  # a worker does its half of the moving
        ({"transport_s": 0.006}, 100 * 0.006 + 0.0025, 4),  # this process moves one after another
        ({"transport_s": 0.02}, 100 * 0.02 + 0.0015, 2),
        ({"transport_s": None}, 25 * (0.01 + ITEM_TRIP_S) + 0.0025, 4),
        ({"transport_s": None, "payload_bytes": 2e5}, 25 * (0.011 + ITEM_TRIP_S) + 0.0025, 4),  # half of it on each side
        ({"transport_s": None, "result_bytes": 2e5}, 25 * (0.011 + ITEM_TRIP_S) + 0.0025, 4),
        ({"transport_s": None, "payload_bytes": 1e5, "result_bytes": 1e5}, 25 * (0.011 + ITEM_TRIP_S) + 0.0025, 4),
        ({"transport_s": 0.001, "payload_bytes": 1e9}, 25 * 0.011 + 0.0025, 4),  # measured counts more than guessed
    ],
)
def test_moving_data(moved: dict[str, Any], seconds: float, workers: int) -> None:
    """Data is moved by both sides, here for one item after another, and measured time counts before sizes."""
    assert processes(replace(WORK, **moved), 4) == (near(seconds), workers, 0.0)


@pytest.mark.parametrize(
    ("moved", "seconds"),
    [
        ({"transport_s": 0.006}, 0.006),
        ({"transport_s": 0.0, "payload_bytes": 1e9}, 0.0),
        ({"transport_s": None}, ITEM_TRIP_S),
        ({"transport_s": None, "payload_bytes": 1e5, "result_bytes": 3e5}, ITEM_TRIP_S + 0.002),
    ],
)
def test_this_process_moves_its_half(moved: dict[str, Any], seconds: float) -> None:
    """This process is busy with an item for as long as was measured, or else for half of what its bytes take."""
    assert moving_s(HOST, replace(WORK, **moved)) == near(seconds)


def test_moving_takes_a_core() -> None:
    """All that both sides do takes its share of the cores, however many workers there are."""
    two = processes(replace(WORK, transport_s=0.004), 2, replace(HOST, cores=2))
    assert two == (near(100 * 0.018 / 2 + 0.0015), 2, 0.0)


# --- processes that must start ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("idle", "may_bridge", "going_on"), [(0, True, BRIDGE), (0, False, 0.0), (1, True, 1 + BRIDGE), (3, False, 3.0)]
)
def test_what_goes_on_while_workers_start(idle: int, may_bridge: bool, going_on: float) -> None:
    """Until all are up those that are work, and the local thread if it may: so much less is left to do then."""
    work = replace(WORK, n_items=400, idle_workers=idle)
    start_s = 0.4 * (1 - going_on / 4)
    warm_s = 1.0 + 0.0025
    assert processes(work, 4, may_bridge=may_bridge) == (near(warm_s + start_s), 4, near(start_s))


@pytest.mark.parametrize(
    ("changes", "may_bridge", "start_s"),
    [
        ({"idle_workers": 4, "import_s": 0.2}, False, 0.2),  # those that are up import as well
        ({"idle_workers": 4, "import_s": 0.2}, True, 0.2 * (1 - BRIDGE / 4)),
        ({"idle_workers": 0, "import_s": 0.2}, False, 0.4 + 0.2),  # one after the other
        ({"idle_workers": 3, "import_s": 0.2}, True, 0.6 * (1 - BRIDGE / 4)),  # nobody goes on but the local thread
        ({"idle_workers": 0, "starting_s": 0.25}, False, 0.15),
        ({"idle_workers": 0, "starting_s": 0.25, "import_s": 0.2}, False, 0.35),
        ({"idle_workers": 0, "starting_s": 0.3}, False, 0.4 * LATE),  # however long it has lasted
        ({"idle_workers": 0, "starting_s": 99.0}, False, 0.4 * LATE),
        ({"idle_workers": 0, "starting_s": 99.0, "import_s": 0.2}, True, 0.6 * LATE * (1 - BRIDGE / 4)),
        ({"idle_workers": 4, "starting_s": 99.0}, False, 0.0),
        ({"idle_workers": 4, "import_s": 0.2, "forgone_s": 0.19}, False, 0.2),
        ({"idle_workers": 4, "import_s": 0.2, "forgone_s": 0.21}, False, 0.0),  # imports are bought as workers are
        ({"idle_workers": 0, "import_s": 0.2, "forgone_s": 0.5}, False, 0.6),
    ],
)
def test_workers_are_ready_once_they_have_imported(changes: dict[str, Any], may_bridge: bool, start_s: float) -> None:
    """What workers import first counts like their start, less the time that it has lasted, but never as nearly over."""
    work = replace(WORK, n_items=400, **changes)
    assert processes(work, 4, may_bridge=may_bridge) == (near(1.0 + 0.0025 + start_s), 4, near(start_s))


@pytest.mark.parametrize(("forgone_s", "start_s"), [(0.0, 0.35), (0.1, 0.35), (0.39, 0.35), (0.4, 0.0), (9.0, 0.0)])
def test_what_was_forgone_buys_workers(forgone_s: float, start_s: float) -> None:
    """Once runs before have taken longer for want of workers by as much as these take to start, that counts no more."""
    assert BRIDGE == 0.5
    work = replace(WORK, n_items=400, idle_workers=0, forgone_s=forgone_s)
    assert processes(work, 4) == (near(1.0 + 0.0025 + start_s), 4, near(start_s))


def test_what_is_done_before_workers_are_up_waits_for_none() -> None:
    """Little work is done by what is up, in as long as that takes; the trips are those of all."""
    work = replace(WORK, n_items=40, idle_workers=2)
    assert processes(work, 4) == (near(0.4 / (2 + BRIDGE) + 0.0025), 4, near(0.4 / (2 + BRIDGE) - 0.1))
    alone = processes(replace(WORK, n_items=10, idle_workers=0), 1)
    assert alone.seconds == near(0.1 / BRIDGE + 0.001)
    assert alone.start_s == near(0.1 / BRIDGE - 0.1)


@pytest.mark.parametrize("n_done", [0, 100])
def test_nothing_to_do_waits_no_longer_than_for_a_start(n_done: int) -> None:
    """Where nothing is up and nothing may go on meanwhile, even work of no time has an estimate."""
    work = replace(WORK, n_done=n_done, item_s=0.0, idle_workers=0)
    assert 0.001 <= processes(work, 1, may_bridge=False).seconds <= 0.4 + 0.001


# --- what all have in common -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_items", "n_done", "item_s", "left"),
    [
        (10, 0, None, 10),
        (10, 4, None, 6),
        (10, 12, None, 0),
        (0, 0, None, 0),
        (None, 0, 0.1, 10),
        (None, 7, 0.1, 10),
        (None, 0, 30.0, 1),
        (None, 0, 0.0, 1_000_000),
        (None, 0, None, 1_000_000),
    ],
)
def test_an_unknown_count_fills_the_horizon(n_items: int | None, n_done: int, item_s: float | None, left: int) -> None:
    """Where it isn't known how many items there are, as many are assumed as make a second of work."""
    assert HORIZON_S == 1.0
    assert items_left(Workload(fn="f", n_items=n_items, n_done=n_done, item_s=item_s)) == left


@pytest.mark.parametrize(
    ("n", "most", "counts"),
    [
        (100, 1, [1]),
        (100, 2, [1, 2]),
        (100, 8, [1, 2, 4, 8]),
        (100, 6, [1, 2, 4, 6]),
        (9, 8, [1, 2, 4, 5]),
        (3, 64, [1, 2, 3]),
        (1, 64, [1]),
        (0, 64, [1]),
        (65, 64, [1, 2, 4, 8, 16, 32, 33]),
    ],
)
def test_numbers_of_lanes(n: int, most: int, counts: list[int]) -> None:
    """Powers of two are looked at, and the fewest lanes that need as few rounds as the most."""
    assert _counts(n, most) == counts


@given(st.integers(0, 10**9), st.integers(1, 1024))
def test_lanes_are_few_and_do_as_well_as_the_most(n: int, most: int) -> None:
    """No more lanes than allowed or than items, no more numbers than a dozen, and one of them needs the fewest rounds."""
    counts = _counts(n, most)
    assert counts == sorted(set(counts))
    assert counts[0] == 1
    assert counts[-1] <= max(1, min(most, n))
    assert len(counts) <= 12
    if n:
        assert math.ceil(n / counts[-1]) == math.ceil(n / min(most, n))


@given(hosts, works, st.integers(1, 64))
def test_parallel_is_never_below_its_bounds(host: Host, work: Workload, most: int) -> None:
    """No estimate is below the work evenly spread over all lanes, or over all cores."""
    work = replace(work, bias={})
    n, item_s = items_left(work), work.item_s or 0.0
    threads = estimate_threads(host, work, most)
    assert threads.seconds >= n * item_s / most * (1 - 1e-9)
    warm = estimate_processes(host, replace(work, idle_workers=most, import_s=0.0), most, may_bridge=True)
    assert warm.seconds >= n * item_s / min(most, host.cores) * (1 - 1e-9)
    assert warm.start_s == 0


@given(hosts, works, st.integers(1, 64), st.booleans(), st.floats(1, 100))
def test_more_of_anything_takes_longer(
    host: Host, work: Workload, most: int, may_bridge: bool, factor: float
) -> None:
    """More work, longer starts and trips never make an estimate smaller, by more than the choice of workers allows."""
    assume(work.idle_workers or may_bridge)
    before = estimate_processes(host, work, most, may_bridge=may_bridge).seconds
    if work.n_items is not None:
        slower_work = replace(work, item_s=None if work.item_s is None else work.item_s * factor)
        assert estimate_processes(host, slower_work, most, may_bridge=may_bridge).seconds * NEAR >= before * 0.9999
    slower_host = replace(
        host, worker_start_s=host.worker_start_s * factor, round_trip_s=host.round_trip_s * factor
    )
    assert estimate_processes(slower_host, work, most, may_bridge=may_bridge).seconds * NEAR >= before * 0.9999
    busier = replace(work, workers_backlog_s=work.workers_backlog_s * factor)
    assert estimate_processes(host, busier, most, may_bridge=may_bridge).seconds >= before * 0.9999
