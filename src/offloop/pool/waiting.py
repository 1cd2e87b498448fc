"""Waiting for a lane, on any event loop, and being woken from any thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import anyio

from ..deciding.fairness import Flow, Rank, rank
from ..strategies.base import Chunk, Job, Place
from .pooled import L

STALL_S = 0.005  # a loop that takes longer than this to answer a wake-up is passed over; healthy ones take 0.1 ms


class Order(NamedTuple):
    """A chunk on its way to whatever lane comes free."""

    job: Job
    chunk: Chunk
    budget_s: float


class Waiter:
    """Somebody who waits for a lane, and the way to wake them from any thread."""

    __slots__ = ("_event", "flow", "is_tardy", "lane", "loop", "order", "place", "ticket", "woken_at")

    def __init__(self, loop: Any, ticket: int, order: Order | None, place: Place, flow: Flow) -> None:
        self.loop = loop
        self.ticket = ticket
        self.place = place
        self.flow = flow
        self.order = order  # what they will send first
        self.is_tardy = False  # behind all who can be done in time
        self.lane: Any = None  # what they were granted, their order already sent
        self.woken_at: float | None = None  # when they were last told of an idle lane, if they have not looked since
        self._event = anyio.Event()

    def rank(self) -> Rank:
        """Return what orders the first of their flows; the lowest is next."""
        return (math.inf, True, self.ticket) if self.is_tardy else rank(self.flow, self.ticket)

    def is_late(self) -> bool:
        """Whether they have waited beyond their time."""
        return self.place.until < math.inf and self.place.until <= time.monotonic()

    def wake(self, here: Any) -> bool:
        """Wake them; False if their event loop is closed. `here` is the caller's event loop, if it runs in one."""
        if self.woken_at is None:
            self.woken_at = time.monotonic()
        if self.loop is here:
            self._event.set()
            return True
        try:
            poster(self.loop)(self._set)
        except RuntimeError:
            return False
        return True

    def _set(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float | None) -> None:
        """Wait to be woken, or for so long, but not beyond their time."""
        if self.place.until < math.inf:
            left_s = max(0.0, self.place.until - time.monotonic())
            timeout_s = left_s if timeout_s is None else min(timeout_s, left_s)
        if timeout_s is None:
            await self._event.wait()
        else:
            with anyio.move_on_after(timeout_s):
                await self._event.wait()
        if self._event.is_set():
            self._event = anyio.Event()


def sent(order: Order | None, lane: L) -> L:
    """Return a lane on which an order, if there is one, has been sent."""
    if order is not None:
        lane.send(*order)
    return lane


def poster(loop: Any) -> Callable[..., object]:
    """Return the function by which other threads have something called on this loop, with arguments if there are any.

    What it returns raises RuntimeError if the loop is closed.
    """
    post: Callable[..., object] = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    return post


def is_closed(loop: Any) -> bool:
    """Whether nothing can be called on this event loop any more."""
    try:
        poster(loop)(_nothing)
    except RuntimeError:
        return True
    return False


def _nothing() -> None:
    """Do nothing."""
