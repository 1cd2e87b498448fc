"""A lane to a thread of this process."""

from __future__ import annotations

import threading
from collections import deque
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from time import monotonic, monotonic_ns
from typing import Any, NamedTuple

import anyio

from ..deciding.stopping import Act, Stopping
from ..errors import TaskCancelled
from ..strategies.base import Chunk, Job, LaneLost, Measured, Outcomes, Refused
from ..telemetry import tell_item_abandoned
from ..wire import status_page
from ..wire.failures import add_notes, raisable_here
from ..worker.context import NO_CONTEXT, bind
from ..worker.execute import execute
from ..worker.gil import GilWatch
from ..worker.interrupt import ThreadGuard
from ..worker.task import Task, current
from .waiting import poster
from .watchdog import Watchdog


class ThreadReport(NamedTuple):
    """Outcomes as they are."""

    start: int
    values: list[Any]
    failures: dict[int, Exception]
    elapsed_s: float
    is_last: bool
    measured: Measured = Measured()
    refused: Refused | None = None
    is_inline: bool = True

    @property
    def n_items(self) -> int:
        """How many items have their outcome in here."""
        return len(self.values)

    def outcomes(self) -> Outcomes:
        """Return what became of the items."""
        return Outcomes(self.start, self.values, self.failures)


class Order(NamedTuple):
    """A chunk on its way to the thread, and the way back."""

    job: Job
    chunk: Chunk
    epoch: int
    budget_s: float
    loop: Any
    sent_ns: int


class _Parking:
    """Where the holder of a lane waits for the thread.

    On asyncio it is a bare future: an event costs as much again as the rest of the way back, 5 of 40 µs.
    """

    __slots__ = ("_event", "_future")

    def __init__(self, loop: Any) -> None:
        self._future = loop.create_future() if hasattr(loop, "create_future") else None
        self._event = anyio.Event() if self._future is None else None

    async def wait(self) -> None:
        if self._future is not None:
            await self._future
        else:
            assert self._event is not None
            await self._event.wait()

    def wake(self) -> None:
        if self._event is not None:
            self._event.set()
        elif self._future is not None and not self._future.done():
            self._future.set_result(None)


class ThreadLane:
    """A thread that executes chunks; used by whoever leases it, one at a time.

    Args:
        name: Of the thread.
        idle_timeout_s: The thread asks `on_idle` after so long without work, and ends if that returns True.
        on_idle: Takes the lane out of its pool, if nobody uses it.
        is_beside_others: Whether others of a session's threads may execute beside it, or beside one that it is below.

    Attributes:
        nested: The one thread below it, for runs that its items start; None until one asks for it.
        is_executing: Whether it is on a chunk.
        gathered: Of the chunk that it is on: its epoch, an index, and where the outcomes from there on are put.
        is_beside_others: As above.
    """

    def __init__(self, name: str, idle_timeout_s: float, on_idle: Any, is_beside_others: bool) -> None:
        self.in_flight: deque[Chunk] = deque()
        self._words = status_page.new_page(bytearray(status_page.SIZE))
        self.guard = ThreadGuard()
        self._watchdog = Watchdog(self._words, self.guard.interrupt)
        self._names: dict[int, str] = {}  # of the functions in flight, by epoch
        self._is_stopping = False  # all that is in flight
        self.loop: Any = None  # of whoever leases the lane
        self._epoch = 0
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._reports: deque[ThreadReport] = deque()
        self._parking: _Parking | None = None
        self._is_retired = False
        self._is_broken_off = False
        self._watch: GilWatch | None = None
        self.gathered: tuple[int, int, list[Any]] | None = None
        self._idle_timeout_s, self._on_idle = idle_timeout_s, on_idle
        self.nested: Any = None
        self.is_executing, self.is_beside_others = False, is_beside_others
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def send(self, job: Job, chunk: Chunk, budget_s: float) -> None:
        """Have a chunk executed; see `Lane`."""
        if not self.in_flight:
            self._is_broken_off = False  # that was of what came to its end all the same
        self._epoch += 1
        chunk.epoch, chunk.limit, chunk.expired = self._epoch, job.limit, None
        self.in_flight.append(chunk)
        self._names[self._epoch] = job.name
        if chunk.is_watched:
            self.watch()
        self._orders.put(self._order(job, chunk, budget_s))

    def _order(self, job: Job, chunk: Chunk, budget_s: float) -> Order:
        """Return what the thread is given for a chunk."""
        return Order(job, chunk, self._epoch, budget_s, self.loop, monotonic_ns())

    async def receive(self) -> ThreadReport:
        """Return the next news; see `Lane`."""
        while not self._reports:
            if self._is_broken_off:
                self._is_broken_off = False
                raise LaneLost([])
            self._parking = parking = _Parking(self.loop)
            if not self._reports:  # else it came in between, and nobody would wake this
                await self._wait(parking)
        report = self._reports.popleft()
        if report.is_last:
            chunk = self.in_flight.popleft()
            del self._names[chunk.epoch]
            self._watchdog.over(chunk)
            if self._watch is not None:
                measured = Measured(report.measured.longest_s, self._watch.stop(), self._watch.stall_s)
                self._watch = None
                return report._replace(measured=measured)
        return report

    async def _wait(self, parking: _Parking) -> None:
        """Wait for news; where items have a time limit only until one may have executed for too long."""
        chunk = self.in_flight[0]
        if chunk.limit is None or self._is_stopping:
            await parking.wait()
            return
        wait_s = self._watchdog.look(chunk)
        if wait_s is None:
            raise self._given_up(chunk.limit.grace_s)
        with anyio.move_on_after(wait_s):
            await parking.wait()

    def _given_up(self, grace_s: float) -> LaneLost:
        """Leave the thread to its item: it can't be killed."""
        chunk = self.in_flight[0]
        begun = status_page.last_begun(self._words[status_page.ITEM], chunk.epoch)
        item = begun if begun is not None and not begun & status_page.PACKED else None
        tell_item_abandoned(self._names[chunk.epoch], item, grace_s)
        lost = [(chunk, begun), *((other, None) for other in list(self.in_flight)[1:])]
        self.in_flight.clear()
        self.kill()
        return LaneLost(lost)

    def watch(self) -> None:
        """See how the GIL is held from now on until the end of the chunk; see `Lane`."""
        if self._watch is None:
            self._watch = GilWatch(in_item=current.task is not None)

    def _arrived(self, loop: Any) -> None:
        """Wake the holder, on its own event loop: a late call may find that another loop holds the lane by now."""
        if self._parking is not None and self.loop is loop:
            self._parking.wake()

    def break_off(self) -> None:
        """Have `receive` raise LaneLost instead of waiting on, once; called on the event loop that leases the lane."""
        self._is_broken_off = bool(self.in_flight)
        self._arrived(self.loop)

    async def abandon(self, grace_s: float) -> bool:
        """Stop what is in flight; a thread whose item does not stop in time is left alone and not used again."""
        self._words[status_page.CANCEL] = self._epoch
        self._is_broken_off, self._is_stopping = False, True
        stopping = Stopping(monotonic(), grace_s)
        while self.in_flight:
            step = stopping.step(monotonic())
            if step.act is Act.GIVE_UP:
                self._given_up(grace_s)
                return False
            if step.act is Act.INTERRUPT:
                self.guard.interrupt()
            with anyio.move_on_after(step.wait_s):
                while self.in_flight:
                    await self.receive()
        self._is_stopping = False
        return True

    @property
    def is_usable(self) -> bool:
        """Whether more may be sent."""
        return not self._is_retired

    @property
    def is_empty(self) -> bool:
        """Whether nothing is under way on the lane."""
        return not self.in_flight

    @property
    def n_finished(self) -> int:
        """How many items of the chunk first in flight are finished; see `Lane`."""
        chunk, gathered = self.in_flight[0], self.gathered
        if gathered is not None and gathered[0] == chunk.epoch:  # exact also where items are too short to note each on the page
            return gathered[1] + len(gathered[2]) - chunk.start
        begun = status_page.last_begun(self._words[status_page.ITEM], chunk.epoch)
        return status_page.n_finished(begun, chunk.start, len(chunk.items))

    @property
    def fraction(self) -> float:
        """How much of the item that it is on is done; see `Lane`."""
        return status_page.read_fraction(self._words)

    @property
    def gil_held(self) -> float | None:
        """Share of the time that the GIL has been held by a watched chunk under way; see `Lane`."""
        return self._watch.held if self._watch is not None else None

    def retire(self) -> None:
        """Let nothing more be sent; see `Lane`."""
        self._is_retired = True

    def kill(self) -> None:
        """Let the thread end once its item does; it can't be killed."""
        self.retire()
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        self._words[status_page.CANCEL] = self._epoch
        self._orders.put(None)

    def tidy(self) -> None:
        """Nothing to let go of: what a thread is done with is gone."""

    def close(self) -> None:
        """Nothing to free: a thread has no descriptors."""

    def _work(self) -> None:
        _lane.set(self)
        try:
            self._execute_orders()
        finally:
            if self.nested is not None:
                self.nested.pool.close()

    def _execute_orders(self) -> None:
        while True:
            try:
                order = self._orders.get(timeout=self._idle_timeout_s)
            except Empty:
                if self._on_idle(self):
                    return
                continue
            if order is None:
                return
            execution = _Execution(order, self._words, self)
            self.is_executing = True
            try:
                execution.run()
            except TaskCancelled:  # an interrupt that came when all was over but the telling
                self.guard.shut()
                current.task = None
                execution.stop()
            except BaseException as error:  # whatever an evil exception did to us: the caller must not wait for ever
                execution.give_up(error)
            self.is_executing, self.gathered = False, None
            del order, execution  # nothing of a run is kept while the thread waits

    def deliver(self, report: ThreadReport, loop: Any) -> None:
        """Hand news to the loop that leases the lane."""
        self._reports.append(report)
        try:
            poster(loop)(self._arrived, loop)
        except RuntimeError:  # its loop is closed; the pool notices
            pass


class _Execution:
    """One chunk in the thread; is itself where its outcomes go."""

    def __init__(self, order: Order, words: memoryview, lane: ThreadLane) -> None:
        self._order, self._words, self._lane = order, words, lane

    def run(self) -> None:
        job, chunk, epoch, budget_s, _, sent_ns = self._order
        try:
            state = job.initializer.state()
        except Exception as error:
            self.give_up(error)
            return
        bind(job.context)
        rest = execute(
            job.fn,
            chunk.items,
            start=chunk.start,
            flags=job.flags,
            budget_ns=int(budget_s * 1e9),
            task=Task(self._words, epoch, state, False, self._lane.guard, None if job.answer is None else self._ask),
            emit=self,
            sent_ns=sent_ns,
            others=chunk.others,
        )
        bind(NO_CONTEXT)
        measured = Measured(rest.longest_ns / 1e9)
        self._deliver(ThreadReport(rest.start, rest.values, {}, rest.elapsed_ns / 1e9, True, measured))

    def _ask(self, question: Any, is_held: bool) -> Any:
        """Have the caller's handler answer, right here; it is not interrupted."""
        answer, guard = self._order.job.answer, self._lane.guard
        assert answer is not None
        answer.context.run(_lane.set, self._lane)  # so that runs which the handler starts don't wait for this thread
        guard.shield()
        try:
            return answer.to(question)
        finally:
            guard.n_shields -= 1

    def gather(self, start: int, values: list[Any]) -> None:
        """Take note of where the next outcomes are put."""
        self._lane.gathered = self._order.epoch, start, values

    def stop(self) -> None:
        """Tell that the chunk has stopped, without what was not told before."""
        self._deliver(ThreadReport(self._order.chunk.start, [], {}, 0.0, True))

    def give_up(self, error: BaseException) -> None:
        """Fail the run: the chunk can't be executed."""
        start = self._order.chunk.start
        failure = raisable_here(error, start)
        self._deliver(ThreadReport(start, [], {}, 0.0, True, refused=Refused(error=failure)))

    def values(self, start: int, values: list[Any], elapsed_ns: int) -> None:
        """Take what consecutive items returned."""
        self._deliver(ThreadReport(start, values, {}, elapsed_ns / 1e9, False))

    def failure(self, index: int, error: BaseException) -> None:
        """Take what one item raised."""
        raisable = raisable_here(error, index)
        add_notes(raisable, index, self._order.job.name, "")
        self._deliver(ThreadReport(index, [None], {index: raisable}, 0.0, False))

    def _deliver(self, report: ThreadReport) -> None:
        self._lane.deliver(report, self._order.loop)


# Set once in the lane's thread. It goes where an item's calls go: to an event loop that it runs, in its own thread or in one
# that it hands a coroutine to.
_lane: ContextVar[ThreadLane | None] = ContextVar("offloop_thread_lane", default=None)


def current_thread_lane() -> ThreadLane | None:
    """Return the lane to a thread of this process whose item has made the call that asks, if there is one."""
    lane = _lane.get()
    return lane if lane is not None and lane.is_executing else None
