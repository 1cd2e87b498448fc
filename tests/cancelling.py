"""Cancelling a call as it waits for the n-th time, and counting the workers that there are meanwhile."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import psutil
import pytest
import sniffio
import trio

from offloop.pool import worker as pool_worker


class _Steps:
    """Counts how often tasks wait, and cancels a scope as one does for the n-th time; an instrument of trio too."""

    def __init__(self, scope: anyio.CancelScope, nth: int) -> None:
        self._scope, self._nth, self.count = scope, nth, 0

    def step(self) -> None:
        self.count += 1
        if self.count == self._nth:
            self._scope.cancel()

    def after_task_step(self, task: object) -> None:
        self.step()

    async def driven(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return await self._drive(coroutine)

    @types.coroutine
    def _drive(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        advance: Callable[[Any], Any] = coroutine.send
        value: Any = None
        while True:
            try:
                waits_for = advance(value)
            except StopIteration as end:
                return end.value
            self.step()
            try:
                value, advance = (yield waits_for), coroutine.send
            except BaseException as error:
                value, advance = error, coroutine.throw

    def task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        """Be the task factory of a loop."""
        return asyncio.Task(self.driven(coroutine), loop=loop, **options)


async def cancelled_at(nth: int, call: Callable[[], Awaitable[Any]]) -> bool:
    """Make a call and cancel it as one of its tasks waits for the n-th time.

    Returns:
        Whether it waited so often; False if it was over before, and ran as if nobody had looked.
    """
    with anyio.CancelScope() as scope:
        steps = _Steps(scope, nth)
        if sniffio.current_async_library() == "trio":
            trio.lowlevel.add_instrument(steps)
            try:
                await call()
            finally:
                trio.lowlevel.remove_instrument(steps)
        else:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(steps.task)
            try:

                async def called() -> Any:
                    return await call()

                await steps.driven(called())
            finally:
                loop.set_task_factory(None)
    return steps.count >= nth


async def at_every_step(
    call: Callable[[], Awaitable[Any]], after: Callable[[], Awaitable[None]], stride: int = 1, limit_s: float = 100
) -> int:
    """Cancel a call as it waits for the first time, then for the second, and so on until it is over before.

    Args:
        call: What is cancelled.
        after: Called after each of these.
        stride: How many steps there are between two of those at which it is cancelled.
        limit_s: How long all of it may take.

    Returns:
        How often it was cancelled.
    """
    n_cancelled = 0
    with anyio.fail_after(limit_s):
        while await cancelled_at(1 + n_cancelled * stride, call):
            n_cancelled += 1
            await after()
        await after()
    return n_cancelled


def worker_processes() -> list[int]:
    """Return the processes that were started from this one and run, loky's trackers left out."""
    found = []
    for child in psutil.Process().children():
        try:
            is_tracker = any("resource_tracker" in part for part in child.cmdline())
            if child.status() != psutil.STATUS_ZOMBIE and not is_tracker:
                found.append(child.pid)
        except psutil.Error:
            continue
    return found


@contextmanager
def counted_workers() -> Iterator[list[int]]:
    """Collect how many workers are alive each time that one has just been started: they are most numerous then.

    One that has been sent SIGKILL, which nothing withstands, does not count.
    """
    counts: list[int] = []
    really = pool_worker.Worker._watch

    def watch(self: pool_worker.Worker, process: Any, manager: Any) -> None:
        really(self, process, manager)
        with pool_worker._registry_lock:
            workers = list(pool_worker._started)
        counts.append(sum(worker.pid != 0 and worker.is_alive for worker in workers))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_worker.Worker, "_watch", watch)
        yield counts
