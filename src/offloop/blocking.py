"""A call that blocks, in a thread, and is told to stop when it is cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
from anyio.lowlevel import checkpoint

from .pool.threads import call_blocking

R = TypeVar("R")


async def call_stoppable(work: Callable[[], R], stop: Callable[[], object]) -> R:
    """Call in a thread and return what that returns; cancelling returns when the call is over.

    Args:
        work: What may block.
        stop: Called once when this is cancelled, on the event loop; it is to make an end of the call, and must not block.
    """
    values: list[R] = []
    errors: list[BaseException] = []
    is_over = anyio.Event()

    def attempt() -> None:
        try:
            values.append(work())
        except BaseException as error:  # raised as it is, not as one of a group; and StopIteration can't leave a thread
            errors.append(error)

    async def execute() -> None:
        await checkpoint()  # not begun where this is cancelled already
        with anyio.CancelScope(shield=True):
            await call_blocking(attempt)
        is_over.set()

    async def watch() -> None:
        try:
            await is_over.wait()
        finally:
            if not is_over.is_set():
                stop()

    async with anyio.create_task_group() as tasks:  # of tasks, since a shield doesn't hold against `cancel` of an asyncio task
        tasks.start_soon(watch)
        tasks.start_soon(execute)
    if errors:
        raise errors.pop()
    return values.pop()
