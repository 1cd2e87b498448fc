"""How late the event loop wakes while a contender works on all cores."""

import asyncio
import random
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from .contenders.base import Contender
from .entrants import Assignment, Sample
from .maps import payloads
from .quantiles import quantile
from .workloads import BYTES_PER_PAYLOAD, busy_then_reverse

TICK_S = 0.001
CALLERS = 4
ITEMS_PER_MAP = 40
LONGEST_MS = 20
UNTIMED_S = 1.0

Task = tuple[int, Any]


async def loop_delay(contender: Contender, assignment: Assignment) -> Sample:
    """Tick every millisecond beside one mapper and a few callers, all of them busy to the end."""
    tasks = mixed_tasks(assignment.iterations_per_ms)
    await _work_until(perf_counter() + UNTIMED_S, contender, tasks)
    began_s = perf_counter()
    lateness_s: list[float] = []
    ticking = asyncio.create_task(tick(lateness_s))
    done = await _work_until(began_s + assignment.seconds, contender, tasks)
    ticking.cancel()
    return summarise(lateness_s) | {"items_per_second": [done / (perf_counter() - began_s)]}


async def tick(lateness_s: list[float]) -> None:
    """Sleep and note by how much each sleep overran, until cancelled."""
    while True:
        began_s = perf_counter()
        await asyncio.sleep(TICK_S)
        lateness_s.append(perf_counter() - began_s - TICK_S)


def summarise(lateness_s: list[float]) -> Sample:
    """The figure's own quantiles beside the raw ticks."""
    return {
        "p50_s": [quantile(lateness_s, 0.5)],
        "p99_s": [quantile(lateness_s, 0.99)],
        "max_s": [max(lateness_s)],
        "tick_s": lateness_s,
    }


def mixed_tasks(iterations_per_ms: int) -> list[Task]:
    """Tasks of 1 to 20 ms in a fixed random order, made beforehand so that making them delays nobody."""
    chance = random.Random(1)
    kept = payloads(4 * ITEMS_PER_MAP, BYTES_PER_PAYLOAD)
    return [(chance.randint(1, LONGEST_MS) * iterations_per_ms, payload) for payload in kept]


async def _work_until(end_s: float, contender: Contender, tasks: Sequence[Task]) -> int:
    """Keep one mapper and the callers going, and count the items that came back."""
    workers: list[asyncio.Task[int]] = []
    async with asyncio.TaskGroup() as group:
        workers.append(group.create_task(_map_until(end_s, contender, tasks)))
        for offset in range(CALLERS):
            workers.append(group.create_task(_call_until(end_s, contender, tasks, offset)))
    return sum(worker.result() for worker in workers)


async def _map_until(end_s: float, contender: Contender, tasks: Sequence[Task]) -> int:
    done = 0
    while perf_counter() < end_s:
        start = done % len(tasks)
        batch = tasks[start : start + ITEMS_PER_MAP]
        done += len(await contender.map(busy_then_reverse, batch))
    return done


async def _call_until(end_s: float, contender: Contender, tasks: Sequence[Task], offset: int) -> int:
    done = 0
    while perf_counter() < end_s:
        call: Callable[[Task], Any] = busy_then_reverse
        await contender.call(call, tasks[(offset + CALLERS * done) % len(tasks)])
        done += 1
    return done
