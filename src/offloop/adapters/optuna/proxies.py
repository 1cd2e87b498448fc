"""What an objective gets in place of its trial and its study: each question is answered by the caller's own."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from optuna.distributions import BaseDistribution
from optuna.trial import BaseTrial

from ... import ask

T = TypeVar("T")

# What of a study may be asked for: what a storage answers. What would execute trials, or replace parts of the study, may not.
STUDY_VALUES = frozenset(
    {
        *("best_params", "best_trial", "best_trials", "best_value", "direction", "directions", "metric_names"),
        *("study_name", "trials", "user_attrs"),
    }
)
STUDY_METHODS = frozenset({"add_trial", "add_trials", "enqueue_trial", "get_trials", "set_user_attr", "stop", "trials_dataframe"})


class Question(NamedTuple):
    """What an objective asks of its trial, or of its study.

    Attributes:
        name: The attribute or method.
        args: Positional arguments of a method; None asks for an attribute.
        kwargs: Keyword arguments.
        of_study: Whether it is one of the study.
        is_again: Whether this very execution of the objective has reported at this step before.
    """

    name: str
    args: tuple[Any, ...] | None = None
    kwargs: dict[str, Any] | None = None
    of_study: bool = False
    is_again: bool = False


class StudyProxy:
    """The study of a trial, for its objective: what can be read of it, and `stop`.

    Attributes are those of `optuna.Study` with these names: best_params, best_trial, best_trials, best_value, direction,
    directions, metric_names, study_name, trials, user_attrs; add_trial, add_trials, enqueue_trial, get_trials,
    set_user_attr, stop, trials_dataframe.
    """

    def __getattr__(self, name: str) -> Any:
        if name in STUDY_VALUES:
            return ask(Question(name, of_study=True))
        if name in STUDY_METHODS:
            return partial(self._call, name)
        known = ", ".join(sorted(STUDY_VALUES | STUDY_METHODS))
        raise AttributeError(f"an objective can't use {name!r} of its study, which stays with the caller; there are {known}")

    @staticmethod
    def _call(name: str, *args: Any, **kwargs: Any) -> Any:
        return ask(Question(name, args, kwargs, of_study=True))


@BaseTrial.register  # not derived: what is abstract differs between releases
class TrialProxy:
    """A trial, for the objective that executes it, wherever that is.

    An `optuna.trial.BaseTrial` to `isinstance`, with all that `optuna.Trial` has. Values are drawn, reports stored and pruning is
    decided by the caller's study, which takes a message there and back, and what the storage takes.

    Args:
        number: Of the trial in its study.
        datetime_start: When it began.
    """

    def __init__(self, number: int, datetime_start: datetime.datetime | None) -> None:
        self._number, self._datetime_start = number, datetime_start
        self._steps: list[object] = []  # that this execution has reported

    @property
    def number(self) -> int:
        """The number of the trial in its study."""
        return self._number

    @property
    def datetime_start(self) -> datetime.datetime | None:
        """When the trial began."""
        return self._datetime_start

    @property
    def study(self) -> Any:
        """The study, as far as an objective may use it."""
        return StudyProxy()

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that have their value."""
        return dict(self._value("params"))

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """What these were drawn from."""
        return dict(self._value("distributions"))

    @property
    def relative_params(self) -> dict[str, Any]:
        """The parameters that the sampler draws together."""
        return dict(self._value("relative_params"))

    @property
    def user_attrs(self) -> dict[str, Any]:
        """The attributes that were set."""
        return dict(self._value("user_attrs"))

    @property
    def constraints(self) -> dict[str, float]:
        """The constraints that were set."""
        return dict(self._value("constraints"))

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:
        """Return a value for a floating-point parameter."""
        return float(self._call("suggest_float", name, low, high, step=step, log=log))

    def suggest_uniform(self, name: str, low: float, high: float) -> float:
        """Return a value; deprecated by Optuna."""
        return float(self._call("suggest_uniform", name, low, high))

    def suggest_loguniform(self, name: str, low: float, high: float) -> float:
        """Return a value, drawn by its logarithm; deprecated by Optuna."""
        return float(self._call("suggest_loguniform", name, low, high))

    def suggest_discrete_uniform(self, name: str, low: float, high: float, q: float) -> float:
        """Return a value out of steps; deprecated by Optuna."""
        return float(self._call("suggest_discrete_uniform", name, low, high, q))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a value for a whole-numbered parameter."""
        return int(self._call("suggest_int", name, low, high, step=step, log=log))

    def suggest_categorical(self, name: str, choices: Sequence[T]) -> T:
        """Return one of the choices."""
        chosen: T = self._call("suggest_categorical", name, choices)
        return chosen

    def report(self, value: float, step: int) -> None:
        """Report an intermediate value, for the pruner."""
        is_again = step in self._steps
        self._steps.append(step)
        ask(Question("report", (value, step), is_again=is_again))

    def should_prune(self) -> bool:
        """Whether the pruner says to raise `optuna.TrialPruned`."""
        return bool(self._call("should_prune"))

    def set_user_attr(self, key: str, value: Any) -> None:
        """Set an attribute of the trial."""
        self._call("set_user_attr", key, value)

    def set_constraint(self, key: str, value: float) -> None:
        """Set the value of a constraint, which is met at 0 or below."""
        self._call("set_constraint", key, value)

    @staticmethod
    def _value(name: str) -> Any:
        return ask(Question(name))

    @staticmethod
    def _call(name: str, *args: Any, **kwargs: Any) -> Any:
        return ask(Question(name, args, kwargs))
