"""What is waited for to its end, whatever is cancelled meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio


async def shielded(work: Callable[[], Awaitable[object]]) -> None:
    """Await to the end, in a task of its own: a shield alone doesn't hold against `cancel` of an asyncio task.

    Raises:
        CancelledError: An asyncio task was cancelled meanwhile, unless what was awaited has failed.
    """
    errors: list[Exception] = []
    with anyio.CancelScope(shield=True):
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_shielded, work, errors)
        finally:
            if errors:
                raise errors[0]


async def _shielded(work: Callable[[], Awaitable[object]], errors: list[Exception]) -> None:
    with anyio.CancelScope(shield=True):
        try:
            await work()
        except Exception as error:
            errors.append(error)
