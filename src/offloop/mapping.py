"""One run: its items from the source to the lanes, their outcomes to the sink, and every item accounted for.

    source ──take──► chunk ──encode──► ready ──lease──► lane ──report──► outcomes ──► sink
       ▲                ▲                                 │
       └── puller       └──────── back: refused, cut short, or lost with its worker

States of an item: in the source, queued (taken), sent (on a lane), then done, failed or cancelled. Every entrance —
a single call, a map — is this engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

import anyio
from anyio.abc import TaskGroup

from .deciding.chunking import BUDGET_S, Pace, may_queue_second, next_size
from .deciding.recovery import recover
from .encoding import encode, encode_inline, in_thread, pack
from .errors import AsyncFunctionError, OffloopError, WorkerCrashed
from .reporting import tell_death, tell_retry
from .settings import CallOptions
from .sources import Source
from .strategies.base import Backend, Chunk, Job, Lane, LaneLost, Outcomes, Refused, Report
from .tally import Tally

TURN_S = 0.05  # a lane that others wait for is given back after so long; a few chunks
_PROBE_ITEMS = 1024  # enough to time items of 0.1 µs
_PORTERS = 2  # tasks that pickle and unpickle in threads, so that lanes need not wait for it

Sink = Callable[[Outcomes], None]


class Run:
    """Executes the items of a source; made for one run.

    Args:
        job: What all its chunks share.
        source: The items.
        options: How to execute them.
        sink: Gets every outcome once, in no particular order.
    """

    def __init__(self, job: Job, source: Source, options: CallOptions, sink: Sink) -> None:
        self.tally = Tally()
        self.pace = Pace()
        self.error: Exception | None = None  # what ends the run
        self._job, self._source, self._options, self._sink = job, source, options, sink
        self._lanes = 1
        self._next_index = 0
        self._back: deque[Chunk] = deque()  # taken from the source, not on a lane
        self._n_back = 0  # the items in them
        self._ready: deque[Chunk] = deque()  # encoded by a porter
        self._arrived: deque[Report] = deque()  # reports that a porter must unpack
        self._changed: anyio.Event | None = None  # set when there may be something to do for a task that waits
        self._scope: anyio.CancelScope | None = None
        self._needs_porters = False
        self._has_porters = False

    def use(self, lanes: int) -> None:
        """Let so many lanes take part."""
        self._lanes = lanes

    async def probe(self, backend: Backend, seconds: float) -> None:
        """Execute the first items for about so long, in one turn; the rest stays where it is."""
        if self._source.n_ready == 0:
            await self._source.pull(1)
        chunk = self._take(_PROBE_ITEMS)
        if chunk is None:
            return
        with anyio.CancelScope() as self._scope:
            async with backend.lease(self._options.grace_s) as lane:
                lane.send(self._job, chunk, seconds)
                await self._follow(lane)

    async def single(self, backend: Backend, args: tuple[Any, ...]) -> None:
        """Execute the one item of a single call, without tasks of its own."""
        self.tally.submitted = 1
        self._put_back(Chunk(0, (args,)))
        if backend.is_remote:
            await self._single(backend)
            return
        with anyio.CancelScope() as self._scope:  # so that `stop` reaches it: a thread can't be killed
            await self._single(backend)

    async def _single(self, backend: Backend) -> None:
        while self._back and self.error is None:
            if backend.is_remote and not self._job.is_packed:
                await pack(self._job)
            chunk = self._take_back()
            if backend.is_remote and not encode_inline(chunk):
                await self._encode(chunk)
                if chunk.data is None:
                    continue
            async with backend.lease(self._options.grace_s, self._job, chunk) as lane:
                await self._follow(lane)
            while self._arrived:
                await self._unpack(self._arrived.popleft())

    async def drive(self, backend: Backend) -> None:
        """Execute all items on as many lanes as take part; returns when each has its outcome, or the run has failed."""
        if backend.is_remote:
            await pack(self._job)
        async with anyio.create_task_group() as tasks:
            self._scope = tasks.cancel_scope
            if self.is_over:
                return
            if self._source.n_ready is not None:
                tasks.start_soon(self._pull)
            for _ in range(self._lanes):
                tasks.start_soon(self._serve_lane, backend, tasks)

    def stop(self, error: Exception) -> None:
        """End the run with this error, from its own event loop; its items are stopped."""
        self._fail(error)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        if self.error is not None:
            return True
        tally = self.tally
        return self._source.is_exhausted and tally.done == tally.submitted

    @property
    def remaining(self) -> int | None:
        """Items that are on no lane yet; None where it isn't known."""
        remaining = self._source.remaining
        return None if remaining is None else remaining + self._n_back

    def _take(self, limit: int | None = None) -> Chunk | None:
        """Return the next items to execute, if any are at hand."""
        if self._back:
            size = self._size()
            chunk = self._take_back()
            if len(chunk.items) > size and chunk.data is None:
                self._put_back(chunk.part(chunk.start + size, chunk.end))
                chunk = chunk.part(chunk.start, chunk.start + size)
            return chunk
        items = self._source.take(limit or self._size())
        if not items:
            return None
        chunk = Chunk(self._next_index, items)
        self._next_index += len(items)
        self.tally.submitted += len(items)
        return chunk

    def _take_back(self) -> Chunk:
        chunk = self._back.popleft()
        self._n_back -= len(chunk.items)
        return chunk

    def _put_back(self, chunk: Chunk) -> None:
        """Queue a chunk again, before all others: it has waited longest."""
        self._back.appendleft(chunk)
        self._n_back += len(chunk.items)

    def _size(self) -> int:
        return self._options.chunk_size or next_size(self.pace.item_s, self.remaining, self._lanes)

    async def _encode(self, chunk: Chunk) -> None:
        """Pickle items in a thread; those that can't be are failed, and the others go back if there were any such."""
        bad = await encode(chunk, self._job.name)
        if not bad:
            return
        good = chunk.start
        for index, failure in (*bad.items(), (chunk.end, None)):
            if index > good:
                self._put_back(chunk.part(good, index))
            good = index + 1
            if failure is not None:
                self._store(Outcomes(index, [None], {index: failure}))

    def _next_for(self, backend: Backend) -> Chunk | None:
        """Return a chunk that can be sent now, if there is one."""
        if self._ready:
            self._notify()  # there will be room for another
            return self._ready.popleft()
        if self._needs_porters and backend.is_remote:
            return None
        chunk = self._take()
        if chunk is None or not backend.is_remote or encode_inline(chunk):
            return chunk
        self._put_back(chunk)
        self._needs_porters = True
        self._notify()
        return None

    def _may_have_work(self, backend: Backend) -> bool:
        if self._ready:
            return True
        if self._needs_porters and backend.is_remote:
            return False
        if self._back:
            return True
        return not self._source.is_exhausted and self._source.n_ready != 0

    async def _pull(self) -> None:
        try:
            await self._keep_at_hand()
        except Exception as error:  # the source's own: it ends the run
            self._fail(error)

    async def _keep_at_hand(self) -> None:
        """Read items ahead, as many as outcomes make room for."""
        source, tally = self._source, self.tally
        while not source.is_read:
            window = 4 * self._lanes * self._size()
            open_items = tally.submitted - tally.done + (source.n_ready or 0)
            if open_items >= window:
                await self._wait()
                continue
            await source.pull(window - open_items)
            self._notify()
        if self.is_over:
            self._finish()

    async def _serve_lane(self, backend: Backend, tasks: TaskGroup) -> None:
        """Lease a lane for a turn, again and again, while there is work for it."""
        while not self.is_over:
            if self._needs_porters:
                self._start_porters(backend, tasks)
            if not self._may_have_work(backend) or len(self._arrived) > 2 * self._lanes:
                await self._wait()
                continue
            try:
                if backend.is_remote:
                    await pack(self._job)  # again, if a worker has refused it
                async with backend.lease(self._options.grace_s) as lane:
                    await self._turn(lane, backend, tasks)
            except OffloopError as error:  # no lane can be had
                self._fail(error)

    async def _turn(self, lane: Lane, backend: Backend, tasks: TaskGroup) -> None:
        ends = monotonic() + TURN_S
        self._fill(lane, backend)
        while lane.in_flight:
            if not await self._step(lane):
                return
            if self._needs_porters:
                self._start_porters(backend, tasks)
            if lane.is_usable and not (backend.has_waiters and monotonic() > ends) and len(self._arrived) <= self._lanes:
                self._fill(lane, backend)

    def _fill(self, lane: Lane, backend: Backend) -> None:
        """Send the lane what it should have in flight."""
        while len(lane.in_flight) < 2:
            if lane.in_flight and not may_queue_second(self.remaining, len(lane.in_flight[0].items), self._lanes):
                return
            chunk = self._next_for(backend)
            if chunk is None:
                return
            lane.send(self._job, chunk, 0.0 if self._options.chunk_size else BUDGET_S)

    async def _follow(self, lane: Lane) -> None:
        while lane.in_flight and await self._step(lane):
            pass

    async def _step(self, lane: Lane) -> bool:
        """Take in the next news of a lane; False if the turn on it is over for good."""
        chunk = lane.in_flight[0]
        try:
            report = await lane.receive()
        except LaneLost as lost:
            self._recover(lost)
            return False
        self._note(lane, chunk, report)
        return self.error is None

    def _note(self, lane: Lane, chunk: Chunk, report: Report) -> None:
        """Take in what a lane tells of a chunk."""
        if report.refused is not None:
            self._refused(lane, chunk, report.refused)
            return
        chunk.done += report.n_items
        if report.is_last:
            self.tally.busy_s += report.elapsed_s
            self.pace.measured(chunk.done, report.elapsed_s)
            if chunk.done < len(chunk.items):
                self._put_back(chunk.part(chunk.start + chunk.done, chunk.end))
        if report.is_inline:
            self._store(report.outcomes())
        else:
            self._arrived.append(report)
            self._needs_porters = True
        self._notify()

    def _refused(self, lane: Lane, chunk: Chunk, refused: Refused) -> None:
        if refused.error is not None:
            self._fail(refused.error)
            return
        if refused.by_value and lane.is_usable:  # once for a worker, which may have been sent two chunks
            self._job.distrust_name()
        if refused.retire:
            lane.retire()
        if refused.one_by_one:
            for index in reversed(range(chunk.start, chunk.end)):
                self._put_back(chunk.part(index, index + 1))
        else:
            self._put_back(chunk)
        self._notify()

    def _store(self, outcomes: Outcomes) -> None:
        """Hand outcomes to the sink, and end the run if that is what a failure means."""
        n_failed = len(outcomes.failures)
        self.tally.failed += n_failed
        self.tally.completed += len(outcomes.values) - n_failed
        self._sink(outcomes)
        if n_failed:
            first = min(outcomes.failures)
            error = outcomes.failures[first]
            if self._options.on_error == "raise" or isinstance(error, AsyncFunctionError):
                self._fail(error)
        if self.is_over:
            self._finish()

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
        self._finish()

    def _finish(self) -> None:
        """Stop every task of the run: those that wait for work or a lane, and after a failure those that execute."""
        if self._scope is not None:
            self._scope.cancel()

    async def _unpack(self, report: Report) -> None:
        self._store(await in_thread(report.outcomes))

    def _recover(self, lost: LaneLost) -> None:
        """Put back what a broken lane did not finish, and fail what may not run again."""
        self.tally.crashes += any(begun is not None for _, begun in lost.begun)
        for chunk, begun in lost.begun:
            first = chunk.start + chunk.done
            plan = recover(
                start=first, end=chunk.end, begun=begun, deaths=chunk.deaths, retries=self._options.retries
            )
            if begun is not None:
                tell_death(self._job.name, lost.exit_code, begun)
            for start, end in plan.again:
                self._put_back(chunk.part(start, end))
            for start, end in plan.alone:
                self._retry_alone(chunk, start, end)
            for start, end in plan.lost:
                crashes: dict[int, Exception] = {
                    index: WorkerCrashed(index, index, lost.exit_code, self._job.name) for index in range(start, end)
                }
                self._store(Outcomes(start, [None] * (end - start), crashes))
        self._notify()

    def _retry_alone(self, chunk: Chunk, start: int, end: int) -> None:
        for index in range(start, end):
            alone = chunk.part(index, index + 1)
            alone.deaths = chunk.deaths + 1
            self._put_back(alone)
            self.tally.retried += 1
            tell_retry(self._job.name, index, alone.deaths)

    def _start_porters(self, backend: Backend, tasks: TaskGroup) -> None:
        if not self._has_porters:
            self._has_porters = True
            for _ in range(_PORTERS):
                tasks.start_soon(self._carry, backend)

    async def _carry(self, backend: Backend) -> None:
        """Unpack what has arrived, and keep encoded chunks ready, one for each lane."""
        while not self.is_over:
            if self._arrived:
                await self._unpack(self._arrived.popleft())
                self._notify()
            elif backend.is_remote and len(self._ready) < self._lanes and (chunk := self._take()) is not None:
                if not encode_inline(chunk):
                    await self._encode(chunk)
                if chunk.data is not None:
                    self._ready.append(chunk)
                self._notify()
            else:
                await self._wait()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def _wait(self) -> None:
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()
