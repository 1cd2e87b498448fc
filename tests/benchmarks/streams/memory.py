"""What a program's memory grows by while a million items go through it."""

import gc
from time import perf_counter
from typing import cast

from ..contenders.ours import Offloop
from ..entrants import Assignment, Sample
from ..faults.pools import opened
from ..workloads import add_one
from .private import private_bytes

ITEMS, QUICK_ITEMS = 1_000_000, 200_000
LOOKS = 100  # over the whole length
EARLY = 10  # of these
MB = 1e6


async def stream_memory(assignment: Assignment) -> Sample:
    """Take all results of an iterator's items, and look every hundredth of the way at what is held."""
    n_items = QUICK_ITEMS if assignment.quick else ITEMS
    async with opened(assignment, n_workers=assignment.workers) as contender:
        ours = cast(Offloop, contender)
        async with ours.stream(add_one, iter(range(LOOKS))) as results:  # what is loaded once is loaded
            assert [result async for result in results] == list(range(1, LOOKS + 1))
        gc.collect()
        held = [private_bytes()]
        began_s = perf_counter()
        async with ours.stream(add_one, iter(range(n_items))) as results:
            number = 0
            async for result in results:
                number += 1
                if result != number:
                    raise AssertionError(f"result {number} is {result}")
                if number % (n_items // LOOKS) == 0:
                    held.append(private_bytes())
        wall_s = perf_counter() - began_s
    if number != n_items:
        raise AssertionError(f"{number} results of {n_items} items")
    growth = [(bytes_ - held[0]) / MB for bytes_ in held]
    return {
        "growth_mb": [max(growth)],
        "late_mb": [max(growth[EARLY:]) - growth[EARLY]],
        "items_per_second": [n_items / wall_s],
        "held_mb": growth,
    }
