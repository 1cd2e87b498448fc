"""Five classifiers compared on scikit-learn's digits, each cross-validated, as branches of one run.

Run it with ``python examples/branches.py``. Four learners are split into a unit for each fold, so that the heavy ones don't
bound the whole; the fifth, a forest with ``n_jobs=-1``, is one call, which is made alone with all cores. The branches are
run as offloop decides, once new and once known, and serially; the program prints where each unit was made and what it took,
the scores, and the times. The scores are the same every time, since each unit has random numbers of its own.
"""

from __future__ import annotations

import time
from typing import Any

import anyio
import numpy as np
from numpy.random import Generator
from sklearn.base import clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedKFold

import offloop
from offloop import call, units
from offloop.events import UnitFinished

SEED = 42
FOLDS = 3
LEARNERS = {
    "pls": PLSRegression(20),
    "ridge": RidgeClassifier(),
    "forest": RandomForestClassifier(100),
    "boosting": GradientBoostingClassifier(n_estimators=12, max_features=0.3),
}
Fold = tuple[np.ndarray, np.ndarray]  # the rows to train and to test on


def accuracy(learner: Any, X: np.ndarray, y: np.ndarray, fold: Fold, *, rng: Generator) -> float:
    """Train on the one part of a fold, and return how much of the other is told right."""
    train, test = fold
    fitted = clone(learner)
    if "random_state" in fitted.get_params():
        fitted.set_params(random_state=int(rng.integers(2**31)))
    if isinstance(fitted, PLSRegression):  # digits as ten columns, of which the largest is the answer
        predicted = fitted.fit(X[train], np.eye(10)[y[train]]).predict(X[test]).argmax(axis=1)
    else:
        predicted = fitted.fit(X[train], y[train]).predict(X[test])
    return float(np.mean(predicted == y[test]))


def load_libraries() -> None:
    """Import what the learners need: once in every process that trains some, before the clock runs."""
    import sklearn.cross_decomposition
    import sklearn.ensemble
    import sklearn.linear_model  # noqa: F401


def show(event: offloop.Event) -> None:
    """Print a line for each unit that is over, but of those that have no choice."""
    if isinstance(event, UnitFinished) and event.reason != "explicit":
        alone = ", alone" if event.inner else ""
        unit = f"{event.branch} {event.unit + 1}/{event.n_units}"
        print(f"  {unit:<16} {event.wait_s:6.2f} {event.wall_s:6.2f}  {event.strategy} ({event.reason}){alone}")


async def main() -> None:
    """Compare the learners three times."""
    X, y = load_digits(return_X_y=True)
    folds = list(StratifiedKFold(FOLDS).split(X, y))
    branches: dict[str, Any] = {
        name: units([call(accuracy, learner, X, y, fold) for fold in folds], combine=np.mean)
        for name, learner in LEARNERS.items()
    }
    branches["all cores"] = call(accuracy, RandomForestClassifier(100, n_jobs=-1), X, y, folds[0])

    seconds: dict[str, float] = {}
    scores: dict[str, dict[str, float]] = {}
    remove = offloop.add_sink(show)
    try:
        async with offloop.ParallelSession(worker_init=load_libraries) as session:
            await session.warm()
            for when in ("new", "known", "serial"):
                print(f"{when:<18} waited   took" if when != "serial" else "serial")
                begun = time.perf_counter()
                strategy = "serial" if when == "serial" else "auto"
                scores[when] = await session.run_branches(branches, seed=SEED, strategy=strategy)
                seconds[when] = time.perf_counter() - begun
    finally:
        remove()
    assert scores["new"] == scores["known"] == scores["serial"], "a unit's random numbers go by its branch and its number"

    print()
    for name, score in scores["known"].items():
        print(f"{name:<10} {score:.3f}")
    times = ", ".join(f"{when} {taken_s:.2f} s" for when, taken_s in seconds.items())
    print(f"\n{times}: known branches were {seconds['serial'] / seconds['known']:.2f} × as fast as one unit after another")


if __name__ == "__main__":
    anyio.run(main)
