"""One call's way: where it begins, and what is told and learned of it; what a single call and a map have in common."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from time import monotonic
from typing import Any, Protocol

import anyio

from .backlog import Share
from .crew import under_way
from .encoding import Encoder
from .mapping import TURN_S
from .model import Decision, Reason, Strategy
from .planning import UNKNOWN_S, Known, Planner, Venues
from .pool.lease import PooledBackend
from .progress import Progress
from .progressing import Standing
from .records import Records
from .reporting import tell_fallback
from .sources import NO_SOURCE, Source
from .strategies.base import Backend, Job, Lane, Place, Report
from .strategies.serial import local_thread
from .tally import Tally
from .tracing import travelling_context

_CANCELLED_S = 0.05  # a cancel scope whose deadline has passed has cancelled what is in it by then, unless it was moved


class Executor(Protocol):
    """Who executes the items at the moment."""

    begun: float  # when it came to its first lane, by the monotonic clock; infinity if it did not

    @property
    def n_lanes(self) -> int:
        """How many lanes take part."""
        ...

    @property
    def lanes(self) -> Collection[Lane]:
        """The lanes that it holds now."""
        ...

    def stop(self, error: Exception) -> None:
        """End it with this error, from its own event loop."""
        ...


class Steering:
    """Decides for one run, before it and during it; made for one run.

    Args:
        planner: Decides.
        known: What is known of the work.
        venues: Where it may execute.
        records: Where decisions and counts go.

    Attributes:
        tally: Counts of what became of the items.
        name: The function's name.
        label: The call's own, as the call gives it.
        n_bytes: About how many bytes of arguments a single call brings.
    """

    _is_paced = False  # by who takes the results, so that how long it takes tells nothing of the work
    _is_alone = False  # among its own kind, so that it may take all the cores
    _source: Source = NO_SOURCE  # of its items
    _flow: object = None  # whose share of the lanes it counts against, without a label: that of all single calls

    def __init__(self, planner: Planner, known: Known, venues: Venues, records: Records) -> None:
        self.tally = Tally()
        self._progress: Progress | None = known.options.progress
        if self._progress is not None:  # decisions are remembered with their options, and who is told must not be
            known.options = replace(known.options, progress=None)
        self.name, self.label, self.n_bytes = known.name, known.options.label, 0.0
        self._planner, self._known, self._venues, self._records = planner, known, venues, records
        self._pace = known.pace()
        self._local = local_thread()
        self._decision: Decision
        self._encoder: Encoder
        self._place: Place
        self._expected_s = 0.0  # for so long it is to wait for a lane
        self._executor: Executor | None = None
        self._stopped: Exception | None = None
        self._n_moves = 0
        self._begun = self._counted_until = monotonic()
        self._share = Share(is_interactive=known.options.priority == "interactive")

    def decide(self, n_items: int | None, **now: Any) -> Decision:
        """Return where the run should execute, by what is known now."""
        threads, processes, own = self._venues.threads, self._venues.processes, self._own
        threads_backlog_s = threads.backlog_s and max(0.0, threads.backlog_s - own.get(threads, 0.0))
        return self._planner.decide(
            self._known, n_items, self._local, processes, own=own, threads_backlog_s=threads_backlog_s, **now
        )

    @property
    def _own(self) -> Mapping[Backend, float]:
        """Seconds that it counts for in the backlogs that it need not wait for, by backend."""
        return self._share.own

    def stop(self, error: Exception) -> None:
        """End the run with this error, from its own event loop; its items are stopped."""
        self._stopped = error
        if self._executor is not None:
            self._executor.stop(error)

    def payload_bytes(self) -> float:
        """Return about how many bytes an item brings with it."""
        return self._known.cost.payload_bytes

    def standing(self) -> Standing:
        """Return how far the run is."""
        tally, executor = self.tally, self._executor
        lanes, begun = ((), math.inf) if executor is None else (executor.lanes, executor.begun)
        now = under_way(lanes, self._source.weigh)
        waited_s = monotonic() - self._counted_until
        done = tally.executed + tally.lost + now.n_finished
        return Standing(
            fn=self.name,
            label=self.label,
            strategy=self._decision.strategy.value,
            begun=begun,
            n_items=self._n_items,
            n_done=max(done, tally.done),  # of what failed at once nothing was executed
            n_failed=tally.failed,
            partly=now.partly,
            busy_s=tally.busy_s + now.seconds,
            capacity_s=tally.capacity_s + waited_s * self._n_lanes,
        )

    @property
    def _n_items(self) -> int | None:
        """How many items or rows there are, as far as that is known by now."""
        return 1

    @property
    def _n_lanes(self) -> int:
        """How many lanes take part."""
        return self._executor.n_lanes if self._executor is not None else self._decision.workers

    @property
    def grace_s(self) -> float:
        """How long its items may take to stop."""
        return self._known.options.grace_s

    def ends_in(self) -> type[BaseException] | None:
        """Return what its caller will be raised, though all items were executed; None where that is nothing."""
        return ExceptionGroup if self.tally.failed and self._known.options.on_error == "group" else None

    @property
    def _stay(self) -> Backend | None:
        """Where items execute that can't travel; None if that would fail them."""
        is_auto = self._known.options.strategy is Strategy.AUTO
        must_leave = self._decision.reason in (Reason.LOCAL_NEVER, Reason.HAS_TIMEOUT, Reason.ABOVE_GRACE)
        may_stay = is_auto and self._planner.config.local == "allow" and not self._known.function.has_crashed
        return self._local if may_stay and not must_leave else None

    @property
    def _is_timed(self) -> bool:
        """Whether items have a time limit: then no short way is taken past what sees to it."""
        return self._known.options.item_timeout_s is not None

    def _come_in(self, cost_s: float) -> None:
        """Take a place in the line for lanes, and in the books.

        Args:
            cost_s: Seconds that a turn is estimated to take.

        Raises:
            Overloaded: There is no room, or it would have to wait for too long.
            SessionClosedError: The session isn't open.
        """
        options, backend, records = self._known.options, self._backend(), self._records
        flow = self._flow if options.label is None else options.label
        if backend.backlog_s:
            self._expected_s = records.admission.wait_s(backend, options)
        self._place = records.admission.place(self, options, flow, cost_s, self._expected_s, records.n_pending)
        records.begun(self)

    async def _too_late(self) -> Exception:
        """Return the error of a call that has got no lane in time, unless its caller is cancelled just then."""
        limit_s, waited_s = self._known.options.max_wait_s, monotonic() - self._begun
        admission, pending = self._records.admission, self._records.n_pending - 1
        if limit_s is not None and waited_s >= limit_s:
            admission.waited(self._expected_s, waited_s)
            return admission.refuse(self, "max_wait_s", pending, limit_s)
        left_s = anyio.current_effective_deadline() - anyio.current_time()
        if left_s < _CANCELLED_S:
            await anyio.sleep(max(0.0, left_s) + _CANCELLED_S)
        return admission.refuse(self, "deadline", pending, waited_s)

    def _fitting(self, job: Job, source: Source) -> Job:
        """Return the job as it should execute by what was decided, with what makes it ready to travel."""
        if (self._is_alone or self._decision.reason is Reason.INNER_PARALLELISM) and self._backend().is_remote:
            job = job.alone()
        if (context := travelling_context()) is not None:
            job = job.within(context)
        self._encoder = Encoder(self._venues.outgoing, job, source.is_settled)
        return job

    def _backend(self) -> PooledBackend[Any]:
        if self._decision.strategy is Strategy.PROCESSES:
            return self._venues.processes
        return self._venues.threads if self._decision.strategy is Strategy.THREADS else self._local

    def _backlog_s(self, n_items: int | None) -> float:
        """Return for how long others may have to wait for a run: it gives way after a turn."""
        item_s = self._known.cost.item_s
        return UNKNOWN_S if item_s is None else min(TURN_S, item_s * (n_items or 1))

    def _settle(self, decision: Decision) -> None:
        self._count_capacity()
        self._decision = decision
        self._records.decided(decision, self._known.options, self.tally)

    def _count_capacity(self) -> None:
        """Add up what the lanes that took part could have worked."""
        before, self._counted_until = self._counted_until, monotonic()
        self.tally.capacity_s += (self._counted_until - before) * self._n_lanes

    def _fell_back(self, reason: Reason, error: BaseException, n_items: int | None) -> None:
        tell_fallback(self._known.name, Strategy.PROCESSES, Strategy.SERIAL, reason, error, n_items)

    def _learn_at_once(self, n_items: int, weight: int, report: Report) -> None:
        """Take in a report that is all there is to tell."""
        measured, cost = report.measured, self._known.cost
        self.tally.completed += n_items
        self.tally.executed += weight
        self.tally.busy_s += report.elapsed_s
        self._pace.measured(weight, report.elapsed_s)
        is_remote = self._decision.strategy is Strategy.PROCESSES
        cost.executed(weight, report.elapsed_s, measured.longest_s, is_remote=is_remote)
        if measured.gil_held is not None:
            cost.watched(measured.gil_held, measured.stall_s, max(report.elapsed_s, 1e-6))

    def _end(self) -> None:
        self._share.move(None)
        self._encoder.close()
        self._progress = None  # a map refers to itself, and may be kept until the next collection
        known, tally, decision = self._known, self.tally, self._decision
        known.function.has_crashed |= tally.crashes > 0
        known.function.was_remote |= decision.strategy is Strategy.PROCESSES
        self._count_capacity()
        tally.capacity_s = max(tally.capacity_s, tally.busy_s)
        now = monotonic()
        wall_s = now - self._begun
        wait_s = (now if self._executor is None else min(now, self._executor.begun)) - self._begun
        if tally.completed == tally.submitted and not self._n_moves:
            if decision.estimated_s is not None and not self._is_paced:
                is_warm = not decision.start_cost_s
                known.cost.took(decision.strategy, decision.estimated_s, wall_s, is_warm=is_warm)
            learn = known.cost.slowed if decision.strategy is Strategy.THREADS else known.cost.ran
            item_s = tally.busy_s / max(1, tally.executed)
            learn(item_s)
            known.cost.current, known.function.item_s = decision.strategy, item_s
        self._planner.learn(decision)
        self._records.ended(self, decision, known.options, wall_s, wait_s)
