"""deciding/decide.py: where a run executes and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.deciding.decide import LOOP_SAFE_S, decide, usable_workers, worker_limit
from offloop.model import Decision, Host, Reason, Strategy, Workload
from offloop.settings import CallOptions, ParallelConfig

HOST = Host(cores=4, worker_start_s=0.1, round_trip_s=0.0001)
WORK = Workload(fn="app.fn", n_items=1000, item_s=0.001, idle_workers=4)
AUTO = CallOptions(strategy=Strategy.AUTO)
CONFIG = ParallelConfig()


def choose(
    host: Host = HOST, work: Workload = WORK, options: CallOptions = AUTO, config: ParallelConfig = CONFIG
) -> Decision:
    """Decide, with defaults for a busy host and a thousand items of a millisecond."""
    return decide(host, work, options, config)


def explicit(strategy: Strategy, **options: Any) -> CallOptions:
    """Return options with this strategy as an argument of the call."""
    return CallOptions(strategy=strategy, is_consent=True, **options)


BIG = replace(WORK, item_s=0.1)
UNKNOWN = replace(WORK, item_s=None)
TABLE: dict[str, tuple[Decision, Strategy, Reason, int]] = {
    "nothing to do": (choose(work=replace(WORK, n_items=0)), Strategy.SERIAL, Reason.NO_ITEMS, 1),
    "the operator says off": (
        choose(host=replace(HOST, is_off=True), options=explicit(Strategy.PROCESSES)),
        Strategy.SERIAL,
        Reason.OPERATOR_OFF,
        1,
    ),
    "in a worker": (
        choose(host=replace(HOST, is_worker=True), options=explicit(Strategy.PROCESSES)),
        Strategy.SERIAL,
        Reason.NESTED,
        1,
    ),
    "asked for processes": (choose(options=explicit(Strategy.PROCESSES)), Strategy.PROCESSES, Reason.EXPLICIT, 4),
    "asked for threads": (choose(options=explicit(Strategy.THREADS)), Strategy.THREADS, Reason.EXPLICIT, 4),
    "asked for serial": (choose(options=explicit(Strategy.SERIAL)), Strategy.SERIAL, Reason.EXPLICIT, 1),
    "threads from the environment": (
        choose(options=CallOptions(strategy=Strategy.THREADS)),
        Strategy.SERIAL,
        Reason.THREADS_NEED_CONSENT,
        1,
    ),
    "processes from the environment": (
        choose(options=CallOptions(strategy=Strategy.PROCESSES)),
        Strategy.PROCESSES,
        Reason.EXPLICIT,
        4,
    ),
    "explicit under CI": (
        choose(host=replace(HOST, is_ci=True), options=explicit(Strategy.PROCESSES)),
        Strategy.PROCESSES,
        Reason.EXPLICIT,
        4,
    ),
    "under CI": (choose(host=replace(HOST, is_ci=True), work=BIG), Strategy.SERIAL, Reason.CI, 1),
    "under CI, lifted": (
        choose(host=replace(HOST, is_ci=True, lifts_ci=True), work=BIG),
        Strategy.PROCESSES,
        Reason.FASTER,
        4,
    ),
    "one core": (choose(host=replace(HOST, cores=1)), Strategy.SERIAL, Reason.SINGLE_WORKER, 1),
    "one worker": (choose(config=ParallelConfig(workers=1), work=BIG), Strategy.SERIAL, Reason.SINGLE_WORKER, 1),
    "one worker for the call": (
        choose(options=CallOptions(strategy=Strategy.AUTO, workers=1)),
        Strategy.SERIAL,
        Reason.SINGLE_WORKER,
        1,
    ),
    "unknown": (choose(work=UNKNOWN), Strategy.SERIAL, Reason.MEASURING, 1),
    "unknown and single": (choose(work=replace(UNKNOWN, n_items=1)), Strategy.SERIAL, Reason.MEASURING, 1),
    "pays": (choose(), Strategy.PROCESSES, Reason.FASTER, 4),
    "pays with fewer workers": (choose(options=replace(AUTO, workers=2)), Strategy.PROCESSES, Reason.FASTER, 2),
    "too little in all": (
        choose(work=replace(WORK, n_items=2, item_s=1e-5)),
        Strategy.SERIAL,
        Reason.TOO_SMALL,
        1,
    ),
    "too little for a cold start": (
        choose(work=replace(WORK, n_items=50, idle_workers=0)),
        Strategy.SERIAL,
        Reason.TOO_SMALL,
        1,
    ),
    "enough for a cold start": (
        choose(work=replace(WORK, n_items=5000, idle_workers=0)),
        Strategy.PROCESSES,
        Reason.FASTER,
        4,
    ),
    "one long item": (choose(work=replace(WORK, n_items=1, item_s=0.5)), Strategy.PROCESSES, Reason.PROTECTS_LOOP, 1),
    "one short item": (choose(work=replace(WORK, n_items=1)), Strategy.SERIAL, Reason.TOO_SMALL, 1),
    "endless and dear": (choose(work=replace(WORK, n_items=None)), Strategy.PROCESSES, Reason.FASTER, 4),
    "endless and cheap": (
        choose(work=replace(WORK, n_items=None, item_s=1e-7)),
        Strategy.SERIAL,
        Reason.TOO_SMALL,
        1,
    ),
    "endless and unknown": (choose(work=replace(UNKNOWN, n_items=None)), Strategy.SERIAL, Reason.MEASURING, 1),
}


@pytest.mark.parametrize("case", TABLE)
def test_decisions(case: str) -> None:
    """Each situation has one strategy, one reason and one number of workers."""
    decision, strategy, reason, workers = TABLE[case]
    assert (decision.strategy, decision.reason, decision.workers) == (strategy, reason, workers)


def test_every_reason_is_reached() -> None:
    """Every reason that there is can be given."""
    assert {reason for _, _, reason, _ in TABLE.values()} == set(Reason)


@pytest.mark.parametrize(
    ("speedup", "strategy"), [(1.0, Strategy.PROCESSES), (3.9, Strategy.PROCESSES), (4.1, Strategy.SERIAL)]
)
def test_the_gain_must_reach_min_speedup(speedup: float, strategy: Strategy) -> None:
    """Leaving serial takes an estimated gain of min_speedup: here it is just under four."""
    decision = choose(config=ParallelConfig(min_speedup=speedup))
    assert decision.strategy is strategy


def test_the_estimates_are_told() -> None:
    """A decision carries the numbers it rests on."""
    decision = choose()
    assert decision.item_s == 0.001
    assert decision.estimated_serial_s == pytest.approx(1.0)
    assert decision.estimated_s == pytest.approx(0.2501)
    cold = choose(work=replace(WORK, n_items=5000, idle_workers=0))
    assert cold.estimated_s == pytest.approx(5 / 4 + 0.1001)


def test_a_decision_repeats_what_was_asked() -> None:
    """What was asked for, the function and the fixed chunk size stand in the decision."""
    decision = choose(options=explicit(Strategy.PROCESSES, chunk_size=7))
    assert (decision.requested, decision.chunk_size, decision.fn, decision.n_items) == (
        Strategy.PROCESSES,
        7,
        "app.fn",
        1000,
    )


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
    config = ParallelConfig(workers=configured)
    found = usable_workers(HOST, replace(WORK, n_items=items), replace(AUTO, workers=asked), config)
    assert found == workers
    assert worker_limit(HOST, config) >= workers


hosts = st.builds(
    Host,
    cores=st.integers(1, 512),
    is_ci=st.booleans(),
    is_worker=st.booleans(),
    is_off=st.booleans(),
    lifts_ci=st.booleans(),
    worker_start_s=st.floats(0, 10),
    round_trip_s=st.floats(0, 1),
)
works = st.builds(
    Workload,
    fn=st.just("fn"),
    n_items=st.none() | st.integers(0, 10**12),
    item_s=st.none() | st.floats(0, 1e6),
    idle_workers=st.integers(0, 512),
)
some_workers = st.none() | st.just(-1) | st.integers(1, 1000)
all_options = st.builds(
    CallOptions,
    strategy=st.sampled_from(Strategy),
    is_consent=st.booleans(),
    workers=some_workers,
    chunk_size=st.none() | st.integers(1, 10**6),
)
configs = st.builds(ParallelConfig, workers=some_workers, min_speedup=st.floats(1, 100))


@given(hosts, works, all_options, configs)
def test_decisions_are_total_and_pure(
    host: Host, work: Workload, options: CallOptions, config: ParallelConfig
) -> None:
    """Any situation has a decision that can be carried out, and the same one every time."""
    decision = decide(host, work, options, config)
    assert decision == decide(replace(host), replace(work), replace(options), replace(config))
    assert decision.strategy is not Strategy.AUTO
    assert 1 <= decision.workers <= host.cores
    assert decision.strategy is not Strategy.SERIAL or decision.workers == 1
    assert str(decision)


@given(hosts, works, all_options, configs)
def test_consent_is_needed_for_threads(
    host: Host, work: Workload, options: CallOptions, config: ParallelConfig
) -> None:
    """No decision runs fn in several threads unless a call or a session said so in code."""
    decision = decide(host, work, options, config)
    if decision.strategy is Strategy.THREADS:
        assert options.is_consent
        assert options.strategy is Strategy.THREADS


@given(hosts, works, all_options, configs)
def test_the_operator_is_obeyed(host: Host, work: Workload, options: CallOptions, config: ParallelConfig) -> None:
    """With OFFLOOP_PARALLEL=off, and inside a worker, nothing leaves the local thread whatever was asked for."""
    for bound in (replace(host, is_off=True), replace(host, is_worker=True)):
        assert decide(bound, work, options, config).strategy is Strategy.SERIAL


@given(hosts, works, configs)
def test_long_items_never_hold_the_gil_beside_the_loop(host: Host, work: Workload, config: ParallelConfig) -> None:
    """Where auto may use several workers, items that hold the GIL for long go to processes whatever the gain."""
    free = replace(host, is_off=False, is_worker=False, is_ci=False)
    known = replace(work, n_items=work.n_items or 1, item_s=LOOP_SAFE_S * 1.01 + (work.item_s or 0))
    decision = decide(free, known, AUTO, config)
    assert decision.strategy is Strategy.PROCESSES or decision.reason is Reason.SINGLE_WORKER
