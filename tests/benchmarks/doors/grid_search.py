"""The figure ``grid_search``: scikit-learn's GridSearchCV on our backend for joblib and on joblib's loky, with warm workers."""

import asyncio
from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np
from joblib import parallel_config
from sklearn.datasets import load_digits, make_regression
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from ..entrants import Assignment, Sample

Search = Callable[[], Any]


def digits(is_quick: bool) -> Search:
    """192 fits (quick: 48) of about 30 ms on a small table, which are unequally long."""
    X, y = load_digits(return_X_y=True)
    grid = {"C": np.logspace(-1, 2, 4 if is_quick else 8), "gamma": np.logspace(-4, -2, 4 if is_quick else 8)}
    return lambda: GridSearchCV(SVC(), grid, cv=3).fit(X, y)


def wide(is_quick: bool) -> Search:
    """300 fits (quick: 60) of about 15 ms on a table of 4.5 MB."""
    X, y = make_regression(800, 700, n_informative=50, noise=5.0, random_state=0)
    return lambda: GridSearchCV(Ridge(), {"alpha": np.logspace(-3, 3, 12 if is_quick else 60)}, cv=5).fit(X, y)


def tiny(is_quick: bool) -> Search:
    """2,000 fits (quick: 400) of about 1 ms."""
    X, y = make_regression(100, 5, noise=5.0, random_state=0)
    return lambda: GridSearchCV(Ridge(), {"alpha": np.logspace(-3, 3, 80 if is_quick else 400)}, cv=5).fit(X, y)


SEARCHES = {"digits": digits, "wide": wide, "tiny": tiny}


@cache
def search_of(way: str, is_quick: bool) -> Search:
    """Made once in each process."""
    return SEARCHES[way](is_quick)


async def grid_search(contender: Any, assignment: Assignment) -> Sample:
    """Search once before the clock, so that workers have imported scikit-learn, and once by it."""
    way, workers = assignment.entrant.way, assignment.workers
    search = search_of(way, assignment.quick)
    if assignment.entrant.contender == "offloop":
        for _ in range(2):
            began_s = perf_counter()
            await contender.session.run_joblib(search)
        return {"wall_s": [perf_counter() - began_s]}
    for _ in range(2):
        began_s = perf_counter()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(contender.thread, on_loky, search, workers)
    return {"wall_s": [perf_counter() - began_s]}


def on_loky(search: Search, workers: int) -> Any:
    """Search on joblib's own backend."""
    with parallel_config("loky", n_jobs=workers):
        return search()
