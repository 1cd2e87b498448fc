"""Deciding where a run executes: a pure function of what is known."""

from __future__ import annotations

from typing import Any

from ..model import Decision, Host, Reason, Strategy, Workload
from ..settings import CallOptions, ParallelConfig

# An item that holds the GIL for longer makes the event loop beside it late by as much: CPython's switch interval.
LOOP_SAFE_S = 0.005


def decide(host: Host, workload: Workload, options: CallOptions, config: ParallelConfig) -> Decision:
    """Return where the items of a run execute, how many workers take part, and why.

    The estimates, of what is left to do: serial takes n × item_s; processes take n × item_s ÷ workers, one round trip,
    and the start of a worker where none is up. Unknown work is measured first (`Reason.MEASURING`: decide again with `item_s`).
    """

    def decision(strategy: Strategy, reason: Reason, workers: int = 1, **numbers: Any) -> Decision:
        return Decision(
            strategy=strategy,
            reason=reason,
            workers=workers,
            fn=workload.fn,
            n_items=workload.n_items,
            chunk_size=options.chunk_size,
            item_s=workload.item_s,
            requested=options.strategy,
            **numbers,
        )

    serial = Strategy.SERIAL
    if workload.n_items == 0:
        return decision(serial, Reason.NO_ITEMS)
    if host.is_off:
        return decision(serial, Reason.OPERATOR_OFF)
    if host.is_worker:
        return decision(serial, Reason.NESTED)
    workers = usable_workers(host, workload, options, config)
    if options.strategy is Strategy.THREADS and not options.is_consent:
        return decision(serial, Reason.THREADS_NEED_CONSENT)
    if options.strategy is not Strategy.AUTO:
        is_serial = options.strategy is serial
        return decision(options.strategy, Reason.EXPLICIT, 1 if is_serial else workers)
    if host.is_ci and not host.lifts_ci:
        return decision(serial, Reason.CI)
    if workload.n_items != 1 and workers == 1:
        return decision(serial, Reason.SINGLE_WORKER)
    if workload.item_s is None:
        return decision(serial, Reason.MEASURING)
    if workload.n_items is None:  # endless for all that is known, so the start of workers is paid once
        faster = workload.item_s > config.min_speedup * host.round_trip_s
        if faster:
            return decision(Strategy.PROCESSES, Reason.FASTER, workers)
        return decision(serial, Reason.TOO_SMALL)
    start_s = 0.0 if workload.idle_workers else host.worker_start_s
    serial_s = (workload.n_items - workload.n_done) * workload.item_s
    parallel_s = serial_s / workers + host.round_trip_s + start_s
    numbers = {"estimated_serial_s": serial_s, "estimated_s": parallel_s}
    if serial_s >= config.min_speedup * parallel_s:
        return decision(Strategy.PROCESSES, Reason.FASTER, workers, **numbers)
    if serial_s > 0 and workload.item_s > LOOP_SAFE_S:
        return decision(Strategy.PROCESSES, Reason.PROTECTS_LOOP, workers, **numbers)
    return decision(serial, Reason.TOO_SMALL, estimated_serial_s=serial_s, estimated_s=serial_s)


def usable_workers(host: Host, workload: Workload, options: CallOptions, config: ParallelConfig) -> int:
    """Return how many workers can take part: never more than the session has, than asked for, or than items."""
    workers = worker_limit(host, config)
    if options.workers is not None and options.workers != -1:
        workers = min(workers, options.workers)
    if workload.n_items is not None:
        workers = min(workers, max(1, workload.n_items - workload.n_done))
    return workers


def worker_limit(host: Host, config: ParallelConfig) -> int:
    """Return the most workers that a session may have: one per usable core, or fewer if its settings say so."""
    if config.workers is None or config.workers == -1:
        return host.cores
    return min(config.workers, host.cores)
