"""A stream for callers that block: its context and iterators, with the stream itself on a portal."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import Future
from types import TracebackType
from typing import Generic, TypeVar

from anyio import sleep_forever

from .portal import Portal, Submission
from .streaming import Results, Stream, Supply
from .sync_waiting import block, refuse_on, stop, wait_for_any

R = TypeVar("R")

_INSTEAD = "async with session.stream(...)"


class SyncResults(Generic[R]):
    """The results of a stream: an iterator, for one thread at a time.

    A KeyboardInterrupt while it waits, or a ``break``, loses nothing: the next iteration goes on where the last one was left.
    """

    def __init__(self, results: Results[R], portal: Portal) -> None:
        self._results, self._supply, self._portal = results, results._supply, portal

    @property
    def in_flight(self) -> int:
        """Items that were taken from the source and are not done with: the consumer is, when it asks for the next."""
        return self._results.in_flight

    def __iter__(self) -> SyncResults[R]:
        """Return itself."""
        return self

    def __next__(self) -> R:
        """Return the next result.

        Raises:
            StopIteration: There is none any more.
            Exception: What fn or the source raised, in its place: after the results before it. The stream ends with that.
        """
        for result in self._supply.batch:  # nobody else takes from it: the portal replaces it in `has_more` alone
            return result  # type: ignore[no-any-return]
        if not block(self._portal, "stream", _INSTEAD, self._supply.has_more):
            raise StopIteration
        first: R = next(self._supply.batch)
        return first

    def indexed(self) -> SyncIndexed[R]:
        """Return an iterator over the index of each item, from 0 as they came from the source, and its result."""
        return SyncIndexed(self, self._supply)


class SyncIndexed(Generic[R]):
    """The results of a stream with the indexes of their items; see `SyncResults.indexed`."""

    def __init__(self, results: SyncResults[R], supply: Supply) -> None:
        self._results, self._supply = results, supply

    def __iter__(self) -> SyncIndexed[R]:
        """Return itself."""
        return self

    def __next__(self) -> tuple[int, R]:
        """Return the next index and result; raises what `SyncResults` does."""
        result = next(self._results)
        return self._supply.last_index, result


class SyncStream(Generic[R]):
    """The context of a stream; entering it begins to execute, leaving it stops what is under way and closes the source.

    What the body raises passes through as it is. It may be left in another thread than it was entered in.

    Args:
        stream: The stream.
        portal: The event loop that it gets, on which async sources are read too.
    """

    def __init__(self, stream: Stream[R], portal: Portal) -> None:
        self._stream, self._portal = stream, portal
        self._held: Submission[None] | None = None
        self._pid = os.getpid()  # in a forked child it is its parent's

    def __enter__(self) -> SyncResults[R]:
        """Begin.

        Raises:
            RuntimeError: It was begun before.
        """
        refuse_on(self._portal, _INSTEAD)
        entered: Future[Results[R]] = Future()
        held = self._portal.submit(_hold, self._stream, entered)
        try:
            wait_for_any(entered, held.future)
        except BaseException:
            stop(held)
            raise
        if not entered.done():
            held.future.result()
        self._held = held
        return SyncResults(entered.result(), self._portal)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it; returns when its items have stopped and its source is closed."""
        held, self._held = self._held, None
        if held is not None and self._pid == os.getpid():
            stop(held)

    def __del__(self) -> None:
        held = getattr(self, "_held", None)
        if held is not None and not held.future.done() and self._pid == os.getpid():
            warnings.warn("a stream was never left; it is stopped now", ResourceWarning, stacklevel=2, source=self)
            held.cancel()


async def _hold(stream: Stream[R], entered: Future[Results[R]]) -> None:
    """Be the task that enters a stream, and leaves it when it is cancelled."""
    async with stream as results:
        entered.set_result(results)
        await sleep_forever()
