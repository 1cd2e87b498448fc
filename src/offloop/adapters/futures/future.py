"""A call that was submitted, and the future of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import Context
from typing import Any, NamedTuple, TypeVar

from ...errors import ItemError

R = TypeVar("R")

_ENDS = (StopIteration, StopAsyncIteration)  # of those that are an Exception


class Call(NamedTuple):
    """A call that waits.

    Attributes:
        begin: Makes it.
        context: Of who submitted it.
    """

    begin: Callable[[], Awaitable[Any]]
    context: Context


class ExecutorFuture(Future[R]):
    """A future whose call can be stopped once it runs, too."""

    def __init__(self, stop: Callable[[ExecutorFuture[R]], bool], call: Call) -> None:
        super().__init__()
        self._stop = stop
        self.call: Call | None = call  # until it begins, or is cancelled

    def take(self) -> Call | None:
        """Return the call, to the first who asks for it."""
        with self._condition:
            call, self.call = self.call, None
        return call

    def result(self, timeout: float | None = None) -> R:
        """Return what the call returns, or raise what it raises; see `concurrent.futures.Future.result`.

        What would end a program, a generator or an event loop is raised as itself here: who asks for it is none of them.
        """
        error = cause = None
        try:
            error = self.exception(timeout)
            cause = error.__cause__ if isinstance(error, ItemError) else None
            if cause is not None and (isinstance(cause, _ENDS) or not isinstance(cause, Exception)):
                raise cause
            return super().result()
        finally:
            del self, error, cause  # what is raised has this frame in its traceback

    def cancel(self) -> bool:
        """Cancel the call, which will then never be executed; see `concurrent.futures.Future.cancel`.

        Returns:
            Whether it was cancelled; False if it runs, or is over: `interrupt` stops one that runs.
        """
        is_cancelled = super().cancel()
        if is_cancelled and self.take() is not None:
            self.set_running_or_notify_cancel()
        return is_cancelled

    def interrupt(self) -> bool:
        """Have the call stopped, whether or not it runs; returns at once.

        One that runs ends at its next `checkpoint`, else it is interrupted, and where that doesn't help its worker is killed
        after ``grace_s``. When it has stopped, `result` and `exception` raise or return CancelledError. `cancelled` is true only of
        one that had not begun. One that ends by itself meanwhile keeps its outcome.

        Returns:
            Whether there was anything to stop; False if it is over.
        """
        return self.cancel() or self._stop(self)
