"""Short ways to a lane and back, without tasks: for a single call, and for a few items in the local thread."""

from __future__ import annotations

import math
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from time import monotonic
from typing import Any

import anyio

from .accounts import Accounts, FallBack, nothing
from .deciding.costs import Cost
from .encoding import Encoder, encode_inline, in_thread
from .errors import PayloadTooLarge, UnpicklableFunction, WorkerStartError
from .options import CallOptions
from .queueing import Queue
from .sources import NO_SOURCE
from .strategies.base import Backend, Chunk, Job, Lane, LaneLost, Outcomes, Place, Report
from .tally import Tally

_WATCH_AFTER_S = 0.001  # what is over sooner is not worth a thread that watches the GIL


class Call:
    """Executes one call; made for one.

    Args:
        job: The function.
        args: Its arguments.
        options: How to execute it.
        place: Of it among those that wait for lanes.
        cost: What such calls have cost; it is added to.
        tally: Counts of what becomes of it.
        local: Where it executes if it can't travel; None if that would fail it.
        fell_back: Called with reason, error and number of items when it does.
        encoder: Makes it ready to travel.

    Attributes:
        value: What it has returned.
        begun: When it came to a lane, by the monotonic clock; infinity if it did not.
    """

    n_lanes = 1

    def __init__(
        self,
        job: Job,
        args: tuple[Any, ...],
        options: CallOptions,
        place: Place,
        cost: Cost,
        tally: Tally,
        local: Backend | None,
        fell_back: FallBack,
        encoder: Encoder,
    ) -> None:
        self.value: Any = None
        self.begun = math.inf
        self._encoder, self._place = encoder, place
        self._job, self._args, self._options, self._cost, self._local = job, args, options, cost, local
        self._queue = Queue(NO_SOURCE)
        self._scope: anyio.CancelScope | None = None
        self._lane: Lane | None = None
        self._accounts = Accounts(
            job,
            options,
            self._queue,
            self._take_in,
            cost,
            tally,
            may_stay=local is not None,
            fell_back=fell_back,
            changed=nothing,
            over=self._finish,
        )

    @property
    def error(self) -> Exception | None:
        """What it has raised, or what has ended it."""
        return self._accounts.error

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The lane that it is on."""
        return () if self._lane is None else (self._lane,)

    def result(self) -> Any:
        """Return what it has returned, or raise what has ended it; once, for both are let go of."""
        error, self._accounts.error = self._accounts.error, None
        value, self.value = self.value, None
        try:
            if error is not None:
                raise error
            return value
        finally:
            del error  # whose traceback knows this frame

    def close(self) -> None:
        """Let go of who is told of it; it is executed no more."""
        self._accounts.close()

    def stop(self, error: Exception) -> None:
        """End it with this error, from its own event loop."""
        self._accounts.fail(error)
        if self._lane is not None:
            self._lane.break_off()

    def _take_in(self, outcomes: Outcomes) -> None:
        self.value = outcomes.values[0] if outcomes.values else None

    def _finish(self) -> None:
        if self._scope is not None and self.error is not None:
            self._scope.cancel()

    async def execute(self, backend: Backend, patience_s: float | None = None) -> bool:
        """Execute it.

        Args:
            backend: Where.
            patience_s: How long to wait for a lane of this process at most.

        Returns:
            Whether it was executed; False if no lane came free in time.
        """
        chunk = Chunk(0, (self._args,))
        chunk.is_watched = self._cost.is_worth_watching(1)
        self._queue.put_back(chunk)
        if backend.is_remote:
            await self._remotely(backend)
            if self._local is None or self.error is not None or not (self._queue.has_back or self._queue.stuck):
                return True
            backend = self._local
        with anyio.CancelScope() as self._scope:  # so that `stop` reaches it: a thread can't be killed
            return await self._locally(backend, patience_s)
        return True

    async def _remotely(self, backend: Backend) -> None:
        queue, accounts = self._queue, self._accounts
        while self.error is None and queue.has_back and accounts.homeward is None:
            chunk = queue.take_back()
            try:
                await self._encoder.pack()
                if not encode_inline(chunk):
                    bad = await self._encoder.encode(chunk)
                    if bad:
                        accounts.refuse_items(chunk, bad)
                        return
                async with backend.lease(self._options.grace_s, self._job, chunk, place=self._place) as lane:
                    if self._place.until < math.inf:  # it has begun: after a death it waits as long as it takes
                        self._place = self._place._replace(until=math.inf)
                    await self._follow(lane, backend)
            except (PayloadTooLarge, UnpicklableFunction, WorkerStartError) as error:
                queue.put_back(chunk)
                accounts.come_home(error)
            while accounts.arrived:
                chunk, report = accounts.arrived.popleft()
                accounts.take_in(chunk, report, await in_thread(report.outcomes), 0.0)

    async def _locally(self, backend: Backend, patience_s: float | None) -> bool:
        queue = self._queue
        chunk = queue.stuck.popleft() if queue.stuck else queue.take_back()
        if patience_s is None:
            async with backend.lease(self._options.grace_s, self._job, chunk, place=self._place) as lane:
                await self._follow(lane, backend)
            return True
        granted: Lane | None = None
        async with AsyncExitStack() as stack:
            with anyio.move_on_after(patience_s):
                granted = await stack.enter_async_context(backend.lease(self._options.grace_s, place=self._place))
            if granted is None:
                return False
            granted.send(self._job, chunk, 0.0)  # only now: what is sent in vain might have begun
            await self._follow(granted, backend)
        return True

    async def _follow(self, lane: Lane, backend: Backend) -> None:
        self._lane, now = lane, monotonic()
        self.begun = min(self.begun, now)
        if lane.in_flight:
            lane.in_flight[0].sent_at = now
        try:
            while lane.in_flight and self.error is None:
                chunk = lane.in_flight[0]
                self._accounts.note(lane, backend, chunk, await lane.receive(), is_alone=True)
        except LaneLost as lost:
            if self.error is None:  # not by `stop`: the worker is gone
                self._accounts.recover(lost)
        finally:
            self._lane = None


class Errand:
    """First items on a lane, without tasks or scopes of its own: the shortest way there is.

    Args:
        options: Options of the call.
        place: Of it among those that wait for lanes.

    Attributes:
        reports: What was told, with the chunk that it was told of.
        held: The lease and its lane, if a chunk is still under way and somebody else must see to it.
        others: The items behind the first, if that is so long that they were taken back.
        stall_s: By how much the event loop was late meanwhile.
        lost: What is known of the worker's death, if it died.
        error: What has ended it.
        begun: When it came to a lane, by the monotonic clock; infinity if it did not.
    """

    __slots__ = (
        *("_grace_s", "_lane", "_may_fail", "_place", "_scope", "begun", "error", "held", "lost", "others", "reports"),
        "stall_s",
    )

    n_lanes = 1

    def __init__(self, options: CallOptions, place: Place) -> None:
        self.reports: list[tuple[Chunk, Report]] = []
        self.others: Chunk | None = None
        self.stall_s, self.begun = 0.0, math.inf
        self.held: tuple[AbstractAsyncContextManager[Lane], Lane] | None = None
        self.lost: LaneLost | None = None
        self.error: Exception | None = None
        self._may_fail = options.on_error != "raise"
        self._grace_s, self._place = options.grace_s, place
        self._lane: Lane | None = None
        self._scope: anyio.CancelScope | None = None

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The lane that it is on."""
        lane = self._lane if self.held is None else self.held[1]
        return () if lane is None else (lane,)

    @property
    def has_begun(self) -> bool:
        """Whether anything of it was executed."""
        return bool(self.reports) or self.held is not None or self.lost is not None

    def stop(self, error: Exception) -> None:
        """End it with this error, from its own event loop."""
        self.error = error
        if self._lane is not None:
            self._lane.break_off()
        elif self._scope is not None:
            self._scope.cancel()

    async def execute(self, backend: Backend, job: Job, chunk: Chunk, budget_s: float) -> None:
        """Execute a chunk in this process for about `budget_s` seconds (0: no limit); the first failure may end it."""
        if backend.n_idle:
            await self._execute(backend, job, chunk, budget_s)
        else:
            with anyio.CancelScope() as self._scope:  # so that `stop` reaches it while it waits in line
                await self._execute(backend, job, chunk, budget_s)
        if self.error is not None:
            raise self.error

    async def _execute(self, backend: Backend, job: Job, chunk: Chunk, budget_s: float) -> None:
        async with backend.lease(self._grace_s, job, chunk, budget_s, self._place) as lane:
            self._lane = lane
            self.begun = chunk.sent_at = monotonic()
            try:
                self.reports.append((chunk, await lane.receive()))
                if lane.in_flight:  # rarely: most are told of in one report
                    await self._follow(lane)
            except LaneLost:  # by `stop`
                pass
            finally:
                self._lane = None  # its end is not to be broken off

    async def execute_patiently(
        self, backend: Backend, job: Job, chunks: list[Chunk], budget_s: float, patience_s: float
    ) -> None:
        """Execute chunks, and wait only so long for a lane, and then for their end.

        What has not begun by then has no epoch, and may be `others`; what is still under way is left in `held`.
        """
        lease = backend.lease(self._grace_s, place=self._place)
        begun = monotonic()
        async with AsyncExitStack() as stack:
            first_look_s = _WATCH_AFTER_S if backend.n_idle else patience_s
            with anyio.move_on_after(first_look_s):
                self._lane = await stack.enter_async_context(lease)
                self.begun = monotonic()
                for chunk in chunks:
                    chunk.sent_at = monotonic()
                    self._lane.send(job, chunk, budget_s)
                    await self._follow(self._lane)
            lane = self._lane
            if lane is not None:
                stack.callback(setattr, self, "_lane", None)  # its end is not to be broken off
                self.stall_s = monotonic() - begun - first_look_s
                await self._look_again(lane, patience_s)
                if lane.in_flight and self._goes_on:
                    self.others = lane.in_flight[0].take_others()
                    stack.pop_all()
                    self.held, self._lane = (lease, lane), None
        if self.error is not None:
            raise self.error

    async def _look_again(self, lane: Lane, patience_s: float) -> None:
        """Wait a little longer for what is under way, watching the GIL."""
        if lane.in_flight and self._goes_on:
            lane.in_flight[0].is_watched = True
            lane.watch()
            if self.stall_s < patience_s:
                with anyio.move_on_after(patience_s):
                    await self._follow(lane)

    @property
    def _goes_on(self) -> bool:
        """Whether more of the chunk is wanted."""
        if self.error is not None or self.lost is not None or not self.reports:
            return self.error is None and self.lost is None
        last = self.reports[-1][1]
        return last.refused is None and (self._may_fail or not (last.is_inline and last.outcomes().failures))

    async def _follow(self, lane: Lane) -> None:
        self._lane = lane
        try:
            while lane.in_flight and self._goes_on:
                chunk = lane.in_flight[0]
                self.reports.append((chunk, await lane.receive()))
        except LaneLost as lost:
            if self.error is None:  # not by `stop`: the worker is gone
                self.lost = lost
