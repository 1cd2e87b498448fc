"""What becomes of a run's items: every outcome to the sink once, everything that must run again back to the queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

from .deciding.chunking import Pace
from .deciding.costs import Cost
from .deciding.recovery import recover
from .errors import (
    AsyncFunctionError,
    ItemTimeout,
    UnpicklableFunction,
    UnpicklableItem,
    UnpicklableResult,
    WorkerCrashed,
    WorkerStartError,
)
from .model import Reason
from .options import CallOptions
from .pool.lane import WorkerLane
from .queueing import Queue
from .reporting import tell_death, tell_retry, tell_timeout
from .strategies.base import Backend, Chunk, Job, Lane, LaneLost, Outcomes, Refused, Report
from .tally import Tally
from .tracing import tell_chunk
from .wire.status_page import LOADING, UNPACKING

_N_STUCK = 3  # workers that don't begin: a guess

Sink = Callable[[Outcomes], None]
FallBack = Callable[[Reason, BaseException, int | None], None]


def nothing(*_: object) -> None:
    """Do nothing: nobody is to be told."""


class Accounts:
    """Takes in what lanes tell; decides nothing about who works.

    Args:
        job: What all chunks of the run share.
        options: Its options.
        queue: Where items go that must run again.
        sink: Gets every outcome once, in no particular order.
        cost: What such items have cost; it is added to.
        tally: Counts; it is added to.
        pace: How quickly it goes; None to begin with what such items have cost.
        may_stay: Whether items that can't travel may execute in this process.
        fell_back: Called once with reason, error and number of items when they do.
        changed: Called when there may be something new to do.
        over: Called when nothing is left to do, or the run has failed; see the attribute.

    Attributes:
        over: Whoever executes the run puts here what is to be called at its end.
        pace: Seconds per item or row, for the size of chunks.
        error: What ends the run.
        arrived: Reports that must be unpacked in a thread.
        homeward: Why no item can travel at all, once that is known.
    """

    def __init__(
        self,
        job: Job,
        options: CallOptions,
        queue: Queue,
        sink: Sink,
        cost: Cost,
        tally: Tally,
        *,
        pace: Pace | None = None,
        may_stay: bool,
        fell_back: FallBack,
        changed: Callable[[], None],
        over: Callable[[], None] = nothing,
    ) -> None:
        self.tally = tally
        self.cost, self.pace = cost, Pace(cost.item_s) if pace is None else pace
        self.error: Exception | None = None
        self.arrived: deque[tuple[Chunk, Report]] = deque()
        self.homeward: Exception | None = None
        self._job, self._options, self._queue, self._sink = job, options, queue, sink
        self._may_stay, self._fell_back = may_stay, fell_back
        self._has_fallen_back = False
        self._n_lost_early = 0  # workers that ended, or got stuck, before they came to an item
        self._changed, self.over = changed, over

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        if self.error is not None:
            return True
        tally = self.tally
        return self._queue.source.is_exhausted and tally.done == tally.submitted

    def close(self) -> None:
        """Let go of all that is told, once nothing more is taken in: they know this, and would stay until a garbage collection."""
        self._sink = self._fell_back = self._changed = self.over = nothing

    def fail(self, error: Exception) -> None:
        """End the run with this error, unless another has ended it."""
        if self.error is None:
            self.error = error
        self.over()

    # --- what can't travel -------------------------------------------------------------------------------------------

    def stick(self, chunk: Chunk, error: Exception) -> bool:
        """Have items executed in this process, since they can't be elsewhere; False if that may not be."""
        if not self._may_stay:
            return False
        self._queue.stuck.append(chunk)
        self._tell_fallback(Reason.UNPICKLABLE, error, len(chunk.items))
        self._changed()
        return True

    def come_home(self, error: Exception) -> None:
        """Note that no worker can execute anything: the rest stays in this process, or the run fails."""
        if not self._may_stay:
            self.fail(error)
        elif self.homeward is None:
            self.homeward = error
            reason = Reason.START_FAILED if isinstance(error, WorkerStartError) else Reason.UNPICKLABLE
            self._tell_fallback(reason, error, self._queue.remaining)
            self._changed()

    def _tell_fallback(self, reason: Reason, error: BaseException, n_items: int | None) -> None:
        if not self._has_fallen_back:  # once for a run: the first shows what is wrong
            self._has_fallen_back = True
            self.tally.note_fallback(reason)
            self._fell_back(reason, error, n_items)

    # --- what lanes tell ---------------------------------------------------------------------------------------------

    def note(self, lane: Lane | None, backend: Backend, chunk: Chunk, report: Report, *, is_alone: bool) -> None:
        """Take in news of a chunk.

        Args:
            lane: Where it is; None if it isn't any more.
            backend: Where that is.
            chunk: The chunk.
            report: The news.
            is_alone: Whether no other lane of this process was busy, so that its time tells what an item costs.
        """
        self._n_lost_early = 0
        if report.refused is not None:
            self._refused(lane, chunk, report.refused)
            return
        weigh, items = self._queue.source.weigh, chunk.items
        self.tally.executed += weigh(items, chunk.done + report.n_items) - weigh(items, chunk.done)
        chunk.done += report.n_items
        if report.is_last:
            if chunk.done:
                pid = lane.worker.pid if isinstance(lane, WorkerLane) else None
                tell_chunk(chunk.start, chunk.done, report.elapsed_s, is_remote=backend.is_remote, pid=pid)
                self._measure(backend, chunk, report, is_alone or backend.is_remote)
            if chunk.done < len(chunk.items):
                self._go_on(chunk)
            chunk.message = None  # what it holds is no longer in flight
            if lane is not None and lane.in_flight:
                lane.in_flight[0].sent_at = monotonic()  # it has only waited so far
        if report.is_inline:
            begun = monotonic() if backend.is_remote else 0.0
            outcomes = report.outcomes()
            self.take_in(chunk, report, outcomes, monotonic() - begun if backend.is_remote else 0.0)
        else:
            self.arrived.append((chunk, report))
        self._changed()

    def _go_on(self, chunk: Chunk) -> None:
        """Queue what a chunk that was cut short has left; an item whose time was over fails."""
        start, expired = chunk.start + chunk.done, chunk.expired
        is_unpacking = expired is not None and expired.begun == UNPACKING and not chunk.done
        if is_unpacking and len(chunk.items) > 1:
            self.split(chunk)
        elif is_unpacking or (expired is not None and expired.begun == start):
            if start + 1 < chunk.end:
                self._queue.put_back(chunk.part(start + 1, chunk.end))
            self._time_out(chunk, start, start + 1, is_killed=False)
        else:
            self._queue.put_back(chunk.part(start, chunk.end))

    def _time_out(self, chunk: Chunk, start: int, end: int, *, is_killed: bool) -> None:
        """Fail items whose time was over."""
        assert chunk.expired is not None
        assert chunk.limit is not None
        age_s, limit_s = chunk.expired.age_s, chunk.limit.seconds
        self.cost.executed(end - start, (end - start) * age_s, age_s, is_remote=True)  # it costs that at least
        failures: dict[int, Exception] = {}
        for index in range(start, end):
            tell_timeout(self._job.name, index, age_s, limit_s, is_killed=is_killed)
            failures[index] = ItemTimeout(index, limit_s, age_s, self._job.name)
        self._lose(chunk, failures)

    def _lose(self, chunk: Chunk, failures: dict[int, Exception]) -> None:
        """Fail consecutive items that were not executed to their end."""
        start, end = min(failures), max(failures) + 1
        weigh, items = self._queue.source.weigh, chunk.items
        self.tally.lost += weigh(items, end - chunk.start) - weigh(items, start - chunk.start)
        self.store(Outcomes(start, [None] * (end - start), failures))

    def _measure(self, backend: Backend, chunk: Chunk, report: Report, tells_cost: bool) -> None:
        """Learn from a chunk that is over."""
        elapsed_s, measured = report.elapsed_s, report.measured
        executed = self._queue.source.weigh(chunk.items, chunk.done)
        self.tally.busy_s += elapsed_s
        self.pace.measured(executed, elapsed_s)
        if backend.is_remote and chunk.message is not None:
            message, weight = chunk.message, self._queue.source.weigh(chunk.items)
            self.cost.sent(weight, message.size, chunk.encode_s, in_file=message.size - message.inline_bytes)
        if tells_cost:
            self.cost.executed(executed, elapsed_s, measured.longest_s, is_remote=backend.is_remote)
        if measured.gil_held is not None:
            self.cost.watched(measured.gil_held, measured.stall_s, max(elapsed_s, 1e-6))

    def take_in(self, chunk: Chunk, report: Report, outcomes: Outcomes, seconds: float) -> None:
        """Take in outcomes that were unpacked in so many seconds."""
        size, in_file = report.measured.result_bytes, report.measured.in_file
        if outcomes.values and size:
            before = outcomes.start - chunk.start
            weigh, end = self._queue.source.weigh, before + len(outcomes.values)
            self.cost.received(weigh(chunk.items, end) - weigh(chunk.items, before), size, seconds, in_file)
        for part in self._without_stuck(chunk, outcomes) if outcomes.failures else (outcomes,):
            self.store(part)

    def _without_stuck(self, chunk: Chunk, outcomes: Outcomes) -> list[Outcomes]:
        """Take out items that could not travel: they execute in this process, again if they must and may."""
        stuck = [
            index
            for index, error in sorted(outcomes.failures.items())
            if (type(error) is UnpicklableItem or (type(error) is UnpicklableResult and self._options.retries))
            and self.stick(Chunk(index, [chunk.items[index - chunk.start]]), error)  # this one is on its lane still
        ]
        start, values, failures = outcomes
        parts = []
        for index in (*stuck, start + len(values)):
            kept = {i: error for i, error in failures.items() if start <= i < index}
            parts.append(Outcomes(start, values[start - outcomes.start : index - outcomes.start], kept))
            start = index + 1
        return parts

    def _refused(self, lane: Lane | None, chunk: Chunk, refused: Refused) -> None:
        if refused.error is not None:
            if not isinstance(refused.error, UnpicklableFunction):
                self.fail(refused.error)
                return
            self.come_home(refused.error)
        if refused.by_value and lane is not None and lane.is_usable:  # once for a worker, which may have been sent two chunks
            self._job.distrust_name()
        if refused.retire and lane is not None:
            lane.retire()
        if refused.one_by_one:
            self.split(chunk)
        else:
            self._queue.put_back(chunk)
        self._changed()

    def split(self, chunk: Chunk) -> None:
        """Have the items of a chunk sent one by one."""
        for index in reversed(range(chunk.start, chunk.end)):
            self._queue.put_back(chunk.part(index, index + 1))

    def store(self, outcomes: Outcomes) -> None:
        """Hand outcomes to the sink, and end the run if that is what a failure means."""
        n_failed = len(outcomes.failures)
        self.tally.failed += n_failed
        self.tally.completed += len(outcomes.values) - n_failed
        self._sink(outcomes)
        if n_failed:
            first = min(outcomes.failures)
            error = outcomes.failures[first]
            if self._options.on_error == "raise" or isinstance(error, AsyncFunctionError):
                self.fail(error)
        if self.is_over:
            self.over()

    def refuse_items(self, chunk: Chunk, bad: dict[int, Exception]) -> None:
        """Take in which items of a chunk can't be pickled: they stay here or fail, and the others go back."""
        good = chunk.start
        for index, failure in (*bad.items(), (chunk.end, None)):
            if index > good:
                self._queue.put_back(chunk.part(good, index))
            good = index + 1
            if failure is not None and not self.stick(chunk.part(index, index + 1), failure):
                self._lose(chunk, {index: failure})

    def recover(self, lost: LaneLost) -> None:
        """Put back what a broken lane did not finish, and fail what may not run again."""
        for chunk, begun in lost.begun:
            is_expired = chunk.expired is not None
            if begun is not None and not is_expired:
                self._note_death(lost, begun)
            if (begun == LOADING or (begun is None and is_expired)) and self._is_function_lost(chunk, lost, begun):
                return
            plan = recover(
                start=chunk.start + chunk.done,
                end=chunk.end,
                begun=begun,
                deaths=chunk.deaths,
                retries=self._options.retries,
                is_expired=is_expired,
            )
            for start, end in plan.again:
                self._queue.put_back(chunk.part(start, end))
            for start, end in plan.alone:
                self._retry_alone(chunk, start, end)
            for start, end in plan.timed_out:
                self._time_out(chunk, start, end, is_killed=True)
            for start, end in plan.lost:
                self._lose(chunk, {index: self._crash(index, index, lost) for index in range(start, end)})
        self._changed()

    def _note_death(self, lost: LaneLost, begun: int) -> None:
        self.tally.crashes += 1
        self._may_stay = False  # a function that kills its worker must not run here
        tell_death(self._job.name, lost.exit_code, begun, lost.cause)

    def _is_function_lost(self, chunk: Chunk, lost: LaneLost, begun: int | None) -> bool:
        """Whether workers end, or get stuck, before they come to an item, too often: the run ends with that.

        As they load the function no more of them may than under an item; before that nobody is to blame, so they may a few
        times more.
        """
        self._n_lost_early += 1
        if self._n_lost_early <= self._options.retries + (_N_STUCK if begun is None else 0):
            return False
        if chunk.expired is None or chunk.limit is None:
            self.fail(self._crash(chunk.start, chunk.end - 1, lost))
        else:
            self.fail(ItemTimeout(chunk.start, chunk.limit.seconds, chunk.expired.age_s, self._job.name))
        return True

    def _crash(self, first: int, last: int, lost: LaneLost) -> WorkerCrashed:
        return WorkerCrashed(first, last, lost.exit_code, self._job.name, lost.cause, lost.dump)

    def _retry_alone(self, chunk: Chunk, start: int, end: int) -> None:
        for index in range(start, end):
            alone = chunk.part(index, index + 1)
            alone.deaths = chunk.deaths + 1
            self._queue.put_back(alone)
            self.tally.retried += 1
            tell_retry(self._job.name, index, alone.deaths)
