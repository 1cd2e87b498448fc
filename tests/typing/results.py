"""What type checkers make of the results of maps and calls; checked, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import assert_type

import numpy as np
from anyio.streams.memory import MemoryObjectReceiveStream

import offloop
from offloop import ParallelSession
from offloop.streaming import Results, Stream


def half(number: int) -> float:
    return number / 2


def describe_half(number: float) -> str:
    return str(number)


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


async def streams_keep_types(session: ParallelSession, inbox: MemoryObjectReceiveStream[int]) -> None:
    assert_type(session.stream(half, [1]), Stream[float])
    assert_type(session.stream(half, arrive(), ordered=False, window=64, label="halves"), Stream[float])
    assert_type(session.stream(half, inbox, priority="interactive", max_wait_s=1), Stream[float])
    assert_type(session.stream(draw, generate(), seed=42), Stream[float])
    async with session.stream(half, inbox) as results:
        assert_type(results, Results[float])
        assert_type(results.in_flight, int)
        assert_type(await anext(results), float)
        async for result in results:
            assert_type(result, float)
        async for index, result in results.indexed():
            assert_type((index, result), tuple[int, float])
        async with session.stream(describe_half, results) as texts:
            assert_type(texts, Results[str])


async def failures_of_a_stream_take_the_place_of_results(session: ParallelSession) -> None:
    assert_type(session.stream(half, [1], on_error="raise"), Stream[float])
    assert_type(session.stream(half, [1], on_error="collect"), Stream[float | Exception])
    assert_type(session.stream(draw, [1], seed=42, on_error="collect"), Stream[float | Exception])
    async with session.stream(half, arrive(), on_error="collect") as results:
        async for result in results:
            assert_type(result, float | Exception)
