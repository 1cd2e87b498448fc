"""A task that runs beside the body of a context."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

import anyio
from anyio.abc import TaskGroup


class Alongside:
    """A context with a task beside its body, which is cancelled at the body's end and waited for.

    What the body raises stays as it is: a task group alone would wrap it, as if it were one of several errors.

    Args:
        work: Makes the coroutine of the task; it must raise nothing.

    Attributes:
        is_running: Whether it was entered and not left; what goes on then where the body was closed from elsewhere is not its affair.
    """

    __slots__ = ("_host", "_scope", "_tasks", "_work", "is_running")

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._work = work
        self.is_running = False
        self._host = 0  # id of the body's task
        self._tasks: TaskGroup
        self._scope: anyio.CancelScope  # the task's own: to cancel the body's task would be confused with what others cancel

    async def __aenter__(self) -> None:
        """Start the task."""
        self._host = anyio.get_current_task().id
        self._scope, self._tasks = anyio.CancelScope(), anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._execute)
        self.is_running = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the task and wait for its end."""
        if isinstance(error, GeneratorExit) and not self._is_in_host:  # its event loop is gone: nothing can be awaited any more
            return
        self.is_running = False
        self._scope.cancel()
        if isinstance(error, anyio.get_cancelled_exc_class()):
            await self._tasks.__aexit__(kind, error, trace)
        else:
            await self._tasks.__aexit__(None, None, None)

    async def _execute(self) -> None:
        with self._scope:
            await self._work()

    @property
    def _is_in_host(self) -> bool:
        """Whether the body's task is what executes now; a generator that it closes may still wait."""
        try:
            return anyio.get_current_task().id == self._host
        except RuntimeError:  # no task is
            return False
