"""A portal: an event loop in a thread of its own, for callers that have none.

What anyio's own portal doesn't do, and this does: it takes calls without waiting for the loop, so also from another event loop's
thread; it gives tasks the context of who calls; it says when a call that was cancelled has stopped; a process may be forked beside it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future, InvalidStateError, wait
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, Generic, TypeVar

import anyio

from .errors import SessionClosedError
from .forking import in_forked_child
from .pool.waiting import poster

T = TypeVar("T")


class Submission(Generic[T]):
    """A call that was handed to a portal.

    Attributes:
        future: Gets its end: what it returned or raised, CancelledError once it has stopped because of `cancel`. To cancel
            the future itself does nothing.
    """

    def __init__(self, post: Callable[..., object], fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        self.future: Future[T] = Future()
        self.future.set_running_or_notify_cancel()
        self._post, self._fn, self._args = post, fn, args
        self._scope: anyio.CancelScope | None = None
        self._is_cancelled = False

    def cancel(self) -> None:
        """Have it stopped, from any thread; returns at once, and does nothing to one that is over."""
        self._is_cancelled = True
        try:
            self._post(self._cancel)
        except RuntimeError:  # the portal is gone, and this with it
            return

    def _cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def refuse(self) -> None:
        """End one that will never be executed: the portal is closed."""
        with suppress(InvalidStateError):  # it is over
            self.future.set_exception(SessionClosedError("closed"))

    def _fail(self, error: BaseException) -> None:
        try:
            self.future.set_exception(error)
        except InvalidStateError:  # it is over, and this is of a callback of its future
            asyncio.get_running_loop().call_exception_handler({"message": "a future's callback has failed", "exception": error})

    async def execute(self) -> None:
        """Make the call, on the portal."""
        try:
            with anyio.CancelScope() as self._scope:
                if self._is_cancelled:
                    self._scope.cancel()
                value = await self._fn(*self._args)
                self.future.set_result(value)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # SystemExit too: it is the caller's, and would end the portal
            trace = error.__traceback__
            BaseException.with_traceback(error, trace and trace.tb_next)  # this frame would keep itself, by the future
            self._fail(error)
        finally:
            self._scope = None
            if not self.future.done():
                self.future.set_exception(CancelledError())


class Portal:
    """An event loop in a thread of its own, started as it is first needed; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._post: Callable[..., object] | None = None  # has something called in the thread
        self._tasks: asyncio.TaskGroup
        self._stop: asyncio.Event
        self._under_way: set[Submission[Any]] = set()
        _portals.add(self)

    def submit(self, fn: Callable[..., Awaitable[T]], *args: Any) -> Submission[T]:
        """Have ``await fn(*args)`` executed on the portal, in the caller's context; returns at once.

        Raises:
            SessionClosedError: The portal is closed.
        """
        post = self._post or self._start()
        submission = Submission(post, fn, args)
        self._under_way.add(submission)
        try:
            post(self._begin, submission, copy_context())
        except RuntimeError:
            self._under_way.discard(submission)
            submission.refuse()
        return submission

    def _begin(self, submission: Submission[Any], context: Context) -> None:
        if not self._stop.is_set():
            if (sniffio := sys.modules.get("sniffio")) is not None:  # else anyio would take the caller's kind of loop for this one's
                context.run(sniffio.current_async_library_cvar.set, "asyncio")
            self._tasks.create_task(self._execute(submission), context=context)

    async def _execute(self, submission: Submission[Any]) -> None:
        try:
            await submission.execute()
        finally:
            self._under_way.discard(submission)

    def call(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Have ``await fn(*args)`` executed on the portal and return what it returns.

        Whatever ends the waiting, a KeyboardInterrupt say, cancels the call, and is raised when that has stopped.

        Raises:
            SessionClosedError: The portal is closed.
            RuntimeError: This is its own thread, which would wait for itself.
        """
        if self.is_here:
            raise RuntimeError("a call that blocks can't be made on the portal's own event loop: await it instead")
        submission = self.submit(fn, *args)
        try:
            return submission.future.result()
        except BaseException:
            if not submission.future.done():
                submission.cancel()
                wait([submission.future])
            raise
        finally:
            del submission  # else an error would keep it, by this frame, and it the error

    @property
    def is_here(self) -> bool:
        """Whether this is the portal's own thread."""
        return threading.current_thread() is self._thread

    def _start(self) -> Callable[..., object]:
        with self._lock:
            if self._is_closed:
                raise SessionClosedError("closed")
            if self._post is None:
                started: Future[Callable[..., object]] = Future()
                thread = threading.Thread(target=self._execute_all, args=(started,), name="offloop-portal", daemon=True)
                thread.start()
                try:
                    wait([started])
                finally:  # also where a KeyboardInterrupt ends the waiting: else the thread would be nobody's
                    self._thread, self._post = thread, started.result()
            return self._post

    def _execute_all(self, started: Future[Callable[..., object]]) -> None:
        """Be the thread."""
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve(started))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)  # there is no room for an event loop
        finally:
            for submission in list(self._under_way):  # came too late to be begun
                submission.refuse()

    async def _serve(self, started: Future[Callable[..., object]]) -> None:
        self._stop = asyncio.Event()
        async with asyncio.TaskGroup() as self._tasks:  # anyio's can't give tasks a context
            started.set_result(poster(asyncio.get_running_loop()))
            await self._stop.wait()
            for submission in list(self._under_way):
                submission.cancel()

    def close(self) -> None:
        """Cancel what is left and end the thread; blocks until it has ended. Idempotent.

        Raises:
            RuntimeError: This is the portal's own thread.
        """
        if self.is_here:
            raise RuntimeError("a portal can't be closed on its own event loop, which would wait for itself")
        with self._lock:
            self._is_closed = True
            self.end_soon()
            if self._thread is not None:
                self._thread.join()

    def end_soon(self) -> None:
        """Cancel what is left and have the thread end, without waiting for that."""
        if self._post is not None:
            with suppress(RuntimeError):  # it has ended
                self._post(self._stop.set)

    def leave_behind(self) -> None:
        """In a forked child: forget the thread, which is the parent's."""
        self._lock = threading.Lock()
        self._post = self._thread = None
        self._under_way = set()


_portals: weakref.WeakSet[Portal] = weakref.WeakSet()


@in_forked_child
def _after_fork_in_child() -> None:
    for portal in list(_portals):
        portal.leave_behind()
