"""A session: its settings, its workers, and the entrances to them."""

from __future__ import annotations

import itertools
import warnings
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from functools import partial
from types import BuiltinFunctionType, FunctionType, TracebackType
from typing import (
    Any,
    Literal,
    NamedTuple,
    Self,
    TypeVar,
    TypeVarTuple,
    Unpack,
    overload,
)

from .deciding.decide import thread_limit, worker_limit
from .deciding.seeding import Seeded
from .errors import SessionClosedError
from .events import WorkersCapped
from .functions import SeededFunction, check_function
from .initializing import LocalInitializer
from .model import Decision, SessionStatistics
from .planning import Planner, Venues
from .pool.waiting import poster
from .records import Records
from .sensing.environment import sense_environment
from .sensing.host import sense_host, worker_environment
from .sensing.system import this_system
from .settings import (
    MAP_OPTIONS,
    RUN_OPTIONS,
    CallOptions,
    MapOptions,
    ParallelConfig,
    RunOptions,
    Settings,
    SettingSource,
    resolve_options,
    session_settings,
)
from .sources import source_of
from .steering import Steering
from .strategies.base import Job
from .strategies.processes import processes
from .strategies.threads import threads
from .wire.frames import Flag
from .wire.pickling import describe_function, travels_by_name
from .worker import task

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

_MAX_PLANS = 1024

_run_numbers = itertools.count(1)


class _Plan(NamedTuple):
    """What calls of one function with the same options share.

    Attributes:
        options: The options.
        job: The function as it travels; None where it may carry data, so that it must be pickled at each call.
        code: The function's code then: a reload may put another one into the same function.
    """

    options: CallOptions
    job: Job | None
    code: object = None


_NAMED = (FunctionType, BuiltinFunctionType)


class ParallelSession:
    """Worker processes and threads for CPU-bound work, held for as long as the context lasts.

    Use it as an async context manager. Nothing starts before it is needed; leaving the context ends the workers and
    returns when they are gone. A session serves any number of concurrent runs, from one event loop or several.

    Args:
        config: The settings; see `ParallelConfig`.
        **settings: Settings that replace those of the config.

    Attributes:
        config: The settings as they hold.
        sources: Where each of them comes from: a keyword, the config, the environment or the default.

    Raises:
        SettingError: A setting, or a variable of the environment, has a value that can't work.
        SettingTypeError: A setting does not exist, or its value is of the wrong type.
    """

    def __init__(self, config: ParallelConfig | None = None, **settings: Unpack[Settings]) -> None:
        system = this_system()
        environment = sense_environment(system.environ)
        checked, sources = session_settings(config, settings, environment.settings)
        self.config: ParallelConfig = checked
        self.sources: Mapping[str, SettingSource] = sources
        host = sense_host(
            system, is_worker=task.is_worker_process, is_off=environment.is_off, lifts_ci=environment.lifts_ci
        )
        self._state: Literal["not open", "open", "closed"] = "not open"
        limit = worker_limit(host, self.config)
        self._processes = processes(self.config, limit, worker_environment(host.cores, limit, system.environ), system)
        self._threads = threads(thread_limit(host, self.config), self.config.idle_timeout_s)
        self._venues = Venues(self._threads, self._processes)
        self._is_consent = self.sources["strategy"] is not SettingSource.ENVIRONMENT
        self._planner = Planner(host, self.config, self._processes.pool)
        self._initializer = LocalInitializer(self.config)
        asked = self.config.workers or 0
        is_capped = asked > host.cores
        self._records = Records(WorkersCapped(workers_asked=asked, usable_cores=host.cores) if is_capped else None)
        self._plans: dict[Any, _Plan] = {}  # by function and options

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
        if self._state != "not open":
            raise SessionClosedError(f"{self._state} already")
        self._state = "open"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session; see `aclose`."""
        await self.aclose()

    async def aclose(self) -> None:
        """End all workers and return when they are gone; runs still under way fail. Idempotent, not cancellable."""
        self._state = "closed"
        for run, loop in list(self._records.under_way()):
            try:
                poster(loop)(partial(run.stop, SessionClosedError("closed")))
            except RuntimeError:  # that event loop is closed, and the run gone with it
                continue
        await self._processes.aclose()
        await self._threads.aclose()

    def __del__(self) -> None:
        if getattr(self, "_state", "") == "open" and self._processes.pool.lanes:
            warnings.warn("a ParallelSession was never closed; its workers end now", ResourceWarning, stacklevel=2, source=self)
            for lane in self._processes.pool.lanes:
                lane.kill()
                lane.close()

    def __reduce__(self) -> Any:
        """Refuse: workers can't be sent anywhere."""
        raise TypeError(
            "a ParallelSession can't be pickled, so it can't be an argument or be bound in fn. "
            "Inside a worker call offloop.run_parallel: it runs right there."
        )

    async def warm(self, workers: int | None = None) -> None:
        """Start workers before they are needed, and return when they answer.

        Args:
            workers: How many; all of the session's if None.

        Raises:
            WorkerStartError: One could not be started.
            WorkerInitError: worker_init failed.
        """
        self._check_open()
        limit = self._processes.limit
        await self._processes.pool.grow_to(limit if workers is None else min(workers, limit))

    def statistics(self) -> SessionStatistics:
        """Return what the session has done so far; runs count once they are over."""
        return self._records.snapshot(self._processes.pool)

    async def run(self, fn: Callable[[*Ts], R], *args: *Ts, **options: Unpack[RunOptions]) -> R:
        """Call ``fn(*args)`` off the loop and return what it returns.

        Cancelling stops the call: it ends at its next `checkpoint`, else its worker is killed after ``grace_s``.

        Args:
            fn: A plain function; keyword arguments by `functools.partial` or `call`.
            *args: Its arguments. They are sent as they are at the time of the call; fn must not change them.
            **options: See `CallOptions`.

        Returns:
            What fn returned.

        Raises:
            Exception: What fn raised, as itself, with its remote traceback in its notes.
            AsyncFunctionError: fn is async.
            UnpicklableError: fn, an argument or the result can't travel.
            WorkerCrashed: Its worker died, more often than ``retries`` allows.
            SessionClosedError: The session isn't open.
        """
        self._check_open()
        plan = self._plan(fn, options, RUN_OPTIONS)
        job = plan.job or self._job(fn, fn, Flag.STAR)
        value: R = await self._steering(fn, args, plan.options).single(job, args)
        return value

    def _plan(self, fn: Any, given: Any, allowed: frozenset[str]) -> _Plan:
        """Prepare what calls of a function with these options share, and keep it if the function goes by its name."""
        key = (fn, allowed is RUN_OPTIONS, *given.items())
        try:
            plan = self._plans.get(key) if type(fn) in _NAMED else None
        except TypeError:  # the value of an option can't be hashed; `resolve_options` says what is wrong with it
            plan = None
        if plan is not None and plan.code is getattr(fn, "__code__", None):
            return plan
        check_function(fn)
        options = resolve_options(self.config, given, allowed, is_consent=self._is_consent)
        if not travels_by_name(fn):
            return _Plan(options, None)
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        job = None
        if options.seed is None:
            job = self._job(fn, fn, Flag.STAR if allowed is RUN_OPTIONS else 0)
        plan = self._plans[key] = _Plan(options, job, getattr(fn, "__code__", None))
        return plan

    @overload
    async def run_parallel(
        self,
        fn: Callable[[T], R],
        items: Iterable[T] | AsyncIterable[T],
        *,
        seed: None = None,
        on_error: Literal["raise", "group"] = "raise",
        **options: Unpack[MapOptions],
    ) -> list[R]: ...

    @overload
    async def run_parallel(
        self,
        fn: Callable[[T], R],
        items: Iterable[T] | AsyncIterable[T],
        *,
        seed: None = None,
        on_error: Literal["collect"],
        **options: Unpack[MapOptions],
    ) -> list[R | Exception]: ...

    @overload
    async def run_parallel(
        self,
        fn: SeededFunction[T, R],
        items: Iterable[T] | AsyncIterable[T],
        *,
        seed: int,
        on_error: Literal["raise", "group"] = "raise",
        **options: Unpack[MapOptions],
    ) -> list[R]: ...

    @overload
    async def run_parallel(
        self,
        fn: SeededFunction[T, R],
        items: Iterable[T] | AsyncIterable[T],
        *,
        seed: int,
        on_error: Literal["collect"],
        **options: Unpack[MapOptions],
    ) -> list[R | Exception]: ...

    async def run_parallel(self, fn: Any, items: Any, **options: Any) -> Any:
        """Call ``fn(item)`` for every item and return the results in the order of the items.

        Cancelling stops the work and returns when it has stopped: items end at their next `checkpoint`, else their
        worker is killed after ``grace_s``.

        Args:
            fn: A plain function of one item (`star` for several arguments); with ``seed``, of an item and ``rng=``.
            items: Any iterable or async iterable. One that isn't a plain collection is read as results make room, in a
                thread if it isn't async. Items are sent as they are then; fn must not change them.
            seed: Item ``i`` gets ``rng``, the generator over ``SeedSequence(seed).spawn(n)[i]``.
            on_error: ``raise``: the first failure cancels the other items and is raised. ``group``: all items run, then
                failures are raised as one ExceptionGroup. ``collect``: failures stand in the list in place of results.
            **options: See `CallOptions`.

        Returns:
            One result for each item; of the caller's own.

        Raises:
            Exception: What fn raised, as itself, with index and remote traceback in its notes.
            ExceptionGroup: What several items raised, under ``on_error="group"``.
            AsyncFunctionError: fn is async.
            UnpicklableError: fn, an item or a result can't travel.
            WorkerCrashed: An item's worker died, more often than ``retries`` allows.
            SessionClosedError: The session isn't open.
        """
        self._check_open()
        plan = self._plan(fn, options, MAP_OPTIONS)
        seed, job, source = plan.options.seed, plan.job, source_of(items)
        if job is None:
            job = self._job(fn, fn, 0) if seed is None else self._job(fn, Seeded(fn, seed), Flag.SEEDED)
        return await self._steering(fn, source.peek(), plan.options).map(job, source)

    async def decide(
        self, fn: Callable[..., Any], items: Iterable[Any] | AsyncIterable[Any], **options: Unpack[MapOptions]
    ) -> Decision:
        """Return what `run_parallel` would do with these items and why, without doing it.

        Nothing is run and nothing taken out of an iterator. Work that is not known yet would be measured first: then
        the reason is ``measuring``, unless ``item_cost_s`` says what it costs. ``str(decision)`` is two readable lines.

        Args:
            fn: As for `run_parallel`.
            items: As for `run_parallel`.
            **options: See `CallOptions`.

        Raises:
            AsyncFunctionError: fn is async.
            SessionClosedError: The session isn't open.
        """
        self._check_open()
        resolved = self._plan(fn, options, MAP_OPTIONS).options
        source = source_of(items)
        return self._steering(fn, source.peek(), resolved).decide(source.remaining)

    def _steering(self, fn: Any, sample: Sequence[Any], options: CallOptions) -> Steering:
        known = self._planner.look_at(fn, sample, options)
        return Steering(self._planner, known, self._venues, self._records)

    def _check_open(self) -> None:
        if self._state != "open":
            raise SessionClosedError(self._state)

    def _job(self, fn: Any, called: Any, flags: int) -> Job:
        return Job(next(_run_numbers), called, describe_function(fn), flags, self._initializer)
