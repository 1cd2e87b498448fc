"""The limit no pool can beat: work dealt in advance to forked processes that share and return nothing."""

import asyncio
import heapq
import os
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter

from .entrants import Assignment, Sample
from .loop_delay import UNTIMED_S, summarise, tick
from .maps import MAPS
from .workloads import busy


async def split(assignment: Assignment) -> Sample:
    """Time the scenario's work dealt dearest first; for ``loop_delay``, tick beside such processes."""
    if assignment.scenario == "loop_delay":
        return await _delay_beside_work(assignment)
    work = MAPS[assignment.scenario](assignment.iterations_per_ms)
    costs = work.items if work.costs_known else [1] * len(work.items)
    hands = deal(work.items, costs, assignment.workers)
    wall_s = slowest_hand_s(work.fn, hands)
    return {"wall_s": [wall_s], "p99_s": [wall_s]}


def deal(items: Sequence[int], costs: Sequence[int], hands: int) -> list[list[int]]:
    """Give each item, dearest first, to the hand that holds least so far."""
    dealt: list[list[int]] = [[] for _ in range(hands)]
    loads = [(0, hand) for hand in range(hands)]
    for position in sorted(range(len(items)), key=lambda at: -costs[at]):
        load, hand = heapq.heappop(loads)
        dealt[hand].append(items[position])
        heapq.heappush(loads, (load + costs[position], hand))
    return dealt


def slowest_hand_s(fn: Callable[[int], object], hands: Sequence[Sequence[int]]) -> float:
    """Fork one process per hand, start the clock, let them go, stop it when the last is done."""
    gate_out, gate_in = os.pipe()
    done_out, done_in = os.pipe()
    children = [_fork(partial(_play, fn, hand, gate_out, done_in)) for hand in hands]
    for _ in hands:  # each child says once that it is ready and once that it is done
        os.read(done_out, 1)
    began_s = perf_counter()
    os.write(gate_in, b"g" * len(hands))
    for _ in hands:
        os.read(done_out, 1)
    wall_s = perf_counter() - began_s
    for child in children:
        os.waitpid(child, 0)
    for descriptor in (gate_out, gate_in, done_out, done_in):
        os.close(descriptor)
    return wall_s


def _play(fn: Callable[[int], object], hand: Sequence[int], gate: int, done: int) -> None:
    os.write(done, b"r")
    os.read(gate, 1)
    for item in hand:
        fn(item)
    os.write(done, b"d")


def _fork(body: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        try:
            body()
        finally:
            os._exit(0)
    return child


async def _delay_beside_work(assignment: Assignment) -> Sample:
    """Tick beside one busy process per worker: what the operating system alone makes of the loop."""
    ms = int((UNTIMED_S + assignment.seconds) * 1e3)
    turns = ms * assignment.iterations_per_ms
    children = [_fork(partial(busy, turns)) for _ in range(assignment.workers)]
    await asyncio.sleep(UNTIMED_S)
    lateness_s: list[float] = []
    ticking = asyncio.create_task(tick(lateness_s))
    await asyncio.to_thread(lambda: [os.waitpid(child, 0) for child in children])
    ticking.cancel()
    return summarise(lateness_s)
