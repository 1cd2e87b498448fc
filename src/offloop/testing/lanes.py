"""Lanes to a thread of this process that stand in for worker processes: one item at a time, and faults where they are wanted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from ..admission import Admission, Caller
from ..encoding import _limiter
from ..errors import Overloaded
from ..events import SessionOverloaded
from ..explaining import printable
from ..lifetime import Means
from ..options import CallOptions
from ..pool.lease import Lease, PooledBackend
from ..pool.pool import Pool
from ..pool.thread_lane import Order, ThreadLane, ThreadReport, current_thread_lane
from ..settings import ParallelConfig
from ..strategies.base import ORDINARY, Chunk, Expired, Job, LaneLost, Measured, Place
from ..strategies.threads import threads
from ..telemetry import emit, tell_worker_started
from ..wire.frames import Flag
from .errors import MisplacedFault
from .faults import Crash, Fate, FaultBook, Slow, TimeOut
from .trip import Asked, Carried, Function, Trip

ITEM_S = 0.001  # what each item counts as, so that nothing depends on the clock: an ordinary item
_NO_PID = 1 << 22  # process ids end below this on Linux, so that nothing can be killed by mistake by one of these
_MAX_FUNCTIONS = 16  # like the runs that a worker keeps


@dataclass(frozen=True)
class Terms:
    """What holds for the lanes of a session.

    Attributes:
        faults: What is to go wrong.
        is_strict: Whether functions, items and results are pickled on their way.
        may_mutate: Whether fn may change what it is given.
    """

    faults: FaultBook
    is_strict: bool
    may_mutate: bool


class StandIn:
    """What a lane has in place of a worker process.

    Args:
        pid: A number that no process has.

    Attributes:
        pid: Likewise.
        is_alive: Whether it takes work.
    """

    def __init__(self, pid: int) -> None:
        self.pid, self.is_alive = pid, True

    def join(self) -> None:
        """Return at once: there is nothing to wait for."""


@dataclass(frozen=True)
class _Plan:
    """What is to become of a chunk.

    Attributes:
        name: Of the function.
        count: How many items, from the front, are executed.
        stop: What happens to the next one; None if there is none.
        slow: Items that take longer.
    """

    name: str
    count: int
    stop: Fate | None
    slow: list[Fate]


class InlineLane(ThreadLane):
    """A thread that executes what is sent as a worker process would.

    Args:
        terms: What holds for it.
        pid: As for `StandIn`.
        idle_timeout_s: As for `ThreadLane`.
        on_idle: Likewise.

    Attributes:
        worker: What stands in for its worker process.
    """

    def __init__(self, terms: Terms, pid: int, idle_timeout_s: float, on_idle: Callable[[InlineLane], bool]) -> None:
        self._terms = terms
        self.worker = StandIn(pid)
        self._plans: dict[int, _Plan] = {}  # by epoch
        self._told: dict[int, int] = {}  # how many items of a chunk have been told of, by epoch
        self._functions: dict[int, Function] = {}  # by run
        self._crash: Fate | None = None  # comes with the next news
        self._kept: ThreadReport | None = None  # the last one on a chunk, for when those behind it have been handed back
        super().__init__("offloop-inline", idle_timeout_s, on_idle, is_beside_others=False)
        tell_worker_started(self.worker.pid, 0.0)

    def watch(self) -> None:
        """See nothing of how the GIL is held: that would depend on the clock."""

    def _order(self, job: Job, chunk: Chunk, budget_s: float) -> Order:
        """Return what the thread executes of a chunk: its items, as they are now, up to the first that something happens to."""
        plan = self._plans[self._epoch] = self._planned(job, chunk)
        self._told[self._epoch] = 0
        stand_in, own = Chunk(chunk.start, chunk.items[: plan.count]), job
        if self._terms.is_strict:
            own = job.within(job.context)
            own.fn = Trip(job, self._function(job), chunk.start, stand_in.items, may_mutate=self._terms.may_mutate)
            own.answer = None if job.answer is None else Asked(job.answer)  # type: ignore[assignment]  # answers like one
            own.flags &= ~(Flag.STAR | Flag.SEEDED)
            stand_in.items = range(chunk.start, stand_in.end)
        return super()._order(own, stand_in, 0.0)

    def _planned(self, job: Job, chunk: Chunk) -> _Plan:
        slow: list[Fate] = []
        if any(plan.stop is not None for plan in self._plans.values()):  # what comes behind is to be executed behind
            return _Plan(job.name, 0, None, slow)
        for fate in self._terms.faults.of(job.name, chunk.start, chunk.items):
            if isinstance(fate.fault, Slow) and not (job.limit is not None and fate.fault.seconds > job.limit.seconds):
                slow.append(fate)
            else:
                return _Plan(job.name, fate.index - chunk.start, fate, slow)
        return _Plan(job.name, len(chunk.items), None, slow)

    def _function(self, job: Job) -> Function:
        """Return the function of a run, as it was sent first."""
        function = self._functions.get(job.run)
        if function is None:
            while len(self._functions) >= _MAX_FUNCTIONS:
                del self._functions[next(iter(self._functions))]
            function = self._functions[job.run] = Function(job)
        return function

    def deliver(self, report: ThreadReport, loop: Any) -> None:
        """Hand news to the loop that leases the lane; failures as they arrive there."""
        failures = {i: error.error if isinstance(error, Carried) else error for i, error in report.failures.items()}
        super().deliver(report._replace(failures=failures), loop)

    async def receive(self) -> ThreadReport:
        """Return the next news; see `Lane`."""
        if self._crash is not None:
            raise self._lost(self._crash)
        if self._kept is not None and len(self.in_flight) == 1:
            kept, self._kept = self._kept, None
            self.in_flight.clear()
            return kept
        chunk = self.in_flight[0]
        report = await super().receive()
        plan = self._plans[chunk.epoch]
        told = self._told[chunk.epoch] = self._told[chunk.epoch] + report.n_items
        slow = [fate for fate in plan.slow if fate.index < chunk.start + told]
        extra = [fate.fault.seconds for fate in slow if isinstance(fate.fault, Slow)]
        report = report._replace(elapsed_s=told * ITEM_S + sum(extra))
        if not report.is_last:
            return report
        del self._plans[chunk.epoch], self._told[chunk.epoch]
        for fate in slow:
            fate.happened()
        report = report._replace(measured=Measured(max([ITEM_S, *extra]) if told else 0.0))
        if plan.stop is None or told < plan.count or report.refused is not None:
            return report
        return self._stopped(chunk, plan.name, plan.stop, report)

    def _stopped(self, chunk: Chunk, name: str, fate: Fate, report: ThreadReport) -> ThreadReport:
        """Have happen what is to happen to the item after those that a chunk's last report tells of."""
        fate.happened()
        if isinstance(fate.fault, Crash) and self._terms.is_strict:
            self.in_flight.appendleft(chunk)
            if not report.n_items:
                raise self._lost(fate)
            self._crash = fate
            return report._replace(is_last=False)
        if isinstance(fate.fault, TimeOut | Slow) and chunk.limit is not None:
            chunk.expired = Expired(fate.index, chunk.limit.seconds)
        else:
            failures = {**report.failures, fate.index: _misplaced(fate, name)}
            report = report._replace(values=[*report.values, None], failures=failures)
        if not self.in_flight:
            return report
        self.in_flight.append(chunk)  # what is left of it then comes before them
        self._kept = report._replace(start=report.start + report.n_items, values=[], failures={})
        return report._replace(is_last=False)

    def _lost(self, fate: Fate) -> LaneLost:
        """Break, as with a worker that dies."""
        first, *others = self.in_flight
        self._crash = None
        self.in_flight.clear()
        self.kill()
        assert isinstance(fate.fault, Crash)
        lost = [*((other, None) for other in others), (first, fate.index)]  # what comes back last is taken first
        return LaneLost(lost, fate.fault.ending, fate.fault.cause)

    @property
    def is_usable(self) -> bool:
        """Whether more may be sent."""
        return super().is_usable and self._kept is None

    async def abandon(self, grace_s: float) -> bool:
        """Stop what is in flight; see `Lane`."""
        try:
            return await super().abandon(grace_s)
        except LaneLost:
            return False

    def kill(self) -> None:
        """Let the thread end once its item does."""
        self.worker.is_alive = False
        super().kill()


def _misplaced(fate: Fate, name: str) -> Exception:
    """Return what an item fails as, to which nothing can happen that was wanted."""
    if isinstance(fate.fault, Exception):
        return fate.fault
    if isinstance(fate.fault, Crash):
        why = "without strict=True nothing is sent anywhere, and no worker is there that could die"
    else:
        why = "it has no time limit: give the call item_timeout_s, or timeout_s where it is `run`"
    return MisplacedFault(str(fate.fault), fate.index, name, why)


class _OneLane(Pool[InlineLane]):
    """A pool of one lane, which says that there may be more.

    Attributes:
        n_workers: How many.
    """

    n_workers = 1

    @property
    def capacity(self) -> int:
        """The most lanes that there can be, as decisions are to see it."""
        return self.n_workers


class InlineLanes(PooledBackend[InlineLane]):
    """One lane in place of all worker processes; where an item starts a run, there is one below it for that.

    Decisions see as many workers as there would be.

    Args:
        terms: What holds for them.
        limit: How many workers there would be.
        idle_timeout_s: As for `ThreadLane`.
        pids: Of the workers that they stand in for.
    """

    def __init__(self, terms: Terms, limit: int, idle_timeout_s: float, pids: Iterator[int]) -> None:
        pool = _OneLane(
            lambda breakable: InlineLane(terms, next(pids), idle_timeout_s, pool.retire_if_idle),
            lambda lane: lane.thread.join(timeout=1.0),
            1,
            "start-inline",
        )
        pool.n_workers = limit
        super().__init__(pool, is_remote=terms.is_strict)
        self._terms, self._idle_timeout_s, self._pids = terms, idle_timeout_s, pids
        self._below: dict[ThreadLane, InlineLanes] = {}

    @property
    def limit(self) -> int:
        """The most lanes that execute at a time, as decisions are to see it."""
        return self.pool.capacity

    @property
    def _here(self) -> InlineLanes | None:
        """What the caller can have instead, since it waits in an item; None where it is in none."""
        outer = current_thread_lane()
        if outer is None:
            return None
        below = self._below.get(outer)
        if below is None:
            below = self._below[outer] = InlineLanes(self._terms, 1, self._idle_timeout_s, self._pids)
        return below

    @property
    def has_waiters(self) -> bool:
        """Whether someone waits for a lane, so that a holder should end its turn."""
        here = self._here
        return super().has_waiters if here is None else here.pool.has_waiters

    @property
    def has_interactive_waiters(self) -> bool:
        """Whether someone interactive does, so that a holder that isn't should end its turn at once."""
        here = self._here
        return super().has_interactive_waiters if here is None else here.pool.has_interactive_waiters

    def lease(
        self,
        grace_s: float,
        job: Job | None = None,
        chunk: Chunk | None = None,
        budget_s: float = 0.0,
        place: Place = ORDINARY,
    ) -> Lease[InlineLane]:
        """Lease a lane, and send a chunk as soon as there is one; see `Backend`."""
        here = self._here
        if here is not None:
            return PooledBackend.lease(here, grace_s, job, chunk, budget_s, place)
        return super().lease(grace_s, job, chunk, budget_s, place)

    async def aclose(self) -> None:
        """End all lanes, those below too, and wait until nothing of them is left."""
        await super().aclose()
        for below in list(self._below.values()):
            await below.aclose()


class InlineAdmission(Admission):
    """Refuses also the calls that are chosen for that.

    Args:
        terms: What holds for the session.
        config: The session's settings.
        backends: Where calls wait.
    """

    def __init__(self, terms: Terms, config: ParallelConfig, *backends: Any) -> None:
        super().__init__(config, *backends)
        self._faults = terms.faults

    def place(
        self, caller: Caller, options: CallOptions, flow: object, cost_s: float, wait_s: float, pending: int
    ) -> Place:
        """Return a call's place in line, unless it is refused; see `Admission`."""
        _pickle_in_order()
        refusal = self._faults.overload(caller.name)
        if refusal is None:
            return super().place(caller, options, flow, cost_s, wait_s, pending)
        pending = max(1, pending)
        limit = pending if self.most is None else self.most
        self.refused += 1
        label = None if caller.label is None else printable(caller.label)
        after_s = refusal.retry_after_s
        emit(
            SessionOverloaded(
                fn=caller.name, why=refusal.why, pending=pending, limit=limit, retry_after_s=after_s, n_refused=1, label=label
            )
        )
        raise Overloaded(refusal.why, after_s, pending, limit)


def _pickle_in_order() -> None:
    """Have this event loop pickle one chunk after another, so that they are sent in their order."""
    try:
        _limiter.get()
    except LookupError:
        _limiter.set(anyio.CapacityLimiter(1))


def inline_means(terms: Terms) -> Means:
    """Return what an inline session is made with."""
    return Means(
        processes=lambda config, limit, *_: InlineLanes(terms, limit, config.idle_timeout_s, itertools.count(_NO_PID + 1)),
        threads=lambda _, idle_timeout_s: threads(1, idle_timeout_s),
        admission=partial(InlineAdmission, terms),
    )
