"""Waiting for news of a worker: bytes on its lane, or its death.

Both are watched by one epoll (or kqueue) descriptor, which can itself be waited on: a grandchild that holds the lane's
far end would hide the end of the lane, so the process is watched too.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
from collections.abc import Callable
from typing import Any

import anyio


class Readiness:
    """Moves bytes when there is news; belongs to one event loop, since on asyncio it stays registered between waits.

    `anyio.wait_readable` registers and unregisters the descriptor at each wait and wakes a task to read: over a bare
    lane on asyncio that took 30 to 62 µs there and back, and 16 to 25 µs with a registration that is kept and a callback
    that reads right away. The registration is given up when news comes that nobody waits for: a worker that dies in
    idleness must not keep the loop busy.

    Args:
        loop: The event loop, an asyncio one or a trio token.
        lane: The near end of the lane.
        death: A descriptor that becomes readable when the process ends, if there is one.
    """

    def __init__(self, loop: Any, lane: socket.socket, death: int | None) -> None:
        self.loop = loop
        self._lane = lane
        self._selector = selectors.DefaultSelector()
        self._selector.register(lane, selectors.EVENT_READ)
        if death is not None:
            self._selector.register(death, selectors.EVENT_READ)
        self._fd: int = self._selector.fileno()
        self._wants_room = False
        self._is_asyncio = isinstance(loop, asyncio.AbstractEventLoop)
        self._is_registered = False
        self._waiter: asyncio.Future[None] | None = None
        self._progress: Callable[[], bool]

    def want_room(self, wanted: bool) -> None:
        """Count it as news also when the lane can be written to."""
        if wanted is not self._wants_room:
            self._wants_room = wanted
            self._selector.modify(self._lane, selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0))

    async def until(self, progress: Callable[[], bool]) -> None:
        """Call `progress` whenever there is news, until it returns True, or `wake` is called."""
        if self._is_asyncio and not self._is_registered:
            try:
                self.loop.add_reader(self._fd, self._on_news)
                self._is_registered = True
            except NotImplementedError:  # Windows' proactor loop
                self._is_asyncio = False
        if not self._is_asyncio:
            with contextlib.suppress(anyio.ClosedResourceError):  # by `wake`
                await anyio.wait_readable(self._fd)
                while not progress():
                    await anyio.wait_readable(self._fd)
            return
        self._progress = progress
        self._waiter = waiter = self.loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _on_news(self) -> None:
        waiter = self._waiter
        if waiter is None:
            self._unregister()
        elif not waiter.done() and self._progress():
            waiter.set_result(None)

    def wake(self) -> None:
        """Have `until` return, though there is no news; called on its own event loop."""
        if not self._is_asyncio:
            anyio.notify_closing(self._fd)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _unregister(self) -> None:
        if self._is_registered:
            self._is_registered = False
            self.loop.remove_reader(self._fd)

    def _close(self) -> None:
        self._unregister()
        self._selector.close()

    def close(self) -> None:
        """Free the descriptor, on its own loop if that still runs: it must be unregistered there before it is closed."""
        if not self._is_registered or asyncio._get_running_loop() is self.loop:
            self._close()
            return
        try:
            self.loop.call_soon_threadsafe(self._close)
        except RuntimeError:  # that loop is closed, and its registrations with it
            self._selector.close()
