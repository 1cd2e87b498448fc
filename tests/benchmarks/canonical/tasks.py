"""The canonical workloads, by name: the function, its items, what is bound to it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from . import work


@dataclass(frozen=True)
class Task:
    """``fn`` over ``items``."""

    fn: Callable[[Any], Any]
    items: list[Any]


def brier_bootstrap(quick: bool) -> Task:
    """(a) 10,000 resamples of 200 rows, some 25 µs each."""
    return Task(partial(work.brier, *_scored_rows()), list(range(10_000)))


def pr_auc_bootstrap(quick: bool) -> Task:
    """(b) 10,000 resamples of 200 rows, about 1 ms each."""
    return Task(partial(work.pr_auc, *_scored_rows()), list(range(1_000 if quick else 10_000)))


def shared_array(quick: bool) -> Task:
    """(c) 60 resamples of one table of 300,000 rows."""
    table = np.random.default_rng(0).normal(size=(300_000, 4))
    return Task(partial(work.resampled_quantiles, table), list(range(12 if quick else 60)))


def explain_20(quick: bool) -> Task:
    """(d) 1,000 rows of 20 features explained."""
    return _explain(20, 200 if quick else 1_000)


def explain_100(quick: bool) -> Task:
    """(d) 1,000 rows of 100 features explained; 40 kB come back of each."""
    return _explain(100, 100 if quick else 1_000)


def branches(quick: bool) -> Task:
    """(e) Four branches of a pipeline times five folds, from 1 ms to above 1 s each."""
    x, y = make_regression(400 if quick else 1_000, 40, noise=5.0, random_state=0)
    models = {
        "pls": PLSRegression(10),
        "ridge": Ridge(),
        "rf": RandomForestRegressor(100, max_features=0.3, random_state=0),
        "gb": GradientBoostingRegressor(n_estimators=150, random_state=0),
    }
    folds = list(KFold(5).split(x))
    items = [(name, number) for number, name in product(range(5), models)]
    return Task(partial(work.fold_error, models, folds, x, y), items)


def trials(quick: bool) -> Task:
    """(f) 30 random forests tried, most of whose time is spent without the GIL."""
    x, y = make_classification(10_000, 20, random_state=0)
    return Task(
        partial(work.trial, x, y), [(5 + number % 10, number) for number in range(10 if quick else 30)]
    )


def own_threads(quick: bool) -> Task:
    """(g) 5 fits of a learner that uses all cores by itself."""
    x, y = make_classification(3_000 if quick else 6_000, 20, random_state=0)
    learner = RandomForestClassifier(50, n_jobs=-1)
    return Task(partial(work.fitted_score, learner, x, y), list(range(5)))


def _scored_rows() -> tuple[Any, Any]:
    chance = np.random.default_rng(0)
    y = chance.integers(0, 2, 200)
    return y, np.clip(0.3 * y + chance.uniform(size=200) * 0.7, 0.0, 1.0)


def _explain(n_features: int, n_rows: int) -> Task:
    x, y = make_regression(1_000, n_features, random_state=0)
    forest = RandomForestRegressor(10, random_state=0).fit(x, y)
    grid = np.quantile(x, np.linspace(0.02, 0.98, 50), axis=0)
    return Task(partial(work.explained, forest, grid), list(x[:n_rows]))


TASKS: dict[str, Callable[[bool], Task]] = {
    task.__name__: task
    for task in (
        brier_bootstrap,
        pr_auc_bootstrap,
        shared_array,
        explain_20,
        explain_100,
        branches,
        trials,
        own_threads,
    )
}
