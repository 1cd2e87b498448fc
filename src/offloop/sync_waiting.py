"""Waiting for a coroutine on a portal, in a thread that has nothing else to do meanwhile.

The calling thread may be any: the main thread, one of somebody's pool, one that executes an item, or that of an event loop, which
is held as by any call that blocks. Only a portal's own thread can't wait for what it has to do itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import FIRST_COMPLETED, Future, wait
from threading import Thread
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import current_token

from .portal import Portal, Submission
from .reporting import tell_guidance
from .worker import task

T = TypeVar("T")

_LOOK_S = 0.01  # an item that waits looks so often whether it is to stop; a guess
_HELD_S = 0.005  # an event loop that is held for longer is told of
_PASSING_ON = frozenset({"anyio", "asyncio", "concurrent", "contextlib", "offloop", "threading"})


def block(portal: Portal, what: str, instead: str, fn: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Have ``await fn(*args)`` executed on a portal and return what it returns.

    What ends the waiting, a KeyboardInterrupt or that the item which waits is to stop, cancels the call, and is raised when that
    has stopped; a second KeyboardInterrupt is raised at once.

    Args:
        portal: Where.
        what: Name of what is called, for guidance.
        instead: What to write on an event loop.
        fn: An async function.
        *args: Its arguments.

    Raises:
        RuntimeError: This is the portal's own thread.
        Exception: What it raises, with the frames of who has called it alone.
    """
    refuse_on(portal, instead)
    begun = monotonic()
    try:
        return portal.call(fn, *args) if task.current.task is None else _in_item(portal.submit(fn, *args))
    except BaseException as error:
        BaseException.with_traceback(error, _beyond_us(error.__traceback__))  # to set it fails where the exception is frozen
        raise
    finally:
        _tell_of_loop(monotonic() - begun, what, instead)


def refuse_on(portal: Portal, instead: str) -> None:
    """Refuse to wait on a portal's own thread.

    Raises:
        RuntimeError: This is it.
    """
    if portal.is_here:
        raise RuntimeError(f"a call that blocks would wait for its own event loop here, which has to do the work; write {instead}")


def _in_item(submission: Submission[T]) -> T:
    """Wait in an item, which may have to stop."""
    try:
        wait_for_any(submission.future)
        return submission.future.result()
    except BaseException:
        stop(submission)
        raise


def block_apart(fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have ``await fn()`` executed on an event loop of its own, in a thread, and return when it is over.

    fn can't be cancelled: a KeyboardInterrupt is raised after that, a second one at once.
    """
    ended: Future[None] = Future()
    thread = Thread(target=_execute, args=(fn, ended), name="offloop-closing", daemon=True)
    thread.start()
    _outwait(ended)
    thread.join()
    ended.result()


def _execute(fn: Callable[[], Coroutine[Any, Any, None]], ended: Future[None]) -> None:
    try:
        anyio.run(fn)
    except BaseException as error:
        ended.set_exception(error)
    else:
        ended.set_result(None)


def wait_for_any(*futures: Future[Any]) -> None:
    """Wait until one of these is done.

    Raises:
        TaskCancelled: This is in an item, which is to stop.
    """
    limit_s = None if task.current.task is None else _LOOK_S
    while not wait(futures, limit_s, FIRST_COMPLETED).done:
        task.checkpoint()


def stop(submission: Submission[Any]) -> None:
    """Cancel a call and return when it has stopped; a KeyboardInterrupt meanwhile is raised after that, a second one at once."""
    submission.cancel()
    _outwait(submission.future)


def _outwait(future: Future[Any]) -> None:
    """Wait, even if what ends that is raised once."""
    try:
        wait([future])
    except BaseException:
        wait([future])
        raise


def _beyond_us(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback from its first frame on that is neither ours nor of what we wait by."""
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__")
        if not isinstance(name, str) or name.partition(".")[0] not in _PASSING_ON:
            return trace
        trace = trace.tb_next
    return None


def _tell_of_loop(held_s: float, what: str, instead: str) -> None:
    """Tell, once, that a call has held the event loop of its thread; not where people type, in IPython say: that is usual there."""
    if held_s > _HELD_S and not hasattr(sys, "ps1") and _has_loop():
        tell_guidance("sync", f"{instead}: a call that blocks has held this event loop for {held_s:.3f} s.", what)


def _has_loop() -> bool:
    """Whether an event loop executes in this thread."""
    try:
        current_token()
    except RuntimeError:  # not NoEventLoopError alone: a thread with a copy of a task's context takes itself for one with a loop
        return False
    return True
