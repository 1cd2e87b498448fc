"""A session: its settings, its workers, and the entrances to them."""

from __future__ import annotations

import itertools
import os
import time
import warnings
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable
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

from anyio.lowlevel import current_token

from .deciding.chunking import Pace
from .deciding.costs import Costs
from .deciding.decide import decide, worker_limit
from .deciding.seeding import Seeded
from .errors import SessionClosedError
from .events import WorkersCapped
from .functions import SeededFunction, check_function
from .initializing import LocalInitializer
from .mapping import Run
from .model import Decision, Reason, SessionStatistics, Strategy, Workload
from .pool.waiting import poster
from .reporting import snapshot, tell_decision, tell_end
from .sensing.environment import sense_environment
from .sensing.host import sense_host, worker_environment
from .settings import (
    MAP_OPTIONS,
    RUN_OPTIONS,
    CallOptions,
    MapOptions,
    ParallelConfig,
    RunOptions,
    Settings,
    resolve_options,
    session_settings,
)
from .sources import NoSource, Source, source_of
from .strategies.base import Backend, Job, Outcomes
from .strategies.processes import processes
from .strategies.serial import local_thread
from .strategies.threads import threads
from .tally import Tally
from .telemetry import emit
from .wire.frames import Flag
from .wire.pickling import describe_function, function_name, travels_by_name
from .worker import task

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

_PROBE_S = 0.010  # how long unknown work runs in the local thread before it is decided on
_MAX_DECISIONS = 128
_MAX_PLANS = 1024

_run_numbers = itertools.count(1)


class _Plan(NamedTuple):
    """What calls of one function with the same options share.

    Attributes:
        options: The options.
        decision: Where they execute; None where that depends on what is measured.
        job: The function as it travels; None where it may carry data, so that it must be pickled at each call.
        pace: What is known of its cost.
    """

    options: CallOptions
    decision: Decision | None
    job: Job | None
    pace: Pace


_NO_SOURCE = NoSource()
_NAMED = (FunctionType, BuiltinFunctionType)


class ParallelSession:
    """Worker processes and threads for CPU-bound work, held for as long as the context lasts.

    Use it as an async context manager. Nothing starts before it is needed; leaving the context ends the workers and
    returns when they are gone. A session serves any number of concurrent runs, from one event loop or several.

    Args:
        config: The settings; see `ParallelConfig`.
        **settings: Settings that replace those of the config.

    Raises:
        SettingError: A setting, or a variable of the environment, has a value that can't work.
        SettingTypeError: A setting does not exist, or its value is of the wrong type.
    """

    def __init__(self, config: ParallelConfig | None = None, **settings: Unpack[Settings]) -> None:
        environment = sense_environment(os.environ)
        self.config: ParallelConfig
        self.config, from_environment = session_settings(config, settings, environment.settings)
        self._is_consent = "strategy" not in from_environment
        self._host = sense_host(
            os.environ,
            is_worker=task.is_worker_process,
            is_off=environment.is_off,
            lifts_ci=environment.lifts_ci,
        )
        self._state: Literal["not open", "open", "closed"] = "not open"
        limit = worker_limit(self._host, self.config)
        self._processes = processes(self.config, limit, worker_environment(self._host.cores, limit))
        self._threads = threads(limit, self.config.idle_timeout_s)
        self._initializer = LocalInitializer(self.config)
        self._tally = Tally()
        self._local_runs: dict[Run, Any] = {}  # runs in this process, with their event loops: no end of workers ends them
        self._costs = Costs()
        self._plans: dict[Any, _Plan] = {}  # by function and options
        self._is_capped = self.config.workers is not None and self.config.workers > limit
        self.decisions: deque[Decision] = deque(maxlen=_MAX_DECISIONS)

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
        for run, loop in list(self._local_runs.items()):
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
        return snapshot(self._tally, self._processes.pool)

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
        plan = self._plans.get((fn, *options.items())) if type(fn) in _NAMED else None
        if plan is None:
            plan = self._plan(fn, options)
        result: list[Any] = []

        def sink(outcomes: Outcomes) -> None:
            result.extend(outcomes.values)

        run = Run(plan.job or self._job(fn, fn, Flag.STAR), _NO_SOURCE, plan.options, sink)
        decision = plan.decision or self._decide(fn, 1, plan.options, item_s=plan.pace.item_s)
        self._tell(decision, plan.options)
        begun = time.monotonic()
        try:
            await run.single(self._backend(decision, run), args)
        finally:
            self._close_run(run, decision, plan.options, begun)
        if run.error is not None:
            raise run.error
        plan.pace.measured(1, run.tally.busy_s)
        value: R = result[0]
        return value

    def _plan(self, fn: Any, options: Any) -> _Plan:
        """Prepare what calls of a function with these options share, and keep it if the function goes by its name."""
        check_function(fn)
        resolved = self._resolve(options, RUN_OPTIONS)
        decision = self._decide(fn, 1, resolved)
        fixed = None if decision.reason is Reason.MEASURING else decision
        plan = _Plan(resolved, fixed, None, self._costs.of(getattr(fn, "__code__", None) or function_name(fn)))
        if travels_by_name(fn):
            plan = plan._replace(job=self._job(fn, fn, Flag.STAR))
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[(fn, *options.items())] = plan
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
        resolved = self._resolve(options, MAP_OPTIONS)
        check_function(fn)
        source = source_of(items)
        n_items = source.remaining
        results: list[Any] = [None] * (n_items or 0)
        failures: dict[int, Exception] = {}

        def sink(outcomes: Outcomes) -> None:
            end = outcomes.start + len(outcomes.values)
            if end > len(results):
                results.extend([None] * (end - len(results)))
            results[outcomes.start : end] = outcomes.values
            failures.update(outcomes.failures)

        called, flags = (fn, 0) if resolved.seed is None else (Seeded(fn, resolved.seed), Flag.SEEDED)
        run = Run(self._job(fn, called, flags), source, resolved, sink)
        await self._map(run, fn, source, resolved)
        if run.error is not None:
            raise run.error
        del results[run.tally.submitted :]  # the source was shorter than it said
        if failures and resolved.on_error == "group":
            ordered = [failures[index] for index in sorted(failures)]
            raise ExceptionGroup(f"{len(ordered)} of {len(results)} items failed", ordered)
        for index, error in failures.items():
            results[index] = error
        return results

    async def _map(self, run: Run, fn: Any, source: Source, options: CallOptions) -> None:
        n_items = source.remaining
        decision = self._decide(fn, n_items, options)
        begun = time.monotonic()
        try:
            if decision.reason is Reason.MEASURING:
                await run.probe(self._backend(decision, run), _PROBE_S)
                decision = self._decide(fn, n_items, options, n_done=run.tally.done, item_s=run.pace.item_s)
            self._tell(decision, options)
            if not run.is_over:
                run.use(decision.workers)
                await run.drive(self._backend(decision, run))
        finally:
            await source.aclose()
            self._close_run(run, decision, options, begun)

    def _decide(
        self, fn: Any, n_items: int | None, options: CallOptions, *, n_done: int = 0, item_s: float | None = None
    ) -> Decision:
        idle = self._processes.pool.n_idle
        workload = Workload(fn=function_name(fn), n_items=n_items, n_done=n_done, item_s=item_s, idle_workers=idle)
        return decide(self._host, workload, options, self.config)

    def _backend(self, decision: Decision, run: Run) -> Backend:
        if decision.strategy is Strategy.PROCESSES:
            return self._processes
        self._local_runs[run] = current_token().native_token
        return self._threads if decision.strategy is Strategy.THREADS else local_thread()

    def _check_open(self) -> None:
        if self._state != "open":
            raise SessionClosedError(self._state)

    def _resolve(self, options: Any, allowed: frozenset[str]) -> CallOptions:
        self._check_open()
        return resolve_options(self.config, options, allowed, is_consent=self._is_consent)

    def _job(self, fn: Any, called: Any, flags: int) -> Job:
        return Job(next(_run_numbers), called, describe_function(fn), flags, self._initializer)

    def _tell(self, decision: Decision, options: CallOptions) -> None:
        self.decisions.append(decision)
        if self._is_capped:
            self._is_capped = False
            emit(WorkersCapped(workers_asked=self.config.workers or 0, usable_cores=self._host.cores))
        tell_decision(decision, options)

    def _close_run(self, run: Run, decision: Decision, options: CallOptions, begun: float) -> None:
        self._local_runs.pop(run, None)
        self._tally.add(run.tally)
        tell_end(decision, options, run.tally, time.monotonic() - begun)
