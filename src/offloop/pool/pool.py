"""A pool of lanes, leased for a turn at a time to whoever has work, on any event loop in any thread.

Rules:

- A lane is idle, leased or gone. Only the holder of a lease touches the lane; nobody reads a lane that isn't leased, so
  the pool needs no task, outlives event loops and serves several of them.
- Grants are claimed, not handed over. `release` makes a lane idle and wakes the first waiter of each event loop; the one
  who waited longest takes it. A waiter whose loop has stalled is passed over after `STALL_S`, one whose loop has closed
  is dropped.
- A newcomer doesn't overtake waiters.
- A lane comes back only when nothing is under way on it, else it is killed.
- Lanes are started in threads of the pool's own, at most `limit` of them, and only while somebody waits for one. A
  caller that is cancelled meanwhile leaves nothing behind: the lane becomes idle.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import current_token

from ..errors import SessionClosedError
from ..strategies.base import Lane

STALL_S = 0.005  # a loop that takes longer than this to answer a wake-up is passed over; healthy ones take 0.1 ms


class PooledLane(Lane, Protocol):
    """A lane as the pool sees it.

    Attributes:
        loop: The event loop of whoever leased it last.
    """

    loop: Any

    @property
    def is_usable(self) -> bool:
        """Whether nothing is under way on it."""

    def close(self) -> None:
        """Free this process's descriptors of it; nobody may be waiting on it any more. Idempotent."""


L = TypeVar("L", bound=PooledLane)


class Waiter:
    """Somebody who waits for a lane, and the way to wake them from any thread."""

    __slots__ = ("_event", "loop", "ticket", "woken_at")

    def __init__(self, loop: Any, ticket: int) -> None:
        self.loop = loop
        self.ticket = ticket
        self.woken_at: float | None = None  # when they were last told of an idle lane, if they have not looked since
        self._event = anyio.Event()

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
        """Wait to be woken, or for so long."""
        if timeout_s is None:
            await self._event.wait()
        else:
            with anyio.move_on_after(timeout_s):
                await self._event.wait()
        if self._event.is_set():
            self._event = anyio.Event()


def poster(loop: Any) -> Callable[[Callable[[], object]], object]:
    """Return the function by which other threads have something called on this loop; RuntimeError if it is closed."""
    post: Callable[[Callable[[], object]], object]
    post = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    return post


def _is_closed(loop: Any) -> bool:
    try:
        poster(loop)(_nothing)
    except RuntimeError:
        return True
    return False


def _nothing() -> None:
    """Do nothing."""


class Pool(Generic[L]):
    """Lanes, idle and leased; every method may be called from any thread.

    Args:
        start: Makes a lane; blocks, so it is called in a thread.
        discard: Frees what a killed lane held; blocks, likewise.
        limit: The most lanes at a time.
        name: For thread names.
    """

    def __init__(
        self, start: Callable[[], L], discard: Callable[[L], object], limit: int, name: str
    ) -> None:
        self.limit = limit
        self._start, self._discard, self._name = start, discard, name
        self._lock = threading.Lock()
        self._idle: deque[L] = deque()
        self._leased: set[L] = set()
        self._starting = 0
        self._queues: dict[Any, deque[Waiter]] = {}  # by event loop
        self._ticket = 0
        self._start_error: Exception | None = None
        self._threads: set[threading.Thread] = set()
        self._closed = False
        self.n_started = 0

    @property
    def has_waiters(self) -> bool:
        """Whether someone waits for a lane."""
        return bool(self._queues)

    @property
    def n_idle(self) -> int:
        """How many lanes are up and free."""
        return len(self._idle)

    @property
    def lanes(self) -> list[L]:
        """All lanes, idle and leased."""
        with self._lock:
            return [*self._idle, *self._leased]

    async def acquire(self) -> L:
        """Claim a lane, waiting in line for it.

        Raises:
            SessionClosedError: The pool is closed.
            WorkerError: No lane could be started, and there is none to wait for.
        """
        here = current_token().native_token
        with self._lock:
            self._check_open()
            if self._idle and not self._queues:
                return self._take(here)
            self._ticket += 1
            waiter = Waiter(here, self._ticket)
            self._queues.setdefault(here, deque()).append(waiter)
            self._grow(here)
            timeout_s = self._turn_in(waiter)
        try:
            while True:
                await waiter.wait(timeout_s)
                with self._lock:
                    self._check_open()
                    timeout_s = self._turn_in(waiter)
                    if timeout_s == 0:
                        return self._take(here)
                    self._raise_start_error()
        finally:
            with self._lock:
                self._leave(waiter)

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

    def _take(self, loop: Any) -> L:
        lane = self._idle.pop()  # the one used last: its caches are warm, and the others may reach their idle time
        self._leased.add(lane)
        lane.loop = loop
        return lane

    def _leave(self, waiter: Waiter) -> None:
        queue = self._queues.get(waiter.loop)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._queues[waiter.loop]
        if self._idle:
            self._wake(waiter.loop)

    def _wake(self, here: Any) -> None:
        for loop, queue in list(self._queues.items()):
            if not queue[0].wake(here):
                del self._queues[loop]

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosedError("closed")

    def _raise_start_error(self) -> None:
        error = self._start_error
        if error is not None and not (self._idle or self._leased or self._starting):
            raise error

    def release(self, lane: L) -> None:
        """Give a lane back, from the event loop that leased it; it is killed if something is still under way on it."""
        if not lane.is_usable:
            self.discard(lane)
            return
        with self._lock:
            if lane in self._leased:  # else the pool was closed meanwhile
                self._leased.remove(lane)
                self._idle.append(lane)
                if self._queues:
                    self._wake(lane.loop)
                return
        lane.kill()
        lane.close()

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
        if not self._closed:
            self._start_some(self._wanted())

    def _wanted(self) -> int:
        return sum(map(len, self._queues.values())) - self._starting - len(self._idle)

    def _room(self) -> int:
        return self.limit - len(self._idle) - len(self._leased) - self._starting

    def _start_some(self, count: int) -> None:
        for _ in range(min(count, self._room())):
            self._starting += 1
            self._in_thread(self._start_one)

    def _reclaim(self, here: Any) -> None:
        """Kill lanes whose holder is gone with its event loop."""
        for lane in list(self._leased):
            if lane.loop is not here and _is_closed(lane.loop):
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
        try:
            lane = self._start()
        except Exception as failed:
            error = failed
        with self._lock:
            self._starting -= 1
            self._start_error = error
            if lane is not None and not self._closed:
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
        while self._starting:
            await anyio.sleep(0.002)
        with self._lock:
            if self._start_error is not None:
                raise self._start_error

    def close(self) -> None:
        """Refuse new leases and kill every lane; blocks until nothing of them is left. Idempotent."""
        with self._lock:
            self._closed = True
            idle, leased = list(self._idle), list(self._leased)
            self._idle.clear()
            self._leased.clear()
            self._wake_all()
        for lane in leased:
            lane.kill()  # its holder sees the end and closes it
        for lane in idle:
            lane.kill()
            lane.close()
        for lane in (*idle, *leased):
            self._discard(lane)
        for thread in list(self._threads):
            thread.join()


class Lease(Generic[L]):
    """A lane for one turn; leaving the context abandons what is still in flight on it."""

    __slots__ = ("_grace_s", "_lane", "_pool")

    def __init__(self, pool: Pool[L], grace_s: float) -> None:
        self._pool, self._grace_s = pool, grace_s
        self._lane: L

    async def __aenter__(self) -> L:
        """Claim a lane."""
        self._lane = await self._pool.acquire()
        return self._lane

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back, empty or killed."""
        lane = self._lane
        if kind is GeneratorExit:  # the event loop is gone, and nothing can be awaited any more
            self._pool.discard(lane)
            return
        if lane.in_flight:
            with anyio.CancelScope(shield=True):
                await lane.abandon(self._grace_s)
        self._pool.release(lane)


class PooledBackend(Generic[L]):
    """A strategy whose lanes come from a pool; see `Backend`."""

    def __init__(self, pool: Pool[L], *, is_remote: bool) -> None:
        self.pool, self.is_remote = pool, is_remote

    @property
    def limit(self) -> int:
        """The most lanes that execute at a time."""
        return self.pool.limit

    @property
    def has_waiters(self) -> bool:
        """Whether someone waits for a lane, so that a holder should end its turn."""
        return self.pool.has_waiters

    def lease(self, grace_s: float) -> Lease[L]:
        """Lease a lane; leaving the context abandons what is still in flight on it."""
        return Lease(self.pool, grace_s)

    async def aclose(self) -> None:
        """End all lanes and wait until nothing of them is left."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.pool.close)
