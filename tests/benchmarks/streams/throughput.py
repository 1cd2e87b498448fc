"""The same items through a stream and through a map."""

from time import perf_counter
from typing import cast

from ..contenders.base import Contender
from ..contenders.ours import Offloop
from ..entrants import Assignment, Sample
from ..workloads import busy

MAP, ORDERED, UNORDERED = "map", "stream", "unordered stream"
ITEMS = {"stream_2us": (2e-6, 200_000), "stream_50us": (50e-6, 20_000), "stream_1ms": (1e-3, 1_000)}
QUICK_SHARE = 4


async def throughput(contender: Contender, assignment: Assignment) -> Sample:
    """Take every result once, and prove that none is missing, wrong or, where that counts, out of order."""
    item_s, n_items = ITEMS[assignment.scenario]
    least = max(1, round(item_s * 1e3 * assignment.iterations_per_ms))
    n_items //= QUICK_SHARE if assignment.quick else 1
    items = [least + at % 2 for at in range(n_items)]  # two kinds, so that their order can be seen
    began_s = perf_counter()
    results = await _taken(cast(Offloop, contender), assignment.entrant.way, items)
    wall_s = perf_counter() - began_s
    answers = {item: busy(item) for item in set(items)}
    expected = [answers[item] for item in items]
    if assignment.entrant.way == UNORDERED:
        results, expected = sorted(results), sorted(expected)
    if results != expected:
        raise AssertionError(f"{assignment.entrant.label} returned wrong results")
    return {"wall_s": [wall_s], "items_per_second": [n_items / wall_s]}


async def _taken(contender: Offloop, way: str, items: list[int]) -> list[int]:
    if way == MAP:
        return await contender.map(busy, items)
    async with contender.stream(busy, items, ordered=way == ORDERED) as results:
        return [result async for result in results]
