"""One map: its items from the source to the lanes, and their outcomes to the sink.

    source ──take──► chunk ──encode──► ready ──lease──► lane ──report──► outcomes ──► sink
       ▲                ▲                                 │
       └── puller       └──────── back: refused, cut short, or lost with its worker

States of an item: in the source, queued (taken), sent (on a lane), then done, failed or cancelled. Who works on a run may
change while it is under way: see `shift`. A single call takes a shorter way, see calling.py; the accounts are the same.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from time import monotonic

import anyio
from anyio.abc import TaskGroup

from .accounts import Accounts
from .calling import Errand
from .changes import Changes
from .crew import Crew
from .deciding.chunking import BUDGET_S, LOCAL_ITEMS, TARGET_S, may_queue_second, most_items, next_size
from .deciding.estimate import GIL_FREE
from .encoding import Encoder, encode_inline
from .errors import OffloopError, PayloadTooLarge, UnpicklableFunction, WorkerStartError
from .options import CallOptions
from .outbox import WINDOW_CHUNKS
from .porters import Porters
from .queueing import Queue
from .results import Sink
from .strategies.base import Backend, Chunk, Job, Lane, LaneLost, Place, TooLate

TURN_S = 0.05  # a lane that others wait for is given back after so long; a few chunks
FIRST_LOOK_S = 0.010  # after so long a run is looked at for the first time, then after twice as long, and so on
_LAST_LOOK_S = 0.1
_COMPANY_S = 1.0  # for so long after somebody who goes before it a run expects another; a guess
_SPAWN_S = 0.3  # no longer is made way for starting workers
_SPAWN_LOOK_S = 0.005


class Run:
    """Executes the items of a source; made for one run.

    Args:
        job: What all its chunks share.
        options: How to execute them.
        queue: The items.
        accounts: Where what becomes of them goes.
        sink: Where outcomes go from there; says how many items may be under way.
        place: Of it among those that wait for lanes.
        too_late: Returns what ends it if it gets no lane in time.
        changes: What `accounts` notifies of changes.
        local: Where items execute that can't travel; None if that would fail them.
        encoder: Makes them ready to travel.

    Attributes:
        tally: Counts of what became of the items.
        begun: When it came to its first lane, by the monotonic clock; infinity if it did not.
    """

    def __init__(
        self,
        job: Job,
        options: CallOptions,
        queue: Queue,
        accounts: Accounts,
        sink: Sink,
        place: Place,
        too_late: Callable[[], Awaitable[Exception]],
        changes: Changes,
        local: Backend | None,
        encoder: Encoder,
    ) -> None:
        self._encoder, self._sink, self._place, self._too_late = encoder, sink, place, too_late
        self._job, self._options, self._cost, self._crew = job, options, accounts.cost, Crew()
        self._queue, self._accounts, self._changes, self._local = queue, accounts, changes, local
        self._porters = Porters(encoder, accounts, changes, self._to_encode)
        self._manned: set[tuple[Backend, int]] = set()  # the tasks that serve lanes
        self._held: tuple[AbstractAsyncContextManager[Lane], Lane, Backend] | None = None  # taken on with a chunk
        self._scope: anyio.CancelScope | None = None
        self._tasks: TaskGroup | None = None
        self._shifted_at = self._paired_from = 0.0
        self.tally, self.begun = accounts.tally, math.inf
        accounts.over = self._finish

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self._accounts.is_over

    def n_leased(self, backend: Backend) -> int:
        """Return how many lanes of a backend it holds now."""
        return self._crew.n_on_duty(backend)

    @property
    def n_lanes(self) -> int:
        """How many lanes take part, or should."""
        return max(sum(self._crew.wanted.values()), len(self._crew.on_duty))

    @property
    def lanes(self) -> Collection[Lane]:
        """The lanes that it holds now."""
        return self._crew.on_duty

    def leave_bridge(self) -> None:
        """Let the lane of this process go that works until the others have answered."""
        self._crew.leave_bridge()

    def stop(self, error: Exception) -> None:
        """End the run with this error, from its own event loop; its items are stopped."""
        self._accounts.fail(error)

    # --- entrances ---------------------------------------------------------------------------------------------------

    def take_on(self, chunks: list[Chunk], errand: Errand, backend: Backend) -> None:
        """Go on from where an errand has left the first items."""
        self.begun = errand.begun
        self._queue.n_taken = sum(len(chunk.items) for chunk in chunks)
        if errand.others is not None:
            self._queue.n_taken += len(errand.others.items)
            self._queue.put_back(errand.others)
        for chunk in reversed(chunks):
            if not chunk.epoch:  # it has not begun
                self._queue.put_back(chunk)
        lane: Lane | None = None
        if errand.held is not None:
            lease, lane = errand.held
            self._held = (lease, lane, backend)
            self._crew.call(backend, 1, None)
            self._crew.start(lane, backend)
        for chunk, report in errand.reports:
            self._accounts.note(lane, backend, chunk, report, is_alone=True)
        if errand.lost is not None:
            self._accounts.recover(errand.lost)

    async def drive(self, look: Callable[[], None] | None) -> None:
        """Execute all items; returns when each has its outcome, or the run has failed.

        Args:
            look: Called now and then, to `shift` the run to where it should execute; None if it is settled.
        """
        async with anyio.create_task_group() as self._tasks:
            self._scope = self._tasks.cancel_scope
            if self.is_over:
                return
            if self._accounts.homeward is not None and self._local is not None:
                self._crew.call(self._local, 1, None)
            held, self._held = self._held, None
            if held is not None:
                self._manned.add((held[2], 0))
                self._tasks.start_soon(self._go_on, *held)
            if self._queue.source.n_ready is not None:
                self._tasks.start_soon(self._keep_at_hand)
            self._man_lanes()
            if look is not None:
                self._tasks.start_soon(self._look, look)

    async def aclose(self) -> None:
        """Stop what was taken on and not driven."""
        held, self._held = self._held, None
        if held is not None:
            await held[0].__aexit__(None, None, None)

    # --- the crew ----------------------------------------------------------------------------------------------------

    def shift(self, backend: Backend, lanes: int, bridge: Backend | None = None) -> None:
        """Let so many lanes of this backend take part and no others; what others are on they finish.

        Args:
            backend: Where to execute.
            lanes: On how many lanes.
            bridge: Goes on with one lane until the others have all answered.
        """
        self._crew.call(backend, lanes, bridge)
        self._shifted_at = monotonic()
        if self._tasks is not None:
            self._man_lanes()
        self._changes.notify()

    def _man_lanes(self) -> None:
        assert self._tasks is not None
        posts = [(backend, ordinal) for backend, lanes in self._crew.wanted.items() for ordinal in range(lanes)]
        if self._local is not None:
            posts.append((self._local, 0))  # for what turns out to be unable to travel
        for post in posts:
            if post not in self._manned:
                self._manned.add(post)
                self._tasks.start_soon(self._serve_lane, *post)

    def progress(self) -> tuple[int, float | None, float | None]:
        """Return how many items or rows are finished, seconds for one since the last time, and how the GIL is held."""
        return self._crew.progress(self.tally.executed, self.tally.busy_s, self._queue.source.weigh)

    async def _look(self, look: Callable[[], None]) -> None:
        pause_s = FIRST_LOOK_S
        while True:
            await anyio.sleep(pause_s)
            if self.is_over:
                return
            look()
            pause_s = min(2 * pause_s, _LAST_LOOK_S)

    async def _serve_lane(self, backend: Backend, ordinal: int) -> None:
        """Lease a lane for a turn, again and again, while it is wanted."""
        try:
            while not self.is_over and (backend is self._local or self._crew.wants(backend, ordinal)):
                self._start_porters()
                if backend is self._local and self._gives_way:
                    await anyio.sleep(_SPAWN_LOOK_S)
                    continue
                if self._is_flooded or not self._may_have_work(backend, ordinal):
                    await self._changes.wait()
                    continue
                await self._lease(backend, ordinal)
                if self._accounts.homeward is not None and backend.is_remote and self._local is not None:
                    self.shift(self._local, 1)
        finally:
            self._manned.discard((backend, ordinal))

    async def _lease(self, backend: Backend, ordinal: int) -> None:
        try:
            if backend.is_remote:
                await self._encoder.pack()  # again, if a worker has refused it
            async with backend.lease(self._options.grace_s, place=self._place) as lane:
                self._crew.start(lane, backend)
                self._place = self._place._replace(until=math.inf)  # it has begun
                self.begun = min(self.begun, monotonic())
                try:
                    await self._turn(lane, backend, ordinal)
                finally:
                    self._crew.end(lane)
        except (PayloadTooLarge, UnpicklableFunction, WorkerStartError) as error:
            self._accounts.come_home(error)
        except OffloopError as error:  # no lane can be had
            self._accounts.fail(error)
        except TooLate:  # unless it has begun elsewhere meanwhile
            if self._place.until < math.inf:
                self._accounts.fail(await self._too_late())

    async def _go_on(self, lease: AbstractAsyncContextManager[Lane], lane: Lane, backend: Backend) -> None:
        """Finish the turn on which the run began, then serve the lane like any other."""
        async with AsyncExitStack() as stack:
            stack.push_async_exit(lease)
            stack.callback(self._crew.end, lane)
            await self._turn(lane, backend, 0)
        await self._serve_lane(backend, 0)

    async def _turn(self, lane: Lane, backend: Backend, ordinal: int) -> None:
        ends = monotonic() + TURN_S
        is_due = False
        while True:
            if lane.is_usable and not is_due and not self._is_flooded:
                self._fill(lane, backend, ordinal)
            if not lane.in_flight or not await self._step(lane, backend):
                return
            self._start_porters()
            is_due = backend.has_waiters and monotonic() > ends
            if backend.has_interactive_waiters and not self._place.is_interactive:
                is_due, self._paired_from = True, monotonic() + _COMPANY_S
                self._place = self._place._replace(cost_s=min(self._place.cost_s, TARGET_S))  # turns are that short now

    def _fill(self, lane: Lane, backend: Backend, ordinal: int) -> None:
        """Send the lane what it should have in flight.

        A worker has a second chunk waiting, unless somebody may come who goes before it. A thread has none, for it would be in the
        way of the loop that takes in what the first has brought: 10,000 items of 20 µs took 1.3 times as long.
        """
        while len(lane.in_flight) < (2 if backend.is_remote and monotonic() > self._paired_from else 1):
            if lane.in_flight and not may_queue_second(
                self._queue.remaining, self._queue.source.weigh(lane.in_flight[0].items), self._crew.n_lanes
            ):
                return
            chunk = self._next_for(backend, ordinal)
            if chunk is None:
                return
            chunk.is_watched = self._cost.is_worth_watching(self._queue.source.weigh(chunk.items))
            chunk.sent_at = 0.0 if lane.in_flight else monotonic()
            lane.send(self._job, chunk, 0.0 if self._options.chunk_size else BUDGET_S)
        self.tally.peak_in_flight = max(self.tally.peak_in_flight, self._crew.n_in_flight)

    async def _step(self, lane: Lane, backend: Backend) -> bool:
        """Take in the next news of a lane; False if the turn on it is over for good."""
        chunk = lane.in_flight[0]
        try:
            report = await lane.receive()
        except LaneLost as lost:
            self._accounts.recover(lost)
            self._crew.leave_bridge()
            return False
        self._crew.heard(lane)
        self._accounts.note(lane, backend, chunk, report, is_alone=self._crew.is_alone)
        return self._accounts.error is None

    # --- items -------------------------------------------------------------------------------------------------------

    def _start_porters(self) -> None:
        if self._tasks is not None:
            self._porters.start(self._tasks)

    def _take(self, size: int) -> Chunk | None:
        room = None if self._queue.has_back else self._room(size)
        chunk = self._queue.take(size if room is None else min(size, room))
        self.tally.submitted = self._queue.n_taken
        return chunk

    def _size(self, backend: Backend) -> int:
        pace, unit = self._accounts.pace, self._queue.source.unit
        most = unit * (most_items(self._cost.largest_bytes) if backend.is_remote else LOCAL_ITEMS)
        least = unit if pace.item_s is None else pace.least
        fitting = next_size(pace.item_s, self._queue.remaining, self._crew.n_lanes, most, least)
        return min(self._options.chunk_size or fitting, self._sink.most_at_once(self._crew.n_lanes))

    def _next_for(self, backend: Backend, ordinal: int) -> Chunk | None:
        """Return a chunk that can be sent now, if there is one."""
        if backend is self._local and self._queue.stuck:
            return self._queue.stuck.popleft()
        if not self._crew.wants(backend, ordinal) or (backend is self._local and self._gives_way):
            return None
        if self._porters.ready:
            self._changes.notify()  # there will be room for another
            return self._porters.ready.popleft()
        if self._porters.is_needed and backend.is_remote:
            return None
        chunk = self._take(self._size(backend))
        if chunk is None or not backend.is_remote or encode_inline(chunk):
            return chunk
        self._queue.put_back(chunk)
        self._porters.is_needed = True
        self._changes.notify()
        return None

    @property
    def _gives_way(self) -> bool:
        """Whether the local thread should leave the GIL to threads that start workers.

        Beside a Python loop each of their steps waits for the switch interval of 5 ms: a start that takes 0.2 s by itself
        then took 1.4 s. Work that doesn't hold the GIL goes on, and any work after `_SPAWN_S`.
        """
        is_free = self._cost.gil_held is not None and self._cost.gil_held < GIL_FREE
        return self._crew.is_spawning and not is_free and monotonic() - self._shifted_at < _SPAWN_S

    @property
    def _is_flooded(self) -> bool:
        """Whether results come faster than they are unpacked, so that no more should be made."""
        return len(self._accounts.arrived) > self._crew.n_lanes

    def _may_have_work(self, backend: Backend, ordinal: int) -> bool:
        if backend is self._local and self._queue.stuck:
            return True
        if not self._crew.wants(backend, ordinal):
            return False
        if self._porters.ready:
            return True
        has_any = self._queue.has_back or (self._queue.has_any and self._room(self._size(backend)) != 0)
        return has_any and not (self._porters.is_needed and backend.is_remote)

    def _room(self, size: int) -> int | None:
        """Return how many more items may be taken; None for all that are at hand."""
        if self._queue.source.n_ready is not None:
            return None  # what was read counts already
        return self._sink.room(self._queue.n_taken, self._crew.n_lanes, size)

    async def _keep_at_hand(self) -> None:
        """Read items ahead, as many as the sink has room for; else as many as outcomes make room for."""
        source, tally = self._queue.source, self.tally
        while not source.is_read:
            size, n_lanes = self._size(next(iter(self._crew.wanted))), self._crew.n_lanes
            n_ready = source.n_ready or 0
            room = self._sink.room(self._queue.n_taken + n_ready, n_lanes, size)
            if room is None:
                room = WINDOW_CHUNKS * n_lanes * size - (tally.submitted - tally.done + n_ready)
            if room <= 0:
                await self._changes.wait()
                continue
            await source.pull(room)
            self._changes.notify()
        if source.failure is not None and not self._sink.keeps:
            self._accounts.fail(source.failure)
        if self.is_over:
            self._finish()

    def _to_encode(self) -> Chunk | None:
        """Return a chunk that lanes to workers will want, if one is missing."""
        remote = next((backend for backend in self._crew.wanted if backend.is_remote), None)
        if remote is None or len(self._porters.ready) >= self._crew.n_lanes:
            return None
        return self._take(self._size(remote))

    def _finish(self) -> None:
        """Stop every task of the run: those that wait for work or a lane, and after a failure those that execute."""
        if self._scope is not None and (self._tasks is not None or self._accounts.error is not None):
            self._scope.cancel()
