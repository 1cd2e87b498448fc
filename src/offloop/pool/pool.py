"""A pool of lanes, leased for a turn at a time to whoever has work, on any event loop in any thread.

Rules:

- A lane is idle, leased or gone. Only the holder of a lease touches the lane; nobody reads a lane that isn't leased, so
  the pool needs no task, outlives event loops and serves several of them.
- The one who has waited longest gets the next lane. If they wait on the event loop that the lane is released from, it is
  theirs at once, and what they want to send first is sent: that loop runs, evidently, and the worker goes on without
  waiting for it. Else grants are claimed, not handed over: the lane becomes idle and the first waiter of each loop is
  woken. One whose loop has stalled is passed over after `STALL_S`, one whose loop has closed is dropped.
- A newcomer doesn't overtake waiters.
- A lane comes back only when nothing is under way on it, else it is killed.
- Lanes are started in threads of the pool's own, at most `limit` of them, and only while somebody waits for one, unless
  there is no room for another beside those that there are: then the pool is left as it is for a while. A
  caller that is cancelled meanwhile leaves nothing behind: the lane becomes idle.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Generic, cast

import anyio
import anyio.to_thread
from anyio.lowlevel import current_token

from ..errors import SessionClosedError
from ..strategies.base import PoolFull
from .pooled import L, Start
from .waiting import STALL_S, Order, Waiter, is_closed

_FULL_S = 1.0  # how long a pool that was found full is not asked to grow

class Pool(Generic[L]):
    """Lanes, idle and leased; every method may be called from any thread.

    Args:
        start: Makes a lane; blocks, so it is called in a thread. It gets a function to which it hands the means to
            break it off.
        discard: Waits for the end of a killed lane; blocks, likewise.
        limit: The most lanes at a time.
        name: For thread names.
    """

    def __init__(self, start: Start[L], discard: Callable[[L], object], limit: int, name: str) -> None:
        self.limit = limit
        self._start, self._discard, self._name = start, discard, name
        self._lock = threading.Lock()
        self._idle: deque[L] = deque()
        self._leased: set[L] = set()
        self._starting = 0
        self._queues: dict[Any, deque[Waiter]] = {}  # by event loop
        self._ticket = 0
        self._start_error: Exception | None = None
        self._full_until = 0.0
        self._threads: set[threading.Thread] = set()
        self._nascent: set[Callable[[], object]] = set()  # how to break off the starts under way
        self._end: str | None = None  # why no more leases are granted
        self.n_started = 0
        _pools.add(self)

    @property
    def has_waiters(self) -> bool:
        """Whether someone waits for a lane."""
        return bool(self._queues)

    @property
    def n_idle(self) -> int:
        """How many lanes are up and free."""
        return len(self._idle)

    @property
    def capacity(self) -> int:
        """The most lanes that there can be at the moment."""
        if self._full_until > time.monotonic():
            return max(1, len(self._idle) + len(self._leased))
        return self.limit

    @property
    def lanes(self) -> list[L]:
        """All lanes, idle and leased."""
        with self._lock:
            return [*self._idle, *self._leased]

    async def acquire(self, order: Order | None, grace_s: float) -> L:
        """Claim a lane, waiting in line for it.

        Args:
            order: What is sent first.
            grace_s: How long it may take to stop if this is cancelled just after it was sent.

        Raises:
            SessionClosedError: The pool is closed.
            WorkerError: No lane could be started, and there is none to wait for.
        """
        here = current_token().native_token
        with self._lock:
            self._check_open()
            if self._idle and not self._queues:
                return self._sent(order, self._take(here))
            self._ticket += 1
            waiter = Waiter(here, self._ticket, order)
            self._queues.setdefault(here, deque()).append(waiter)
            self._grow(here)
            timeout_s = self._turn_in(waiter)
        try:
            while True:
                await waiter.wait(timeout_s)
                with self._lock:
                    if waiter.lane is not None:
                        return cast("L", waiter.lane)
                    self._check_open()
                    timeout_s = self._turn_in(waiter)
                    if timeout_s == 0:
                        return self._sent(order, self._take(here))
                    self._raise_start_error()
        except BaseException as error:
            if waiter.lane is not None:
                await self.give_back(waiter.lane, error, grace_s)
            raise
        finally:
            with self._lock:
                self._leave(waiter)

    @staticmethod
    def _sent(order: Order | None, lane: L) -> L:
        if order is not None:
            lane.send(*order)
        return lane

    async def give_back(self, lane: L, error: BaseException | None, grace_s: float) -> None:
        """Release a lane after whatever happened on it; what is still in flight is stopped first."""
        if isinstance(error, GeneratorExit):  # the event loop is gone, and nothing can be awaited any more
            self.discard(lane)
            return
        if lane.in_flight:
            with anyio.CancelScope(shield=True):
                await lane.abandon(grace_s)
        self.release(lane)

    def _turn_in(self, waiter: Waiter) -> float | None:
        """Return seconds until this waiter may claim a lane: 0 for now, None for when it is woken."""
        waiter.woken_at = None
        if not self._idle or self._queues[waiter.loop][0] is not waiter:
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

    def tidy(self) -> None:
        """Tidy idle lanes, unless the pool is in use just now: this never waits, so that it may be called from anywhere."""
        if self._lock.acquire(blocking=False):
            try:
                for lane in self._idle:
                    lane.tidy()
            finally:
                self._lock.release()

    def _take(self, loop: Any) -> L:
        lane = self._idle.pop()  # the one used last: its caches are warm, and the others may reach their idle time
        self._leased.add(lane)
        lane.loop = loop
        return lane

    def _leave(self, waiter: Waiter) -> None:
        self._dequeue(waiter)
        if self._idle:
            self._wake(waiter.loop)

    def _dequeue(self, waiter: Waiter) -> None:
        queue = self._queues.get(waiter.loop)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._queues[waiter.loop]

    def _wake(self, here: Any) -> None:
        for loop, queue in list(self._queues.items()):
            if not queue[0].wake(here):
                del self._queues[loop]

    def _check_open(self) -> None:
        if self._end is not None:
            raise SessionClosedError(self._end)

    def _raise_start_error(self) -> None:
        error = self._start_error
        if error is not None and not (self._idle or self._leased or self._starting):
            raise error

    def release(self, lane: L) -> None:
        """Give a lane back, from the event loop that leased it; it is killed if something is still under way on it."""
        if not (lane.is_usable and lane.is_empty):
            self.discard(lane)
            return
        with self._lock:
            if lane in self._leased:  # else the pool was closed meanwhile
                if not self._hand_over(lane):
                    lane.tidy()
                    self._leased.remove(lane)
                    self._idle.append(lane)
                    self._wake(lane.loop)
                return
        lane.kill()
        lane.close()

    def _hand_over(self, lane: L) -> bool:
        """Give a lane to the one who has waited longest, if that is on the loop that releases it."""
        if not self._queues:
            return False
        first = min((queue[0] for queue in self._queues.values()), key=attrgetter("ticket"))
        if first.loop is not lane.loop:
            return False
        self._dequeue(first)
        first.lane = self._sent(first.order, lane)
        first.wake(lane.loop)
        return True

    def discard(self, lane: L) -> None:
        """Kill a leased lane; another may be started in its place."""
        lane.kill()
        lane.close()
        with self._lock:
            if lane in self._leased:
                self._leased.remove(lane)
                self._in_thread(self._discard, lane)
                self._replace()

    def retire_if_idle(self, lane: L) -> bool:
        """Take an idle lane out of the pool; False if it is not idle."""
        with self._lock:
            if lane not in self._idle:
                return False
            self._idle.remove(lane)
            return True

    def _grow(self, here: Any) -> None:
        """Start lanes for those who wait, up to the limit."""
        if self._wanted() > 0 and self._room() <= 0:
            self._reclaim(here)
        self._start_error = None
        self._replace()

    def _replace(self) -> None:
        if self._end is None:
            self._start_some(self._wanted())

    def _wanted(self) -> int:
        return sum(map(len, self._queues.values())) - self._starting - len(self._idle)

    def _room(self) -> int:
        if self._full_until > time.monotonic() and (self._idle or self._leased):
            return 0
        return self.limit - len(self._idle) - len(self._leased) - self._starting

    def _start_some(self, count: int) -> None:
        count = max(0, min(count, self._room()))
        self._starting += count
        for _ in range(count):
            self._in_thread(self._start_one)

    def _reclaim(self, here: Any) -> None:
        """Kill lanes whose holder is gone with its event loop."""
        for lane in list(self._leased):
            if lane.loop is not here and is_closed(lane.loop):
                self._leased.remove(lane)
                lane.kill()
                lane.close()
                self._in_thread(self._discard, lane)

    def _in_thread(self, work: Callable[..., object], *args: Any) -> None:
        def call() -> None:
            try:
                work(*args)
            finally:
                self._threads.discard(thread)

        thread = threading.Thread(target=call, name=f"offloop-{self._name}", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _start_one(self) -> None:
        lane: L | None = None
        error: Exception | None = None
        breaks: list[Callable[[], object]] = []

        def breakable(break_off: Callable[[], object]) -> None:
            with self._lock:
                breaks.append(break_off)
                self._nascent.add(break_off)
                is_late = self._end is not None
            if is_late:
                break_off()

        try:
            lane = self._start(breakable)
        except PoolFull:
            self._full_until = time.monotonic() + _FULL_S
        except Exception as failed:
            error = failed
        with self._lock:
            self._nascent.difference_update(breaks)
            self._starting -= 1
            self._start_error = error
            if lane is not None and self._end is None:
                self.n_started += 1
                self._idle.append(lane)
                lane = None
            self._wake_all() if error is not None else self._wake(None)
        if lane is not None:
            lane.kill()
            lane.close()
            self._discard(lane)

    def _wake_all(self) -> None:
        for queue in self._queues.values():
            for waiter in queue:
                waiter.wake(None)

    async def grow_to(self, count: int) -> None:
        """Start lanes until there are so many, up to the limit, and return when they are up.

        Raises:
            WorkerError: One could not be started.
        """
        with self._lock:
            self._check_open()
            self._start_error = None
            self._start_some(count - len(self._idle) - len(self._leased) - self._starting)
            threads = list(self._threads)  # those that others have started too
        for thread in threads:
            await anyio.to_thread.run_sync(thread.join, abandon_on_cancel=True)
        with self._lock:
            if self._start_error is not None:
                raise self._start_error

    def close(self) -> None:
        """Refuse new leases and kill every lane; blocks until nothing of them is left. Idempotent."""
        with self._lock:
            self._end = self._end or "closed"
            nascent = list(self._nascent)
            idle, leased = list(self._idle), list(self._leased)
            self._idle.clear()
            self._leased.clear()
            self._wake_all()
        for break_off in nascent:
            break_off()
        for lane in leased:
            lane.kill()  # its holder sees the end and closes it
        for lane in idle:
            lane.kill()
            lane.close()
        for lane in (*idle, *leased):
            self._discard(lane)
        for thread in list(self._threads):
            thread.join()

    def leave_behind(self) -> None:
        """In a forked child: forget the lanes, which are the parent's."""
        self._lock = threading.Lock()
        self._end = "of another process: it was opened before a fork. Open one in the child"
        self._idle.clear()
        self._leased.clear()
        self._queues.clear()
        self._threads.clear()
        self._nascent.clear()


_pools: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool.leave_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
