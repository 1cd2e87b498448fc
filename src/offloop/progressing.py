"""Telling how far a run has come, while it goes on."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import anyio

from .alongside import Alongside
from .deciding.outlook import Outlook, eta_s
from .pool.condition import Condition
from .progress import Progress, ProgressEvent
from .strategies.base import Lane

R = TypeVar("R")

PERIOD_S = 0.1  # ten times a second looks smooth, and costs 0.1 % of a core; a guess

_log = logging.getLogger("offloop")


class Standing(NamedTuple):
    """How far a run is at a moment; what is counted is as for `ProgressEvent`.

    Attributes:
        fn: What it executes.
        label: Its name, as the call gives it.
        strategy: Where it executes.
        begun: When its first item came to a lane, by the monotonic clock; infinity if none has.
        n_items: How many items there are; None where it isn't known.
        n_done: How many of them have been executed, or have failed.
        n_failed: How many have failed.
        partly: How much is done of those under way, summed.
        busy_s: Seconds that items ran, summed over all lanes.
        capacity_s: Seconds that lanes could have worked.
    """

    fn: str
    label: str | None
    strategy: str
    begun: float
    n_items: int | None
    n_done: int
    n_failed: int
    partly: float
    busy_s: float
    capacity_s: float


def under_way(
    lanes: Collection[Lane], begun: float, weigh: Callable[[Sequence[Any], int], int]
) -> tuple[int, float, float]:
    """Return what chunks that no lane has told of yet have come to: items finished, how much is done of others, and seconds.

    Args:
        lanes: Where they are.
        begun: When the first of them came there; it is meant where a chunk doesn't say.
        weigh: Returns how much the first so many of some items come to.
    """
    n_finished, partly, seconds, now = 0, 0.0, 0.0, monotonic()
    for lane in list(lanes):
        if not lane.in_flight:
            continue
        chunk = lane.in_flight[0]
        done = max(chunk.done, lane.n_finished)
        up_to_here = weigh(chunk.items, done)
        n_finished += up_to_here - weigh(chunk.items, chunk.done)
        partly += lane.fraction * (weigh(chunk.items, done + 1) - up_to_here)
        seconds += max(0.0, now - (chunk.sent_at or begun))
    return n_finished, partly, seconds


class Observed:
    """A context in which somebody is told now and then how far a run has come, and in the end.

    Args:
        tell: Called with each event, on the event loop. It may fail, which is logged: then it is told no more.
        look: Returns how far it is.
    """

    def __init__(self, tell: Callable[[ProgressEvent], object], look: Callable[[], Standing]) -> None:
        self._tell: Callable[[ProgressEvent], object] | None = tell
        self._look = look
        self._outlook = Outlook()
        self._begun = monotonic()
        self._n_done = 0
        self._alongside = Alongside(self._tell_again)

    async def __aenter__(self) -> Self:
        """Begin to look."""
        await self._alongside.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look for the last time."""
        try:
            await self._alongside.__aexit__(kind, error, trace)
        finally:
            self._say(is_last=True)

    async def _tell_again(self) -> None:
        while self._tell is not None:
            await anyio.sleep(PERIOD_S)
            self._say(is_last=False)

    def _say(self, *, is_last: bool) -> None:
        if self._tell is None:
            return
        try:
            self._tell(self._event(is_last=is_last))
        except (Exception, SystemExit):  # SystemExit would end the event loop
            self._tell = None
            _log.exception("what was passed as progress= has failed; it is told no more of this run")

    def _event(self, *, is_last: bool) -> ProgressEvent:
        now = self._look()
        moment = monotonic()
        self._n_done = max(self._n_done, now.n_done if now.n_items is None else min(now.n_done, now.n_items))
        n_done = self._n_done + (0.0 if is_last else now.partly)
        rate = self._outlook.look(max(0.0, moment - now.begun), n_done)
        return ProgressEvent(
            fn=now.fn,
            label=now.label,
            strategy=now.strategy,
            n_items=now.n_items,
            n_done=self._n_done,
            n_failed=now.n_failed,
            fraction=None if now.n_items is None else min(1.0, n_done / now.n_items) if now.n_items else 1.0,
            elapsed_s=moment - self._begun,
            rate=rate,
            eta_s=eta_s(now.n_items, n_done, rate),
            utilisation_pct=min(100.0, 100 * now.busy_s / now.capacity_s) if now.capacity_s else 0.0,
            is_last=is_last,
        )


async def observed(
    progress: Progress | None, look: Callable[[], Standing], execute: Callable[..., Awaitable[R]], *args: Any
) -> R:
    """Await ``execute(*args)``, and tell meanwhile how far it has come, if anybody is to know.

    Args:
        progress: Who, by the option of the call.
        look: Returns how far it is.
        execute: What is done.
        *args: With these arguments.
    """
    if progress is None or (tell := _teller(progress)) is None:
        return await execute(*args)
    async with Observed(tell, look):
        return await execute(*args)


def _teller(progress: Progress) -> Callable[[ProgressEvent], object] | None:
    """Return what tells; None where there is no terminal to tell by."""
    if callable(progress):
        return progress
    from .sinks.progress import renderer

    return renderer("text" if progress == "text" else True)


class ProgressStream:
    """How far a run has come, as an async iterable; pass it as ``progress=`` of one call.

        progress = offloop.ProgressStream()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(show, progress)  # which has: async for event in progress: ...
            results = await session.run_parallel(fn, items, progress=progress)

    Who is slow gets the latest event, and misses those before it. It ends with the last event of the run, and has none of a
    call that is refused before it begins, so iterate in the caller's task group, which then ends you. One task may iterate, on any
    event loop.
    """

    def __init__(self) -> None:
        self._condition = Condition()
        self._latest: ProgressEvent | None = None
        self._is_over = False

    def __call__(self, event: ProgressEvent) -> None:
        """Take an event; returns at once."""
        with self._condition.lock:
            self._latest, self._is_over = event, event.is_last
        self._condition.notify_all()

    def __aiter__(self) -> Self:
        """Iterate over what comes."""
        return self

    async def __anext__(self) -> ProgressEvent:
        """Wait for the next event.

        Raises:
            StopAsyncIteration: The last one was returned before.
        """
        await self._condition.wait_for(lambda: self._latest is not None or self._is_over)
        with self._condition.lock:
            event, self._latest = self._latest, None
        if event is None:
            raise StopAsyncIteration
        return event
