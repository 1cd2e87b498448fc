"""deciding/decide.py: what holds of every decision."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from offloop.deciding.decide import LOOP_SAFE_S, decide, thread_limit, worker_limit
from offloop.deciding.estimate import GIL_FREE, NEAR, moving_s
from offloop.model import Host, Reason, Strategy, Workload
from offloop.options import CallOptions
from offloop.settings import ParallelConfig

from .deciding import all_options, auto_options, configs, hosts, unfinished_works, works

SERIAL, THREADS, PROCESSES = Strategy.SERIAL, Strategy.THREADS, Strategy.PROCESSES

# What overrules auto, and leaves everything in the local thread of whatever process this is.
BOUND = frozenset({Reason.NO_ITEMS, Reason.OPERATOR_OFF, Reason.NESTED, Reason.FOREIGN_POOL})


def unbound(host: Host) -> Host:
    """Return the host as the process of an application has it, without a word of the operator."""
    return replace(host, is_off=False, is_worker=False, foreign_pool=None, is_ci=False)


def long_enough(host: Host, work: Workload, item_s: float) -> float:
    """Return this time of an item, or the least with which it is felt on the loop and takes no longer to move than half."""
    return max(LOOP_SAFE_S * 1.01 + item_s, 2 * moving_s(host, work))


@given(hosts, works, all_options, configs)
def test_decisions_are_total_and_pure(
    host: Host, work: Workload, options: CallOptions, config: ParallelConfig
) -> None:
    """Any situation has a decision that can be carried out, and the same one every time."""
    decision = decide(host, work, options, config)
    assert decision == decide(replace(host), replace(work), replace(options), replace(config))
    assert decision.strategy is not Strategy.AUTO
    limit = worker_limit(host, config) if decision.strategy is PROCESSES else thread_limit(host, config)
    assert 1 <= decision.workers <= limit <= host.cores
    assert decision.strategy is not SERIAL or decision.workers == 1
    if work.max_workers is not None and decision.strategy is PROCESSES:
        assert decision.workers <= work.max_workers
    if work.n_items is not None:
        assert decision.workers <= max(1, work.n_items - work.n_done)
    if options.workers not in (None, -1):
        assert decision.workers <= options.workers  # type: ignore[operator]
    for seconds in (decision.estimated_serial_s, decision.estimated_s):
        assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
    assert math.isfinite(decision.start_cost_s)
    assert (decision.estimated_s is None) == (decision.estimated_serial_s is None)
    assert len(str(decision).split("\n")) == 2


@given(hosts, works, all_options, configs)
def test_starting_workers_takes_no_negative_time(
    host: Host, work: Workload, options: CallOptions, config: ParallelConfig
) -> None:
    """What starting workers adds is never less than nothing."""
    assert decide(host, work, options, config).start_cost_s >= 0


@given(hosts, unfinished_works, all_options, configs)
def test_threads_take_consent(host: Host, work: Workload, options: CallOptions, config: ParallelConfig) -> None:
    """No decision runs fn in several threads unless a call or a session said so in code, or that fn allows it."""
    decision = decide(host, work, options, config)
    if decision.strategy is THREADS:
        asked = options.strategy is THREADS and options.is_consent
        assert asked or (options.strategy is Strategy.AUTO and options.thread_safe)


@given(hosts, works, all_options, configs)
def test_the_operator_is_obeyed(host: Host, work: Workload, options: CallOptions, config: ParallelConfig) -> None:
    """With OFFLOOP_PARALLEL=off, and in any pool's worker, nothing leaves the local thread whatever was asked for."""
    for bound in (
        replace(host, is_off=True),
        replace(host, is_worker=True),
        replace(host, foreign_pool="joblib"),
    ):
        decision = decide(bound, work, options, config)
        assert decision.strategy is SERIAL
        assert decision.reason in BOUND


@given(hosts, unfinished_works, auto_options, configs)
def test_what_must_not_run_here_does_not(
    host: Host, work: Workload, options: CallOptions, config: ParallelConfig
) -> None:
    """Under auto nothing of a function that has crashed, with a time limit, or with local="never", runs in this process.

    Only the operator's word and being in a pool's worker are stronger, and under CI all are weaker than neither.
    """
    assume(work.has_crashed or options.item_timeout_s is not None or config.local == "never")
    decision = decide(host, work, options, config)
    assert decision.strategy is PROCESSES or decision.reason in BOUND


@given(hosts, unfinished_works, auto_options, configs)
def test_what_could_not_be_stopped_does_not_run_here(
    host: Host, work: Workload, options: CallOptions, config: ParallelConfig
) -> None:
    """Under auto no item runs here that is expected to take longer than grace_s, unless it is to run alone."""
    assume(max(work.item_s or 0.0, work.longest_s or 0.0) > options.grace_s)
    decision = decide(unbound(host), work, options, config)
    assert decision.strategy is PROCESSES or decision.reason is Reason.NO_ITEMS


@given(hosts, unfinished_works, auto_options, configs)
def test_long_items_never_hold_the_gil_beside_the_loop(
    host: Host, work: Workload, options: CallOptions, config: ParallelConfig
) -> None:
    """Under auto items that hold the GIL for long go to workers that are up, whatever the gain.

    Unless a single worker was asked for, or moving an item takes more than half of its time. Where no worker is up they
    go all the same, if all would take longer than a start.
    """
    held = GIL_FREE if work.gil_held is None else max(GIL_FREE, work.gil_held)
    host = replace(unbound(host), has_gil=True, platform="linux")
    item_s = long_enough(host, work, work.item_s or 0.0)
    long = replace(work, item_s=item_s, gil_held=held, inner=None)
    for idle_workers in (0, work.idle_workers or 1):
        decision = decide(host, replace(long, idle_workers=idle_workers), options, config)
        is_soon_over = not idle_workers and (decision.estimated_serial_s or 0.0) + work.forgone_s < host.worker_start_s
        settled = (Reason.SINGLE_WORKER, Reason.NO_ITEMS)
        assert decision.strategy is PROCESSES or is_soon_over or decision.reason in settled


@given(hosts, unfinished_works, auto_options, configs, st.floats(0, 1))
def test_holding_the_loop_for_want_of_workers_cannot_go_on(
    host: Host, work: Workload, options: CallOptions, config: ParallelConfig, item_s: float
) -> None:
    """What stays though it holds the GIL for long and is soon moved counts as forgone for all the time that it takes."""
    host = replace(unbound(host), has_gil=True, platform="linux")
    item_s = long_enough(host, work, item_s)
    long = replace(work, item_s=item_s, gil_held=1.0, inner=None, idle_workers=0, n_items=3, n_done=0)
    assume(1 not in (config.workers, options.workers))
    decision = decide(host, replace(long, local_backlog_s=0.0), options, config)
    if decision.strategy is not PROCESSES:
        assert decision.forgone_s >= 3 * LOOP_SAFE_S


@given(hosts, unfinished_works, auto_options, configs)
def test_what_is_mostly_moving_is_not_moved_for_the_loop(
    host: Host, work: Workload, options: CallOptions, config: ParallelConfig
) -> None:
    """Where moving an item takes more than half of its time, how it holds the GIL sends no item away."""
    host = unbound(host)
    assume(moving_s(host, work) > (work.item_s or 0.0) / 2)
    decisions = [decide(host, replace(work, gil_held=held), options, config) for held in (None, 1.0)]
    assert all(decision.reason is not Reason.PROTECTS_LOOP for decision in decisions)
    assert decisions[0].forgone_s == decisions[1].forgone_s


@given(hosts, works, all_options, configs)
def test_what_was_forgone_is_finite(host: Host, work: Workload, options: CallOptions, config: ParallelConfig) -> None:
    """What is forgone is a time, and nothing is where the work goes to workers."""
    decision = decide(host, work, options, config)
    assert math.isfinite(decision.forgone_s)
    assert decision.forgone_s >= 0
    assert decision.strategy is not PROCESSES or decision.forgone_s == 0


@given(hosts, works, auto_options, configs, st.floats(1, 10))
def test_asking_for_more_gain_never_makes_parallel(
    host: Host, work: Workload, options: CallOptions, config: ParallelConfig, factor: float
) -> None:
    """What stays serial at one min_speedup stays serial at a higher one, if it is in the local thread now."""
    work = replace(work, current=SERIAL if work.current else None)
    decision = decide(unbound(host), work, options, config)
    assume(decision.strategy is SERIAL)
    stricter = replace(config, min_speedup=config.min_speedup * factor)
    assert decide(unbound(host), work, options, stricter).strategy is SERIAL


@given(hosts, works, auto_options, configs, st.floats(1, 100), st.booleans())
def test_larger_items_never_make_processes(
    host: Host, work: Workload, options: CallOptions, config: ParallelConfig, factor: float, is_result: bool
) -> None:
    """What stays serial with small items stays serial with larger ones, and so with what takes longer to move.

    But for one thing: fewer workers are chosen where more would gain less than `NEAR`, so estimates jump by as much.
    """
    grown = replace(
        work,
        payload_bytes=work.payload_bytes * (1 if is_result else factor),
        result_bytes=work.result_bytes * (factor if is_result else 1),
        transport_s=None if work.transport_s is None else work.transport_s * factor,
    )
    assume(work.current not in (THREADS, PROCESSES))
    decision = decide(unbound(host), work, options, config)
    assume(decision.strategy is not PROCESSES)
    stricter = replace(config, min_speedup=config.min_speedup * NEAR * 1.0001)
    assert decide(unbound(host), grown, options, stricter).strategy is not PROCESSES


@given(hosts, works, auto_options, configs)
def test_a_hint_promises_a_gain(host: Host, work: Workload, options: CallOptions, config: ParallelConfig) -> None:
    """A hint is given only without consent, and promises a gain that reaches min_speedup."""
    decision = decide(host, work, options, config)
    if decision.hint is not None:
        assert not options.thread_safe
        assert work.gil_held is not None
        gain = float(decision.hint.partition("about ")[2].partition("×")[0])
        assert gain >= config.min_speedup - 0.06
