"""The figure ``run_branches``: four learners × three folds, made one after another or side by side in several ways."""

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import make_regression
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

import offloop
from offloop import call, units

from ..contenders import build
from ..contenders.base import Contender
from ..contenders.ours import Offloop
from ..entrants import Assignment, Role, Sample

Array = np.ndarray[Any, Any]
Fold = tuple[BaseEstimator, Array, Array, Array, Array]  # a learner, the data, and the rows to train and to test on
Errors = dict[str, float]  # by branch

HEAVY_FIRST = ("rf", "gb", "pls", "ridge")


class Branches(NamedTuple):
    """The folds of each learner by its name."""

    folds: dict[str, list[Fold]]
    errors: Errors  # of the learners that are quick to fit


def fold_error(learner: BaseEstimator, x: Array, y: Array, train: Array, test: Array) -> float:
    """The error of a learner on one fold."""
    fitted: Any = clone(learner).fit(x[train], y[train])
    return float(np.sqrt(np.mean((np.ravel(fitted.predict(x[test])) - y[test]) ** 2)))


def fold_error_of(fold: Fold) -> float:
    """The same, of arguments that stand in one item."""
    return fold_error(*fold)


def mean_error(folds: Sequence[Fold]) -> float:
    """The error of a branch: the mean over its folds."""
    return mean([fold_error(*fold) for fold in folds])


def mean(errors: Sequence[float]) -> float:
    """Put the errors of a branch's folds together."""
    return float(np.mean(errors))


async def run_branches(contender: Contender, assignment: Assignment) -> Sample:
    """Have the errors of all branches made once by who has made them before."""
    branches = _branches(assignment.quick)
    began_s = perf_counter()
    errors = await WAYS[assignment.entrant.way](contender, branches)
    return _checked(branches, errors, perf_counter() - began_s)


async def run_branches_cold(assignment: Assignment) -> Sample:
    """The same with workers, or a session, made for it and ended after it, of which the clock sees all."""
    branches = _branches(assignment.quick)
    began_s = perf_counter()
    if assignment.entrant.role is Role.OURS:
        async with offloop.ParallelSession(workers=assignment.workers) as session:
            errors = await _on(session, branches)
    else:
        async with build(assignment.entrant, workers=assignment.workers) as contender:
            errors = await _by_unit(contender, branches)
    return _checked(branches, errors, perf_counter() - began_s)


def _checked(branches: Branches, errors: Errors, wall_s: float) -> Sample:
    """Prove the errors of the branches that are quick to make."""
    if errors.keys() != branches.folds.keys() or any(
        not np.isclose(errors[name], error) for name, error in branches.errors.items()
    ):
        raise AssertionError("wrong results")
    return {"wall_s": [wall_s]}


async def _ours(contender: Contender, branches: Branches) -> Errors:
    assert isinstance(contender, Offloop)
    return await _on(contender.session, branches)


async def _on(session: offloop.ParallelSession, branches: Branches) -> Errors:
    """Branches as the user writes them."""
    return await session.run_branches(
        {
            name: units([call(fold_error, *fold) for fold in folds], combine=mean)
            for name, folds in branches.folds.items()
        }
    )


async def _by_branch(contender: Contender, branches: Branches) -> Errors:
    """An item is a branch with all its folds: one after another, or what systems do that know branches only."""
    errors = await contender.map(mean_error, list(branches.folds.values()))
    return dict(zip(branches.folds, errors, strict=True))


async def _one_blas_thread(contender: Contender, branches: Branches) -> Errors:
    with threadpool_limits(1):
        return await _by_branch(contender, branches)


async def _by_unit(contender: Contender, branches: Branches) -> Errors:
    """An item is a fold of a branch, the heavy ones first, which takes a user who knows which are heavy."""
    names = [name for name in HEAVY_FIRST for _ in branches.folds[name]]
    errors = await contender.map(fold_error_of, [fold for name in HEAVY_FIRST for fold in branches.folds[name]])
    by_name: dict[str, list[float]] = {name: [] for name in branches.folds}
    for name, error in zip(names, errors, strict=True):
        by_name[name].append(error)
    return {name: mean(of_folds) for name, of_folds in by_name.items()}


WAYS: dict[str, Callable[[Contender, Branches], Awaitable[Errors]]] = {
    "": _by_branch,
    "warm": _ours,
    "1 BLAS thread": _one_blas_thread,
    "by branch": _by_branch,
    "by unit": _by_unit,
}


@cache
def _branches(is_quick: bool) -> Branches:
    """The heaviest unit is a fifth of the whole, so that 1.85 × serial is what two cores can do with these units."""
    n_trees, n_stages = (8, 6) if is_quick else (25, 20)
    x, y = make_regression(800, 700, n_informative=40, noise=5.0, random_state=0)
    learners = {
        "pls": PLSRegression(30),
        "ridge": Ridge(),
        "rf": RandomForestRegressor(n_trees, random_state=0),
        "gb": GradientBoostingRegressor(n_estimators=n_stages, random_state=0),
    }
    rows = list(KFold(3).split(x))
    folds = {name: [(learner, x, y, *row) for row in rows] for name, learner in learners.items()}
    return Branches(folds, {name: mean_error(folds[name]) for name in ("pls", "ridge")})
