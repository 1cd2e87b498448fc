"""Deciding where a run executes: a pure function of what is known."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

from ..model import Decision, Host, Reason, Strategy, Workload
from ..options import CallOptions
from ..settings import ParallelConfig
from .estimate import (
    GIL_FREE,
    Estimate,
    estimate_processes,
    estimate_serial,
    estimate_threads,
    items_left,
    moving_s,
)

# An item that holds the GIL for longer makes the event loop beside it late by as much: CPython's switch interval.
LOOP_SAFE_S = 0.005

# On Windows a worker starts by a fresh interpreter and imports everything anew, and pipes are slow: the playbook that
# this library grew from takes processes there only for items of hundreds of milliseconds.
WINDOWS_ITEM_S = 0.2

# Work of unknown cost that would wait for the local thread for longer goes to a worker. Twice as long as a chunk that is
# being measured may take.
LOCAL_PATIENCE_S = 0.010

SERIAL, THREADS, PROCESSES = Strategy.SERIAL, Strategy.THREADS, Strategy.PROCESSES


def decide(host: Host, workload: Workload, options: CallOptions, config: ParallelConfig) -> Decision:
    """Return where the items of a run execute, how many workers take part, and why.

    Rules come first, in this order: nothing to do, the operator's word, being inside a pool, the strategy that was asked
    for, what must leave this process, CI, parallelism of the work's own, a single worker. Work of unknown cost is measured
    (`Reason.MEASURING`: decide again with what was found). What remains goes to the strategy that is estimated to be
    through first; see deciding/estimate.py. A parallel one must beat the local thread by ``min_speedup``, unless the
    work is there already.
    """
    leaving = _must_leave(workload, options, config)
    rule = _by_rule(host, workload, options, config, leaving)
    if rule is not None:
        return _decision(host, workload, options, *rule)
    return _by_estimate(host, workload, options, config, leaving)


def _by_rule(
    host: Host, work: Workload, options: CallOptions, config: ParallelConfig, leaving: Reason | None
) -> tuple[Strategy, Reason, int] | None:
    """Return what is settled without an estimate."""
    if work.n_items == 0:
        return SERIAL, Reason.NO_ITEMS, 1
    if host.is_off:
        return SERIAL, Reason.OPERATOR_OFF, 1
    if host.is_worker:
        return SERIAL, Reason.NESTED, 1
    if host.foreign_pool is not None:
        return SERIAL, Reason.FOREIGN_POOL, 1
    if work.n_items is not None and work.n_done >= work.n_items and options.strategy is Strategy.AUTO:
        return work.current or SERIAL, Reason.TOO_SMALL, 1
    asked = options.strategy
    if asked is THREADS:
        if not options.is_consent:
            return SERIAL, Reason.THREADS_NEED_CONSENT, 1
        if work.is_below_threads:
            return SERIAL, Reason.NESTED, 1
        return THREADS, Reason.EXPLICIT, usable_workers(thread_limit(host, config), work, options)
    workers = _usable_processes(host, work, options, config)
    if asked is not Strategy.AUTO:
        return asked, Reason.EXPLICIT, workers if asked is PROCESSES else 1
    if host.is_ci and not host.lifts_ci and leaving not in (Reason.LOCAL_NEVER, Reason.HAS_CRASHED, Reason.HAS_TIMEOUT):
        return SERIAL, Reason.CI, 1
    if work.inner is not None:
        return PROCESSES if leaving else SERIAL, Reason.INNER_PARALLELISM, 1
    if leaving and work.item_s is None:
        return PROCESSES, leaving, workers
    if not leaving and 1 in (config.workers, options.workers):
        return SERIAL, Reason.SINGLE_WORKER, 1
    if work.item_s is None:
        elsewhere = (work.is_light and work.idle_workers) or work.local_backlog_s > LOCAL_PATIENCE_S
        return PROCESSES if elsewhere else SERIAL, Reason.MEASURING, 1
    return None


def _must_leave(work: Workload, options: CallOptions, config: ParallelConfig) -> Reason | None:
    """Return why `auto` may not run the items in this process, if so."""
    if config.local == "never":
        return Reason.LOCAL_NEVER
    if work.has_crashed:
        return Reason.HAS_CRASHED
    if options.item_timeout_s is not None:
        return Reason.HAS_TIMEOUT
    if max(work.call_s, work.longest_s or 0.0) > options.grace_s:
        return Reason.ABOVE_GRACE
    return None


def _by_estimate(
    host: Host, work: Workload, options: CallOptions, config: ParallelConfig, leaving: Reason | None
) -> Decision:
    most = _usable_processes(host, work, options, config)
    serial = estimate_serial(host, work)
    threads = estimate_threads(host, work, usable_workers(thread_limit(host, config), work, options))
    may_bridge = leaving is None and work.may_bridge
    processes = estimate_processes(host, work, most, may_bridge=may_bridge)
    strategy, chosen = SERIAL, serial
    if leaving is not None:
        strategy, chosen, reason = PROCESSES, processes, leaving
    else:
        to_beat_s = serial.seconds * _head_start(work, config)
        is_beside = threads.workers > 1 or work.local_backlog_s > LOCAL_PATIENCE_S
        if options.thread_safe and is_beside and not work.is_below_threads and threads.seconds <= to_beat_s:
            strategy, chosen, to_beat_s = THREADS, threads, threads.seconds
        if processes.seconds <= to_beat_s and _may_pay(host, work):
            strategy, chosen = PROCESSES, processes
        reason = Reason.TOO_SMALL if strategy is SERIAL else Reason.FASTER
        is_soon_over = may_bridge and not work.idle_workers and serial.seconds + work.forgone_s < host.worker_start_s
        if strategy is not PROCESSES and _would_hold_the_loop(host, work) and not is_soon_over:
            strategy, chosen, reason = PROCESSES, processes, Reason.PROTECTS_LOOP
        elif strategy is SERIAL and most == 1 and items_left(work) > 1:
            reason = Reason.SINGLE_WORKER
    is_forgoing = reason is Reason.TOO_SMALL or (strategy is not PROCESSES and _would_hold_the_loop(host, work))
    return _decision(
        host,
        work,
        options,
        strategy,
        reason,
        chosen.workers,
        estimated_serial_s=serial.seconds,
        estimated_s=chosen.seconds,
        start_cost_s=chosen.start_s,
        forgone_s=_forgone_s(host, work, config, serial, processes, most) if is_forgoing else 0.0,
        hint=None if options.thread_safe else _thread_hint(host, work, config, chosen, threads),
    )


def _head_start(work: Workload, config: ParallelConfig) -> float:
    """Return the factor by which the local thread's estimate counts against the others.

    Leaving it takes a gain of min_speedup. Work that has left it before stays away while that is no loss, and in
    mid-run, where moving costs, until going back would be a gain of min_speedup.
    """
    if work.current not in (THREADS, PROCESSES):
        return 1 / config.min_speedup
    return config.min_speedup if work.n_done else 1.0


def _forgone_s(
    host: Host, work: Workload, config: ParallelConfig, serial: Estimate, processes: Estimate, most: int
) -> float:
    """Return what is lost for want of workers: what they would save if they were up, or the time that the loop is held."""
    if _would_hold_the_loop(host, work):
        return serial.seconds
    if not processes.start_s:
        return 0.0
    warm = estimate_processes(host, replace(work, idle_workers=most, import_s=0.0), most, may_bridge=False)
    return serial.seconds - warm.seconds if serial.seconds >= config.min_speedup * warm.seconds else 0.0


def _may_pay(host: Host, work: Workload) -> bool:
    return host.platform != "win32" or (work.item_s or 0.0) >= WINDOWS_ITEM_S


def _would_hold_the_loop(host: Host, work: Workload) -> bool:
    """Whether a call is long enough to be felt on the loop, holds the GIL as far as is known, and can be moved for less."""
    item_s = work.item_s or 0.0
    if not host.has_gil or work.call_s <= LOOP_SAFE_S or not (_may_pay(host, work) or work.idle_workers):
        return False
    if moving_s(host, work) > item_s / 2:  # pickling holds the GIL as well
        return False
    return work.gil_held is None or work.gil_held >= GIL_FREE


def _thread_hint(
    host: Host, work: Workload, config: ParallelConfig, chosen: Estimate, threads: Estimate
) -> str | None:
    """Return what consent to threads would bring, where the GIL was measured to be free."""
    if work.gil_held is None or (work.gil_held >= GIL_FREE and host.has_gil):
        return None
    gain = chosen.seconds / threads.seconds
    return f"thread_safe=True would be about {gain:.1f}× faster" if gain >= config.min_speedup else None


def _decision(
    host: Host, work: Workload, options: CallOptions, strategy: Strategy, reason: Reason, workers: int, **numbers: Any
) -> Decision:
    return Decision(
        strategy=strategy,
        reason=reason,
        workers=workers,
        fn=work.fn,
        n_items=work.n_items,
        n_features=work.n_features,
        chunk_size=options.chunk_size or options.batch_size,
        item_s=work.item_s,
        gil_held=work.gil_held,
        payload_bytes=work.payload_bytes,
        shared_bytes=work.shared_bytes,
        result_bytes=work.result_bytes,
        platform=host.platform,
        requested=options.strategy,
        inner=work.inner,
        **numbers,
    )


def _usable_processes(host: Host, work: Workload, options: CallOptions, config: ParallelConfig) -> int:
    limit = worker_limit(host, config)
    return usable_workers(limit if work.max_workers is None else min(limit, work.max_workers), work, options)


def usable_workers(limit: int, work: Workload, options: CallOptions) -> int:
    """Return how many lanes can take part: never more than the session has, than asked for, or than calls."""
    workers = limit
    if options.workers is not None and options.workers != -1:
        workers = min(workers, options.workers)
    if work.n_items is not None:
        workers = min(workers, max(1, ceil((work.n_items - work.n_done) / (options.batch_size or 1))))
    return workers


def worker_limit(host: Host, config: ParallelConfig) -> int:
    """Return the most worker processes that a session may have.

    One per usable core; on Windows and macOS, where what shares a core is known, one per physical core. In a virtual
    machine on Linux the two can't be told apart. Memory may allow fewer: what is free, divided by what a worker takes.
    """
    cores = host.cores
    if host.platform in ("win32", "darwin") and host.physical is not None and config.workers is None:
        cores = min(cores, host.physical)
    if host.memory_bytes is not None:
        cores = min(cores, max(1, host.memory_bytes // max(1, host.worker_bytes)))
    return min(cores, thread_limit(host, config))


def thread_limit(host: Host, config: ParallelConfig) -> int:
    """Return the most threads that a session may have: one per usable core, or fewer if its settings say so."""
    if config.workers is None or config.workers == -1:
        return host.cores
    return min(config.workers, host.cores)
