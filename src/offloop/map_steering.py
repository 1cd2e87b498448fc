"""The way of a map or a stream: where it begins, when it moves."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

import anyio

from .accounts import Accounts
from .calling import Errand
from .changes import Changes
from .deciding.chunking import first_size
from .encoding import encode_inline
from .errors import PayloadTooLarge, UnpicklableFunction, WorkerStartError
from .mapping import Run
from .model import Reason, Strategy
from .planning import STALL_S, Known, Planner, Venues
from .progressing import observed
from .queueing import Queue
from .records import Records
from .results import Sink
from .sources import Source
from .steering import Steering
from .strategies.base import Chunk, Job, Outcomes, Report, TooLate
from .tracing import tell_chunk, traced

_PROBE_S = 0.010  # how long unknown work runs before it is decided on
_FIRST_S = 0.045  # how long the first chunk of known work may run: three times what it should
_LATE = 1.2  # a chunk that takes so much longer than it may is on a long item
_MAX_MOVES = 4  # how often a run may change its strategy
_WORTH_S = 0.020  # so near its end a run doesn't move: what is on lanes already is about as much
_OTHERWISE = 4.0  # a run's own mean counts against what was learned if it is off by this factor

# Decisions that rest on an estimate, and may turn out otherwise.
_REVISABLE = frozenset({Reason.MEASURING, Reason.TOO_SMALL, Reason.SINGLE_WORKER, Reason.FASTER, Reason.PROTECTS_LOOP})


@dataclass(slots=True, eq=False)
class _First:
    """The first items of a run, which are executed before it is clear where the others will.

    Attributes:
        chunks: The items.
        errand: What became of them; None if they were not begun.
        failure: What kept them from being executed where they were to.
    """

    chunks: list[Chunk] = field(default_factory=list)
    errand: Errand | None = None
    failure: Exception | None = None


class MapSteering(Steering):
    """Decides for one run over the items of a source."""

    _moved_at = 0.0
    _scope: anyio.CancelScope | None = None

    def __init__(self, planner: Planner, known: Known, venues: Venues, records: Records) -> None:
        super().__init__(planner, known, venues, records)
        self._flow = object()  # each map has a share of the lanes for itself

    def stop(self, error: Exception) -> None:
        """End the run with this error, from its own event loop; its items are stopped."""
        super().stop(error)
        if self._executor is None and self._scope is not None:
            self._scope.cancel()

    def entrance(self, _: Job, __: Source, sink: Sink) -> str:
        """Return how it was called, as its span is named."""
        if self._known.options.combine is not None:
            return "run_batches"
        return "stream" if sink.keeps else "run_parallel"

    @traced
    async def execute(self, job: Job, source: Source, sink: Sink) -> None:
        """Have all items executed, where that pays best by what is known at each moment; the sink gets what becomes of them.

        Raises:
            Exception: What has ended the run before its time; what the source has raised.
        """
        self._is_paced, self._source = sink.keeps, source
        self._decision = self.decide(source.remaining)
        try:
            self._come_in(self._backlog_s(source.remaining))
        except Exception:
            if sink.keeps:  # who sends is to learn of it; a map's items may be tried again
                async with source.reading():
                    pass
            raise
        try:
            async with source.reading():
                job = self._fitting(job, source)
                await observed(self._progress, self.standing, self._map, job, source, sink)
        except TooLate:
            raise await self._too_late() from None
        finally:
            self._end()
        if source.failure is not None:
            raise source.failure

    @property
    def _n_items(self) -> int | None:
        return self._source.total

    async def _map(self, job: Job, source: Source, sink: Sink) -> None:
        begins_here = self._is_measuring or self._decision.strategy is Strategy.SERIAL
        if not self._is_measuring:
            self._settle(self._decision)
        first = _First()
        if begins_here and not self._is_timed:
            if source.n_ready == 0:
                with anyio.CancelScope() as self._scope:  # so that `stop` reaches it: a source may be silent for long
                    await source.pull(1)
            first.chunks = self._first_chunks(source, sink)
        if self._stopped is not None:
            raise self._stopped
        if first.chunks:
            await self._execute_first(job, source, first)
            if source.is_exhausted and (values := self._all_values(source, first)) is not None:
                if self._is_measuring:
                    self._settle_done(source.total)
                sink.take_in(Outcomes(0, values, {}))
                return
        await self._map_the_rest(job, source, sink, first)

    @property
    def _is_measuring(self) -> bool:
        """Whether what the first items take is to decide."""
        return self._decision.reason is Reason.MEASURING

    async def _execute_first(self, job: Job, source: Source, first: _First) -> None:
        """Execute the first items; what goes wrong with them or is left of them is `_map_the_rest`'s."""
        errand = first.errand = self._executor = Errand(self._known.options, self._place)
        self.tally.submitted = sum(len(chunk.items) for chunk in first.chunks)
        self._share.move(self._backend(), self._backlog_s(sum(source.weigh(chunk.items) for chunk in first.chunks)))
        try:
            if self._is_measuring:
                await self._measure(errand, job, first.chunks)
            else:
                await errand.execute(self._backend(), job, first.chunks[0], _FIRST_S)
        except (PayloadTooLarge, UnpicklableFunction, WorkerStartError) as error:
            first.failure = error

    def _first_chunks(self, source: Source, sink: Sink) -> list[Chunk]:
        """Return the items that show what the others will be like; nothing if none are at hand."""
        is_measured, pace = self._is_measuring, self._pace
        estimated_s = None if is_measured else self._decision.estimated_s
        fitting = first_size(pace.item_s, source.remaining, estimated_s, source.probe, pace.least)
        size = min(self._known.options.chunk_size or fitting, sink.most_at_once(1))
        if (room := sink.room(0, 1, source.unit if is_measured else size)) is not None:
            size = min(size, room)
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

    def _all_values(self, source: Source, first: _First) -> list[Any] | None:
        """Return what all items returned, if the reports on the first ones are all that there is to tell."""
        assert first.errand is not None
        reports = first.errand.reports
        if len(reports) != len(first.chunks) or first.errand.held is not None:
            return None
        if not all(_is_whole(chunk, report) for chunk, report in reports):
            return None
        values: list[Any] = []
        for chunk, report in reports:
            values = values + report.outcomes().values if values else report.outcomes().values
            self._learn_at_once(report.n_items, source.weigh(chunk.items), report)
            tell_chunk(chunk.start, report.n_items, report.elapsed_s, is_remote=self._backend().is_remote)
        return values

    async def _map_the_rest(self, job: Job, source: Source, sink: Sink, first: _First) -> None:
        """Go on where the first items have not been all, or did not just return."""
        known, stay = self._known, self._stay
        if first.errand is not None and first.errand.has_begun:
            self._place = self._place._replace(until=math.inf)
        queue, changes = Queue(source), Changes()
        accounts = Accounts(
            job,
            known.options,
            queue,
            sink.take_in,
            known.cost,
            self.tally,
            pace=self._pace,
            may_stay=stay is not None,
            fell_back=self._fell_back,
            changed=changes.notify,
        )
        run = self._executor = Run(
            job, known.options, queue, accounts, sink, self._place, self._too_late, changes, stay, self._encoder
        )
        sink.room_made = changes.notify
        try:
            if first.errand is not None:
                run.take_on(first.chunks, first.errand, self._backend())
            if first.failure is not None:
                accounts.come_home(first.failure)
            if self._is_measuring:
                self._settle_measured(run)
            if not run.is_over:
                self._move(run)
                is_open = known.options.strategy is Strategy.AUTO and self._decision.reason in _REVISABLE
                await run.drive(partial(self._look, run) if is_open else None)
        finally:
            await run.aclose()
        if accounts.error is not None:
            raise accounts.error

    def _settle_measured(self, run: Run) -> None:
        """Decide by the first items."""
        if run.is_over:
            self._settle_done(self._n_items)
            return
        self._known.function.has_crashed |= self.tally.crashes > 0
        n_done, item_s, gil_held = run.progress()
        item_s = self._known.cost.item_s or item_s
        self._settle(self.decide(self._n_items, n_done=n_done, item_s=item_s, gil_held=gil_held))

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
            self._n_items,
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
        self._share.move(backend, self._backlog_s(self._n_items))
        is_cold = backend is self._venues.processes and (
            self._venues.processes.pool.n_idle < decision.workers or not known.function.was_remote
        )
        may_bridge = decision.reason in _REVISABLE and known.cost.stall_s <= STALL_S
        has_bridge = is_cold and may_bridge and known.options.strategy is Strategy.AUTO
        self._moved_at = monotonic()
        run.shift(backend, decision.workers, self._local if has_bridge else None)


def _is_whole(chunk: Chunk, report: Report) -> bool:
    """Whether a report is all there is to tell of a chunk: every item has returned."""
    return report.is_last and report.is_inline and report.n_items == len(chunk.items) and report.refused is None
