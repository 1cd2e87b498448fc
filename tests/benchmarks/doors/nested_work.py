"""Branches in which somebody wants all cores; imported by workers, so libraries are imported by those only that need them."""

import os
from collections.abc import Callable
from time import perf_counter
from typing import Any

WORK_S, QUICK_WORK_S = 2.0, 1.0


def forests(seconds: float) -> None:
    """Fit forests with n_jobs=-1."""
    from sklearn.ensemble import RandomForestClassifier

    fit_for(seconds, RandomForestClassifier(30, n_jobs=-1))


def fit_for(seconds: float, model: Any) -> None:
    """Fit a model again and again."""
    import numpy as np

    X = np.random.default_rng(1).random((3_000, 20))
    repeat(seconds, lambda: model.fit(X, X[:, 0] > X[:, 1]))


def matrices(seconds: float) -> None:
    """Multiply matrices, for which BLAS uses all cores."""
    import numpy as np

    a = np.random.default_rng(1).random((1_000, 1_000))
    repeat(seconds, lambda: a @ a)


def trials(seconds: float) -> None:
    """Have Optuna try forests with n_jobs=-1, of itself and of them."""
    import optuna
    from sklearn.ensemble import RandomForestClassifier

    optuna.logging.disable_default_handler()

    def objective(trial: Any) -> float:
        fit_for(seconds / 4, RandomForestClassifier(trial.suggest_int("trees", 10, 50), n_jobs=-1))
        return 0.0

    optuna.create_study().optimize(objective, n_trials=2 * (os.cpu_count() or 1), n_jobs=-1)


def jobs(seconds: float) -> None:
    """Have joblib run Python on all cores."""
    import joblib

    n_jobs = joblib.effective_n_jobs(-1)
    joblib.Parallel(n_jobs=-1)(joblib.delayed(count)(seconds / 2) for _ in range(2 * n_jobs))


def count(seconds: float) -> None:
    """Hold the GIL."""
    repeat(seconds, lambda: sum(range(10_000)))


def repeat(seconds: float, act: Callable[[], object]) -> None:
    """Do something for so long."""
    ends = perf_counter() + seconds
    while perf_counter() < ends:
        act()


WORK: dict[str, Callable[[float], None]] = {
    "forests": forests,
    "matrices": matrices,
    "Optuna": trials,
    "joblib": jobs,
}


def nested_here(way: str, seconds: float) -> None:
    """A branch that splits further, by offloop: two parts, one after another where it runs in a worker."""
    import anyio

    import offloop

    anyio.run(offloop.run_parallel, WORK[way], [seconds / 2] * 2)


def nested_branches(way: str, seconds: float) -> None:
    """A branch that has branches of its own."""
    import functools

    import anyio

    import offloop

    branches = {"light": offloop.call(count, seconds / 4), "heavy": offloop.call(WORK[way], seconds)}
    anyio.run(functools.partial(offloop.run_branches, branches))


def nested_in_joblib(way: str, seconds: float) -> None:
    """The same by joblib."""
    import joblib

    joblib.Parallel(n_jobs=-1)(joblib.delayed(WORK[way])(seconds / 2) for _ in range(2))


def nested_not(way: str, seconds: float) -> None:
    """A branch that does it itself: other pools can't be nested, or start as many processes again."""
    WORK[way](seconds)
