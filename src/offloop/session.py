"""A session: the entrances to its workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, TypeVarTuple, Unpack, overload

from .blocking import call_stoppable
from .branch_run import BranchesRun
from .branches import branch_options, branches_of
from .call_steering import CallSteering
from .checks import worker_count
from .functions import check_function, units
from .maps import Maps
from .model import Strategy
from .options import RUN_OPTIONS, BranchOptions, OnError, RunOptions, check_answer, resolve_options
from .pool.exiting import finish_at_exit
from .records import Whole
from .wire.frames import Flag
from .wire.pickling import function_name

if TYPE_CHECKING:
    from .adapters.futures import SessionExecutor

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class ParallelSession(Maps):
    """Worker processes and threads for CPU-bound work, held for as long as the context lasts.

    Use it as an async context manager. Nothing starts before it is needed. Leaving the context stops what is under way,
    ends the workers and returns when they are gone; `drain` before that lets what is under way finish. A session serves
    any number of concurrent runs, from one event loop or several.

    Args:
        config: The settings; see `ParallelConfig`.
        **settings: Settings that replace those of the config.

    Attributes:
        config: The settings as they hold.
        sources: Where each of them comes from: a keyword, the config, the environment or the default.
        portal: An event loop in a thread of its own, for callers that have none; started by its first use.

    Raises:
        SettingError: A setting, or a variable of the environment, has a value that can't work.
        SettingTypeError: A setting does not exist, or its value is of the wrong type.
    """

    async def run(
        self,
        fn: Callable[[*Ts], R],
        *args: *Ts,
        answer: Callable[[Any], object] | None = None,
        **options: Unpack[RunOptions],
    ) -> R:
        """Call ``fn(*args)`` off the loop and return what it returns.

        Cancelling stops the call, and returns when it has stopped: it ends at its next `checkpoint`, else it is interrupted,
        and where that doesn't help its worker is killed after ``grace_s``.

        Args:
            fn: A plain function; keyword arguments by `functools.partial` or `call`.
            *args: Its arguments. They are sent as they are at the time of the call; fn must not change them.
            answer: Answers what fn asks by `ask`: a plain function of one question, called in a thread of this process while fn
                waits, one question at a time. It can't be stopped: who cancels the call waits for its end too, but no longer
                than ``grace_s``.
            **options: See `CallOptions`.

        Returns:
            What fn returned.

        Raises:
            Exception: What fn raised, as itself, with its remote traceback in its notes.
            AsyncFunctionError: fn is async.
            UnpicklableError: fn, an argument or the result can't travel.
            WorkerCrashed: Its worker died, more often than ``retries`` allows.
            ItemTimeout: It executed for longer than ``timeout_s``.
            Overloaded: The session has limits, and it is beyond one; nothing of it was executed.
            SessionClosedError: The session isn't open.
        """
        await self._records.knock(fn, options.get("label"))
        plan = self._plans.of(fn, options, RUN_OPTIONS)
        job = plan.job or self._plans.job(fn, fn, Flag.STAR, plan.options)
        if answer is not None:
            job = job.answered_by(check_answer(answer))
        known = self._planner.look_at(fn, args, plan.options)
        value: R = await CallSteering(self._planner, known, self._venues, self._records).execute(job, args)
        return value

    @overload
    async def run_branches(
        self,
        branches: Mapping[str, Callable[[], R] | units[R]],
        *,
        seed: None = None,
        on_error: Literal["raise", "group"] = "raise",
        **options: Unpack[BranchOptions],
    ) -> dict[str, R]: ...

    @overload
    async def run_branches(
        self,
        branches: Mapping[str, Callable[[], R] | units[R]],
        *,
        seed: None = None,
        on_error: Literal["collect"],
        **options: Unpack[BranchOptions],
    ) -> dict[str, R | Exception]: ...

    @overload
    async def run_branches(
        self,
        branches: Mapping[str, Callable[..., R] | units[R]],
        *,
        seed: int,
        on_error: Literal["raise", "group"] = "raise",
        **options: Unpack[BranchOptions],
    ) -> dict[str, R]: ...

    @overload
    async def run_branches(
        self,
        branches: Mapping[str, Callable[..., R] | units[R]],
        *,
        seed: int,
        on_error: Literal["collect"],
        **options: Unpack[BranchOptions],
    ) -> dict[str, R | Exception]: ...

    @overload  # where a type checker finds no type that all have in common: to mypy calls that return this and that have none
    async def run_branches(
        self,
        branches: Mapping[str, Callable[..., Any] | units[Any]],
        *,
        seed: int | None = None,
        on_error: OnError = "raise",
        **options: Unpack[BranchOptions],
    ) -> dict[str, Any]: ...

    async def run_branches(self, branches: Any, **options: Any) -> Any:
        """Make calls that differ, side by side, and return what each returned, by its name.

            await session.run_branches({"pls": call(fit, pls, X, y), "rf": units([call(fit, rf, X, y, fold) for fold in folds], combine=mean)})

        The calls of all branches are one queue, of which the dearest are made first: by ``item_cost_s``, by what they cost before, or,
        where nothing is known, after one of each branch was made. Calls whose arguments bring threads, processes or a device of
        their own (``rf.n_jobs=-1``) are made alone, with all cores, the others as many at a time as there are workers. Arrays
        and frames that stand in several calls are sent once. Cancelling stops the work and returns when it has stopped, as for `run`.

        Args:
            branches: By name, what is to be called: a `call`, any function without arguments, or `units` of such, for a branch that
                splits further.
            seed: Each call gets ``rng=``, the generator over ``SeedSequence(seed, spawn_key=key)``. The key is made of the first
                four words of 32 bits, little-endian, of the SHA-256 of the branch's name in UTF-8, and of the number of the call in its
                branch: so it doesn't change with what other branches there are.
            on_error: ``raise``: the first failure cancels the other calls and is raised. ``group``: all calls are made, then
                failures are raised as one ExceptionGroup. ``collect``: a branch's failure stands in place of its value; where the
                branch is of `units`, as an ExceptionGroup of all that have failed.
            **options: See `CallOptions`, of calls as items. ``workers`` caps how many are made at a time.

        Returns:
            The value of each branch, in the order of the branches.

        Raises:
            Exception: What a call or ``combine`` raised, as itself, with its branch in its notes.
            ExceptionGroup: What several raised, under ``on_error="group"``.
            TypeError: Something among the branches can't be called.
            AsyncFunctionError: A function is async.
            UnpicklableError, WorkerCrashed, ItemTimeout, Overloaded, SessionClosedError: As for `run`.
        """
        resolved, costs = branch_options(self.config, options, is_consent=self._is_consent)
        checked = branches_of(branches, costs)
        with self._records.whole(Whole("run_branches", resolved.label)):
            run = BranchesRun(self._planner, self._plans, self._venues, self._records, resolved, costs)
            return await run.execute(checked)

    async def run_joblib(self, fn: Callable[[], R]) -> R:
        """Call ``fn()`` in a thread, with all that joblib does for it executed by this session's workers.

            await session.run_joblib(lambda: grid.fit(X, y))

        What is parallel by joblib, as most of scikit-learn is, uses the workers, see `offloop.adapters.joblib`; the rest of fn executes
        in the thread. The event loop stays free, and context variables are the caller's. It is one call to `drain` and to the limits.

        Cancelling has joblib's calls, now and to come, raise `TaskCancelled` in fn, and returns when fn has returned. What fn
        does itself, or with ``n_jobs=1``, isn't interrupted: cancelling waits for its next joblib call, or for its end.

        Args:
            fn: A plain function without arguments; it is called in this process.

        Returns:
            What fn returned.

        Raises:
            Exception: What fn raised.
            AsyncFunctionError: fn is async.
            ModuleNotFoundError: joblib isn't installed.
            Overloaded, SessionClosedError: As for `run`.
        """
        from .adapters.joblib import Joblib

        check_function(fn)
        await self._records.knock(fn, "joblib")
        with self._records.whole(Whole(function_name(fn), "joblib")):
            joblib = Joblib(self)
            return await call_stoppable(lambda: joblib.call(fn), joblib.stop)

    def executor(self, *, workers: int | None = None, **options: Unpack[RunOptions]) -> SessionExecutor:
        """Return a `concurrent.futures.Executor` over this session's workers, for what takes one.

            with session.executor() as executor:
                future = executor.submit(fn, *args)

        It works in threads without an event loop too. A call runs once (``retries=0``) in a worker process, unless options, or the
        session's own strategy, say otherwise. Shutting it down leaves the session as it is.

        Args:
            workers: The most calls that run at a time; None: as many as the session has workers.
            **options: Of every call; see `CallOptions`.

        Raises:
            SettingError: An option has a value that can't work.
            SessionClosedError: The session isn't open.
        """
        from .adapters.futures import SessionExecutor

        self._records.check_open()
        if self.config.strategy is Strategy.AUTO:
            options.setdefault("strategy", Strategy.PROCESSES)
        options.setdefault("retries", 0)
        strategy = resolve_options(self.config, options, RUN_OPTIONS, is_consent=self._is_consent).strategy
        limit = self._threads.limit if strategy is Strategy.THREADS else self._processes.limit
        if strategy is Strategy.SERIAL or not self._planner.has_workers:
            limit = 1
        asked = worker_count(workers) or limit
        executor = SessionExecutor(self, limit if asked == -1 else min(asked, limit), options)
        finish_at_exit(executor)
        return executor
