"""A pool of lanes, leased for a turn at a time to whoever has work, on any event loop in any thread.

Rules:

- A lane is idle, leased or gone. Only the holder of a lease touches the lane; nobody reads a lane that isn't leased, so
  the pool needs no task, outlives event loops and serves several of them.
- The one who is next in line gets the next lane, see line.py. If they wait on the event loop that the lane is released
  from, it is theirs at once, and what they want to send first is sent: that loop runs, evidently, and the worker goes on
  without waiting for it. Else grants are claimed, not handed over: the lane becomes idle and the first waiter of each
  loop is woken. One whose loop has stalled is passed over, one whose loop has closed is dropped.
- A newcomer takes an idle lane only if nobody is in line, or they are first there.
- A lane comes back only when nothing is under way on it, else it is killed.
- Lanes are started in threads of the pool's own, at most `limit` of them, and only while somebody waits for one, unless there is no
  room for another beside those that there are: then the pool is left as it is for a while. Who is cancelled meanwhile leaves nothing.
- After a start that failed, the thread that made it makes the next one, when deciding/starting.py allows it and if
  somebody still waits; other threads that fail beside it leave it to that one. It gives up where trying again is of no
  use, or was often enough; then those who have been waiting are told, unless there are other lanes to wait for.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, cast

from anyio.lowlevel import current_token

from ..deciding.starting import CALM, after_failure, after_loss, in_a_new_row
from ..errors import SessionClosedError, WorkerStartError
from ..forking import in_forked_child
from ..strategies.base import ORDINARY, Place, PoolFull, TooLate
from .line import Line
from .pooled import L, Start, StartAgain
from .shielding import shielded
from .starting import Starts
from .threads import call_blocking
from .waiting import Order, is_closed, sent

_FULL_S = 1.0  # how long a pool that was found full is not asked to grow


class Pool(Generic[L]):
    """Lanes, idle and leased; every method may be called from any thread.

    Args:
        start: Makes a lane; blocks, so it is called in a thread. It gets a function to which it hands the means to
            break it off.
        discard: Waits for the end of a killed lane; blocks, likewise.
        limit: The most lanes at a time.
        name: For thread names.
        has_served: Whether a lane was of use: True from its first item on, False if it has died by itself before that,
            None while neither is so.
    """

    def __init__(
        self,
        start: Start[L],
        discard: Callable[[L], object],
        limit: int,
        name: str,
        has_served: Callable[[L], bool | None] = lambda lane: True,
    ) -> None:
        self.limit = limit
        self._discard, self._has_served = discard, has_served
        self._starts: Starts[L] = Starts(start, name)
        self._lock = threading.Lock()
        self._idle: deque[L] = deque()
        self._leased: set[L] = set()
        self.n_started = self._starting = 0
        self._line = Line()
        self._trouble = CALM
        self._start_error: Exception | None = None  # what was given up for last, since the last start that went well
        self._given_up = 0  # the last ticket that was out when there was no lane to wait for either
        self._full_until = 0.0
        self._end: str | None = None  # why no more leases are granted
        _pools.add(self)

    @property
    def has_waiters(self) -> bool:
        """Whether someone waits for a lane."""
        return bool(self._line)

    @property
    def has_interactive_waiters(self) -> bool:
        """Whether someone interactive does."""
        return self._line.n_interactive > 0

    @property
    def start_failures(self) -> int:
        """How often in a row a start has failed; 0 since the last one that went well."""
        return max(self._trouble.failures, int(self._start_error is not None))

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

    async def acquire(self, order: Order | None, grace_s: float, place: Place = ORDINARY) -> L:
        """Claim a lane, waiting in line for it.

        Args:
            order: What is sent first.
            grace_s: How long it may take to stop if this is cancelled just after it was sent.
            place: Where in the line.

        Raises:
            SessionClosedError: The pool is closed.
            TooLate: It has waited beyond its time.
            WorkerError: No lane could be started, and there is none to wait for.
        """
        here = current_token().native_token
        with self._lock:
            self._check_open()
            if self._idle and not self._line:
                return sent(order, self._take(here))
            waiter = self._line.join(here, order, place)
            self._grow(here)
            timeout_s = self._line.turn_in(waiter, bool(self._idle))
        try:
            while True:
                await waiter.wait(timeout_s)
                with self._lock:
                    if waiter.lane is not None:
                        return cast("L", waiter.lane)
                    self._check_open()
                    if waiter.is_late():
                        raise TooLate
                    timeout_s = self._line.turn_in(waiter, bool(self._idle))
                    if timeout_s == 0:
                        self._line.serve(waiter)
                        return sent(order, self._take(here))
                    if self._start_error is not None and waiter.ticket <= self._given_up:
                        raise self._start_error
        except BaseException as error:
            if waiter.lane is not None:
                await self.give_back(waiter.lane, error, grace_s)
            raise
        finally:
            with self._lock:
                self._line.leave(waiter)
                if self._idle:
                    self._line.wake_first(here)

    async def give_back(self, lane: L, error: BaseException | None, grace_s: float) -> None:
        """Release a lane after whatever happened on it; what is still in flight is stopped first."""
        if isinstance(error, GeneratorExit):  # the event loop is gone, and nothing can be awaited any more
            self.discard(lane)
            return
        try:
            if lane.in_flight:
                await shielded(partial(lane.abandon, grace_s))
        finally:
            self.release(lane)

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

    def _check_open(self) -> None:
        if self._end is not None:
            raise SessionClosedError(self._end)

    def release(self, lane: L) -> None:
        """Give a lane back, from the event loop that leased it; it is killed if something is still under way on it."""
        if not (lane.is_usable and lane.is_empty):
            self.discard(lane)
            return
        with self._lock:
            if lane in self._leased:  # else the pool was closed meanwhile
                if self._trouble is not CALM and self._has_served(lane):
                    self._trouble = CALM
                if not self._hand_over(lane):
                    lane.tidy()
                    self._leased.remove(lane)
                    self._idle.append(lane)
                    self._line.wake_first(lane.loop)
                return
        lane.kill()
        lane.close()

    def _hand_over(self, lane: L) -> bool:
        """Give a lane to the one who is next in line, if that is on the loop that releases it."""
        first = self._line.serve_first(lane.loop) if self._end is None else None
        if first is None:
            return False
        first.lane = sent(first.order, lane)
        first.wake(lane.loop)
        return True

    def discard(self, lane: L) -> None:
        """Kill a leased lane; another may be started in its place."""
        has_served = self._has_served(lane)
        lane.kill()
        lane.close()
        with self._lock:
            if lane in self._leased:
                self._leased.remove(lane)
                self._starts.in_thread_or_at_end(self._discard, lane)
                if has_served is not None:
                    self._trouble = CALM if has_served else after_loss(self._trouble, time.monotonic())
                self._start_some(self._wanted())

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
        self._start_some(self._wanted())

    def _wanted(self) -> int:
        return len(self._line) - self._starting - len(self._idle)

    def _room(self) -> int:
        if self._full_until > time.monotonic() and (self._idle or self._leased):
            return 0
        room = self.limit - len(self._idle) - len(self._leased) - self._starting
        most = self._trouble.most_at_once
        return room if most is None else min(room, most - self._starting)

    def _start_some(self, count: int, is_ordered: bool = False) -> None:
        if self._end is not None:
            return
        if not self._starting:
            self._trouble = in_a_new_row(self._trouble)
        for _ in range(min(count, self._room())):
            self._starting += 1
            try:
                self._starts.in_thread(self._start_one, is_ordered)
            except RuntimeError as error:  # no room for another thread
                now = time.monotonic()
                self._trouble = after_failure(self._trouble, now, now)
                self._give_up(WorkerStartError(str(error)))
                return

    def _reclaim(self, here: Any) -> None:
        """Kill lanes whose holder is gone with its event loop."""
        for lane in list(self._leased):
            if lane.loop is not here and is_closed(lane.loop):
                self._leased.remove(lane)
                lane.kill()
                lane.close()
                self._starts.in_thread_or_at_end(self._discard, lane)

    def _start_one(self, is_ordered: bool) -> None:
        """Start a lane, and if that fails try again for as long as it makes sense; in a thread."""
        while self._is_due(is_ordered):
            begun = time.monotonic()
            lane: L | None = None
            error: Exception | None = None
            try:
                lane = self._starts.attempt()
            except PoolFull:
                self._full_until = time.monotonic() + _FULL_S
            except Exception as failed:
                error = failed
            with self._lock:
                if error is not None:
                    if self._is_settled(error, begun):
                        return
                    continue
                self._starting -= 1
                if lane is not None:
                    self._trouble = in_a_new_row(self._trouble)
                    self._start_error, self._given_up = None, 0
                    if self._end is None:
                        self.n_started += 1
                        self._idle.appendleft(lane)  # taken after those that have worked, which have imported what it has not
                        lane = None
                    self._start_some(self._wanted())
                self._line.wake_first(None)
            if lane is not None:  # too late
                lane.kill()
                lane.close()
                self._discard(lane)
            return

    def _is_due(self, is_ordered: bool) -> bool:
        """Wait until a lane may be started; False if it is of no use any more then."""
        has_waited = self._starts.wait_until(lambda: self._trouble.not_before)
        with self._lock:
            is_due = self._end is None and (is_ordered or not has_waited or self._wanted() >= 0)
            self._starting -= not is_due
            return is_due

    def _is_settled(self, error: Exception, begun: float) -> bool:
        """Take in that a start has failed; False if this thread should try again."""
        self._trouble = after_failure(self._trouble, begun, time.monotonic())
        if isinstance(error, StartAgain):
            if self._starting > 1:
                self._starting -= 1
                return True
            if self._end is None and not self._trouble.is_over(error.tries):
                return False
            error = error.told(self._trouble.failures)
        self._give_up(error)
        return True

    def _give_up(self, error: Exception) -> None:
        """Start one lane less, and tell those who wait if there is none that they could wait for."""
        self._starting -= 1
        self._start_error = error
        if not (self._idle or self._leased or self._starting):
            self._given_up = self._line.last_ticket
            self._line.wake_all()

    async def grow_to(self, count: int) -> None:
        """Start lanes until there are so many, up to the limit, and return when they are up.

        Raises:
            WorkerError: One could not be started.
        """
        while True:
            with self._lock:
                self._check_open()
                before, was_full_until = self._start_error, self._full_until
                missing = min(count, self.limit) - len(self._idle) - len(self._leased)
                self._start_some(missing - self._starting, is_ordered=True)
                is_done = missing <= 0 or not self._starting
            for thread in [] if is_done else self._starts.threads:  # those that others have started too
                await call_blocking(thread.join, abandon_on_cancel=True)
            with self._lock:
                if self._start_error is not None and self._start_error is not before:
                    raise self._start_error
            if is_done or self._full_until != was_full_until:
                return

    def refuse(self) -> None:
        """Grant no more leases, to those who wait neither; what was granted goes on. Idempotent."""
        with self._lock:
            self._end = self._end or "closed"
            self._line.wake_all()

    def close(self) -> None:
        """Refuse new leases and kill every lane; blocks until nothing of them is left. Idempotent."""
        self.refuse()
        with self._lock:
            idle, self._idle = self._idle, deque()
            leased, self._leased = self._leased, set()
        self._starts.break_off()
        for lane in (*idle, *leased):
            lane.kill()
        for lane in idle:  # the others' holders see the end and close them
            lane.close()
        for lane in (*idle, *leased):
            self._discard(lane)
        self._starts.join()

    def leave_behind(self) -> None:
        """In a forked child: forget the lanes, which are the parent's."""
        self._lock = threading.Lock()
        self._end = "of another process: it was opened before a fork. Open one in the child"
        self._idle.clear()
        self._leased.clear()
        self._line = Line()
        self._starts.leave_behind()


_pools: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()


@in_forked_child
def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool.leave_behind()
