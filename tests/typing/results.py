"""What type checkers make of the results of maps and calls; checked, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import assert_type

import numpy as np

import offloop
from offloop import ParallelSession


def half(number: int) -> float:
    return number / 2


def describe(number: int, name: str, *, loud: bool = False) -> str:
    return f"{name}{number}{loud}"


def draw(item: int, *, rng: np.random.Generator) -> float:
    return item + float(rng.random())


def generate() -> Iterator[int]:
    yield 1


async def arrive() -> AsyncIterator[int]:
    yield 1


class Model:
    """A model whose bound methods are sent to workers."""

    def predict(self, row: list[float]) -> int:
        return len(row)

    def __call__(self, row: list[float]) -> str:
        return str(row)


async def module_level_functions_keep_types() -> None:
    assert_type(await offloop.run_parallel(half, [1, 2]), list[float])
    assert_type(await offloop.run_parallel(half, range(9)), list[float])
    assert_type(await offloop.run_parallel(half, generate()), list[float])
    assert_type(await offloop.run_parallel(half, arrive()), list[float])
    assert_type(await offloop.run(describe, 1, "a"), str)
    assert_type(await offloop.run(partial(describe, 1, loud=True), "a"), str)
    assert_type(await offloop.run(Model), Model)
    assert_type(await offloop.close_default_session(), None)


async def session_methods_keep_types(session: ParallelSession) -> None:
    assert_type(await session.run_parallel(half, {1, 2}), list[float])
    assert_type(await session.run_parallel(half, arrive(), workers=2, chunk_size=8, label="halves"), list[float])
    assert_type(await session.run(half, 3, retries=0, grace_s=0.5, timeout_s=2), float)
    assert_type(await session.run_parallel(half, [1], item_timeout_s=0.5, grace_s=1), list[float])
    assert_type(await session.run_parallel(Model().predict, [[1.0]]), list[int])
    assert_type(await session.run_parallel(Model(), [[1.0]]), list[str])
    assert_type(await session.run_parallel(lambda number: str(number), [1, 2]), list[str])
    assert_type(await session.run_parallel(half, [1], strategy="processes"), list[float])
    assert_type(await session.run_parallel(half, [1], strategy=offloop.Strategy.SERIAL), list[float])


async def collected_failures_stand_in_the_list(session: ParallelSession) -> None:
    assert_type(await offloop.run_parallel(half, [1], on_error="collect"), list[float | Exception])
    assert_type(await session.run_parallel(half, arrive(), on_error="collect"), list[float | Exception])
    assert_type(await session.run_parallel(half, [1], on_error="raise"), list[float])
    assert_type(await session.run_parallel(half, [1], on_error="group"), list[float])


async def seeded_functions_take_rng(session: ParallelSession) -> None:
    assert_type(await offloop.run_parallel(draw, [1, 2], seed=42), list[float])
    assert_type(await session.run_parallel(draw, arrive(), seed=42, workers=2), list[float])
    assert_type(await session.run_parallel(draw, [1], seed=42, on_error="group"), list[float])
    assert_type(await session.run_parallel(draw, [1], seed=42, on_error="collect"), list[float | Exception])
