"""A condition that threads and event loops bring about, and others wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
from anyio.lowlevel import current_token

from .waiting import poster


class Condition:
    """Like `threading.Condition`, for those who wait on event loops, whatever their kinds.

    Attributes:
        lock: Held while what is waited for is changed or looked at. Reentrant: a run that is collected may end its books
            wherever Python allocates memory, in code that holds it too.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._waiting: dict[anyio.Event, Any] = {}  # with the event loop that each waits on

    def notify_all(self) -> None:
        """Have all who wait look again; may be called from any thread, and on an event loop."""
        with self.lock:
            waiting = list(self._waiting.items())
        for event, loop in waiting:
            try:
                poster(loop)(event.set)
            except RuntimeError:  # that event loop is closed, and nobody waits there any more
                continue

    async def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until `is_so` returns True; it is called with the lock held, at first and after each notification."""
        loop = current_token().native_token
        while True:
            event = anyio.Event()
            with self.lock:
                if is_so():
                    return
                self._waiting[event] = loop
            try:
                await event.wait()
            finally:
                with self.lock:
                    del self._waiting[event]
