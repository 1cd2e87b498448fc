"""The lifetime of a session: what it holds, from when it is opened until all of it is gone."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar, Unpack

import anyio

from .admission import Admission
from .checks import seconds_of
from .deciding.decide import thread_limit, worker_limit
from .errors import SessionClosedError
from .events import SessionDrained, WorkersCapped
from .forking import in_forked_child
from .initializing import LocalInitializer
from .model import Decision, SessionStatistics, Strategy
from .outgoing import Outgoing
from .planning import Planner, Venues
from .plans import Plans
from .pool.folder import PrivateFolder
from .pool.lease import PooledBackend
from .pool.shielding import shielded
from .pool.thread_lane import ThreadLane
from .pool.threads import call_blocking
from .pool.waiting import poster
from .portal import Portal
from .records import Records
from .sensing.environment import sense_environment
from .sensing.host import sense_host, worker_environment
from .sensing.system import this_system
from .settings import ParallelConfig, Settings, SettingSource, session_settings
from .strategies.processes import processes
from .strategies.serial import local_thread
from .strategies.threads import threads
from .telemetry import emit
from .wire.storage import Storage
from .worker import task

T = TypeVar("T")

_MARGIN_S = 0.5  # what runs may take to be over beyond their grace; a guess, for loops that are busy


class Means(NamedTuple):
    """What a session is made with; a test kit puts others in their place.

    Attributes:
        processes: Makes the lanes of worker processes.
        threads: Makes those of threads.
        admission: Makes what refuses calls.
    """

    processes: Callable[..., PooledBackend[Any]] = processes
    threads: Callable[[int, float], PooledBackend[ThreadLane]] = threads
    admission: Callable[..., Admission] = Admission


class Lifetime:
    """Settings, workers, shared objects and books of a session, and whether it is open; see `ParallelSession`."""

    _means = Means()

    def __init__(self, config: ParallelConfig | None = None, **settings: Unpack[Settings]) -> None:
        system = this_system()
        environment = sense_environment(system.environ)
        checked, sources = session_settings(config, settings, environment.settings)
        self.config: ParallelConfig = checked
        self.sources: Mapping[str, SettingSource] = sources
        host = sense_host(
            system, is_worker=task.is_worker_process, is_off=environment.is_off, lifts_ci=environment.lifts_ci
        )
        limit = worker_limit(host, self.config)
        self._folder = PrivateFolder() if self.config.transport == "portable" else None
        storage = Storage(self.config.transport, self._folder.path if self._folder is not None else None)
        env = worker_environment(host.cores, limit, system.environ)
        self._processes = self._means.processes(self.config, limit, env, system, storage)
        self._threads = self._means.threads(thread_limit(host, self.config), self.config.idle_timeout_s)
        limit_bytes = self.config.max_in_flight_bytes
        self._outgoing = Outgoing(storage, system, limit_bytes, self._processes.pool.tidy)
        self._venues = Venues(self._threads, self._processes, self._outgoing)
        self._is_consent = self.sources["strategy"] is not SettingSource.ENVIRONMENT
        self._planner = Planner(host, self.config, self._processes.pool)
        self._plans = Plans(self.config, self._is_consent, LocalInitializer(self.config))
        asked = self.config.workers or 0
        capped = WorkersCapped(workers_asked=asked, usable_cores=host.cores) if asked > host.cores else None
        self._records = Records(self._means.admission(self.config, self._processes, self._threads, local_thread()), capped)
        self.portal: Portal = Portal()
        self._is_closing = self._is_gone = False
        self._has_stopped = False  # anything, by closing

    @property
    def decisions(self) -> deque[Decision]:
        """The last 128 decisions, the latest at the end; a run that moves has one for each move."""
        return self._records.decisions

    async def __aenter__(self) -> Self:
        """Open the session; starts nothing yet."""
        return self.open()

    def open(self) -> Self:
        """Open the session without a context, for one that lasts as long as the process.

        Raises:
            SessionClosedError: It was open before.
        """
        with self._records.changed.lock:
            if self._records.state != "not open":
                raise SessionClosedError(f"{self._records.state} already")
            self._records.state = "open"
        with _opened_lock:
            _opened.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session; see `aclose`."""
        await self.aclose()

    async def aclose(self) -> None:
        """End the session and return when nothing of it is left. Idempotent, not cancellable.

        Runs still under way are stopped as cancelled ones are and fail with `SessionClosedError`: their items get to run
        their ``finally`` blocks, for no longer than ``grace_s``, then what is left is killed. May be called from any event
        loop; who calls it while it is under way waits for the same end.
        """
        with self._records.changed.lock:
            self._records.state = "closed"
        await shielded(self._close)

    async def _close(self) -> None:
        """Close, one at a time; who comes later finds it done."""
        changed = self._records.changed
        await changed.wait_for(self._takes_turn)
        try:
            if not self._is_gone:
                await self._end()
                self._is_gone = True
        finally:
            self._is_closing = False
            changed.notify_all()

    async def _end(self) -> None:
        """Stop what is under way, then free all that the session holds."""
        for backend in (self._processes, self._threads):
            backend.pool.refuse()
        grace_s = self._stop_runs()
        with anyio.move_on_after(grace_s + _MARGIN_S):  # not for ever: an event loop may have stalled
            await self._records.changed.wait_for(lambda: not self._records.runs)
        await self._processes.aclose()
        await self._threads.aclose()
        await call_blocking(self._outgoing.close)
        if self._folder is not None:
            self._folder.close()
        if not self.portal.is_here:  # else who closes the session by it closes it after that
            await call_blocking(self.portal.close)

    def _takes_turn(self) -> bool:
        """Let the caller close, unless somebody is at it."""
        is_free, self._is_closing = not self._is_closing, True
        return is_free

    def _stop_runs(self) -> float:
        """Tell runs under way to stop, and return the longest grace that one has for that."""
        longest_s = 0.0
        self._records.forget_closed()
        for run, loop in self._records.under_way():
            try:
                poster(loop)(partial(run.stop, SessionClosedError("closed")))
            except RuntimeError:  # that event loop has been closed just now
                continue
            self._has_stopped = True
            longest_s = max(longest_s, run.grace_s)
        return longest_s

    async def drain(self, timeout_s: float | None = None) -> bool:
        """Admit nothing more, and wait until everything is finished that was admitted, on whatever event loop.

        From now on new runs, `share` and `warm` raise `SessionClosedError`, until the session is closed and after. What an
        admitted run needs to finish is admitted still: runs that its items start in this process, and those that its
        own iterable of items or async iterable starts. Cancelling ends the waiting; the session stays as it is. It may be
        called again, and from several tasks, but not by what a run waits for: that would wait for itself.

        Args:
            timeout_s: How long to wait; 0 asks, None waits as long as it takes. What is under way goes on after it.

        Returns:
            Whether everything is finished; False also if the session was closed meanwhile and that has stopped something.
            Of a closed session nothing is left, so True.

        Raises:
            SessionClosedError: The session was never opened.
            SettingError: timeout_s isn't a time.
        """
        limit_s = None if timeout_s is None else seconds_of(timeout_s, "timeout_s")
        records, begun = self._records, monotonic()
        with records.changed.lock:
            if records.state == "not open":
                raise SessionClosedError(records.state)
            if records.state == "closed":
                return True
            records.state = "draining"
        records.forget_closed()
        with anyio.move_on_after(limit_s):
            await records.changed.wait_for(lambda: records.is_quiet)
        is_done = records.is_quiet and not self._has_stopped
        emit(SessionDrained(is_done=is_done, n_left=records.n_left, wall_s=monotonic() - begun))
        return is_done

    def __del__(self) -> None:
        if (portal := getattr(self, "portal", None)) is not None:
            portal.end_soon()
        records = getattr(self, "_records", None)
        if records is None or records.state not in ("open", "draining"):
            return
        lanes = self._processes.pool.lanes
        if any(lane.worker.is_alive for lane in lanes):  # else the end of the process has ended them
            warnings.warn("a ParallelSession was never closed; its workers end now", ResourceWarning, stacklevel=2, source=self)
            for lane in lanes:
                lane.kill()
                lane.close()

    def __reduce__(self) -> Any:
        """Refuse: workers can't be sent anywhere."""
        raise TypeError(
            "a ParallelSession can't be pickled, so it can't be an argument or be bound in fn. "
            "Inside a worker call offloop.run_parallel: it runs right there."
        )

    def share(self, value: T) -> T:
        """Have all workers use one copy of an object, wherever it stands in arguments, items or what is bound in fn.

        It is passed like any other object and arrives as itself. Arrays, frames and tables, and views of them, are
        mapped from that one copy; each item may write to what it got, and nobody else sees it. Of an object that is large
        in other ways (a dict of many strings, say) each worker rebuilds one for itself, which its items have in common.

        Returns at once: the copy is made in a thread. From now on until it is released leave the object as it is: read it,
        pass it on, take views of it; what you write to it may reach workers or not.

        Args:
            value: Any object that can be pickled. Small ones travel as ever.

        Returns:
            The same object. The copy is freed when it is dropped, released, or the session is closed; lists, dicts and
            others that can't be referred to weakly are held until one of the latter.

        Raises:
            SessionClosedError: The session isn't open.
        """
        self._records.check_open()
        may_leave = self.config.strategy in (Strategy.AUTO, Strategy.PROCESSES) and self._planner.has_workers
        self._outgoing.share(value, at_once=may_leave)
        return value

    def release(self, value: object) -> bool:
        """Free the copy of a shared object as soon as nothing under way uses it; the object itself stays what it is.

        Returns:
            Whether it was shared.
        """
        return self._outgoing.shares.release(value)

    async def warm(self, workers: int | None = None) -> None:
        """Start workers before they are needed, and return when they answer.

        Args:
            workers: How many; all of the session's if None.

        Raises:
            WorkerStartError: One could not be started.
            WorkerInitError: worker_init failed.
        """
        self._records.check_open()
        limit, pool = self._processes.limit, self._processes.pool
        for lane in pool.lanes:
            if not lane.worker.is_alive and pool.retire_if_idle(lane):  # else it would be found dead by who leases it
                lane.kill()
                lane.close()
                await call_blocking(lane.worker.join)
        await pool.grow_to(limit if workers is None else min(workers, limit))

    def statistics(self) -> SessionStatistics:
        """Return what the session has done so far; runs count once they are over."""
        return replace(self._records.snapshot(self._processes.pool), shared_bytes=self._outgoing.shares.n_bytes)


_opened: weakref.WeakSet[Lifetime] = weakref.WeakSet()
_opened_lock = threading.Lock()


def open_sessions() -> list[Lifetime]:
    """Return the sessions of this process that are open, or being drained; any thread may ask."""
    with _opened_lock:
        sessions = list(_opened)
    return [session for session in sessions if session._records.state in ("open", "draining")]


@in_forked_child
def _after_fork_in_child() -> None:
    global _opened_lock
    _opened_lock = threading.Lock()
    _opened.clear()  # they are the parent's
