"""Search the parameters of a classifier of handwritten digits in an async program, on the workers that it has anyway.

Run it with ``python examples/grid_search.py``. scikit-learn's GridSearchCV is parallel by joblib, and joblib uses the session's workers.
While it searches, the event loop goes on: the program counts how late a tick of 10 ms is, and has other calls made by the same
workers. Then it scores the best model on images that the search hasn't seen, and gives a second search half a second, which is not
enough.
"""

from __future__ import annotations

import time

import anyio
import numpy as np
from sklearn.datasets import load_digits
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.svm import SVC

import offloop

GRID = {"C": np.logspace(-1, 2, 4), "gamma": np.logspace(-4, -2, 4)}
TICK_S = 0.010


def ink(images: np.ndarray) -> float:
    """Return how dark images are on average."""
    return float(images.mean())


async def tick(late_s: list[float]) -> None:
    """Note again and again by how much the event loop is late."""
    while True:
        due = time.perf_counter() + TICK_S
        await anyio.sleep(TICK_S)
        late_s.append(time.perf_counter() - due)


async def serve(session: offloop.ParallelSession, images: np.ndarray, answers: list[float]) -> None:
    """Have other calls made by the same workers, as a service would."""
    while True:
        answers.append(await session.run(ink, images, strategy="processes"))
        await anyio.sleep(TICK_S)


async def main() -> None:
    """Search, look what the loop does meanwhile, and give up another search."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    grid = GridSearchCV(SVC(), GRID, cv=3)
    late_s: list[float] = []
    answers: list[float] = []
    async with offloop.ParallelSession() as session:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick, late_s)
            tasks.start_soon(serve, session, X_test, answers)
            begun = time.perf_counter()
            await session.run_joblib(lambda: grid.fit(X_train, y_train))
            print(f"{len(grid.cv_results_['params'])} candidates × 3 folds: {time.perf_counter() - begun:.2f} s")
            tasks.cancel_scope.cancel()
        print(f"meanwhile: {len(answers)} other calls, and the event loop was late by {np.median(late_s) * 1e3:.1f} ms in the median")
        score = grid.score(X_test, y_test)
        print(f"best: {grid.best_params_}, {score:.3f} of the images that it hadn't seen")
        assert score > 0.95

        importance = await session.run_joblib(
            lambda: permutation_importance(grid.best_estimator_, X_test[:200], y_test[:200], n_repeats=3, random_state=0)
        )
        print(f"most telling pixel: {importance.importances_mean.argmax()}")

        begun = time.perf_counter()
        with anyio.move_on_after(0.5) as scope:
            await session.run_joblib(lambda: GridSearchCV(SVC(kernel="linear"), {"C": np.logspace(-3, 3, 500)}).fit(X, y))
        print(f"given up after {time.perf_counter() - begun:.2f} s: {scope.cancelled_caught}")
        assert session.statistics().pending == 0


if __name__ == "__main__":
    anyio.run(main)
