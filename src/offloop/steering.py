"""One run's way: where it begins, when it moves, and what is told and learned of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

from .accounts import Accounts
from .calling import Call, Errand
from .changes import Changes
from .deciding.chunking import LOCAL_ITEMS
from .mapping import TURN_S, Run
from .model import Decision, Reason, Strategy
from .planning import UNKNOWN_S, Known, Planner
from .pool.lane import WorkerLane
from .pool.lease import PooledBackend
from .pool.thread_lane import ThreadLane, ThreadReport
from .queueing import Queue
from .records import Records
from .reporting import tell_fallback
from .results import Results
from .sensing.meter import meter
from .sources import Source
from .strategies.base import Backend, Chunk, Job
from .strategies.serial import local_thread
from .tally import Tally

_PROBE_S = 0.010  # how long unknown work runs before it is decided on
_FIRST_S = 0.045  # how long the first chunk of known work may run: three times what it should
_SHORT_S = 0.005  # what is estimated to take no longer is executed in one go
_PATIENCE_S = 0.010  # how long a call of unknown cost waits for the local thread
_MAX_MOVES = 4  # how often a run may change its strategy
_WORTH_S = 0.020  # so near its end a run doesn't move: what is on lanes already is about as much
_STALL_S = 0.020  # work that keeps the GIL from the loop for longer does not bridge: 5 ms is a Python loop, plus noise
_OTHERWISE = 4.0  # a run's own mean counts against what was learned if it is off by this factor

# Decisions that rest on an estimate, and may turn out otherwise.
_REVISABLE = frozenset({Reason.MEASURING, Reason.TOO_SMALL, Reason.SINGLE_WORKER, Reason.FASTER, Reason.PROTECTS_LOOP})


class Venues(NamedTuple):
    """Where a session's items may execute, besides the local thread."""

    threads: PooledBackend[ThreadLane]
    processes: PooledBackend[WorkerLane]


class Steering:
    """Decides for one run, before it and during it; made for one run.

    Args:
        planner: Decides.
        known: What is known of the work.
        venues: Where it may execute.
        records: Where decisions and counts go.
    """

    def __init__(self, planner: Planner, known: Known, venues: Venues, records: Records) -> None:
        self._planner, self._known, self._venues, self._records = planner, known, venues, records
        self._local = local_thread()
        self._decision: Decision
        self._run: Run | Call | Errand
        self._n_moves = 0
        self._begun = self._moved = monotonic()
        self._queued_on: Backend | None = None
        self._queued_s = 0.0

    @property
    def _stay(self) -> Backend | None:
        """Where items execute that can't travel; None if that would fail them."""
        options = self._known.options
        may_stay = options.strategy is Strategy.AUTO and self._planner.config.local == "allow"
        return self._local if may_stay and not self._known.function.has_crashed else None

    def decide(self, n_items: int | None, **now: Any) -> Decision:
        """Return where the run should execute, by what is known now."""
        return self._planner.decide(self._known, n_items, self._local, self._venues.processes, **now)

    # --- a single call -----------------------------------------------------------------------------------------------

    async def single(self, job: Job, args: tuple[Any, ...]) -> Any:
        """Decide on a single call, have it executed, and return its value."""
        known, local = self._known, self._local
        self._decision = self.decide(1)
        backend = self._backend()
        waits = self._decision.reason is Reason.MEASURING and backend is local and local.backlog_s > 0
        if backend is local and not waits:
            return await self._single_here(job, args)
        self._run = call = Call(job, args, known.options, known.cost, self._stay, self._fell_back)
        self._settle(self._decision)
        is_undisturbed = not backend.backlog_s
        with self._registered():
            self._queue_on(backend, known.cost.item_s or UNKNOWN_S)
            begun = monotonic()
            if not await call.execute(backend, _PATIENCE_S if waits else None):
                self._settle(self.decide(1, waited_s=2 * _PATIENCE_S))
                backend = self._backend()
                self._queue_on(backend, known.cost.item_s or UNKNOWN_S)
                await call.execute(backend)
            if is_undisturbed and backend is self._venues.processes and call.tally.completed:
                meter.tripped(monotonic() - begun - call.tally.busy_s)
        if call.error is not None:
            raise call.error
        return call.value

    async def _single_here(self, job: Job, args: tuple[Any, ...]) -> Any:
        """Execute a single call in the local thread."""
        tally, cost, chunk = Tally(), self._known.cost, Chunk(0, (args,))
        chunk.is_watched = cost.is_worth_watching(1)
        tally.submitted = 1
        errand = Errand(tally)
        try:
            report = (await self._errand(errand, job, chunk, 0.0))[0]
            error = report.refused.error if report.refused is not None else report.failures.get(0)
            if error is not None:
                tally.failed = 1
                raise error
            tally.completed, tally.busy_s = 1, report.elapsed_s
            cost.executed(1, report.elapsed_s, report.measured.longest_s, is_remote=False)
            if report.measured.gil_held is not None:
                cost.watched(report.measured.gil_held, report.measured.stall_s)
        finally:
            self._end(errand)
        return report.values[0]

    async def _errand(self, errand: Errand, job: Job, chunk: Chunk, budget_s: float) -> list[ThreadReport]:
        """Execute a chunk in the local thread and return what was told of it."""
        self._run = errand
        self._settle(self._decision)
        self._records.begun(errand)
        self._queue_on(self._local, self._backlog_s(errand.tally.submitted))
        return await errand.execute(self._local, job, chunk, budget_s, self._known.options)

    # --- a map -------------------------------------------------------------------------------------------------------

    async def map(self, job: Job, source: Source) -> list[Any]:
        """Decide on a map and have its items executed, where that pays best by what is known at each moment.

        Args:
            job: The function.
            source: The items.

        Returns:
            The results, in the order of the items.
        """
        known = self._known
        n_items = source.remaining
        self._decision = decision = self.decide(n_items)
        is_short = decision.reason is Reason.TOO_SMALL and (decision.estimated_s or 1.0) <= _SHORT_S
        told: tuple[Chunk, list[ThreadReport]] | None = None
        if is_short and source.n_ready is None:
            chunk = Chunk(0, source.take(known.options.chunk_size or LOCAL_ITEMS))
            reports = await self._at_once(job, chunk, n_items)
            if reports[0].is_last and len(reports[0].values) == n_items:
                return reports[0].values
            told = chunk, reports
        queue, changes, results = Queue(source), Changes(), Results(n_items)
        accounts = Accounts(
            job,
            known.options,
            queue,
            results.take_in,
            known.cost,
            may_stay=self._stay is not None,
            fell_back=self._fell_back,
            changed=changes.notify,
        )
        if told is not None:
            chunk, reports = told
            queue.n_taken = accounts.tally.submitted = len(chunk.items)
            for report in reports:
                accounts.note(None, self._local, chunk, report, is_alone=True)
        if told is not None and accounts.is_over:
            self._end(Errand(accounts.tally))
        else:
            await self._at_length(Run(job, known.options, queue, accounts, changes, self._stay))
        if accounts.error is not None:
            raise accounts.error
        return results.in_order(accounts.tally.submitted, known.options)

    async def _at_once(self, job: Job, chunk: Chunk, n_items: int | None) -> list[ThreadReport]:
        """Execute what should be over in no time, and return what was told of it; that is all, if there is one report."""
        tally = Tally()
        tally.submitted = len(chunk.items)
        errand = Errand(tally)
        try:
            reports = await self._errand(errand, job, chunk, _FIRST_S)
        except BaseException:
            self._end(errand)
            raise
        report = reports[0]
        if report.is_last and len(report.values) == n_items:
            tally.completed, tally.busy_s = len(report.values), report.elapsed_s
            self._known.cost.executed(tally.completed, report.elapsed_s, report.measured.longest_s, is_remote=False)
            self._end(errand)
        else:
            self._records.left(errand)
        return reports

    async def _at_length(self, run: Run) -> None:
        """Execute with as many lanes as pay, as they turn out to pay."""
        self._run = run
        is_measured = self._decision.reason is Reason.MEASURING
        if not is_measured:
            self._settle(self._decision)
        with self._registered():
            try:
                if is_measured or self._decision.strategy is Strategy.SERIAL:
                    await self._begin(run, is_measured)
                if not run.is_over:
                    self._move(run)
                    is_open = self._known.options.strategy is Strategy.AUTO and self._decision.reason in _REVISABLE
                    await run.drive(partial(self._look, run) if is_open else None)
            finally:
                await run.aclose()

    async def _begin(self, run: Run, is_measured: bool) -> None:
        """Execute the first items, and decide by them if that has not been done."""
        is_known = self._known.cost.item_s is not None
        self._queue_on(self._backend(), self._backlog_s(run.n_items))
        await run.begin(self._backend(), _FIRST_S if is_known else _PROBE_S, is_known=is_known)
        if is_measured:
            n_done, item_s, gil_held = run.progress()
            learned_s = self._known.cost.item_s
            self._settle(self.decide(run.n_items, n_done=n_done, item_s=learned_s or item_s, gil_held=gil_held))

    def _look(self, run: Run) -> None:
        """Decide anew by how the run goes, and move it if that says otherwise."""
        known = self._known
        if run.tally.crashes:
            known.function.has_crashed = True
        n_done, item_s, gil_held = run.progress()
        learned_s = known.cost.item_s
        current = self._decision.strategy
        if learned_s is not None and item_s is not None:
            is_other = not learned_s / _OTHERWISE < item_s < learned_s * _OTHERWISE
            item_s = item_s if is_other and current is not Strategy.THREADS else learned_s
        decision = self.decide(
            run.n_items,
            n_done=n_done,
            item_s=item_s,
            gil_held=gil_held,
            current=current,
            own_lanes=run.n_leased(self._venues.processes),
            own_s=self._queued_s,
        )
        grows = decision.strategy is current and decision.workers > self._decision.workers
        is_worth_it = (decision.estimated_serial_s or 0.0) > _WORTH_S and self._n_moves < _MAX_MOVES
        if (decision.strategy is not current or grows) and is_worth_it:
            self._n_moves += 1
            self._settle(decision)
            self._move(run)

    def _move(self, run: Run) -> None:
        """Have the run execute where it was decided."""
        decision, known, backend = self._decision, self._known, self._backend()
        self._queue_on(backend, self._backlog_s(run.n_items))
        is_cold = backend is self._venues.processes and self._venues.processes.pool.n_idle < decision.workers
        may_bridge = decision.reason in _REVISABLE and known.cost.stall_s <= _STALL_S
        has_bridge = is_cold and may_bridge and known.options.strategy is Strategy.AUTO
        run.shift(backend, decision.workers, self._local if has_bridge else None)

    # --- before and after --------------------------------------------------------------------------------------------

    def _backend(self) -> Backend:
        if self._decision.strategy is Strategy.PROCESSES:
            return self._venues.processes
        return self._venues.threads if self._decision.strategy is Strategy.THREADS else self._local

    def _backlog_s(self, n_items: int | None) -> float:
        """Return for how long others may have to wait for a run: it gives way after a turn."""
        item_s = self._known.cost.item_s
        return UNKNOWN_S if item_s is None else min(TURN_S, item_s * (n_items or 1))

    def _queue_on(self, backend: Backend | None, seconds: float = 0.0) -> None:
        """Let others know that this backend has so much more to do, instead of the one before."""
        if self._queued_on is not None:
            self._queued_on.backlog_s -= self._queued_s
        self._queued_on, self._queued_s = backend, seconds
        if backend is not None:
            backend.backlog_s += seconds

    def _settle(self, decision: Decision) -> None:
        self._decision = decision
        self._count_capacity()
        self._records.decided(decision, self._known.options, self._run.tally)

    def _count_capacity(self) -> None:
        """Add up what the lanes that took part could have worked."""
        now = monotonic()
        lanes = self._run.n_lanes or self._decision.workers
        self._run.tally.capacity_s += (now - self._moved) * lanes
        self._moved = now

    def _fell_back(self, reason: Reason, error: BaseException, n_items: int | None) -> None:
        tell_fallback(self._known.name, Strategy.PROCESSES, Strategy.SERIAL, reason, error, n_items)

    @contextmanager
    def _registered(self) -> Iterator[None]:
        """Keep the books of the run, whatever becomes of it."""
        run, cost = self._run, self._known.cost
        self._records.begun(run)
        try:
            yield
        except BaseException:
            self._end(run)
            raise
        self._end(run)
        tally, decision = run.tally, self._decision
        if run.error is None and not (tally.failed or tally.cancelled) and not self._n_moves:
            if decision.estimated_s is not None:
                cost.took(decision.strategy, decision.estimated_s, monotonic() - self._begun)
            cost.current = decision.strategy

    def _end(self, run: Run | Call | Errand) -> None:
        self._queue_on(None)
        function = self._known.function
        function.has_crashed = function.has_crashed or bool(run.tally.crashes)
        function.was_remote = function.was_remote or self._decision.strategy is Strategy.PROCESSES
        self._count_capacity()
        self._records.ended(run, self._decision, self._known.options, monotonic() - self._begun)
