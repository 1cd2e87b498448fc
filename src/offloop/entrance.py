"""Letting calls in a few at a time, so that a thousand of them don't keep the event loop from those under way."""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic

import anyio
from anyio.lowlevel import checkpoint

_APART_S = 0.0005  # calls further apart than this leave the event loop its turns between them; each takes about 0.1 ms
_CROWD_S = 0.003  # for so long calls may follow upon each other before others are to wait
_PORTION = 32  # of those that wait are let in for each turn of the event loop: about 3 ms


class Entrance(threading.local):
    """Those who come in on the event loop of a thread; a turn of the loop goes by between two portions of them.

    A task's first step can't be interrupted, and the loop takes in all that are ready before it looks for news: the first
    steps of 1,000 calls, of 0.1 ms each, would be one stretch in which no worker that is done gets another item.
    """

    def __init__(self) -> None:
        self._since = self._last = 0.0
        self._waiting: deque[anyio.Event] = deque()

    def is_crowded(self) -> bool:
        """Note that somebody comes; say whether they are to `wait`."""
        now = monotonic()
        if now - self._last > _APART_S:
            self._since = now
        self._last = now
        return now - self._since > _CROWD_S or bool(self._waiting)

    async def wait(self) -> None:
        """Wait for a turn of the event loop, and for those who came before."""
        here = anyio.Event()
        self._waiting.append(here)
        try:
            if self._waiting[0] is not here:
                await here.wait()
            if self._leads(here):
                await checkpoint()
        finally:
            if self._leads(here):
                self._waiting.popleft()
                self._let_in()
            elif here in self._waiting:  # cancelled
                self._waiting.remove(here)
        self._since = monotonic()

    def _leads(self, here: anyio.Event) -> bool:
        """Whether this one is the first of those who wait, who sees to the others."""
        return bool(self._waiting) and self._waiting[0] is here

    def _let_in(self) -> None:
        """Let a portion in, and have the next one see to those behind."""
        for _ in range(min(_PORTION, len(self._waiting))):
            self._waiting.popleft().set()
        if self._waiting:
            self._waiting[0].set()


entrance = Entrance()
