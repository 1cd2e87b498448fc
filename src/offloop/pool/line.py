"""Those who wait for a lane, in line: by event loop, each in the order in which they came."""

from __future__ import annotations

import time
from collections import deque
from operator import attrgetter
from typing import Any

from .waiting import STALL_S, Order, Waiter


class Line:
    """Waiters; whoever calls holds the pool's lock."""

    def __init__(self) -> None:
        self._queues: dict[Any, deque[Waiter]] = {}  # by event loop
        self.last_ticket = 0

    def __bool__(self) -> bool:
        """Whether someone waits."""
        return bool(self._queues)

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._queues.values()))

    def join(self, loop: Any, order: Order | None) -> Waiter:
        """Line up on this event loop."""
        self.last_ticket += 1
        waiter = Waiter(loop, self.last_ticket, order)
        self._queues.setdefault(loop, deque()).append(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Wait no more."""
        queue = self._queues.get(waiter.loop)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._queues[waiter.loop]

    def take_first(self, loop: Any) -> Waiter | None:
        """Take out the one who has waited longest, if that is on this event loop."""
        if not self._queues:
            return None
        first = min((queue[0] for queue in self._queues.values()), key=attrgetter("ticket"))
        if first.loop is not loop:
            return None
        self.leave(first)
        return first

    def turn_in(self, waiter: Waiter) -> float | None:
        """Return seconds until this waiter may claim an idle lane: 0 for now, None for when it is woken."""
        if self._queues[waiter.loop][0] is not waiter:
            return None
        now = time.monotonic()
        wait_s = 0.0
        for loop, queue in list(self._queues.items()):
            head = queue[0]
            if head.ticket < waiter.ticket:
                if head.woken_at is None and not head.wake(waiter.loop):
                    del self._queues[loop]
                    continue
                wait_s = max(wait_s, (head.woken_at or now) + STALL_S - now)
        return wait_s

    def wake_first(self, here: Any) -> None:
        """Wake the first of each event loop. `here` is the caller's, if it runs in one."""
        for loop, queue in list(self._queues.items()):
            if not queue[0].wake(here):
                del self._queues[loop]

    def wake_all(self) -> None:
        """Wake everybody, from any thread."""
        for queue in self._queues.values():
            for waiter in queue:
                waiter.wake(None)

    def clear(self) -> None:
        """Forget them all."""
        self._queues.clear()
