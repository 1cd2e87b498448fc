"""Calls cancelled before the workers that they need are there."""

import random

import anyio

from ..entrants import Assignment, Sample
from . import work
from .pools import live_workers, opened

CANCELLED, QUICK_CANCELLED = 40, 10
TIMES = 4  # so many attempts for each that is to be cancelled: some are answered first
EARLIEST_S, LATEST_S = 0.005, 0.08
COUNTS, COUNT_EVERY_S = 10, 0.05


async def cancel_starting(assignment: Assignment) -> Sample:
    """Cancel calls while the workers that they need start, and count the workers all the while."""
    wanted = QUICK_CANCELLED if assignment.quick else CANCELLED
    chance = random.Random()
    cancelled = attempts = most_live = 0
    while cancelled < wanted and attempts < TIMES * wanted:
        async with opened(assignment, n_workers=assignment.workers, is_cold=True) as contender:
            while cancelled < wanted:
                attempts += 1
                with anyio.move_on_after(chance.uniform(EARLIEST_S, LATEST_S)) as scope:
                    await contender.stoppable(work.whoami)
                most_live = max(most_live, len(live_workers()))
                if not scope.cancelled_caught:
                    break  # it has a worker now, the next one gets a pool without
                cancelled += 1
            most_live = max(most_live, await _most_live())
    return {
        "too_many": [max(0, most_live - assignment.workers)],
        "most_live": [most_live],
        "cancelled": [cancelled],
    }


async def _most_live() -> int:
    """Count for a moment longer: what was being started may only now be there."""
    most = 0
    for _ in range(COUNTS):
        await anyio.sleep(COUNT_EVERY_S)
        most = max(most, len(live_workers()))
    return most
