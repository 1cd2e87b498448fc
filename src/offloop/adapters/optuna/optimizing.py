"""Optimising a study: trials begun, executed and told of, as many at a time as there are workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import iscoroutinefunction
from time import monotonic
from typing import Any, NamedTuple, Unpack, overload

import anyio
import optuna
from anyio.abc import TaskGroup
from optuna.distributions import BaseDistribution

from ... import AsyncFunctionError, ParallelSession, SettingTypeError
from ...checks import at_least, seconds_or_none
from ...default import default_session
from .proxies import Question, TrialProxy
from .study_thread import StudyThread
from .trials import Callback, Ending, Trials
from .venue import TrialOptions, Venue
from .view import TrialView

Values = float | Sequence[float]
Catch = type[Exception] | Iterable[type[Exception]]

_FAILURES = (Exception, SystemExit, KeyboardInterrupt)  # a callback may raise these too; out of a task they would stop the event loop


@overload
async def optimize(
    study: optuna.Study,
    objective: Callable[[optuna.Trial], Values],
    n_trials: int | None = None,
    *,
    distributions: None = None,
    session: ParallelSession | None = None,
    timeout_s: float | None = None,
    catch: Catch = (),
    callbacks: Iterable[Callback] | None = None,
    **options: Unpack[TrialOptions],
) -> None: ...


@overload
async def optimize(
    study: optuna.Study,
    objective: Callable[[TrialView], Values],
    n_trials: int | None = None,
    *,
    distributions: Mapping[str, BaseDistribution],
    session: ParallelSession | None = None,
    timeout_s: float | None = None,
    catch: Catch = (),
    callbacks: Iterable[Callback] | None = None,
    **options: Unpack[TrialOptions],
) -> None: ...


async def optimize(
    study: optuna.Study,
    objective: Callable[[Any], Values],
    n_trials: int | None = None,
    *,
    distributions: Mapping[str, BaseDistribution] | None = None,
    session: ParallelSession | None = None,
    timeout_s: float | None = None,
    catch: Catch = (),
    callbacks: Iterable[Callback] | None = None,
    **options: Unpack[TrialOptions],
) -> None:
    """Make trials of a study side by side, as `optuna.Study.optimize` makes them one after another.

    The study is used in one thread of this process, callbacks included, never on the event loop; the objective executes where
    `ParallelSession.run` would have it, and asks from there. With ``workers=1`` a sampler with a seed draws what it would draw
    under `optuna.Study.optimize`. No trial is left RUNNING: cancelling stops those under way, tells the study that they have
    failed, and returns when that is done; so does the first failure that isn't to be caught.

    Args:
        study: The study, with any storage.
        objective: A plain function of a trial: it gets a `TrialProxy`, which does what `optuna.Trial` does. With ``distributions``
            it gets a `TrialView`.
        n_trials: How many trials to make. None: until ``timeout_s`` is over or the study is stopped.
        distributions: By name, what to draw as a trial begins. Then nothing needs to be asked while it executes.
        session: Where the objective executes; None: on the process-wide session.
        timeout_s: Seconds after which no trial begins. Those under way then end as ever; to stop them too, write
            ``with anyio.move_on_after(...)``.
        catch: Exceptions of the objective, `WorkerCrashed` and `ItemTimeout` among them, that fail their trial alone.
        callbacks: Functions of the study and the trial that has ended, called after each, one at a time.
        **options: See `CallOptions`, of trials as items. ``workers`` caps how many are under way at a time.

    Raises:
        Exception: What an objective, a callback, the sampler or the storage raised, as itself.
        WorkerCrashed: A trial's worker died, more often than ``retries`` allows.
        ItemTimeout: A trial executed for longer than ``item_timeout_s``.
        AsyncFunctionError: The objective or a callback is async.
        SessionClosedError: The session isn't open.
    """
    seconds = seconds_or_none(timeout_s, "timeout_s")
    limits = Limits(
        math.inf if n_trials is None else at_least(n_trials, "n_trials", 0),
        math.inf if seconds is None else monotonic() + seconds,
    )
    options.setdefault("label", study.study_name)
    venue = Venue(default_session() if session is None else session, objective, options)
    trials = Trials(study, distributions, _checked(callbacks or ()))
    run = Optimization(study, trials, venue, limits, _exceptions(catch))
    # In a task of its own, which nothing cancels but its scope: a shield in it holds against `cancel` of an asyncio task too.
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run.execute)
    failure, run.failure = run.failure, None  # which refers to the run by its traceback
    if failure is not None:
        try:
            raise failure
        finally:
            del failure


def _checked(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    """Return callbacks, none of which is async."""
    if not isinstance(callbacks, Iterable) or not all(map(callable, checked := tuple(callbacks))):
        raise SettingTypeError("callbacks", callbacks, "write a list of functions of a study and a trial.")
    for callback in checked:
        if iscoroutinefunction(callback) or iscoroutinefunction(type(callback).__call__):
            raise AsyncFunctionError(getattr(callback, "__qualname__", type(callback).__qualname__))
    return checked


def _exceptions(catch: Catch) -> tuple[type[Exception], ...]:
    """Return the classes to catch."""
    classes = tuple(catch) if isinstance(catch, Iterable) else (catch,)
    if not all(isinstance(one, type) and issubclass(one, Exception) for one in classes):
        raise SettingTypeError("catch", catch, "write an exception class, or several.")
    return classes


class Limits(NamedTuple):
    """When to begin no more trials.

    Attributes:
        n_trials: After so many.
        until: From then on, by the monotonic clock.
    """

    n_trials: float
    until: float


class Optimization:
    """Makes the trials of one call of `optimize`.

    Args:
        study: The study.
        trials: Its trials under way.
        venue: Where they execute.
        limits: When to begin no more.
        caught: What may fail a trial alone.

    Attributes:
        failure: What has ended it.
    """

    def __init__(
        self, study: optuna.Study, trials: Trials, venue: Venue, limits: Limits, caught: tuple[type[Exception], ...]
    ) -> None:
        self.failure: BaseException | None = None
        self._study, self._trials, self._venue, self._limits, self._caught = study, trials, venue, limits, caught
        self._n_begun = self._n_ended = 0
        self._changed = anyio.Event()
        self._thread: StudyThread
        self._tasks: TaskGroup

    async def execute(self) -> None:
        """Make trials until there are enough, or something fails; return when none is under way."""
        self._study._stop_flag = False  # there is no public name for it
        self._thread = StudyThread(self._study)
        try:
            await self._execute()
        finally:
            with anyio.CancelScope(shield=True):
                await self._thread.do(self._trials.abandon)
                await self._thread.end()

    async def _execute(self) -> None:
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._beat)
            async with anyio.create_task_group() as self._tasks:
                try:
                    await self._begin_trials()
                except _FAILURES as error:
                    self._fail(error)
            beside.cancel_scope.cancel()

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self._tasks.cancel_scope.cancel()

    async def _beat(self) -> None:
        """Tell a storage that wants to know that the trials under way are."""
        interval_s = self._trials.heartbeat_s()
        while interval_s is not None:
            await anyio.sleep(interval_s)
            try:
                await self._thread.do(self._trials.beat)
            except Exception as error:
                self._fail(error)
                return

    @property
    def _is_enough(self) -> bool:
        return self._study._stop_flag or self._n_begun >= self._limits.n_trials or monotonic() >= self._limits.until

    async def _begin_trials(self) -> None:
        sample = self._trials.sample()
        while not self._is_enough:
            room = await self._venue.room(sample, self._limits.n_trials - self._n_ended, self._n_ended)
            if self._n_begun - self._n_ended >= room:
                self._changed = anyio.Event()
                await self._changed.wait()
                continue
            trial = await self._thread.do(self._trials.begin)
            sample = trial if isinstance(trial, TrialView) else sample
            self._n_begun += 1
            self._tasks.start_soon(self._make, trial)

    async def _make(self, trial: TrialProxy | TrialView) -> None:
        try:
            ending = await self._ending_of(trial)
            with anyio.CancelScope(shield=True):  # it has ended: its value is not to be lost
                await self._thread.do(self._trials.end, trial.number, ending)
            error = ending.error
            if not (error is None or isinstance(error, (optuna.TrialPruned, *self._caught))):
                self._fail(error)
        except _FAILURES as error:  # of the study
            self._fail(error)
        finally:
            self._n_ended += 1
            self._changed.set()

    async def _ending_of(self, trial: TrialProxy | TrialView) -> Ending:
        def answer(question: Question) -> Any:
            return self._thread.submit(self._trials.answer, trial.number, question).result()

        try:
            return Ending(await self._venue.execute(trial, answer if isinstance(trial, TrialProxy) else None))
        except Exception as error:
            return Ending(error=error)
