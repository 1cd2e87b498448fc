"""Keep what is finished in time, and what survives, on scikit-learn's breast-cancer and digits data.

Run it with ``python examples/deadlines.py``. Some classifiers are compared; two of them take far too long. First each fit has
a time limit, then all of them have one deadline, and both times what is finished in time is kept. Then one of many images
crashes the C code that copies it, and costs nothing but itself. The program prints what was stopped, how, and how long all
of it took. There must be workers for that: with ``OFFLOOP_PARALLEL=off`` the crash would be this program's own.
"""

from __future__ import annotations

import ctypes
import time
from functools import partial
from typing import Any

import anyio
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import offloop
from offloop.events import ItemRetried, ItemTimedOut, WorkerDied

FIT_S = 1.0  # for each fit
ALL_S = 1.5  # for all of them
GRACE_S = 0.3  # what may still be stopped in good order after that
POISONED = 1_000

CANDIDATES = {
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
    "nearest neighbours": make_pipeline(StandardScaler(), KNeighborsClassifier()),
    "support vectors": make_pipeline(StandardScaler(), SVC()),
    "forest of 30 trees": RandomForestClassifier(n_estimators=30, random_state=0),
    "5,000 boosted trees": GradientBoostingClassifier(n_estimators=5_000),  # a Python loop
    "raw support vectors": SVC(kernel="linear", C=100.0),  # one call into C
}


def accuracy(X: np.ndarray, y: np.ndarray, model: Any) -> float:
    """Score a model by cross-validation."""
    return float(cross_val_score(model, X, y, cv=3).mean())


def ink(image: bytes | None) -> int:
    """Sum an image's pixels, copied by C code that doesn't look whether there is an image."""
    pixels = (ctypes.c_uint8 * 64)()
    ctypes.memmove(pixels, image, len(pixels))  # type: ignore[arg-type]
    return sum(pixels)


def load_libraries() -> None:
    """Import what the scores need: once in every worker, before the clock runs."""
    import sklearn.ensemble
    import sklearn.model_selection
    import sklearn.neighbors
    import sklearn.svm  # noqa: F401


async def limit_each(session: offloop.ParallelSession, score: partial[float]) -> None:
    """Score all candidates, each for so long at most."""
    killed: dict[int, bool] = {}

    def note(event: offloop.Event) -> None:
        if isinstance(event, ItemTimedOut):
            killed[event.item] = event.is_killed

    remove = offloop.add_sink(note)
    begun = time.perf_counter()
    outcomes = await session.run_parallel(score, CANDIDATES.values(), item_timeout_s=FIT_S, on_error="collect")
    print(f"A limit of {FIT_S} s for each fit: {time.perf_counter() - begun:.2f} s")
    remove()
    for index, (name, outcome) in enumerate(zip(CANDIDATES, outcomes, strict=True)):
        if isinstance(outcome, offloop.ItemTimeout):
            how = "its worker was killed" if killed[index] else "its worker lives on"
            print(f"  {name:20} stopped after {outcome.age_s:.2f} s; {how}")
        else:
            print(f"  {name:20} {outcome:.3f}")


async def limit_all(session: offloop.ParallelSession, score: partial[float]) -> None:
    """Score as many candidates as there is time for."""
    scores: dict[str, float] = {}

    async def add(name: str, model: Any) -> None:
        scores[name] = await session.run(score, model)

    begun = time.perf_counter()
    with anyio.move_on_after(ALL_S):  # leaves only when everything has stopped
        async with anyio.create_task_group() as tasks:
            for name, model in CANDIDATES.items():
                tasks.start_soon(add, name, model)
    print(f"\nA deadline of {ALL_S} s for all: {time.perf_counter() - begun:.2f} s until the last one had stopped")
    best = f", the best of them is {max(scores, key=scores.__getitem__)}" if scores else ""
    print(f"  {len(scores)} of {len(CANDIDATES)} scores{best}")


async def survive(session: offloop.ParallelSession) -> None:
    """Read all images, of which one crashes whoever reads it."""
    images: list[bytes | None] = [image.astype(np.uint8).tobytes() for image in load_digits().images]
    images[POISONED] = None
    n_deaths = n_retried = 0

    def count(event: offloop.Event) -> None:
        nonlocal n_deaths, n_retried
        n_deaths += isinstance(event, WorkerDied)
        n_retried += isinstance(event, ItemRetried)

    remove = offloop.add_sink(count)
    begun = time.perf_counter()
    outcomes = await session.run_parallel(ink, images, on_error="collect")
    print(f"\n{len(images)} images, one of them poisonous: {time.perf_counter() - begun:.2f} s")
    remove()
    crashes = {index: outcome for index, outcome in enumerate(outcomes) if isinstance(outcome, offloop.WorkerCrashed)}
    assert list(crashes) == [POISONED], "a crash costs one item"
    assert all(isinstance(outcome, int) for index, outcome in enumerate(outcomes) if index != POISONED)
    print(f"  {len(images) - len(crashes)} read; workers died: {n_deaths}, items tried again: {n_retried}")
    for index, crash in crashes.items():
        where = next(line for line in crash.dump.splitlines() if line.startswith("  File"))  # the innermost call
        print(f"  image {index}: {crash.signal} in {where.strip().removeprefix('File ')}")


async def main() -> None:
    """Compare classifiers under time limits, then read images of which one is poisonous."""
    offloop.use_default_sink(False)  # all that would be logged is told here
    score = partial(accuracy, *load_breast_cancer(return_X_y=True))
    async with offloop.ParallelSession(local="never", grace_s=GRACE_S, worker_init=load_libraries) as session:
        begun = time.perf_counter()
        await session.warm()
        print(f"{len(session.statistics().workers)} workers up in {time.perf_counter() - begun:.2f} s\n")
        await limit_each(session, score)
        await session.warm()  # a worker that was killed is replaced
        await limit_all(session, score)
    async with offloop.ParallelSession(local="never") as session:
        await survive(session)


if __name__ == "__main__":
    anyio.run(main)
