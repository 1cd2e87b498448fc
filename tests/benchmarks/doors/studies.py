"""The figures ``optuna_forests`` and ``optuna_pls``: the trials of a study, made by Optuna itself and on a session."""

from collections.abc import Callable
from functools import cache, partial
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import optuna
from anyio import to_thread
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import make_classification, make_regression
from sklearn.model_selection import KFold

from offloop.adapters.optuna import optimize

from ..canonical import work
from ..contenders.base import Contender
from ..contenders.ours import Offloop
from ..entrants import Assignment, Role, Sample

Array = np.ndarray[Any, Any]
Objective = Callable[[Any], float]


class Trials(NamedTuple):
    """How many trials of what."""

    objective: Objective
    count: int


def forest_score(x: Array, y: Array, trial: Any) -> float:
    """The score of a random forest."""
    return work.trial(x, y, (trial.suggest_int("depth", 5, 14), trial.number))


def pls_error(x: Array, y: Array, trial: Any) -> float:
    """The error of a regression on a few components, over three folds."""
    components = trial.suggest_int("components", 2, 20)
    errors = []
    for train, test in KFold(3).split(x):
        fitted = PLSRegression(components).fit(x[train], y[train])
        errors.append(np.mean((np.ravel(fitted.predict(x[test])) - y[test]) ** 2))
    return float(np.sqrt(np.mean(errors)))


@cache
def _trials(figure: str, quick: bool) -> Trials:
    if figure == "optuna_forests":
        x, y = make_classification(10_000, 20, random_state=0)
        return Trials(partial(forest_score, x, y), 10 if quick else 30)
    x, y = make_regression(800, 700, noise=5.0, random_state=0)
    return Trials(partial(pls_error, x, y), 20 if quick else 80)


async def study(contender: Contender, assignment: Assignment) -> Sample:
    """Have all trials of a new study made."""
    objective, count = _trials(assignment.scenario, assignment.quick)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    began_s = perf_counter()
    if assignment.entrant.role is Role.OURS:
        assert isinstance(contender, Offloop)
        await optimize(made, objective, count, session=contender.session, thread_safe=contender.thread_safe)
    else:
        n_jobs = assignment.workers if assignment.entrant.contender == "thread" else 1
        await to_thread.run_sync(partial(made.optimize, objective, count, n_jobs=n_jobs))
    wall_s = perf_counter() - began_s
    if len(made.get_trials(states=[optuna.trial.TrialState.COMPLETE])) != count:
        raise AssertionError("trials are missing")
    return {"wall_s": [wall_s]}
