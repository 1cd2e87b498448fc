"""Objectives that tests optimise; workers import them by name."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import workloads as w
from offloop.adapters.optuna import TrialView

SPACE = {
    "x": FloatDistribution(-5.0, 5.0),
    "log": FloatDistribution(1e-3, 1.0, log=True),
    "k": IntDistribution(2, 8, step=2),
    "kind": CategoricalDistribution(["a", "b"]),
}


class Refused(Exception):
    """What an objective raises."""


def value_of(params: Any) -> float:
    return params["x"] ** 2 + params["log"] + params["k"] + (params["kind"] == "a")


def suggested(trial: Any) -> dict[str, Any]:
    return {
        "x": trial.suggest_float("x", -5.0, 5.0),
        "log": trial.suggest_float("log", 1e-3, 1.0, log=True),
        "k": trial.suggest_int("k", 2, 8, step=2),
        "kind": trial.suggest_categorical("kind", ["a", "b"]),
    }


def pruned(trial: Any) -> float:
    value = value_of(suggested(trial))
    for step in range(3):
        trial.report(value + step, step)
        if trial.should_prune():
            raise optuna.TrialPruned(f"at {step}")
    trial.set_user_attr("pid", os.getpid())
    return value


def viewed(view: TrialView) -> float:
    assert not hasattr(view, "suggest_float")
    return value_of(view.params)


def curious(trial: Any) -> float:
    """Use all that a trial has, and say what came of it."""
    assert isinstance(trial, optuna.trial.BaseTrial)
    params = suggested(trial)
    assert suggested(trial) == params == trial.params
    assert trial.distributions == SPACE
    trial.set_user_attr("said", {"pid": os.getpid()})
    assert trial.user_attrs == {"given": 1, "said": {"pid": os.getpid()}}
    trial.set_constraint("c", -1)
    assert trial.constraints == {"c": -1.0}
    assert trial.datetime_start is not None
    assert trial.relative_params == {}
    trial.report(0.5, 0)
    assert trial.should_prune() is False
    for wrong, error in ((("a", 1), TypeError), ((1.0, -1), ValueError)):
        try:
            trial.report(*wrong)
        except error:
            continue
        raise AssertionError(wrong)
    study = trial.study
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert [known.number for known in study.trials] == [known.number for known in study.get_trials(deepcopy=False)]
    study.set_user_attr("seen", len(study.trials))
    assert not hasattr(study, "optimize")
    return float(trial.number)


def two_values(trial: Any) -> tuple[float, float]:
    x = trial.suggest_float("x", 0, 1)
    return x, 1 - x


def returns(value: Any, trial: Any) -> Any:
    trial.suggest_float("x", 0, 1)
    return value


def fails(trial: Any) -> float:
    """Fail for odd numbers."""
    if trial.number % 2:
        raise Refused(trial.number)
    return trial.suggest_float("x", 0, 1)


def fails_beside(path: str, trial: Any) -> float:
    """Trial 1 fails once trial 0 has begun, which goes on until it is stopped."""
    while trial.number:
        if Path(f"{path}.began").exists():
            raise Refused(trial.number)
    w.loop_until_cancelled(path)
    return 0.0


def crashes(trial: Any) -> float:
    """Kill its worker for number 1."""
    if trial.number == 1:
        os._exit(3)
    return trial.suggest_float("x", 0, 1)


def crashes_once(path: str, trial: Any) -> float:
    """Kill its worker after a report, but only the first time."""
    x = trial.suggest_float("x", 0, 1)
    trial.report(x, 0)
    if not Path(path).exists():
        w.append(path, x)
        os._exit(3)
    trial.report(x, 1)
    return x


def stops_at(number: int, trial: Any) -> float:
    if trial.number == number:
        trial.study.stop()
    return 0.0


def loops(path: str, trial: Any) -> float:
    """Go on until it is stopped."""
    trial.suggest_float("x", 0, 1)
    w.append(f"{path}.begins", trial.number)
    w.loop_until_cancelled(path)
    return 0.0


def timed(trial: Any) -> float:
    """Say from when until when it executed, and where."""
    begun = time.monotonic()
    time.sleep(0.02)
    trial.set_user_attr("span", [begun, time.monotonic()])
    trial.set_user_attr("where", [os.getpid(), threading.get_native_id()])
    return 0.0


def timed_with(_: Any, trial: Any) -> float:
    return timed(trial)


def met(path: str, trial: Any) -> float:
    """Wait for another trial to be under way, the first two times."""
    if trial.number < 2:
        w.meet(path, 2, trial.number)
    return timed(trial)


def spins(lock: Any, trial: Any) -> float:
    """Hold the GIL for a while."""
    with lock:
        return w.spin(0.02)


def interrupts_parent(trial: Any) -> float:
    """Press Ctrl-C for the parent, and go on."""
    import signal

    trial.suggest_float("x", 0, 1)
    os.kill(os.getppid(), signal.SIGINT)
    while True:
        time.sleep(0.001)


def reports_twice(trial: Any) -> float:
    trial.report(1.0, 0)
    trial.report(2.0, 0)
    return 0.0
