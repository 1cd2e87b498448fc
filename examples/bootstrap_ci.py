"""Bootstrap confidence intervals of a classifier's ROC AUC and Brier score, on scikit-learn's breast-cancer data.

Run it with ``python examples/bootstrap_ci.py``. It asks offloop for the same 2,000 resamples twice: once as offloop
decides, once serially, shows why it decided so, and how much faster that was. The numbers are the same both times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import anyio
import numpy as np
from numpy.random import Generator
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import offloop

RESAMPLES = 2_000
SEED = 42

Metric = Callable[[np.ndarray, np.ndarray], float]


def resampled_score(metric: Metric, y: np.ndarray, p: np.ndarray, _: int, *, rng: Generator) -> float:
    """Score one bootstrap resample, drawn with replacement."""
    rows = rng.integers(len(y), size=len(y))
    return float(metric(y[rows], p[rows]))


async def interval(session: offloop.ParallelSession, name: str, metric: Metric, y: np.ndarray, p: np.ndarray) -> None:
    """Print a metric with its 95 % interval, and what offloop did to get it."""
    score = partial(resampled_score, metric, y, p)
    begun = time.perf_counter()
    scores = await session.run_parallel(score, range(RESAMPLES), seed=SEED, label=name)
    chosen_s = time.perf_counter() - begun
    decision = session.decisions[-1]

    begun = time.perf_counter()
    serial_scores = await session.run_parallel(score, range(RESAMPLES), seed=SEED, strategy="serial")
    serial_s = time.perf_counter() - begun
    assert scores == serial_scores, "the same seed gives the same numbers, however they are computed"

    low, high = np.quantile(scores, [0.025, 0.975])
    print(f"{name}: {metric(y, p):.4f}, 95 % interval {low:.4f} to {high:.4f} ({RESAMPLES} resamples)")
    print(f"  {decision}")
    print(f"  {chosen_s:.2f} s, against {serial_s:.2f} s serially: {serial_s / chosen_s:.2f} × as fast\n")


def load_libraries() -> None:
    """Import what the scores need: once in every process that computes some, before the clock runs."""
    import sklearn.metrics  # noqa: F401


async def main() -> None:
    """Fit a classifier, then put intervals around two of its scores."""
    X, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    async with offloop.ParallelSession(worker_init=load_libraries) as session:
        begun = time.perf_counter()
        await session.warm()
        print(f"{len(session.statistics().workers)} workers up in {time.perf_counter() - begun:.2f} s\n")
        probabilities = await session.run(partial(cross_val_predict, model, X, y, cv=5, method="predict_proba"))
        p = probabilities[:, 1]
        await interval(session, "ROC AUC", roc_auc_score, y, p)
        await interval(session, "Brier score", brier_score_loss, y, p)


if __name__ == "__main__":
    anyio.run(main)
