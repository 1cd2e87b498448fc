"""Where the trials of an optimisation execute, and how many at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypedDict

from ... import ParallelSession, PayloadTooLarge, Reason, Strategy, UnpicklableFunction, WorkerStartError
from ...options import Priority
from ...settings import StrategyName

_MANY = 1000  # trials that a study without a number of them is decided for; a guess

_NOT_BEGUN = (PayloadTooLarge, UnpicklableFunction, WorkerStartError)  # where workers would not do, but this process might


class TrialOptions(TypedDict, total=False):
    """Keyword options of `optimize`; `CallOptions` says what each means, of trials as items.

    ``priority`` is ``batch`` if you don't say, and ``label`` the name of the study.
    """

    strategy: StrategyName | Strategy
    workers: int | None
    retries: int
    grace_s: float
    item_timeout_s: float | None
    thread_safe: bool
    max_wait_s: float | None
    priority: Priority | None
    label: str | None


class Venue:
    """Executes objectives by `ParallelSession.run`, where `auto` would have a map of as many trials.

    A call by itself is decided on by itself, and would stay in the local thread where the next ones find it busy. Trials of unknown cost
    that may run in threads are measured there, side by side: a worker would first have to start and import. What was
    decided to be parallel stays there, since the trials under way would count as other work against it.

    Args:
        session: Executes them.
        objective: The function.
        options: Of all trials.
    """

    def __init__(self, session: ParallelSession, objective: Callable[[Any], Any], options: TrialOptions) -> None:
        self._session, self._objective = session, objective
        self._map_options: Any = {"priority": "batch", **options}
        self._remote_options: Any = {**self._map_options, "strategy": "processes"}
        run_options = {name: value for name, value in self._map_options.items() if name not in ("workers", "item_timeout_s")}
        self._run_options: Any = {**run_options, "timeout_s": options.get("item_timeout_s")}
        self._room, self._decide_at = 0, 0.0
        self._strategy: Strategy | None = None  # as it was decided; None: each call decides for itself
        self._may_leave = True

    async def room(self, sample: object, n_left: float, n_ended: int) -> int:
        """Return how many trials may be under way, decided anew each time as many again have ended until they are parallel.

        Args:
            sample: What the objective gets.
            n_left: How many trials have not ended.
            n_ended: How many have.

        Raises:
            AsyncFunctionError: The objective is async.
            SettingError: An option's value can't work.
        """
        if n_ended >= self._decide_at:
            items = [sample] * int(min(n_left, _MANY))
            decision = await self._session.decide(self._objective, items, **self._map_options)
            is_auto = decision.requested is Strategy.AUTO and self._may_leave
            self._room, self._strategy = decision.workers, None
            self._decide_at = 2 * n_ended + 1
            if decision.reason is Reason.MEASURING:
                self._room = (await self._session.decide(self._objective, items, **self._remote_options)).workers
                self._strategy = Strategy.THREADS if is_auto and self._map_options.get("thread_safe") else None
                self._decide_at = n_ended + 1
            elif is_auto and decision.strategy is not Strategy.SERIAL:
                self._strategy, self._decide_at = decision.strategy, math.inf
        return self._room

    async def execute(self, trial: object, answer: Callable[[Any], object] | None) -> Any:
        """Return what the objective returns for a trial, whose questions are answered."""
        if self._strategy is not None:
            try:
                return await self._call(trial, answer, strategy=self._strategy)
            except _NOT_BEGUN:
                self._strategy, self._may_leave = None, False
        return await self._call(trial, answer)

    async def _call(self, trial: object, answer: Callable[[Any], object] | None, **decided: Any) -> Any:
        return await self._session.run(self._objective, trial, answer=answer, **{**self._run_options, **decided})
