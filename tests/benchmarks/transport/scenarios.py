"""What one sample of a figure of transport does."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import cache, partial
from time import perf_counter
from typing import Any

import numpy as np

import offloop

from ..contenders.base import Contender
from ..contenders.ours import Offloop
from ..entrants import Assignment, Role, Sample
from ..loop_delay import TICK_S, summarise, tick
from . import work
from .data import LOADS, Load, array, arrays
from .memory import Watch

MB = 1_000_000
TINY = 800_000
QUICK_SHARE = 8  # by how much smaller --quick is
SIZES = {
    "array_400": ("array", 400 * MB),
    "array_400_shared": ("array", 400 * MB),
    "frame_1gb": ("frame", 1_000 * MB),
    "frame_objects": ("frame_objects", 200 * MB),
}
RAW_BYTES, QUICK_RAW_BYTES = 256 * MB, 64 * MB  # both above what malloc ever keeps to hand out again
RAW_CALLS = 3
ROUND_ITEMS, ROUND_BYTES = 40, 8 * MB

Errand = Callable[[Contender], Awaitable[Any]]


async def one_value(contender: Contender, assignment: Assignment) -> Sample:
    """Have eight items read all of one large value, which no worker has seen before."""
    kind, size = SIZES[assignment.scenario]
    await _rouse(contender, LOADS[kind](TINY), assignment)
    load = LOADS[kind](_sized(size, assignment))
    expected = [load.read(load.value, part) for part in range(work.PARTS)]
    value, way = load.value, assignment.entrant.way
    if way == "shared before":
        assert isinstance(contender, Offloop)
        value = await contender.share(value)
    watch = Watch(0.2 if assignment.entrant.slow else 0.5) if assignment.watched else None
    with watch or nullcontext():
        began_s = perf_counter()
        if way == "shared inside":
            assert isinstance(contender, Offloop)
            value = await contender.share(value)
        results = await _mapped(contender, load.read, value, assignment)
        wall_s = perf_counter() - began_s
    if not np.allclose(results, expected, rtol=1e-9):
        raise AssertionError(f"{assignment.entrant.label} returned wrong results")
    sample: Sample = {"wall_s": [wall_s]}
    if watch:
        sample |= {"pss_mb": [watch.above_idle / MB], "pss_share": [watch.above_idle / load.n_bytes]}
    return sample


async def _rouse(contender: Contender, tiny: Load, assignment: Assignment) -> None:
    """Have every worker import what it needs, before there is anything large."""
    await _mapped(contender, tiny.rouse, tiny.value, assignment)


async def _mapped(contender: Contender, read: work.Reader, value: Any, assignment: Assignment) -> list[float]:
    """Bind the value to the function, or let it stand in every item."""
    if assignment.entrant.way != "items":
        return await contender.map(partial(read, value), range(work.PARTS))
    is_ours = assignment.entrant.role is Role.OURS
    fn: Any = offloop.star(read) if is_ours else partial(work.read_pair, read)
    return await contender.map(fn, [(value, part) for part in range(work.PARTS)])


async def round_40x8(contender: Contender, assignment: Assignment) -> Sample:
    """Send many arrays, and have as many sent back."""
    items = await _round_items(contender, assignment)
    began_s = perf_counter()
    results = await contender.map(work.doubled, items)
    wall_s = perf_counter() - began_s
    _check_doubled(results, items)
    return {"wall_s": [wall_s]}


async def _round_items(contender: Contender, assignment: Assignment) -> list[Any]:
    await contender.map(work.rouse_doubled, arrays(work.PARTS, TINY))
    return arrays(ROUND_ITEMS, _sized(ROUND_BYTES, assignment))


def _check_doubled(results: list[Any], items: list[Any]) -> None:
    if len(results) != len(items) or not all(map(np.array_equal, results, [item * 2 for item in items])):
        raise AssertionError("wrong results")


async def raw_256(contender: Contender, assignment: Assignment) -> Sample:
    """Carry one array there and back, or one way only."""
    large = array(QUICK_RAW_BYTES if assignment.quick else RAW_BYTES).value
    way = assignment.entrant.way
    trip: Errand = {
        "": lambda contender: contender.call(work.identity, large),
        "there": lambda contender: contender.call(work.one_byte, large),
        "back": lambda contender: contender.call(work.kept, len(large)),
    }[way]
    expected: Any = {"": large, "there": b"x", "back": work.kept(len(large)) if way == "back" else None}[way]
    if way == "back":  # all workers at once, so that each has made its array
        await asyncio.gather(*(trip(contender) for _ in range(assignment.workers)))
    calls_s: list[float] = []
    for _ in range(RAW_CALLS):
        began_s = perf_counter()
        result = await trip(contender)
        calls_s.append(perf_counter() - began_s)
        if not np.array_equal(result, expected):
            raise AssertionError(f"{assignment.entrant.label} returned wrong results")
        del result
    moved_mb = large.nbytes * (1 if way else 2) / MB
    return {"wall_s": calls_s, "mb_a_second": [moved_mb / call_s for call_s in calls_s]}


async def delay_transport(contender: Contender, assignment: Assignment) -> Sample:
    """Tick every millisecond while large data travels; what came back is dropped only after that."""
    await contender.map(work.rouse_doubled, arrays(work.PARTS, TINY))
    errand, check = await ERRANDS[assignment.entrant.way](contender, assignment)
    lateness_s: list[float] = []
    ticking = asyncio.create_task(tick(lateness_s))
    await asyncio.sleep(10 * TICK_S)
    results = await errand(contender)
    await asyncio.sleep(2 * TICK_S)  # so that the last tick under way is counted
    ticking.cancel()
    check(results)
    return summarise(lateness_s)


async def _round_errand(contender: Contender, assignment: Assignment) -> tuple[Errand, Callable[[Any], None]]:
    items = await _round_items(contender, assignment)
    return lambda contender: contender.map(work.doubled, items), partial(_check_doubled, items=items)


async def _raw_errand(contender: Contender, assignment: Assignment) -> tuple[Errand, Callable[[Any], None]]:
    large = array(QUICK_RAW_BYTES if assignment.quick else RAW_BYTES).value

    async def trips(contender: Contender) -> list[Any]:
        return [await contender.call(work.identity, large) for _ in range(RAW_CALLS)]

    def check(results: list[Any]) -> None:
        if not all(np.array_equal(result, large) for result in results):
            raise AssertionError("wrong results")

    return trips, check


async def _array_errand(contender: Contender, assignment: Assignment) -> tuple[Errand, Callable[[Any], None]]:
    _, size = SIZES["array_400"]
    load = array(_sized(size, assignment))
    await contender.map(partial(work.rouse_array, array(TINY).value), range(work.PARTS))
    expected = [load.read(load.value, part) for part in range(work.PARTS)]

    def check(results: list[Any]) -> None:
        if not np.allclose(results, expected, rtol=1e-9):
            raise AssertionError("wrong results")

    return lambda contender: contender.map(partial(load.read, load.value), range(work.PARTS)), check


ERRANDS = {"round": _round_errand, "raw": _raw_errand, "array": _array_errand}


async def explain(contender: Contender, assignment: Assignment) -> Sample:
    """Explain all rows in blocks, as items of their own, or in one go, and prove a few of them."""
    task = _explained(assignment.scenario, assignment.quick)
    rows, way = np.stack(task.items), assignment.entrant.way
    in_one_go = partial(work.each_row, task.fn)
    began_s = perf_counter()
    if way == "batches":
        assert isinstance(contender, Offloop)
        result = await contender.map_batches(in_one_go, rows)
    elif way == "rows":
        result = np.stack(await contender.map(task.fn, task.items))
    else:
        result = await contender.call(in_one_go, rows)
    wall_s = perf_counter() - began_s
    some = [0, len(rows) // 2, len(rows) - 1]
    if len(result) != len(rows) or not np.allclose(result[some], in_one_go(rows[some])):
        raise AssertionError(f"{assignment.entrant.label} returned wrong results")
    return {"wall_s": [wall_s]}


@cache
def _explained(name: str, is_quick: bool) -> Any:
    from ..canonical.tasks import TASKS

    return TASKS[name.replace("1000x", "")](is_quick)


def _sized(n_bytes: int, assignment: Assignment) -> int:
    return n_bytes // QUICK_SHARE if assignment.quick else n_bytes


TRANSPORT: dict[str, Callable[[Contender, Assignment], Awaitable[Sample]]] = {
    **dict.fromkeys(SIZES, one_value),
    "round_40x8": round_40x8,
    "raw_256": raw_256,
    "delay_transport": delay_transport,
    "explain_1000x20": explain,
    "explain_1000x100": explain,
}
