"""deciding/decide.py on hosts of all kinds: platforms, few and many cores, little memory, no GIL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offloop.deciding.decide import LOOP_SAFE_S, WINDOWS_ITEM_S, thread_limit, worker_limit
from offloop.model import Host, Reason, Strategy, Workload
from offloop.settings import ParallelConfig

from .deciding import AUTO, NEVER, SAFE, WORK, choose, explicit

SERIAL, THREADS, PROCESSES = Strategy.SERIAL, Strategy.THREADS, Strategy.PROCESSES
WINDOWS = Host(platform="win32", cores=16, physical=8)
MAC = Host(platform="darwin", cores=16, physical=8)
LINUX = Host(platform="linux", cores=16, physical=8)
WARM = replace(WORK, idle_workers=64)
HELD = replace(WARM, gil_held=1.0)
FREE = replace(WARM, gil_held=0.0)


# --- platforms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [WINDOWS, MAC], ids=lambda host: host.platform)
def test_processes_take_physical_cores_and_threads_logical_ones(host: Host) -> None:
    """Where what shares a core is known, a worker process has one of its own; threads take all of them."""
    assert (worker_limit(host, ParallelConfig()), thread_limit(host, ParallelConfig())) == (8, 16)
    work = replace(WARM, item_s=0.25)
    assert choose(host, work, explicit(PROCESSES)).workers == 8
    assert choose(host, work, explicit(THREADS)).workers == 16
    assert choose(host, work).workers == 8
    assert choose(host, replace(work, gil_held=0.0), SAFE).workers == 16


@pytest.mark.parametrize("host", [WINDOWS, MAC, LINUX], ids=lambda host: host.platform)
@pytest.mark.parametrize(("workers", "limit"), [(-1, 16), (12, 12), (20, 16), (3, 3)])
def test_a_number_of_workers_counts_logical_cores(host: Host, workers: int, limit: int) -> None:
    """Who says how many workers there are gets them, up to the usable cores; -1 is all of these."""
    assert worker_limit(host, ParallelConfig(workers=workers)) == limit


def test_linux_takes_all_usable_cores() -> None:
    """On Linux, where a virtual machine doesn't tell, a worker counts for each usable core."""
    assert worker_limit(LINUX, ParallelConfig()) == 16
    assert worker_limit(replace(MAC, physical=None), ParallelConfig()) == 16
    assert worker_limit(replace(MAC, cores=4), ParallelConfig()) == 4


@pytest.mark.parametrize("item_s", [0.001, 0.1, 0.199, 0.2, 0.5])
def test_windows_prefers_threads(item_s: float) -> None:
    """On Windows work that may go to threads and lets the GIL go does so, at any cost of an item."""
    decision = choose(WINDOWS, replace(FREE, item_s=item_s), SAFE)
    assert (decision.strategy, decision.reason) == (THREADS, Reason.FASTER)


@pytest.mark.parametrize(
    ("item_s", "gil_held", "strategy"),
    [
        (0.001, 1.0, SERIAL),
        (0.1, 0.0, SERIAL),
        (WINDOWS_ITEM_S * 0.99, 0.0, SERIAL),
        (WINDOWS_ITEM_S, 0.0, PROCESSES),
        (WINDOWS_ITEM_S, 1.0, PROCESSES),
        (0.5, None, PROCESSES),
    ],
)
def test_windows_takes_processes_for_long_items_only(item_s: float, gil_held: float | None, strategy: Strategy) -> None:
    """On Windows processes are chosen to be faster only for items of hundreds of milliseconds; elsewhere for all."""
    work = replace(WARM, item_s=item_s, gil_held=gil_held)
    assert choose(WINDOWS, work).strategy is strategy
    assert choose(MAC, work).strategy is PROCESSES


def test_windows_protects_the_loop_too() -> None:
    """What would hold the GIL for long leaves this process on Windows as well, if a worker is up or is worth starting."""
    decision = choose(WINDOWS, replace(HELD, item_s=0.05))
    assert (decision.strategy, decision.reason) == (PROCESSES, Reason.PROTECTS_LOOP)
    cold = replace(HELD, idle_workers=0)
    assert choose(WINDOWS, replace(cold, item_s=WINDOWS_ITEM_S)).strategy is PROCESSES
    for item_s in (0.05, WINDOWS_ITEM_S * 0.99):  # not worth an interpreter and every import
        decision = choose(WINDOWS, replace(cold, item_s=item_s))
        assert (decision.strategy, decision.reason) == (SERIAL, Reason.TOO_SMALL)
        assert choose(MAC, replace(cold, item_s=item_s)).strategy is PROCESSES
    assert choose(WINDOWS, replace(HELD, item_s=0.001), config=NEVER).reason is Reason.LOCAL_NEVER


# --- cores -----------------------------------------------------------------------------------------------------------


def on(cores: int) -> Host:
    """Return a host with so many cores."""
    return Host(cores=cores)


@pytest.mark.parametrize(
    ("cores", "work", "workers"),
    [
        (2, WARM, 2),
        (16, WARM, 16),
        (64, replace(WARM, n_items=100_000), 64),
        (16, replace(WARM, n_items=2, item_s=0.004), 2),  # no third has anything to do
        (16, replace(WARM, n_items=9, item_s=0.01), 9),  # one round
        (8, replace(WARM, n_items=9, item_s=0.01), 5),  # two rounds, as with 8
        (4, replace(WARM, n_items=6, item_s=0.01), 3),  # two rounds, as with 4
        (16, replace(WARM, n_items=20, item_s=0.01), 10),  # two rounds, as with 16
        (8, replace(WARM, n_items=100, item_s=0.01, transport_s=0.007), 4),  # this process is busy with moving
        (8, replace(WARM, n_items=100, item_s=0.01, payload_bytes=7e6), 4),
        (16, replace(WARM, n_items=100, item_s=0.01, longest_s=0.48), 2),  # one item takes as long as half of all
        (8, replace(WARM, n_items=1000, item_s=1.5e-6), 2),  # in chunks of no less than a millisecond
    ],
)
def test_workers_that_gain_nothing_do_not_take_part(cores: int, work: Workload, workers: int) -> None:
    """As many workers are chosen as are worth having, and no more."""
    decision = choose(on(cores), work)
    assert (decision.strategy, decision.workers) == (PROCESSES, workers)


@pytest.mark.parametrize("moved", [{"transport_s": 0.0098}, {"payload_bytes": 9.8e6}, {"result_bytes": 9.8e6}])
def test_work_that_is_mostly_moving_takes_two_workers(moved: dict[str, float]) -> None:
    """Where this process is kept busy by moving data, two workers keep up with it, if it is to leave at all.

    For the loop's sake it isn't: to pickle it would hold the GIL as well.
    """
    work = replace(WARM, n_items=100, item_s=0.01, **moved)
    behind_others = choose(on(8), replace(work, local_backlog_s=1.0))
    never_here = choose(on(8), work, config=NEVER)
    assert (behind_others.reason, never_here.reason) == (Reason.FASTER, Reason.LOCAL_NEVER)
    for decision in (behind_others, never_here):
        assert (decision.strategy, decision.workers) == (PROCESSES, 2)
    for gil_held in (None, 0.0, 1.0):
        assert choose(on(8), replace(work, gil_held=gil_held)).reason is Reason.TOO_SMALL


def test_a_large_host_is_not_used_up_by_little_work() -> None:
    """100 ms of work on 64 cores takes some of them: the messages to all would take longer than they gain."""
    for n_items in (100, 1000):
        decision = choose(on(64), replace(WARM, n_items=n_items, item_s=0.1 / n_items))
        assert decision.strategy is PROCESSES
        assert 4 <= decision.workers < 64


@pytest.mark.parametrize("cores", [1, 2, 16, 64])
def test_tiny_work_stays_on_any_host(cores: int) -> None:
    """Work of less than a few round trips stays here however many cores there are."""
    work = replace(WARM, n_items=100, item_s=1e-6)
    assert choose(on(cores), work).strategy is SERIAL
    assert choose(on(cores), replace(work, gil_held=0.0), SAFE).strategy is SERIAL


@pytest.mark.parametrize(
    ("work", "strategy", "reason"),
    [
        (replace(HELD, n_items=1, item_s=LOOP_SAFE_S * 1.1), PROCESSES, Reason.PROTECTS_LOOP),
        (replace(HELD, n_items=100, item_s=LOOP_SAFE_S * 1.1), PROCESSES, Reason.PROTECTS_LOOP),
        (replace(WARM, n_items=100, item_s=LOOP_SAFE_S * 1.1), PROCESSES, Reason.PROTECTS_LOOP),
        (replace(HELD, n_items=100, item_s=LOOP_SAFE_S), SERIAL, Reason.SINGLE_WORKER),
        (replace(HELD, n_items=1, item_s=LOOP_SAFE_S), SERIAL, Reason.TOO_SMALL),
        (replace(FREE, n_items=100, item_s=0.1), SERIAL, Reason.SINGLE_WORKER),
    ],
)
def test_one_core(work: Workload, strategy: Strategy, reason: Reason) -> None:
    """On one core long items that hold the GIL go to the one worker, for the loop's sake; all else stays."""
    decision = choose(on(1), work)
    assert (decision.strategy, decision.reason, decision.workers) == (strategy, reason, 1)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory_bytes", "worker_bytes", "limit"),
    [
        (None, 25_000_000, 16),
        (10**12, 25_000_000, 16),
        (100_000_000, 25_000_000, 4),
        (99_999_999, 25_000_000, 3),
        (1_000_000_000, 300_000_000, 3),
        (10, 25_000_000, 1),
        (0, 25_000_000, 1),
    ],
)
def test_memory_limits_the_workers(memory_bytes: int | None, worker_bytes: int, limit: int) -> None:
    """There are no more workers than memory has room for, and one at least; threads need no room."""
    host = replace(LINUX, memory_bytes=memory_bytes, worker_bytes=worker_bytes)
    for workers in (None, -1, 16):
        config = ParallelConfig(workers=workers)
        assert worker_limit(host, config) == limit
        assert thread_limit(host, config) == 16
    assert choose(host, replace(WARM, item_s=0.1), explicit(PROCESSES)).workers == limit


def test_a_worker_of_no_size_has_room() -> None:
    """A worker that was measured to hold nothing of its own, for it was about to end, doesn't break the decision."""
    assert worker_limit(replace(LINUX, memory_bytes=100, worker_bytes=0), ParallelConfig()) == 16


# --- no GIL ----------------------------------------------------------------------------------------------------------

NO_GIL = Host(cores=8, has_gil=False)


@pytest.mark.parametrize("gil_held", [None, 0.0, 0.5, 1.0])
def test_without_a_gil_threads_win(gil_held: float | None) -> None:
    """Where there is no GIL, what was measured of it doesn't count, and threads need no messages."""
    work = replace(WARM, gil_held=gil_held)
    decision = choose(NO_GIL, work, SAFE)
    assert (decision.strategy, decision.reason, decision.workers) == (THREADS, Reason.FASTER, 8)
    assert choose(NO_GIL, work, AUTO).strategy is PROCESSES


def test_without_a_gil_nothing_holds_the_loop() -> None:
    """Where there is no GIL, a long item stays here: the loop goes on beside it."""
    work = replace(HELD, n_items=1, item_s=0.5)
    assert choose(NO_GIL, work).reason is Reason.TOO_SMALL
    assert choose(replace(NO_GIL, has_gil=True), work).reason is Reason.PROTECTS_LOOP


def test_without_a_gil_consent_is_worth_a_hint() -> None:
    """Where there is no GIL, work that holds it elsewhere is promised its gain in threads."""
    work = replace(HELD, idle_workers=0, n_items=50)
    assert choose(NO_GIL, work).hint == "thread_safe=True would be about 6.9× faster"
    assert choose(replace(NO_GIL, has_gil=True), work).hint is None
