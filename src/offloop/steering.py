"""One run's way: where it begins, when it moves, and what is told and learned of it."""

from __future__ import annotations

import threading
from functools import partial
from time import monotonic
from typing import Any

from .accounts import Accounts
from .backlog import Share
from .calling import Call, Errand
from .changes import Changes
from .deciding.chunking import first_size
from .encoding import Encoder, encode_inline
from .errors import PayloadTooLarge, UnpicklableFunction, WorkerStartError
from .mapping import TURN_S, Run
from .model import Decision, Reason, Strategy
from .planning import STALL_S, UNKNOWN_S, Known, Planner, Venues
from .pool.lease import PooledBackend
from .queueing import Queue
from .records import Records
from .reporting import tell_fallback
from .results import Results
from .sensing.meter import meter
from .sources import NO_SOURCE, Source
from .strategies.base import Backend, Chunk, Job, Report
from .strategies.serial import local_thread
from .tally import Tally

_PROBE_S = 0.010  # how long unknown work runs before it is decided on
_FIRST_S = 0.045  # how long the first chunk of known work may run: three times what it should
_LATE = 1.2  # a chunk that takes so much longer than it may is on a long item
_PATIENCE_S = 0.010  # how long a call of unknown cost waits for the local thread
_MAX_MOVES = 4  # how often a run may change its strategy
_WORTH_S = 0.020  # so near its end a run doesn't move: what is on lanes already is about as much
_OTHERWISE = 4.0  # a run's own mean counts against what was learned if it is off by this factor

# Decisions that rest on an estimate, and may turn out otherwise.
_REVISABLE = frozenset({Reason.MEASURING, Reason.TOO_SMALL, Reason.SINGLE_WORKER, Reason.FASTER, Reason.PROTECTS_LOOP})


class Steering:
    """Decides for one run, before it and during it; made for one run.

    Args:
        planner: Decides.
        known: What is known of the work.
        venues: Where it may execute.
        records: Where decisions and counts go.

    Attributes:
        tally: Counts of what became of the items.
    """

    def __init__(self, planner: Planner, known: Known, venues: Venues, records: Records) -> None:
        self.tally = Tally()
        self._planner, self._known, self._venues, self._records = planner, known, venues, records
        self._pace = known.pace()
        self._local = local_thread()
        self._decision: Decision
        self._encoder: Encoder
        self._executor: Errand | Call | Run | None = None
        self._stopped: Exception | None = None
        self._n_moves, self._moved_at = 0, 0.0
        self._begun = self._counted_until = monotonic()
        self._share = Share()

    def decide(self, n_items: int | None, **now: Any) -> Decision:
        """Return where the run should execute, by what is known now."""
        processes = self._venues.processes
        return self._planner.decide(self._known, n_items, self._local, processes, own=self._share.own, **now)

    def stop(self, error: Exception) -> None:
        """End the run with this error, from its own event loop; its items are stopped."""
        self._stopped = error
        if self._executor is not None:
            self._executor.stop(error)

    @property
    def _stay(self) -> Backend | None:
        """Where items execute that can't travel; None if that would fail them."""
        is_auto = self._known.options.strategy is Strategy.AUTO
        must_leave = self._decision.reason in (Reason.LOCAL_NEVER, Reason.HAS_TIMEOUT, Reason.ABOVE_GRACE)
        may_stay = is_auto and self._planner.config.local == "allow" and not self._known.function.has_crashed
        return self._local if may_stay and not must_leave else None

    @property
    def grace_s(self) -> float:
        """How long its items may take to stop."""
        return self._known.options.grace_s

    @property
    def _is_timed(self) -> bool:
        """Whether items have a time limit: then no short way is taken past what sees to it."""
        return self._known.options.item_timeout_s is not None

    # --- a single call -----------------------------------------------------------------------------------------------

    async def single(self, job: Job, args: tuple[Any, ...]) -> Any:
        """Decide on a single call, have it executed, and return its value."""
        self.tally.submitted = 1
        self._decision = self.decide(1)
        self._records.begun(self)
        try:
            self._settle(self._decision)
            backend, job = self._backend(), self._fitting(job, NO_SOURCE)
            waits = self._decision.reason is Reason.MEASURING and backend is self._local and self._local.backlog_s > 0
            if backend is self._local and not waits and not self._is_timed:
                return await self._single_here(job, args)
            return await self._single_anywhere(job, args, backend, waits)
        finally:
            self._end()

    async def _single_here(self, job: Job, args: tuple[Any, ...]) -> Any:
        chunk = Chunk(0, (args,))
        chunk.is_watched = self._known.cost.is_worth_watching(1)
        self._share.move(self._local, self._known.cost.item_s or UNKNOWN_S)
        errand = self._executor = Errand(self._known.options)
        await errand.execute(self._local, job, chunk, 0.0)
        _, report = errand.reports[0]
        error = report.refused.error if report.refused is not None else report.outcomes().failures.get(0)
        if error is not None:
            self.tally.failed = 1
            raise error
        self._learn_at_once(1, 1, report)
        return report.outcomes().values[0]

    async def _single_anywhere(self, job: Job, args: tuple[Any, ...], backend: Backend, waits: bool) -> Any:
        known, is_undisturbed = self._known, not backend.backlog_s
        self._executor = call = Call(job, args, known.options, known.cost, self.tally, self._stay, self._fell_back, self._encoder)
        self._share.move(backend, known.cost.item_s or UNKNOWN_S)
        begun = monotonic()
        if not await call.execute(backend, _PATIENCE_S if waits else None):
            self._settle(self.decide(1, waited_s=2 * _PATIENCE_S))
            backend = self._backend()
            self._share.move(backend, known.cost.item_s or UNKNOWN_S)
            await call.execute(backend)
        if is_undisturbed and backend is self._venues.processes and self.tally.completed:
            meter.tripped(monotonic() - begun - self.tally.busy_s)
        if call.error is not None:
            raise call.error
        return call.value

    # --- a map -------------------------------------------------------------------------------------------------------

    async def map(self, job: Job, source: Source) -> list[Any]:
        """Have all items executed, where that pays best by what is known at each moment; return their results in order."""
        self._decision = self.decide(source.remaining)
        self._records.begun(self)
        try:
            return await self._map(self._fitting(job, source), source)
        finally:
            try:
                if source.n_ready is not None:
                    await source.aclose()
            finally:
                self._end()

    async def _map(self, job: Job, source: Source) -> list[Any]:
        options, n_items = self._known.options, source.remaining
        is_measured = self._decision.reason is Reason.MEASURING
        if not is_measured:
            self._settle(self._decision)
        errand: Errand | None = None
        failure: Exception | None = None
        chunks: list[Chunk] = []
        if (is_measured or self._decision.strategy is Strategy.SERIAL) and not self._is_timed:
            if source.n_ready == 0:
                await source.pull(1)
            chunks = self._first_chunks(source, is_measured)
        if self._stopped is not None:
            raise self._stopped
        if chunks:
            errand = self._executor = Errand(options)
            self.tally.submitted = sum(len(chunk.items) for chunk in chunks)
            self._share.move(self._backend(), self._backlog_s(sum(source.weigh(chunk.items) for chunk in chunks)))
            try:
                if is_measured:
                    await self._measure(errand, job, chunks)
                else:
                    await errand.execute(self._backend(), job, chunks[0], _FIRST_S)
            except (PayloadTooLarge, UnpicklableFunction, WorkerStartError) as error:
                failure = error
            if source.is_exhausted and (values := self._all_values(source, chunks, errand)) is not None:
                if is_measured:
                    self._settle_done(source.total)
                return values
        return await self._map_the_rest(job, source, n_items, chunks, errand, is_measured, failure)

    def _first_chunks(self, source: Source, is_measured: bool) -> list[Chunk]:
        """Return the items that show what the others will be like; nothing if none are at hand."""
        pace, estimated_s = self._pace, None if is_measured else self._decision.estimated_s
        fitting = first_size(pace.item_s, source.remaining, estimated_s, source.probe, pace.least)
        size = self._known.options.chunk_size or fitting
        if not is_measured:
            chunk = Chunk(0, source.take(size))
            chunk.is_watched = self._known.cost.is_worth_watching(source.weigh(chunk.items))
            return [chunk] if chunk.items else []
        if self._backend().is_remote:  # what was sent there can't be taken back, so the first one goes alone
            parts = source.take(source.unit), source.take(size - source.unit)
            return [Chunk(start, items) for start, items in enumerate(parts) if items]
        chunk = Chunk(0, source.take(size))
        chunk.others = threading.Lock()
        return [chunk] if chunk.items else []

    async def _measure(self, errand: Errand, job: Job, chunks: list[Chunk]) -> None:
        """Execute the first items, and see how long they take."""
        backend = self._backend()
        if backend.is_remote:
            await self._encoder.pack()
            for chunk in chunks:
                chunk.is_watched = True
                if not encode_inline(chunk):
                    return
        await errand.execute_patiently(backend, job, chunks, _PROBE_S, _LATE * _PROBE_S)
        if errand.stall_s > STALL_S:  # not even a timer got the GIL
            self._known.cost.watched(1.0, errand.stall_s, errand.stall_s)

    def _all_values(self, source: Source, chunks: list[Chunk], errand: Errand) -> list[Any] | None:
        """Return what all items returned, if the reports on the first ones are all that there is to tell."""
        reports = errand.reports
        if len(reports) != len(chunks) or errand.held is not None:
            return None
        if not all(_is_whole(chunk, report) for chunk, report in reports):
            return None
        values: list[Any] = []
        for chunk, report in reports:
            values = values + report.outcomes().values if values else report.outcomes().values
            self._learn_at_once(report.n_items, source.weigh(chunk.items), report)
        return values

    async def _map_the_rest(
        self,
        job: Job,
        source: Source,
        n_items: int | None,
        chunks: list[Chunk],
        errand: Errand | None,
        is_measured: bool,
        failure: Exception | None,
    ) -> list[Any]:
        """Go on where the first items have not been all, or did not just return."""
        known, stay = self._known, self._stay
        queue, changes, results = Queue(source), Changes(), Results(n_items if known.options.combine is None else None)
        accounts = Accounts(
            job,
            known.options,
            queue,
            results.take_in,
            known.cost,
            self.tally,
            pace=self._pace,
            may_stay=stay is not None,
            fell_back=self._fell_back,
            changed=changes.notify,
        )
        run = self._executor = Run(job, known.options, queue, accounts, changes, stay, self._encoder)
        try:
            if errand is not None:
                run.take_on(chunks, errand, self._backend())
            if failure is not None:
                accounts.come_home(failure)
            if is_measured:
                self._settle_measured(run)
            if not run.is_over:
                self._move(run)
                is_open = known.options.strategy is Strategy.AUTO and self._decision.reason in _REVISABLE
                await run.drive(partial(self._look, run) if is_open else None)
        finally:
            await run.aclose()
        if accounts.error is not None:
            raise accounts.error
        return results.in_order(self.tally.submitted, known.options)

    def _settle_measured(self, run: Run) -> None:
        """Decide by the first items."""
        if run.is_over:
            self._settle_done(run.n_items)
            return
        self._known.function.has_crashed |= self.tally.crashes > 0
        n_done, item_s, gil_held = run.progress()
        item_s = self._known.cost.item_s or item_s
        self._settle(self.decide(run.n_items, n_done=n_done, item_s=item_s, gil_held=gil_held))

    def _settle_done(self, n_items: int | None) -> None:
        """Record where work was done that turned out to be over with the first items."""
        self._settle(self.decide(n_items, n_done=n_items or 0, current=self._decision.strategy))

    def _look(self, run: Run) -> None:
        """Decide anew by how the run goes, and move it if that says otherwise."""
        known, current = self._known, self._decision.strategy
        known.function.has_crashed |= self.tally.crashes > 0
        if known.cost.stall_s > STALL_S:
            run.leave_bridge()
        n_done, item_s, gil_held = run.progress()
        learned_s = known.cost.item_s
        if current is Strategy.THREADS and item_s is not None:
            known.cost.slowed(item_s)
            item_s = learned_s
        elif learned_s is not None and item_s is not None:
            is_other = not learned_s / _OTHERWISE < item_s < learned_s * _OTHERWISE
            item_s = item_s if is_other else learned_s
        own_lanes = run.n_leased(self._venues.processes)
        decision = self.decide(
            run.n_items,
            n_done=n_done,
            item_s=item_s,
            gil_held=gil_held,
            current=current,
            own_lanes=own_lanes,
            starting_s=monotonic() - self._moved_at if current is Strategy.PROCESSES else 0.0,
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
        self._share.move(backend, self._backlog_s(run.n_items))
        is_cold = backend is self._venues.processes and (
            self._venues.processes.pool.n_idle < decision.workers or not known.function.was_remote
        )
        may_bridge = decision.reason in _REVISABLE and known.cost.stall_s <= STALL_S
        has_bridge = is_cold and may_bridge and known.options.strategy is Strategy.AUTO
        self._moved_at = monotonic()
        run.shift(backend, decision.workers, self._local if has_bridge else None)

    # --- before and after --------------------------------------------------------------------------------------------

    def _fitting(self, job: Job, source: Source) -> Job:
        """Return the job as it should execute by what was decided, with what makes it ready to travel."""
        if self._decision.reason is Reason.INNER_PARALLELISM and self._backend().is_remote:
            job = job.alone()
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
        lanes = self._executor.n_lanes if self._executor is not None else self._decision.workers
        before, self._counted_until = self._counted_until, monotonic()
        self.tally.capacity_s += (self._counted_until - before) * lanes

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
        known, tally, decision = self._known, self.tally, self._decision
        known.function.has_crashed |= tally.crashes > 0
        known.function.was_remote |= decision.strategy is Strategy.PROCESSES
        self._count_capacity()
        tally.capacity_s = max(tally.capacity_s, tally.busy_s)
        wall_s = monotonic() - self._begun
        if tally.completed == tally.submitted and not self._n_moves:
            if decision.estimated_s is not None:
                is_warm = not decision.start_cost_s
                known.cost.took(decision.strategy, decision.estimated_s, wall_s, is_warm=is_warm)
            learn = known.cost.slowed if decision.strategy is Strategy.THREADS else known.cost.ran
            learn(tally.busy_s / max(1, tally.executed))
            known.cost.current = decision.strategy
        self._planner.learn(decision)
        self._records.ended(self, decision, known.options, wall_s)


def _is_whole(chunk: Chunk, report: Report) -> bool:
    """Whether a report is all there is to tell of a chunk: every item has returned."""
    return report.is_last and report.is_inline and report.n_items == len(chunk.items) and report.refused is None
