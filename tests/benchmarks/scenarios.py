"""What one sample of a figure does to a contender, and the clock around it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .contenders.base import Contender
from .entrants import Assignment, Sample
from .loop_delay import loop_delay
from .maps import MAPS
from .quantiles import quantile
from .workloads import busy, noop

if TYPE_CHECKING:
    from .canonical.tasks import Task

Scenario = Callable[[Contender, Assignment], Awaitable[Sample]]

UNTIMED_CALLS = 10
TIMED_CALLS = 50


async def round_trip(contender: Contender, assignment: Assignment) -> Sample:
    """Call a function that does nothing, again and again, timing each call."""
    for _ in range(UNTIMED_CALLS):
        await contender.call(noop)
    calls_s: list[float] = []
    for _ in range(TIMED_CALLS):
        began_s = perf_counter()
        await contender.call(noop)
        calls_s.append(perf_counter() - began_s)
    return {"call_s": calls_s}


async def whole_map(contender: Contender, assignment: Assignment) -> Sample:
    """Map once over everything, and prove that nothing is missing or out of order."""
    work = MAPS[assignment.scenario](assignment.iterations_per_ms)
    began_s = perf_counter()
    results = await contender.map(work.fn, work.items)
    wall_s = perf_counter() - began_s
    answers = {item: work.fn(item) for item in set(work.items)}
    if results != [answers[item] for item in work.items]:
        raise AssertionError(f"{assignment.entrant.label} returned wrong results")
    return {"wall_s": [wall_s]}


async def callers(contender: Contender, assignment: Assignment) -> Sample:
    """Let all callers call at once; a call's time includes its wait for a worker."""
    calls = MAPS["callers"](assignment.iterations_per_ms).items
    calls_s: list[float] = []

    async def caller(iterations: int) -> None:
        began_s = perf_counter()
        await contender.call(busy, iterations)
        calls_s.append(perf_counter() - began_s)

    began_s = perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for iterations in calls:
            tasks.create_task(caller(iterations))
    wall_s = perf_counter() - began_s
    return {"wall_s": [wall_s], "p99_s": [quantile(calls_s, 0.99)], "call_s": calls_s}


async def whole_task(contender: Contender, assignment: Assignment) -> Sample:
    """Map once over a canonical workload, and prove a few of its results."""
    task = _task(assignment.scenario, assignment.quick)
    began_s = perf_counter()
    results = await contender.map(task.fn, task.items)
    wall_s = perf_counter() - began_s
    for position in (0, len(task.items) // 2, len(task.items) - 1):
        if not equal(results[position], task.fn(task.items[position])):
            raise AssertionError(f"{assignment.entrant.label} returned wrong results")
    return {"wall_s": [wall_s]}


def equal(result: Any, expected: Any) -> bool:
    """Whether numbers or arrays are the same, but for the order in which threads added them up."""
    import numpy as np

    return bool(np.allclose(result, expected))


@cache
def _task(name: str, is_quick: bool) -> "Task":
    """Made once in each process; scikit-learn is imported for those only that need it."""
    from .canonical.tasks import TASKS

    return TASKS[name](is_quick)


SCENARIOS: dict[str, Scenario] = {
    "round_trip": round_trip,
    "uniform": whole_map,
    "heavy_tail": whole_map,
    "late_heavy": whole_map,
    "tiny": whole_map,
    "short_items": whole_map,
    "callers": callers,
    "loop_delay": loop_delay,
}


def scenario_of(name: str) -> Scenario:
    """Return the scenario of a figure; numpy is imported for those only that need it."""
    if name in SCENARIOS:
        return SCENARIOS[name]
    from .streams.scenarios import STREAMS

    if name in STREAMS:
        return STREAMS[name]
    from .transport.scenarios import TRANSPORT

    if name in TRANSPORT:
        return TRANSPORT[name]
    from .doors.scenarios import DOORS, door

    return door(DOORS[name]) if name in DOORS else whole_task


def scenario_from_scratch(name: str) -> Callable[[Assignment], Awaitable[Sample]]:
    """Return the scenario of a figure, one that starts its contender itself."""
    from .doors.scenarios import DOORS_FROM_SCRATCH, door
    from .faults.scenarios import FAULTS
    from .service.scenarios import SERVICE
    from .streams.scenarios import STREAMS_FROM_SCRATCH

    if name in DOORS_FROM_SCRATCH:
        return door(DOORS_FROM_SCRATCH[name])
    return {**FAULTS, **SERVICE, **STREAMS_FROM_SCRATCH}[name]
