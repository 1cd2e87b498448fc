"""An Optuna study in an async program: trials on offloop's workers, the study in a SQLite file, scikit-learn's digits.

Run it with ``python examples/optuna_study.py [FILE]``. A classifier is trained epoch by epoch; after each one the objective
reports how good it is, and hopeless trials are pruned. All that it asks of its trial is answered by the study in this process,
while the event loop turns: the program says by how much it was late at most. Given a file, the study is kept there, and the
next run goes on with it. Then the same number of trials is made by Optuna itself, one after another, for comparison.
"""

from __future__ import annotations

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import anyio
import numpy as np
import optuna
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

import offloop
from offloop.adapters.optuna import optimize

N_TRIALS = 20
EPOCHS = 8

Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def accuracy(data: Data, trial: optuna.Trial) -> float:
    """Train a linear classifier, and have it pruned if it doesn't promise much."""
    X_train, X_test, y_train, y_test = data
    model = SGDClassifier(
        loss=trial.suggest_categorical("loss", ["hinge", "log_loss", "modified_huber"]),
        alpha=trial.suggest_float("alpha", 1e-6, 1e-1, log=True),
        learning_rate="constant",
        eta0=trial.suggest_float("eta0", 1e-4, 1.0, log=True),
        random_state=trial.number,
    )
    score = 0.0
    for epoch in range(EPOCHS):
        model.partial_fit(X_train, y_train, classes=np.arange(10))
        score = float(model.score(X_test, y_test))
        trial.report(score, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return score


async def watch_the_loop(delays: list[float]) -> None:
    """Note by how much a tick of 1 ms is late."""
    while True:
        begun = time.perf_counter()
        await anyio.sleep(0.001)
        delays.append(time.perf_counter() - begun - 0.001)


def told(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Print a trial that is the best so far."""
    if trial.state is optuna.trial.TrialState.COMPLETE and study.best_trial.number == trial.number:
        print(f"  trial {trial.number}: {trial.value:.4f}  {trial.params}")


def new_study(storage: str | optuna.storages.BaseStorage) -> optuna.Study:
    """Make a study, or load the one that the storage has."""
    return optuna.create_study(
        storage=storage,
        study_name="digits",
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0, constant_liar=True),  # so that trials side by side are not alike
        load_if_exists=True,
    )


async def main(path: Path) -> None:
    """Make trials on a session, then as Optuna does."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    X, y = load_digits(return_X_y=True)
    objective = partial(accuracy, tuple(train_test_split(X / 16, y, random_state=0)))
    study = await anyio.to_thread.run_sync(new_study, f"sqlite:///{path}")
    n_before = len(study.trials)
    if n_before:
        print(f"the study goes on after {n_before} trials; the best so far has {study.best_value:.4f}")

    delays: list[float] = []
    async with offloop.ParallelSession() as session, anyio.create_task_group() as tasks:
        await session.warm()
        tasks.start_soon(watch_the_loop, delays)
        begun = time.perf_counter()
        await optimize(study, objective, N_TRIALS, session=session, callbacks=[told])
        ours_s = time.perf_counter() - begun
        tasks.cancel_scope.cancel()
    states = [trial.state.name for trial in study.trials[n_before:]]
    print(f"{states.count('COMPLETE')} trials complete, {states.count('PRUNED')} pruned, in {ours_s:.2f} s")
    print(f"  {session.decisions[-1]}")
    print(f"  the event loop was late by {1000 * max(delays):.1f} ms at most")

    with tempfile.TemporaryDirectory() as folder:
        again = new_study(f"sqlite:///{folder}/again.db")
        begun = time.perf_counter()
        await anyio.to_thread.run_sync(again.optimize, objective, N_TRIALS)
        print(f"by Optuna itself, one after another: {time.perf_counter() - begun:.2f} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        anyio.run(main, Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            anyio.run(main, Path(folder) / "study.db")
