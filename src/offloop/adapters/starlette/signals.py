"""Hearing that the process is to stop, beside whoever heard of it before."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ShutdownSignals:
    """A context in which SIGTERM and SIGINT first call a function, then do what they did before.

    Where that is a server's method, as uvicorn's, the server's ``should_exit`` is set instead: it stops likewise, and the
    process exits with 0 rather than as killed by the signal. Only a SIGINT that isn't the first signal reaches it, by which
    uvicorn waits for nothing any more. Where the server has set itself no limit for stopping, it gets ours, so that a client
    which doesn't read can't hold it up for ever. Outside the main thread nothing is changed, nor for a signal that is ignored
    or ends the process at once.

    Args:
        begin: Called in the handler of the signal, so between any two steps of the main thread.
        limit_s: How long what is under way may take.
    """

    def __init__(self, begin: Callable[[], object], limit_s: float) -> None:
        self._begin, self._limit_s = begin, limit_s
        self._handler = self._handle  # one object, to be recognised
        self._previous: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._has_begun = False

    def __enter__(self) -> None:
        """Put the handlers in place."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            previous = signal.getsignal(number)
            if callable(previous):
                self._previous[number] = previous
                signal.signal(number, self._handler)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Put the former handlers back, unless somebody has replaced ours meanwhile."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) is self._handler:
                signal.signal(number, previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        is_first, self._has_begun = not self._has_begun, True
        self._begin()
        previous = self._previous[number]
        server = getattr(previous, "__self__", None)
        if hasattr(server, "should_exit") and (is_first or number != signal.SIGINT):
            _have_end(server, self._limit_s)
        else:
            previous(number, frame)


def _have_end(server: Any, limit_s: float) -> None:
    """Have a server end once its connections are done with, or after this time."""
    config = getattr(server, "config", None)
    if getattr(config, "timeout_graceful_shutdown", 0) is None:
        config.timeout_graceful_shutdown = limit_s  # type: ignore[union-attr]
    server.should_exit = True
