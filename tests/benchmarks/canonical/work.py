"""What one item of each workload does, importable in any worker."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score

FEATURES_AT_ONCE = 5

Array = np.ndarray[Any, Any]


def brier(y: Array, p: Array, seed: int) -> float:
    """The Brier score of one resample."""
    rows = np.random.default_rng(seed).integers(0, len(y), len(y))
    return float(np.mean((p[rows] - y[rows]) ** 2))


def pr_auc(y: Array, p: Array, seed: int) -> float:
    """The area under the precision-recall curve of one resample."""
    rows = np.random.default_rng(seed).integers(0, len(y), len(y))
    return float(average_precision_score(y[rows], p[rows]))


def resampled_quantiles(table: Array, seed: int) -> Array:
    """Quantiles of every column of one resample of a large table."""
    rows = np.random.default_rng(seed).integers(0, len(table), len(table))
    return np.quantile(table[rows], (0.05, 0.5, 0.95), axis=0)


def explained(forest: Any, grid: Array, row: Array) -> Array:
    """What a model predicts for a row with each feature in turn at each place of a grid."""
    n_places, n_features = grid.shape
    predicted = np.empty((n_features, n_places))
    for first in range(0, n_features, FEATURES_AT_ONCE):
        features = range(first, min(n_features, first + FEATURES_AT_ONCE))
        perturbed = np.tile(row, (len(features), n_places, 1))
        for at, feature in enumerate(features):
            perturbed[at, :, feature] = grid[:, feature]
        rows = perturbed.reshape(-1, n_features)
        predicted[features.start : features.stop] = forest.predict(rows).reshape(-1, n_places)
    return predicted


def fold_error(
    models: dict[str, BaseEstimator],
    folds: list[tuple[Array, Array]],
    x: Array,
    y: Array,
    item: tuple[str, int],
) -> float:
    """The error of one branch's model on one fold."""
    name, number = item
    train, test = folds[number]
    model: Any = clone(models[name]).fit(x[train], y[train])
    return float(np.sqrt(np.mean((np.ravel(model.predict(x[test])) - y[test]) ** 2)))


def trial(x: Array, y: Array, params: tuple[int, int]) -> float:
    """The score of a random forest with one choice of parameters."""
    depth, seed = params
    forest = RandomForestClassifier(n_estimators=20, max_depth=depth, random_state=seed)
    return float(forest.fit(x[::2], y[::2]).score(x[1::2], y[1::2]))


def fitted_score(learner: BaseEstimator, x: Array, y: Array, seed: int) -> float:
    """The score, on the data that it has seen, of a learner that brings threads of its own."""
    model: Any = clone(learner).set_params(random_state=seed).fit(x, y)
    return float(model.score(x, y))
