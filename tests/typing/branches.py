"""What type checkers make of `run_branches` and `units`; checked, never run."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np

import offloop
from offloop import ParallelSession, call, units


def fit(rows: list[float], *, alpha: float = 1.0) -> str:
    return f"{rows}{alpha}"


def score(model: str) -> float:
    return float(len(model))


def mean(scores: list[float]) -> float:
    return sum(scores) / len(scores)


def describe(scores: list[float]) -> str:
    return f"{scores}"


def draw(n: int, *, rng: np.random.Generator) -> list[float]:
    return [float(one) for one in rng.random(n)]


class Model:
    """A class that is called without arguments."""


async def calls_keep_the_type_of_their_results(session: ParallelSession) -> None:
    assert_type(await offloop.run_branches({"a": call(score, "x"), "b": call(score, "y")}), dict[str, float])
    assert_type(await session.run_branches({"a": call(fit, [1.0], alpha=0.1)}), dict[str, str])
    assert_type(await session.run_branches({"a": lambda: score("x")}), dict[str, float])
    assert_type(await session.run_branches({"a": Model}), dict[str, Model])
    assert_type(await session.run_branches({"a": call(score, "x")}, on_error="group"), dict[str, float])
    assert_type(await session.run_branches({"a": call(score, "x")}, on_error="collect"), dict[str, float | Exception])


async def units_have_the_type_of_what_is_combined(session: ParallelSession) -> None:
    folds = [call(score, "x"), call(score, "y")]
    assert_type(units(folds), units[list[float]])
    assert_type(units(folds, combine=mean), units[float])
    assert_type(units(iter(folds), combine=describe), units[str])
    assert_type(await session.run_branches({"a": units(folds)}), dict[str, list[float]])
    assert_type(await session.run_branches({"a": units(folds, combine=describe)}), dict[str, str])
    assert_type(await session.run_branches({"a": units(folds)}, on_error="collect"), dict[str, list[float] | Exception])


async def branches_may_differ(session: ParallelSession) -> None:
    values = await session.run_branches({"a": call(score, "x"), "b": call(fit, [1.0]), "c": units([call(score, "y")], combine=mean)})
    print(values["a"], values["b"])
    await session.run_branches({"a": call(score, "x"), "b": lambda: "x"}, seed=42, on_error="collect")


async def branches_of_any_types_may_stand_together(session: ParallelSession) -> None:
    branches: dict[str, Any] = {"a": call(score, "x"), "b": units([call(fit, [1.0])])}
    assert_type(await session.run_branches(branches), dict[str, Any])


async def seeded_calls_take_rng_besides(session: ParallelSession) -> None:
    assert_type(await session.run_branches({"a": call(draw, 3)}, seed=42), dict[str, list[float]])
    assert_type(await session.run_branches({"a": call(draw, 3)}, seed=42, on_error="collect"), dict[str, list[float] | Exception])


async def options(session: ParallelSession) -> None:
    branches = {"a": call(score, "x")}
    assert_type(await session.run_branches(branches, item_cost_s={"a": 0.5}, workers=2, label="fits"), dict[str, float])
    assert_type(await session.run_branches(branches, item_cost_s=0.5, item_timeout_s=3, retries=0), dict[str, float])
