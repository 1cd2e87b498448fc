"""The trials of one optimisation that are under way: how each begins, what is asked of it, and how it ends."""

from __future__ import annotations

import copy
import datetime
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from ... import SettingTypeError
from .proxies import Question, TrialProxy
from .view import TrialView

Callback = Callable[[optuna.Study, FrozenTrial], None]

_fail_stale_trials = inspect.unwrap(optuna.storages.fail_stale_trials)  # without the warning that it is experimental

_log = optuna.logging.get_logger("optuna.offloop")  # a child of Optuna's own, so that its verbosity holds


class Ending(NamedTuple):
    """What has come of an objective.

    Attributes:
        value: What it returned.
        error: What it raised, or what became of its worker.
    """

    value: Any = None
    error: Exception | None = None


class UnderWay:
    """One trial under way.

    Attributes:
        trial: The trial.
        steps: At which it has reported.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial
        self.steps: list[object] = []


class Trials:
    """The trials under way of one study. Every method is called in the study's thread.

    Args:
        study: The study.
        distributions: What to draw as a trial begins, by name; None: its objective will ask.
        callbacks: What to call after each trial.
    """

    def __init__(
        self, study: optuna.Study, distributions: Mapping[str, BaseDistribution] | None, callbacks: Iterable[Callback]
    ) -> None:
        for distribution in (distributions or {}).values():
            if not isinstance(distribution, (FloatDistribution, IntDistribution, CategoricalDistribution)):
                hint = "write a FloatDistribution, IntDistribution or CategoricalDistribution for each name."
                raise SettingTypeError("distributions", distribution, hint)
        self._study, self._distributions, self._callbacks = study, distributions, tuple(callbacks)
        self._under_way: dict[int, UnderWay] = {}
        self._storage: Any = study._storage

    def heartbeat_s(self) -> float | None:
        """Return how often the storage wants to hear of trials under way; None where it doesn't."""
        interval = getattr(self._storage, "get_heartbeat_interval", None)
        return None if interval is None else interval()

    def beat(self) -> None:
        """Tell the storage that the trials under way are."""
        for under_way in self._under_way.values():
            self._storage.record_heartbeat(under_way.trial._trial_id)

    def sample(self) -> TrialProxy | TrialView:
        """Return something like what objectives get."""
        return TrialProxy(0, datetime.datetime.min) if self._distributions is None else TrialView(number=0, params={})

    def begin(self) -> TrialProxy | TrialView:
        """Begin a trial, a new one or the next that was enqueued; return what its objective gets."""
        if self.heartbeat_s() is not None:
            _fail_stale_trials(self._study)
        trial = self._study.ask()
        self._under_way[trial.number] = UnderWay(trial)
        if self.heartbeat_s() is not None:
            self._storage.record_heartbeat(trial._trial_id)
        if self._distributions is None:
            return TrialProxy(trial.number, trial.datetime_start)
        for name, distribution in self._distributions.items():  # not by `ask`: if that fails, the trial is nobody's
            _draw(trial, name, distribution)
        return TrialView(
            number=trial.number, params=trial.params, user_attrs=trial.user_attrs, datetime_start=trial.datetime_start
        )

    def answer(self, number: int, question: Question) -> Any:
        """Return the answer to a question of a trial's objective."""
        under_way = self._under_way.get(number)
        if under_way is None:
            raise RuntimeError(f"trial {number} is over")
        if question.name == "report" and not question.of_study:
            return self._report(under_way, question)
        target: Any = self._study if question.of_study else under_way.trial
        value = getattr(target, question.name)
        return value if question.args is None else value(*question.args, **(question.kwargs or {}))

    @staticmethod
    def _report(under_way: UnderWay, question: Question) -> None:
        assert question.args is not None
        value, step = question.args
        if step in under_way.steps and not question.is_again:
            return  # by an execution whose worker has died since
        under_way.trial.report(value, step)
        under_way.steps.append(step)

    def end(self, number: int, ending: Ending) -> TrialState:
        """Tell the study what has come of a trial, then the callbacks; return how it stands in the study."""
        trial, error, problem = self._under_way[number].trial, ending.error, None
        if isinstance(error, optuna.TrialPruned):
            state = TrialState.PRUNED
        else:
            problem = None if error is not None else _infeasible(ending.value, len(self._study.directions))
            state = TrialState.FAIL if error is not None or problem else TrialState.COMPLETE
        frozen = self._study.tell(trial, ending.value if state is TrialState.COMPLETE else None, state)
        del self._under_way[number]
        self._log_end(frozen, error, problem)
        for callback in self._callbacks:
            callback(self._study, copy.deepcopy(frozen))
        return state

    def _log_end(self, trial: FrozenTrial, error: Exception | None, problem: str | None) -> None:
        if trial.state is TrialState.FAIL:
            said = "Trial %d failed with parameters: %s because of the following error: %s."
            _log.warning(said, trial.number, trial.params, problem or repr(error), exc_info=error)
        elif trial.state is TrialState.PRUNED:
            _log.info("Trial %d pruned. %s", trial.number, error)
        elif _log.isEnabledFor(optuna.logging.INFO):
            values = trial.values[0] if len(trial.values) == 1 else trial.values
            _log.info("Trial %d finished with %s and parameters: %s.%s", trial.number, values, trial.params, self._best())

    def _best(self) -> str:
        if len(self._study.directions) > 1:
            return ""
        try:
            best = self._study.best_trial
        except ValueError:  # none is feasible
            return ""
        return f" Best is trial {best.number} with {best.value}."

    def abandon(self) -> None:
        """Tell the study that those which have not ended have failed."""
        for number, under_way in self._under_way.items():
            try:
                self._study.tell(under_way.trial, state=TrialState.FAIL, skip_if_finished=True)
                _log.warning("Trial %d was stopped before it had ended.", number)
            except Exception:
                _log.exception("Trial %d was broken off, and its storage could not be told: it is still RUNNING there.", number)
        self._under_way.clear()


def _draw(trial: optuna.Trial, name: str, distribution: Any) -> None:
    if isinstance(distribution, FloatDistribution):
        trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    else:
        trial.suggest_categorical(name, distribution.choices)


def _infeasible(value: Any, n_objectives: int) -> str | None:
    """Return why a study would not take an objective's value; None if it would."""
    values = value if isinstance(value, Sequence) else [value]
    for one in values:
        try:
            number = float(one)
        except (TypeError, ValueError):
            return f"The value {one!r} could not be cast to float"
        if math.isnan(number):
            return f"The value {one} is not acceptable"
    if len(values) != n_objectives:
        return f"The number of the values {len(values)} did not match the number of the objectives {n_objectives}"
    return None
