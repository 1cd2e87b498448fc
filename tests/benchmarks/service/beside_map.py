"""Single calls beside a map that is far longer than anybody waits."""

import math
import random
from contextlib import suppress
from time import perf_counter

import anyio

from ..contenders.base import Contender
from ..entrants import Assignment, Role, Sample
from ..families import kill_all
from ..faults.pools import live_workers, opened
from ..quantiles import quantile
from ..workloads import busy, rouse

ITEMS = 100_000
LONGEST_MS = 10
CALL_MS = 1
EVERY_S = 0.020
SECONDS, QUICK_SECONDS = 10.0, 4.0
HEAD_START_S = 0.5
WARMING_CALLS_PER_WORKER = 4


async def beside_map(assignment: Assignment) -> Sample:
    """Call again and again, whether the calls before are answered or not; then break everything off."""
    seconds = QUICK_SECONDS if assignment.quick else SECONDS
    turns = assignment.iterations_per_ms
    chance = random.Random(1)
    items = [chance.randint(1, LONGEST_MS) * turns for _ in range(ITEMS)]
    async with opened(assignment, n_workers=assignment.workers) as contender:
        async with anyio.create_task_group() as tasks:
            for _ in range(WARMING_CALLS_PER_WORKER * assignment.workers):
                tasks.start_soon(contender.call, rouse, 2 * turns)
        calls = _Calls(contender, CALL_MS * turns)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_map, contender, items)
            await anyio.sleep(HEAD_START_S)
            await calls.make(seconds)
            if assignment.entrant.role is not Role.OURS:
                kill_all(live_workers())  # a map that can't be cancelled would hold up the rest
            tasks.cancel_scope.cancel()
    return {
        "p99_s": [quantile(calls.took_s, 0.99)],
        "p50_s": [quantile(calls.took_s, 0.5)],
        "worst_s": [max(calls.took_s)],
        "unanswered": [calls.n_unanswered],
        "call_s": calls.took_s,
    }


async def _map(contender: Contender, items: list[int]) -> None:
    with suppress(Exception):  # of workers that were killed in the end
        await contender.map(busy, items)


class _Calls:
    """Calls at fixed intervals.

    Attributes:
        took_s: How long each took; one without an answer counts with the time until nobody waited any more.
        n_unanswered: How many these are.
    """

    def __init__(self, contender: Contender, iterations: int) -> None:
        self._contender, self._iterations = contender, iterations
        self.took_s: list[float] = []
        self.n_unanswered = 0

    async def make(self, seconds: float) -> None:
        """Make them, wait for the last ones as long as for any, and give up."""
        began_s = perf_counter()
        async with anyio.create_task_group() as tasks:
            for number in range(math.ceil(seconds / EVERY_S)):
                await anyio.sleep(max(0.0, began_s + number * EVERY_S - perf_counter()))
                tasks.start_soon(self._call)
            await anyio.sleep(HEAD_START_S)
            tasks.cancel_scope.cancel()

    async def _call(self) -> None:
        began_s = perf_counter()
        try:
            await self._contender.call(busy, self._iterations)
        except anyio.get_cancelled_exc_class():
            self.n_unanswered += 1
            raise
        finally:
            self.took_s.append(perf_counter() - began_s)
