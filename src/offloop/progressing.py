"""Telling how far a run has come, while it goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, NamedTuple, Self, TypeVar

import anyio

from .alongside import Alongside
from .deciding.outlook import Outlook, eta_s
from .pool.condition import Condition
from .progress import Progress, ProgressEvent

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


class Teller:
    """Tells somebody how far a run has come.

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
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        """Tell now and then while the context lasts, and at its end.

        On asyncio by a timer: a task beside the run, as elsewhere, takes 100 µs to start and to end.
        """
        loop = asyncio._get_running_loop()
        try:
            if loop is None:
                async with Alongside(self._tell_again):
                    yield
            else:
                self._arm(loop)
                yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._say(is_last=True)

    async def _tell_again(self) -> None:
        while True:
            await anyio.sleep(PERIOD_S)
            self._say(is_last=False)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(PERIOD_S, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._arm(loop)
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
    async with Teller(tell, look).telling():
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
    call that is refused before it begins, so iterate in the caller's task group, which then ends you. Any event loop may iterate;
    of several tasks each event goes to one.
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
        while True:
            await self._condition.wait_for(lambda: self._latest is not None or self._is_over)
            with self._condition.lock:
                event, self._latest = self._latest, None
                if event is not None:
                    return event
                if self._is_over:
                    raise StopAsyncIteration
