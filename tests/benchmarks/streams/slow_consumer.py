"""A consumer that is slower than everything before it, and a source that has no end."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Any, cast

import anyio

from ..contenders.ours import Offloop
from ..entrants import Assignment, Sample
from ..faults.pools import opened

SECONDS, QUICK_SECONDS = 4.0, 1.0
PAUSE_S = 0.001
LONG_S = 0.3
CHUNK = 10
WINDOW = 16


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a stream is opened.

    Attributes:
        window: As given; None: the default.
        is_ordered: Whether results come in the order of the items.
        is_async: Whether the source is.
        is_first_slow: Whether the first item takes the longest by far.
    """

    window: int | None = None
    is_ordered: bool = True
    is_async: bool = True
    is_first_slow: bool = False


WAYS = {
    "window": Way(window=WINDOW),
    "default window": Way(),
    "window, unordered": Way(window=WINDOW, is_ordered=False),
    "default window, unordered": Way(is_ordered=False),
    "default window, blocking source": Way(is_async=False),
    "window, the first item slowest": Way(window=WINDOW, is_first_slow=True),
}


def same(item: int) -> int:
    """Return the item."""
    return item


def same_but_slow_first(item: int) -> int:
    """Return the item, the first one late."""
    if item == 0:
        sleep(LONG_S)
    return item


class Meter:
    """Counts what was taken from the source and what the consumer got, and keeps the largest difference."""

    def __init__(self) -> None:
        self.most = self.n_taken = self.n_got = 0

    def take(self) -> int:
        """Return the next item."""
        self.n_taken += 1
        self.most = max(self.most, self.n_taken - self.n_got)
        return self.n_taken - 1

    def get(self) -> None:
        """Note that the consumer has a result."""
        self.n_got += 1

    async def items(self) -> AsyncIterator[int]:
        """Yield without end."""
        while True:
            yield self.take()

    def blocking_items(self) -> Iterator[int]:
        """Yield without end, in whatever thread."""
        while True:
            yield self.take()


async def slow_consumer(assignment: Assignment) -> Sample:
    """Take a result every millisecond; what is in flight is counted at every item that leaves the source."""
    way = WAYS[assignment.entrant.way]
    meter = Meter()
    options: dict[str, Any] = {} if way.window is None else {"window": way.window}
    window = way.window or 4 * assignment.workers * CHUNK
    source = meter.items() if way.is_async else meter.blocking_items()
    fn = same_but_slow_first if way.is_first_slow else same
    told_most = 0
    async with opened(assignment, n_workers=assignment.workers) as contender:
        stream = cast(Offloop, contender).stream(
            fn, source, ordered=way.is_ordered, chunk_size=CHUNK, **options
        )
        began_s = perf_counter()
        ends_s = began_s + (QUICK_SECONDS if assignment.quick else SECONDS)
        async with stream as results:
            async for _ in results:
                meter.get()
                told_most = max(told_most, results.in_flight)
                await anyio.sleep(PAUSE_S)
                if perf_counter() > ends_s:
                    break
    return {
        "over_window": [max(0, meter.most - window, told_most - window)],
        "most_in_flight": [meter.most],
        "window": [window],
        "items_per_second": [meter.n_got / (perf_counter() - began_s)],
    }
