"""deciding/decide.py: where a run executes and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from offloop.deciding.decide import LOCAL_PATIENCE_S, usable_workers, worker_limit
from offloop.deciding.estimate import BRIDGE
from offloop.model import Host, Reason, Strategy
from offloop.options import CallOptions
from offloop.settings import ParallelConfig

from .deciding import AUTO, HOST, NEVER, SAFE, WORK, choose, explicit

SERIAL, THREADS, PROCESSES = Strategy.SERIAL, Strategy.THREADS, Strategy.PROCESSES
BIG = replace(WORK, item_s=0.1)
UNKNOWN = replace(WORK, item_s=None)
COLD = replace(WORK, idle_workers=0)
FREE = replace(WORK, gil_held=0.0)
HOLDING = replace(WORK, gil_held=1.0, item_s=0.01)
CRASHED = replace(WORK, has_crashed=True)
TIMED = replace(AUTO, item_timeout_s=5.0)
INNER = replace(WORK, inner="rf.n_jobs=-1")
LONG = replace(WORK, item_s=1.5)  # longer than grace_s
CI = replace(HOST, is_ci=True)
POOLED = replace(HOST, foreign_pool="joblib")
ONE_WORKER = ParallelConfig(workers=1)


class Case(NamedTuple):
    """A situation, as arguments of `choose`, and what is decided in it."""

    given: dict[str, Any]
    strategy: Strategy
    reason: Reason
    workers: int = 1


TABLE: dict[str, Case] = {
    "nothing to do": Case({"work": replace(WORK, n_items=0)}, SERIAL, Reason.NO_ITEMS),
    "the operator says off": Case(
        {"host": replace(HOST, is_off=True), "options": explicit(PROCESSES)}, SERIAL, Reason.OPERATOR_OFF
    ),
    "in a worker": Case(
        {"host": replace(HOST, is_worker=True), "options": explicit(PROCESSES)}, SERIAL, Reason.NESTED
    ),
    "in a foreign worker": Case({"host": POOLED, "options": explicit(PROCESSES)}, SERIAL, Reason.FOREIGN_POOL),
    # --- asked for
    "asked for processes": Case({"options": explicit(PROCESSES)}, PROCESSES, Reason.EXPLICIT, 4),
    "asked for threads": Case({"options": explicit(THREADS)}, THREADS, Reason.EXPLICIT, 4),
    "asked for serial": Case({"options": explicit(SERIAL)}, SERIAL, Reason.EXPLICIT),
    "asked for what has crashed": Case({"work": CRASHED, "options": explicit(SERIAL)}, SERIAL, Reason.EXPLICIT),
    "asked for processes with inner threads": Case(
        {"work": INNER, "options": explicit(PROCESSES)}, PROCESSES, Reason.EXPLICIT, 4
    ),
    "asked for processes with one worker": Case(
        {"options": explicit(PROCESSES, workers=1)}, PROCESSES, Reason.EXPLICIT, 1
    ),
    "threads from the environment": Case(
        {"options": CallOptions(strategy=THREADS)}, SERIAL, Reason.THREADS_NEED_CONSENT
    ),
    "processes from the environment": Case(
        {"options": CallOptions(strategy=PROCESSES)}, PROCESSES, Reason.EXPLICIT, 4
    ),
    "asked for under CI": Case({"host": CI, "options": explicit(PROCESSES)}, PROCESSES, Reason.EXPLICIT, 4),
    # --- CI
    "under CI": Case({"host": CI, "work": BIG}, SERIAL, Reason.CI),
    "under CI, lifted": Case({"host": replace(CI, lifts_ci=True), "work": BIG}, PROCESSES, Reason.FASTER, 4),
    "under CI, above grace": Case({"host": CI, "work": LONG}, SERIAL, Reason.CI),
    "under CI, never here": Case({"host": CI, "config": NEVER}, PROCESSES, Reason.LOCAL_NEVER, 4),
    "under CI, has crashed": Case({"host": CI, "work": CRASHED}, PROCESSES, Reason.HAS_CRASHED, 4),
    # --- what must leave this process
    "never here": Case({"config": NEVER}, PROCESSES, Reason.LOCAL_NEVER, 4),
    "never here, tiny": Case(
        {"work": replace(WORK, n_items=1, item_s=1e-6), "config": NEVER}, PROCESSES, Reason.LOCAL_NEVER
    ),
    "never here, unknown": Case({"work": UNKNOWN, "config": NEVER}, PROCESSES, Reason.LOCAL_NEVER, 4),
    "never here, though threads would do": Case(
        {"work": FREE, "options": SAFE, "config": NEVER}, PROCESSES, Reason.LOCAL_NEVER, 4
    ),
    "never here, one worker": Case(
        {"config": replace(NEVER, workers=1)}, PROCESSES, Reason.LOCAL_NEVER
    ),
    "never here, has crashed": Case({"work": CRASHED, "config": NEVER}, PROCESSES, Reason.LOCAL_NEVER, 4),
    "has crashed": Case({"work": CRASHED}, PROCESSES, Reason.HAS_CRASHED, 4),
    "has crashed, unknown": Case(
        {"work": replace(CRASHED, item_s=None, n_items=3)}, PROCESSES, Reason.HAS_CRASHED, 3
    ),
    "has crashed, long": Case({"work": replace(CRASHED, item_s=1.5)}, PROCESSES, Reason.HAS_CRASHED, 4),
    "above grace": Case({"work": LONG}, PROCESSES, Reason.ABOVE_GRACE, 4),
    "above grace once": Case({"work": replace(BIG, longest_s=1.5)}, PROCESSES, Reason.ABOVE_GRACE, 4),
    "above grace of its own": Case({"options": replace(AUTO, grace_s=0.0)}, PROCESSES, Reason.ABOVE_GRACE, 4),
    "above grace, though threads would do": Case(
        {"work": replace(LONG, gil_held=0.0), "options": SAFE}, PROCESSES, Reason.ABOVE_GRACE, 4
    ),
    "has a limit": Case({"options": TIMED}, PROCESSES, Reason.HAS_TIMEOUT, 4),
    "has a limit, unknown": Case({"work": UNKNOWN, "options": TIMED}, PROCESSES, Reason.HAS_TIMEOUT, 4),
    "has a limit, tiny": Case(
        {"work": replace(WORK, n_items=1, item_s=1e-6), "options": TIMED}, PROCESSES, Reason.HAS_TIMEOUT
    ),
    "has a limit, one worker": Case({"options": TIMED, "config": ONE_WORKER}, PROCESSES, Reason.HAS_TIMEOUT),
    "has a limit, no worker up": Case({"work": COLD, "options": TIMED}, PROCESSES, Reason.HAS_TIMEOUT, 4),
    "has a limit, though threads would do": Case(
        {"work": FREE, "options": replace(SAFE, item_timeout_s=5.0)}, PROCESSES, Reason.HAS_TIMEOUT, 4
    ),
    "has a limit, never here": Case({"options": TIMED, "config": NEVER}, PROCESSES, Reason.LOCAL_NEVER, 4),
    "has a limit, under CI": Case({"host": CI, "options": TIMED}, PROCESSES, Reason.HAS_TIMEOUT, 4),
    "has a limit, the operator says off": Case(
        {"host": replace(HOST, is_off=True), "options": TIMED}, SERIAL, Reason.OPERATOR_OFF
    ),
    "has a limit, in a worker": Case({"host": replace(HOST, is_worker=True), "options": TIMED}, SERIAL, Reason.NESTED),
    "has a limit, in a foreign worker": Case({"host": POOLED, "options": TIMED}, SERIAL, Reason.FOREIGN_POOL),
    "has a limit, asked for processes": Case(
        {"options": explicit(PROCESSES, item_timeout_s=5.0)}, PROCESSES, Reason.EXPLICIT, 4
    ),
    "has a limit, inner threads": Case(
        {"work": INNER, "options": TIMED}, PROCESSES, Reason.INNER_PARALLELISM
    ),
    # --- parallelism of its own
    "inner threads": Case({"work": INNER}, SERIAL, Reason.INNER_PARALLELISM),
    "inner threads, unknown": Case({"work": replace(INNER, item_s=None)}, SERIAL, Reason.INNER_PARALLELISM),
    "inner threads, never here": Case({"work": INNER, "config": NEVER}, PROCESSES, Reason.INNER_PARALLELISM),
    "inner threads under CI": Case({"host": CI, "work": INNER}, SERIAL, Reason.CI),
    # --- one worker
    "one worker": Case({"work": BIG, "config": ONE_WORKER}, SERIAL, Reason.SINGLE_WORKER),
    "one worker, unknown": Case({"work": UNKNOWN, "config": ONE_WORKER}, SERIAL, Reason.SINGLE_WORKER),
    "one worker for the call": Case({"options": replace(AUTO, workers=1)}, SERIAL, Reason.SINGLE_WORKER),
    # --- unknown
    "unknown": Case({"work": UNKNOWN}, SERIAL, Reason.MEASURING),
    "unknown and single": Case({"work": replace(UNKNOWN, n_items=1)}, SERIAL, Reason.MEASURING),
    "unknown and endless": Case({"work": replace(UNKNOWN, n_items=None)}, SERIAL, Reason.MEASURING),
    "unknown and light": Case({"work": replace(UNKNOWN, is_light=True)}, PROCESSES, Reason.MEASURING),
    "unknown and light, none idle": Case(
        {"work": replace(UNKNOWN, is_light=True, idle_workers=0)}, SERIAL, Reason.MEASURING
    ),
    "unknown, the local thread is busy": Case(
        {"work": replace(UNKNOWN, idle_workers=0, local_backlog_s=LOCAL_PATIENCE_S * 1.01)},
        PROCESSES,
        Reason.MEASURING,
    ),
    "unknown, the local thread is busy for a moment": Case(
        {"work": replace(UNKNOWN, local_backlog_s=LOCAL_PATIENCE_S)}, SERIAL, Reason.MEASURING
    ),
    # --- by estimate
    "pays": Case({}, PROCESSES, Reason.FASTER, 4),
    "pays with fewer workers": Case({"options": replace(AUTO, workers=2)}, PROCESSES, Reason.FASTER, 2),
    "pays in threads": Case({"work": FREE, "options": SAFE}, THREADS, Reason.FASTER, 4),
    "pays in threads, for fewer": Case(
        {"work": FREE, "options": replace(SAFE, workers=2)}, THREADS, Reason.FASTER, 2
    ),
    "threads would hold each other up": Case(
        {"work": replace(WORK, gil_held=1.0), "options": SAFE}, PROCESSES, Reason.FASTER, 4
    ),
    "threads may hold each other up": Case({"options": SAFE}, PROCESSES, Reason.FASTER, 4),
    "too little in all": Case({"work": replace(WORK, n_items=2, item_s=1e-5)}, SERIAL, Reason.TOO_SMALL),
    "too little for a cold start": Case({"work": replace(COLD, n_items=50)}, SERIAL, Reason.TOO_SMALL),
    "enough for a cold start": Case({"work": replace(COLD, n_items=5000)}, PROCESSES, Reason.FASTER, 4),
    "endless and dear": Case({"work": replace(WORK, n_items=None)}, PROCESSES, Reason.FASTER, 4),
    "endless and cheap": Case({"work": replace(WORK, n_items=None, item_s=1e-7)}, SERIAL, Reason.TOO_SMALL),
    "one long item": Case({"work": replace(WORK, n_items=1, item_s=0.5)}, PROCESSES, Reason.PROTECTS_LOOP),
    "one long item that lets the GIL go": Case(
        {"work": replace(FREE, n_items=1, item_s=0.5)}, SERIAL, Reason.TOO_SMALL
    ),
    "a few long items, no worker up": Case(
        {"work": replace(COLD, n_items=9, item_s=0.01)}, SERIAL, Reason.TOO_SMALL
    ),
    "long items for as long as a start, no worker up": Case(
        {"work": replace(COLD, n_items=11, item_s=0.01)}, PROCESSES, Reason.PROTECTS_LOOP, 4
    ),
    "a few long items that must not run here meanwhile": Case(
        {"work": replace(COLD, n_items=9, item_s=0.01, may_bridge=False)}, PROCESSES, Reason.PROTECTS_LOOP, 3
    ),
    "a few long items once too often": Case(
        {"work": replace(COLD, n_items=1, item_s=0.01, forgone_s=0.09)}, PROCESSES, Reason.PROTECTS_LOOP
    ),
    "one long item of 1 kB": Case(
        {"work": replace(HOLDING, n_items=1, payload_bytes=1e3)}, PROCESSES, Reason.PROTECTS_LOOP
    ),
    "long items of 1 kB": Case({"work": replace(HOLDING, payload_bytes=1e3)}, PROCESSES, Reason.FASTER, 4),
    "one long item of 64 MB": Case(
        {"work": replace(HOLDING, n_items=1, payload_bytes=64e6)}, SERIAL, Reason.TOO_SMALL
    ),
    "long items of 64 MB": Case({"work": replace(HOLDING, payload_bytes=64e6)}, SERIAL, Reason.TOO_SMALL),
    "long items of 64 MB, though threads may be taken": Case(
        {"work": replace(HOLDING, payload_bytes=64e6), "options": SAFE}, SERIAL, Reason.TOO_SMALL
    ),
    "long items of 64 MB, never here": Case(
        {"work": replace(HOLDING, payload_bytes=64e6), "config": NEVER}, PROCESSES, Reason.LOCAL_NEVER, 2
    ),
    "one long item with a result of 64 MB": Case(
        {"work": replace(HOLDING, n_items=1, result_bytes=64e6)}, SERIAL, Reason.TOO_SMALL
    ),
    "longer items of 64 MB": Case(
        {"work": replace(HOLDING, n_items=1, item_s=0.2, payload_bytes=64e6)}, PROCESSES, Reason.PROTECTS_LOOP
    ),
    "half of it moving": Case(
        {"work": replace(HOLDING, n_items=1, transport_s=0.005)}, PROCESSES, Reason.PROTECTS_LOOP
    ),
    "more than half of it moving": Case(
        {"work": replace(HOLDING, n_items=1, transport_s=0.0051)}, SERIAL, Reason.TOO_SMALL
    ),
    "large, but soon moved": Case(
        {"work": replace(HOLDING, n_items=1, transport_s=0.001, payload_bytes=64e6)}, PROCESSES, Reason.PROTECTS_LOOP
    ),
    "long to import": Case({"work": replace(WORK, import_s=1.0)}, SERIAL, Reason.TOO_SMALL),
    "long to import, for long work": Case({"work": replace(WORK, import_s=1.0, n_items=5000)}, PROCESSES, Reason.FASTER, 4),
    "long to import, for the loop": Case(
        {"work": replace(WORK, import_s=9.0, item_s=0.01, n_items=1)}, PROCESSES, Reason.PROTECTS_LOOP
    ),
    "room for two": Case({"work": replace(WORK, max_workers=2)}, PROCESSES, Reason.FASTER, 2),
    "room for one": Case({"work": replace(WORK, max_workers=1)}, SERIAL, Reason.SINGLE_WORKER),
    "room for more than there are cores": Case({"work": replace(WORK, max_workers=99)}, PROCESSES, Reason.FASTER, 4),
    "room for two, though asked for": Case(
        {"work": replace(WORK, max_workers=2), "options": explicit(PROCESSES)}, PROCESSES, Reason.EXPLICIT, 2
    ),
    "room for two, in threads": Case(
        {"work": replace(FREE, max_workers=2), "options": SAFE}, THREADS, Reason.FASTER, 4
    ),
    "one short item": Case({"work": replace(WORK, n_items=1)}, SERIAL, Reason.TOO_SMALL),
    "one short item behind a queue": Case(
        {"work": replace(WORK, n_items=1, local_backlog_s=0.3)}, PROCESSES, Reason.FASTER
    ),
    "many behind the workers' queue": Case(
        {"work": replace(WORK, n_items=20, workers_backlog_s=0.3)}, SERIAL, Reason.TOO_SMALL
    ),
    "one core": Case({"host": replace(HOST, cores=1)}, SERIAL, Reason.SINGLE_WORKER),
}


@pytest.mark.parametrize("case", TABLE)
def test_decisions(case: str) -> None:
    """Each situation has one strategy, one reason and one number of workers."""
    given, strategy, reason, workers = TABLE[case]
    decision = choose(**given)
    assert (decision.strategy, decision.reason, decision.workers) == (strategy, reason, workers)


def test_every_reason_is_reached() -> None:
    """Every reason can be given before a run, except the two that only a run can find out about."""
    found_out = {Reason.START_FAILED, Reason.UNPICKLABLE}
    assert {case.reason for case in TABLE.values()} == set(Reason) - found_out


# Each rule with what makes it hold, strongest first: those further down are in force as well.
ORDER: list[tuple[Reason, dict[str, dict[str, Any]]]] = [
    (Reason.NO_ITEMS, {"work": {"n_items": 0}}),
    (Reason.OPERATOR_OFF, {"host": {"is_off": True}}),
    (Reason.NESTED, {"host": {"is_worker": True}}),
    (Reason.FOREIGN_POOL, {"host": {"foreign_pool": "dask"}}),
    (Reason.THREADS_NEED_CONSENT, {"options": {"strategy": THREADS}}),
    (Reason.CI, {"host": {"is_ci": True}}),
    (Reason.INNER_PARALLELISM, {"work": {"inner": "n_jobs=2"}}),
    (Reason.SINGLE_WORKER, {"options": {"workers": 1}}),
    (Reason.MEASURING, {"work": {"item_s": None}}),
]


@pytest.mark.parametrize("first", range(len(ORDER)), ids=[reason for reason, _ in ORDER])
def test_the_first_rule_that_holds_decides(first: int) -> None:
    """Where several rules hold, the reason is that of the first in the documented order."""
    host, work, options = HOST, WORK, AUTO
    for _, given in ORDER[first:]:
        host = replace(host, **given.get("host", {}))
        work = replace(work, **given.get("work", {}))
        options = replace(options, **given.get("options", {}))
    assert choose(host, work, options).reason is ORDER[first][0]


def test_the_reasons_to_leave_have_an_order() -> None:
    """local="never" comes before a crash, that before a limit, and that before long items; each does by itself."""
    work = replace(CRASHED, item_s=1.5)
    assert choose(work=work, options=TIMED, config=NEVER).reason is Reason.LOCAL_NEVER
    assert choose(work=work, options=TIMED).reason is Reason.HAS_CRASHED
    assert choose(work=replace(work, has_crashed=False), options=TIMED).reason is Reason.HAS_TIMEOUT
    assert choose(work=replace(work, has_crashed=False)).reason is Reason.ABOVE_GRACE
    assert choose(work=replace(WORK, n_items=1, item_s=0.001)).strategy is SERIAL


@pytest.mark.parametrize(("speedup", "strategy"), [(1.0, PROCESSES), (3.9, PROCESSES), (4.1, SERIAL)])
def test_the_gain_must_reach_min_speedup(speedup: float, strategy: Strategy) -> None:
    """Leaving serial takes an estimated gain of min_speedup: here it is just under four."""
    assert choose(config=ParallelConfig(min_speedup=speedup)).strategy is strategy


@pytest.mark.parametrize("n_done", [0, 2])
@pytest.mark.parametrize(
    ("n_left", "current", "leaves"),
    [
        (1, None, False),
        (4, None, False),  # a gain of 1.06, less than min_speedup
        (4, SERIAL, False),
        (4, PROCESSES, True),  # where it is already, it stays
        (1, PROCESSES, False),  # a loss: it comes back
        (100, None, True),
        (100, SERIAL, True),
        (100, PROCESSES, True),
    ],
)
def test_what_has_left_stays_away_while_that_is_no_loss(
    n_left: int, n_done: int, current: Strategy | None, leaves: bool
) -> None:
    """Leaving serial takes a gain of min_speedup; what has left it before stays away for any gain at all."""
    host = replace(HOST, round_trip_s=0.0011)
    work = replace(WORK, n_items=n_left + n_done, n_done=n_done, current=current)
    assert (choose(host, work).strategy is PROCESSES) == leaves


def test_in_mid_run_going_back_takes_min_speedup() -> None:
    """Work on workers returns in mid-run once the local thread would be through min_speedup times as soon."""
    work = replace(WORK, n_items=11, n_done=10, current=PROCESSES)  # one item of 1 ms is left
    for trip_s, strategy in ((0.0001, PROCESSES), (0.00024, PROCESSES), (0.0003, SERIAL)):
        host = replace(HOST, round_trip_s=trip_s)
        assert choose(host, work).strategy is strategy
        assert choose(host, replace(work, current=None)).strategy is SERIAL


def test_the_estimates_are_told() -> None:
    """A decision carries the numbers it rests on."""
    decision = choose()
    assert decision.item_s == 0.001
    assert decision.estimated_serial_s == pytest.approx(1.0, rel=0.001)
    assert decision.estimated_s == pytest.approx(0.2505)
    assert decision.start_cost_s == 0
    cold = choose(work=replace(COLD, n_items=5000))
    start_s = 0.1 * (1 - BRIDGE / 4)
    assert cold.estimated_s == pytest.approx(1.2515 + start_s, rel=1e-6)
    assert cold.start_cost_s == pytest.approx(start_s)
    assert choose(work=UNKNOWN).estimated_s is None


def test_a_decision_repeats_what_was_asked() -> None:
    """What was asked for, the function, what is known of it and the fixed chunk size stand in the decision."""
    work = replace(WORK, gil_held=0.5, payload_bytes=8.0, result_bytes=9.0, n_features=3, inner="rf.n_jobs=2")
    decision = choose(replace(HOST, platform="darwin"), work, explicit(PROCESSES, chunk_size=7))
    assert (decision.requested, decision.chunk_size, decision.fn, decision.n_items) == (PROCESSES, 7, "app.fn", 1000)
    assert (decision.gil_held, decision.payload_bytes, decision.result_bytes) == (0.5, 8.0, 9.0)
    assert (decision.n_features, decision.inner, decision.platform) == (3, "rf.n_jobs=2", "darwin")


@pytest.mark.parametrize(
    ("work", "options", "hint"),
    [
        (FREE, AUTO, None),  # processes are about as fast
        (FREE, SAFE, None),  # the consent is there
        (replace(COLD, n_items=50, gil_held=0.0), AUTO, "thread_safe=True would be about 3.8× faster"),
        (replace(COLD, n_items=50, gil_held=0.0), SAFE, None),
        (replace(COLD, n_items=50, gil_held=0.2), AUTO, "thread_safe=True would be about 3.8× faster"),
        (replace(COLD, n_items=50, gil_held=0.6), AUTO, None),
        (replace(COLD, n_items=50), AUTO, None),  # not measured, not promised
        (replace(COLD, n_items=1, gil_held=0.0), AUTO, None),
        (replace(FREE, n_items=8, payload_bytes=8e6), AUTO, "thread_safe=True would be about 3.7× faster"),
    ],
)
def test_the_hint_promises_what_was_measured(work: Any, options: CallOptions, hint: str | None) -> None:
    """Consent to threads is asked for where the GIL was seen free and the gain reaches min_speedup."""
    assert choose(work=work, options=options).hint == hint


@pytest.mark.parametrize(
    ("configured", "asked", "items", "workers"),
    [
        (None, None, 1000, 4),
        (-1, None, 1000, 4),
        (2, None, 1000, 2),
        (9, None, 1000, 4),  # more than usable cores would only take turns
        (None, 3, 1000, 3),
        (None, -1, 1000, 4),
        (2, -1, 1000, 2),  # a call never has more than its session
        (2, 9, 1000, 2),
        (None, None, 3, 3),
        (None, None, None, 4),
    ],
)
def test_workers(configured: int | None, asked: int | None, items: int | None, workers: int) -> None:
    """Workers are the least of usable cores, the session's setting, the call's option and the items."""
    limit = worker_limit(HOST, ParallelConfig(workers=configured))
    assert usable_workers(limit, replace(WORK, n_items=items), replace(AUTO, workers=asked)) == workers
    assert limit >= workers


def test_items_that_are_done_need_no_worker() -> None:
    """Only items that are left count, and one worker is the least."""
    assert usable_workers(8, replace(WORK, n_items=10, n_done=7), AUTO) == 3
    assert usable_workers(8, replace(WORK, n_items=10, n_done=10), AUTO) == 1
    assert usable_workers(8, replace(WORK, n_items=10, n_done=11), AUTO) == 1


@pytest.mark.parametrize("gil_held", [None, 0.5, 1.0])
@pytest.mark.parametrize("current", [None, SERIAL, THREADS, PROCESSES])
@pytest.mark.parametrize("n_done", [0, 1])
@pytest.mark.parametrize("options", [AUTO, SAFE])
def test_a_long_item_never_holds_the_loop(
    gil_held: float | None, current: Strategy | None, n_done: int, options: CallOptions
) -> None:
    """A single item that holds the GIL for long goes to a worker, wherever it ran before and whoever consented."""
    work = replace(WORK, n_items=1 + n_done, n_done=n_done, item_s=0.5, gil_held=gil_held, current=current)
    assert choose(work=work, options=options).strategy is PROCESSES


def test_threads_do_not_hold_the_loop_either() -> None:
    """Long items that hold the GIL for a good part go to workers, though two threads would be through as soon."""
    work = replace(WORK, n_items=100, item_s=0.05, gil_held=0.4)
    assert choose(replace(HOST, cores=2), work, SAFE).strategy is PROCESSES


@pytest.mark.parametrize("gil_held", [None, 1.0])
def test_threads_that_gain_nothing_are_not_faster(gil_held: float | None) -> None:
    """Threads are chosen where several of them gain something: a single thread besides the local one is no gain."""
    work = replace(WORK, n_items=1, gil_held=gil_held, current=PROCESSES)
    assert choose(work=work, options=SAFE).strategy is SERIAL


def test_what_workers_would_have_saved_is_told() -> None:
    """A run that stays only because no workers are up tells how much longer it takes for that."""
    work = replace(COLD, n_items=50)
    warm = choose(work=replace(work, idle_workers=4))
    cold = choose(work=work)
    assert (warm.strategy, cold.strategy, warm.forgone_s) == (PROCESSES, SERIAL, 0)
    assert warm.estimated_s is not None
    assert cold.estimated_s is not None
    assert cold.forgone_s == pytest.approx(cold.estimated_s - warm.estimated_s)
    assert choose(work=replace(WORK, n_items=1)).forgone_s == 0
    assert choose(work=replace(COLD, n_items=2, item_s=1e-5)).forgone_s == 0
    again = choose(work=replace(work, forgone_s=0.1))
    assert (again.strategy, again.reason) == (PROCESSES, Reason.FASTER)


@pytest.mark.parametrize(
    ("host", "options"), [(HOST, AUTO), (HOST, SAFE), (replace(HOST, cores=1), AUTO), (replace(HOST, cores=2), SAFE)]
)
@pytest.mark.parametrize("gil_held", [None, 0.4, 1.0])
def test_a_service_that_holds_the_loop_again_and_again_gets_a_worker(
    gil_held: float | None, host: Host, options: CallOptions
) -> None:
    """Runs that hold the loop for want of a worker count as forgone, so that one of the next has a worker started."""
    work = replace(COLD, n_items=4, item_s=0.01, gil_held=gil_held)
    forgone_s, n_local = 0.0, 0
    while (decision := choose(host, replace(work, forgone_s=forgone_s), options)).strategy is not PROCESSES:
        assert decision.forgone_s == pytest.approx(0.04, rel=0.01)
        forgone_s, n_local = forgone_s + decision.forgone_s, n_local + 1
    assert n_local == 2


@pytest.mark.parametrize("gil_held", [None, 0.4, 1.0])
@pytest.mark.parametrize("n_items", [1, 4, 1000])
def test_no_worker_is_started_for_what_is_mostly_moving(gil_held: float | None, n_items: int) -> None:
    """Work that a worker could not take off the loop forgoes nothing by staying, however often it comes."""
    work = replace(COLD, n_items=n_items, item_s=0.01, gil_held=gil_held, payload_bytes=64e6)
    decision = choose(work=work)
    assert (decision.strategy, decision.forgone_s) == (SERIAL, 0)


@pytest.mark.parametrize("current", [None, SERIAL, THREADS, PROCESSES])
def test_a_run_whose_items_are_all_done_stays_where_it_is(current: Strategy | None) -> None:
    """Nothing is left to move: the run stays, whatever would have to leave, and the operator's word is still stronger."""
    work = replace(WORK, n_done=1000, current=current, has_crashed=True, idle_workers=0)
    decision = choose(work=work)
    assert (decision.strategy, decision.workers) == (current or SERIAL, 1)
    for bound in ({"is_off": True}, {"is_worker": True}, {"foreign_pool": "dask"}):
        assert choose(replace(HOST, **bound), work).strategy is SERIAL
