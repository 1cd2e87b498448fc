"""How far a library reads ahead of a consumer that pauses."""

from collections.abc import AsyncIterator, Iterator, Sized
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread

from ..contenders.base import Contender
from ..contenders.ours import Offloop
from ..entrants import Assignment, Sample
from ..faults.pools import opened
from ..workloads import add_one

ITEMS = 100_000
FIRST = 10  # results before the pause
PAUSE_S, QUICK_PAUSE_S = 3.0, 1.0
CHUNK = 10
SETTLE_S = 0.5
LIMIT_S = 60.0


class Items(Sized):
    """Numbers; its length is known, as some libraries want it.

    Attributes:
        n_taken: How many were taken.
        is_over: Set to have it end early: joblib is not to be closed as long as it reads, it hangs.
    """

    def __init__(self) -> None:
        self.n_taken = 0
        self.is_over = False

    def __len__(self) -> int:
        return ITEMS

    def __iter__(self) -> Iterator[int]:
        for item in range(ITEMS):
            if self.is_over:
                return
            self.n_taken += 1
            yield item


async def read_ahead(assignment: Assignment) -> Sample:
    """Take a few results, pause, and count what has left the source."""
    source = Items()
    chunk = assignment.entrant.chunk or 1
    async with opened(assignment, n_workers=assignment.workers) as contender:
        with anyio.fail_after(LIMIT_S):
            async with _results(contender, assignment, source) as results:
                for _ in range(FIRST):
                    await anext(results)
                await anyio.sleep(QUICK_PAUSE_S if assignment.quick else PAUSE_S)
                ahead = source.n_taken - FIRST
                source.is_over = True
                await anyio.sleep(SETTLE_S)
    return {"ahead": [ahead], "per_worker_and_chunk": [ahead / (assignment.workers * chunk)]}


@asynccontextmanager
async def _results(
    contender: Contender, assignment: Assignment, source: Items
) -> AsyncIterator[AsyncIterator[int]]:
    """Yield the results as they come, from a thread where the library's iterator blocks."""
    chunk = assignment.entrant.chunk
    if isinstance(contender, Offloop):
        options: dict[str, Any] = {} if chunk is None else {"chunk_size": chunk}
        is_ordered = assignment.entrant.way != "unordered"
        async with contender.stream(add_one, source, ordered=is_ordered, **options) as results:
            yield results
        return
    yield _in_a_thread(contender, source)


async def _in_a_thread(contender: Contender, source: Items) -> AsyncIterator[int]:
    results = await anyio.to_thread.run_sync(contender.imap, add_one, source, abandon_on_cancel=True)
    while True:
        yield await anyio.to_thread.run_sync(_next, results, abandon_on_cancel=True)


def _next(results: Iterator[int]) -> int:
    """Return the next one; a thread must not raise StopIteration into a coroutine."""
    for result in results:
        return result
    raise RuntimeError("the results have ended")
