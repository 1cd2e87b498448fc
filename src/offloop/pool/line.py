"""Those who wait for a lane, in line: by event loop, each in the order in which they are due.

Rules:

- Flows share the lanes, by the rules of deciding/fairness.py; with one flow it is first come, first served. A newcomer
  doesn't overtake waiters of its own flow.
- Whoever is first of all may claim an idle lane at once; the first of another event loop may if all who are before them
  were told of it, and have not answered for `STALL_S`.
- Whoever waits beyond their time is taken out as soon as they are first, and never served. Who could begin so late only that
  they won't be done in time goes behind all others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from typing import Any

from ..deciding.fairness import FairQueue, Shares
from ..strategies.base import Place
from .waiting import STALL_S, Order, Waiter


class _Here:
    """Those who wait on one event loop."""

    def __init__(self) -> None:
        self._queue: FairQueue[Waiter] = FairQueue()
        self._tardy: dict[int, Waiter] = {}  # by ticket

    def __bool__(self) -> bool:
        return bool(self._queue or self._tardy)

    def __iter__(self) -> Iterator[Waiter]:
        return chain(self._queue, self._tardy.values())

    def add(self, waiter: Waiter) -> None:
        """Add somebody."""
        self._queue.add(waiter.flow, waiter.ticket, waiter)

    def remove(self, waiter: Waiter) -> bool:
        """Remove somebody; False if they are not here."""
        if waiter.is_tardy:
            return self._tardy.pop(waiter.ticket, None) is not None
        return self._queue.remove(waiter.flow, waiter.ticket)

    def first(self) -> Waiter | None:
        """Return who is next of those here."""
        now = time.monotonic()
        while (head := self._queue.first()) is not None and head.place.latest <= now:
            self._queue.remove(head.flow, head.ticket)
            self._tardy[head.ticket] = head
            head.is_tardy = True
        return head if head is not None else next(iter(self._tardy.values()), None)


class Line:
    """Waiters; whoever calls holds the pool's lock."""

    def __init__(self) -> None:
        self._queues: dict[Any, _Here] = {}  # by event loop; none of them is empty
        self._shares = Shares()
        self._length = self.n_interactive = 0
        self.last_ticket = 0

    def __bool__(self) -> bool:
        """Whether someone waits."""
        return bool(self._queues)

    def __len__(self) -> int:
        """How many wait."""
        return self._length

    def join(self, loop: Any, order: Order | None, place: Place) -> Waiter:
        """Line up on this event loop."""
        self.last_ticket += 1
        flow = self._shares.join(place.flow, place.is_interactive)
        waiter = Waiter(loop, self.last_ticket, order, place, flow)
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Here()
        queue.add(waiter)
        self._length += 1
        self.n_interactive += place.is_interactive
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Wait no more."""
        queue = self._queues.get(waiter.loop)
        if queue is None or not queue.remove(waiter):
            return
        self._shares.leave(waiter.flow)
        self._length -= 1
        self.n_interactive -= waiter.place.is_interactive
        if not queue:
            del self._queues[waiter.loop]

    def serve(self, waiter: Waiter) -> None:
        """Take out one who gets a lane, and charge their flow for the turn."""
        self._shares.serve(waiter.flow, waiter.place.cost_s)
        self.leave(waiter)

    def serve_first(self, loop: Any) -> Waiter | None:
        """Serve the one who is next, if that is on this event loop."""
        if not self._queues:
            return None
        first = min(self._heads(), key=Waiter.rank, default=None)
        if first is None or first.loop is not loop:
            return None
        self.serve(first)
        return first

    def turn_in(self, waiter: Waiter, has_idle: bool) -> float | None:
        """Return seconds until this waiter may claim a lane: 0 for now, None for when it is woken."""
        waiter.woken_at = None
        queue = self._queues.get(waiter.loop) if has_idle else None
        if queue is None:
            return None
        head = self._head(queue)
        if head is not waiter:
            if head is not None and head.woken_at is None:  # first only since this one was told
                head.wake(waiter.loop)
            return None
        return self._patience_s(waiter)

    def _patience_s(self, waiter: Waiter) -> float:
        """Return seconds until the first of an event loop may claim before those of others."""
        now = time.monotonic()
        wait_s = 0.0
        for head in self._heads():
            if head.rank() < waiter.rank():
                if head.woken_at is None and not head.wake(waiter.loop):
                    self._forget(head.loop)
                    continue
                wait_s = max(wait_s, (head.woken_at or now) + STALL_S - now)
        return wait_s

    def wake_first(self, here: Any) -> None:
        """Wake the first of each event loop. `here` is the caller's, if it runs in one."""
        if not self._queues:
            return
        for head in self._heads():
            if not head.wake(here):
                self._forget(head.loop)

    def _heads(self) -> list[Waiter]:
        """Return the first of each event loop."""
        heads = [self._head(queue) for queue in list(self._queues.values())]
        return [head for head in heads if head is not None]

    def _head(self, queue: _Here) -> Waiter | None:
        """Return the first of an event loop; those before them who have waited beyond their time are told."""
        while (head := queue.first()) is not None and head.is_late():
            self.leave(head)
            head.wake(None)
        return head

    def _forget(self, loop: Any) -> None:
        """Take out all who wait on an event loop that is closed."""
        for waiter in list(self._queues[loop]):
            self.leave(waiter)

    def wake_all(self) -> None:
        """Wake everybody, from any thread."""
        for queue in self._queues.values():
            for waiter in queue:
                waiter.wake(None)
