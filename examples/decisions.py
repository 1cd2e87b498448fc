"""Watch offloop decide, on scikit-learn's digits and breast-cancer data: what stays, what goes parallel, and why.

Run it with ``python examples/decisions.py``. Five workloads of real kinds go to one session, each twice: the first time
nothing is known of them, the second time their cost is. Every decision is printed as it is told to a sink, and beside it
what the work then took.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import anyio
import numpy as np
from numpy.random import Generator
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import offloop
from offloop import Event


def resampled(metric: Callable[..., float], y: np.ndarray, p: np.ndarray, _: int, *, rng: Generator) -> float:
    """Score one bootstrap resample."""
    rows = rng.integers(len(y), size=len(y))
    return float(metric(y[rows], p[rows]))


def compressed(image: bytes) -> int:
    """Compress an image, enlarged, which lets go of the GIL."""
    return len(zlib.compress(image * 400, 6))


def accuracy(forest: RandomForestClassifier, X: np.ndarray, y: np.ndarray, seed: int) -> float:
    """Train a forest on half of the rows and score it on the others."""
    rows = np.random.default_rng(seed).permutation(len(y))
    half = len(y) // 2
    fitted = forest.set_params(random_state=seed).fit(X[rows[:half]], y[rows[:half]])
    return float(fitted.score(X[rows[half:]], y[rows[half:]]))


def told(event: Event) -> None:
    """Print a decision as the session's sinks get it."""
    if event.event == "parallel.decision":
        fields = event.as_dict()
        estimates = {name: fields[name] for name in ("item_s", "estimated_serial_s", "estimated_s") if fields[name]}
        numbers = ", ".join(f"{name}={value:.2g}" for name, value in estimates.items())
        print(f"    {fields['strategy']} × {fields['workers']}, {fields['reason']}  {numbers}")
        if fields["hint"]:
            print(f"    hint: {fields['hint']}")


async def twice(
    session: offloop.ParallelSession, title: str, fn: Callable[..., Any], items: Iterable[Any], **options: Any
) -> None:
    """Run a workload when it is new and when it is known."""
    print(title)
    for when in ("new", "known"):
        begun = time.perf_counter()
        results = await session.run_parallel(fn, items, **options)
        print(f"  {when}: {len(results)} results in {time.perf_counter() - begun:.2f} s")


async def main() -> None:
    """Run the five workloads."""
    X, y = load_breast_cancer(return_X_y=True)
    p = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[:200], y[:200]).predict_proba(X)[:, 1]
    images = [image.astype(np.uint8).tobytes() for image in load_digits().images]
    forest = RandomForestClassifier(n_estimators=20, n_jobs=-1)
    remove = offloop.add_sink(told)
    try:
        async with offloop.ParallelSession() as session:
            brier = partial(resampled, brier_score_loss, y[:200], p[:200])
            await twice(session, "a cheap bootstrap", brier, range(100), seed=1)
            precision = partial(resampled, average_precision_score, y[:200], p[:200])
            await twice(session, "a dear bootstrap", precision, range(2_000), seed=1)
            await twice(session, "compression, threads not allowed", compressed, images[:400])
            await twice(session, "compression, thread-safe", compressed, images[:400], thread_safe=True)
            trial = partial(accuracy, forest, X, y)
            await twice(session, "a learner with n_jobs=-1", trial, range(5))
            print(await session.decide(precision, range(100_000), seed=1))
            print(session.statistics())
    finally:
        remove()


if __name__ == "__main__":
    anyio.run(main)
