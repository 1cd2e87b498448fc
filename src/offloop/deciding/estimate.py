"""How long the rest of a run would take with each strategy: the completion-time model.

Every term is described, with where its numbers come from, in docs/explanation/decisions.md.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from ..model import Host, Strategy, Workload
from .chunking import FLOOR_S

HORIZON_S = 1.0  # so much work is assumed where the number of items isn't known: a guess
ITEM_TRIP_S = 0.5e-6  # sending a plain number to a worker and back, each side, in a chunk of many: measured
GIL_FREE = 0.25  # a smaller share than this is what a busy machine looks like: 5 to 17 % were seen with the GIL free
BRIDGE = 0.5  # what the local thread gets done while workers start, which takes the GIL as well: measured 0.4 to 0.6
SHARED_BYTES_PER_S = 1.5e9  # storing what is bound in fn: measured 2 to 3 GB/s; and mapping it in each worker, 10 GB/s
LATE = 0.25  # so much of the time to start is taken to be left, however long it has lasted: a guess
NEAR = 1.05  # more workers must gain at least this much over fewer


class Estimate(NamedTuple):
    """What one strategy would take.

    Attributes:
        seconds: Until the last item has its outcome.
        workers: With so many lanes.
        start_s: Seconds of it that starting workers adds.
    """

    seconds: float
    workers: int
    start_s: float = 0.0


def items_left(work: Workload) -> int:
    """Return how many items are still to do, or as many as fill the horizon."""
    if work.n_items is None:
        return max(1, ceil(HORIZON_S / max(work.item_s or 0.0, 1e-6)))
    return max(0, work.n_items - work.n_done)


def moving_s(host: Host, work: Workload) -> float:
    """Return how long this process is busy with sending an item and receiving its result."""
    if work.transport_s is not None:
        return work.transport_s
    return ITEM_TRIP_S + (work.payload_bytes + work.result_bytes) / host.bytes_per_s / 2


def estimate_serial(host: Host, work: Workload) -> Estimate:
    """One after another in the local thread, behind what waits for it already."""
    seconds = items_left(work) * (work.item_s or 0.0) * work.bias.get(Strategy.SERIAL, 1.0)
    return Estimate(work.local_backlog_s + host.thread_trip_s + seconds, 1)


def estimate_threads(host: Host, work: Workload, most: int) -> Estimate:
    """Side by side in threads: what holds the GIL goes one after another, as does what isn't known to let it go."""
    n, item_s = items_left(work), work.item_s or 0.0
    held = 1.0 if work.gil_held is None else work.gil_held
    in_turn_s = n * item_s * held if host.has_gil and held >= GIL_FREE else 0.0
    best = Estimate(float("inf"), 1)
    for workers in _counts(n, most):
        side_by_side_s = _makespan(n, item_s, workers, work.longest_s)
        seconds = work.threads_backlog_s / most + _trips(host.thread_trip_s, workers) + max(side_by_side_s, in_turn_s)
        if seconds * NEAR < best.seconds:
            best = Estimate(seconds, workers)
    return best._replace(seconds=best.seconds * work.bias.get(Strategy.THREADS, 1.0))


def estimate_processes(host: Host, work: Workload, most: int, *, may_bridge: bool) -> Estimate:
    """Side by side in worker processes: data travels both ways, and what is not up yet must start.

    Args:
        host: The host.
        work: The work.
        most: The most workers that may take part.
        may_bridge: Whether the local thread works while workers are not ready.
    """
    n, item_s, moved_s = items_left(work), work.item_s or 0.0, moving_s(host, work)
    executed_s = item_s + moved_s  # in a worker, which does its half of the moving
    here_s = n * moved_s  # this process moves one item after another
    all_cores_s = n * (executed_s + moved_s) / host.cores
    wait_s = work.workers_backlog_s / most
    if work.current is not Strategy.PROCESSES or not work.n_done:
        wait_s += work.shared_bytes / SHARED_BYTES_PER_S
    best = Estimate(float("inf"), 1)
    for workers in _counts(n, most):
        warm_s = max(_makespan(n, executed_s, workers, work.longest_s), here_s, all_cores_s)
        start_s = _start_s(host, work, warm_s, workers, may_bridge)
        seconds = _trips(host.round_trip_s, workers) + wait_s + warm_s + start_s
        if seconds * NEAR < best.seconds:
            best = Estimate(seconds, workers, start_s)
    return best._replace(seconds=best.seconds * work.bias.get(Strategy.PROCESSES, 1.0))


def _counts(n: int, most: int) -> list[int]:
    """Return the numbers of lanes worth looking at, ascending: powers of two, and the fewest that need as few rounds."""
    most = max(1, min(most, n))
    fewest = ceil(n / ceil(n / most)) if n else 1
    return sorted({fewest, *(1 << power for power in range(most.bit_length()) if 1 << power <= fewest)})


def _makespan(n: int, item_s: float, lanes: int, longest_s: float | None) -> float:
    """Return how long lanes are busy with n items that are taken one by one or in chunks no shorter than FLOOR_S.

    Never below the bounds of Graham (1969): all work evenly spread, and the longest item.
    """
    even_s = ceil(n / lanes) * item_s
    return max(even_s, min(n * item_s, FLOOR_S), min(longest_s or 0.0, n * item_s))


def _trips(trip_s: float, lanes: int) -> float:
    """Return what the first and last message of each lane cost: the loop handles one after another."""
    return trip_s * (1 + (lanes - 1) / 2)


def _start_s(host: Host, work: Workload, warm_s: float, lanes: int, may_bridge: bool) -> float:
    """Return how much later all is done because not all workers are up, or know the function.

    Until they do, those that do work, and the local thread if it may; what they do by then needn't be done any more.
    Once runs before have forgone as much for want of workers, they cost nothing more: like skis, they are bought once
    renting has cost as much, so that both together never cost more than twice the best (Karlin et al., 1988).
    """
    up = min(work.idle_workers, lanes)
    ready_s = work.import_s + (host.worker_start_s if up < lanes else 0.0)
    if ready_s <= work.forgone_s:
        return 0.0
    ready_s = max(ready_s - work.starting_s, LATE * ready_s)
    going_on = (0 if work.import_s else up) + BRIDGE * may_bridge
    total_s = warm_s * lanes
    if going_on and total_s <= ready_s * going_on:  # done before the others are ready
        return total_s / going_on - warm_s
    return ready_s * (1 - going_on / lanes)
