"""What type checkers make of runs over blocks of rows; checked, never run."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import offloop
from offloop import ParallelSession

Matrix = NDArray[np.float64]


def predict(rows: Matrix) -> Matrix:
    return rows


def score(rows: Matrix, labels: list[str]) -> tuple[Matrix, list[int]]:
    return rows, [len(label) for label in labels]


def draw(rows: Matrix, *, rng: np.random.Generator) -> Matrix:
    return rows + rng.random(len(rows))


def draw_both(rows: Matrix, labels: list[str], *, rng: np.random.Generator) -> list[float]:
    return [rng.random() for _ in labels]


class Model:
    """A model whose bound methods are sent to workers."""

    def predict(self, rows: Matrix) -> NDArray[np.int64]:
        return rows.astype(np.int64)


async def the_result_is_what_fn_returns(session: ParallelSession, X: Matrix, labels: list[str]) -> None:
    assert_type(await session.run_batches(predict, X), Matrix)
    assert_type(await offloop.run_batches(predict, X, batch_size=64, workers=2, item_timeout_s=5), Matrix)
    assert_type(await session.run_batches(score, X, labels), tuple[Matrix, list[int]])
    assert_type(await session.run_batches(predict, X, combine="concat", on_error="group"), Matrix)
    assert_type(await session.run_batches(Model().predict, X), NDArray[np.int64])


async def a_list_has_the_results_of_blocks(session: ParallelSession, X: Matrix, labels: list[str]) -> None:
    assert_type(await session.run_batches(predict, X, combine="list"), list[Matrix])
    assert_type(await session.run_batches(score, X, labels, combine="list"), list[tuple[Matrix, list[int]]])
    assert_type(await session.run_batches(predict, X, combine="list", on_error="collect"), list[Matrix | Exception])


async def seeded_functions_take_rng(session: ParallelSession, X: Matrix, labels: list[str]) -> None:
    assert_type(await session.run_batches(draw, X, seed=1), Matrix)
    assert_type(await offloop.run_batches(draw_both, X, labels, seed=1), list[float])
    assert_type(await session.run_batches(draw, X, seed=1, combine="list"), list[Matrix])
    assert_type(await session.run_batches(draw, X, seed=1, combine="list", on_error="collect"), list[Matrix | Exception])


async def what_is_untyped_stays_so(session: ParallelSession, X: Any) -> None:
    assert_type(await session.run_batches(predict, X), Matrix)
