"""What type checkers make of the entrances that block; checked, never run."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import offloop
from offloop import Decision, ParallelConfig, SessionStatistics, SyncResults, SyncSession, SyncStream, call

Matrix = NDArray[np.float64]


def half(number: int) -> float:
    return number / 2


def describe(number: int, name: str, *, loud: bool = False) -> str:
    return f"{name}{number}{loud}"


def draw(item: int, *, rng: np.random.Generator) -> float:
    return item + float(rng.random())


def predict(rows: Matrix) -> Matrix:
    return rows


async def arrive() -> AsyncIterator[int]:
    yield 1


def functions_keep_types(X: Matrix) -> None:
    assert_type(offloop.run_sync(describe, 1, "a"), str)
    assert_type(offloop.run_sync(half, 3, retries=0, timeout_s=2), float)
    assert_type(offloop.run_parallel_sync(half, [1, 2]), list[float])
    assert_type(offloop.run_parallel_sync(half, arrive(), workers=2), list[float])
    assert_type(offloop.run_parallel_sync(half, [1, 2], on_error="collect"), list[float | Exception])
    assert_type(offloop.run_parallel_sync(draw, [1, 2], seed=42), list[float])
    assert_type(offloop.run_batches_sync(predict, X), Matrix)
    assert_type(offloop.run_batches_sync(predict, X, combine="list"), list[Matrix])
    assert_type(offloop.run_branches_sync({"a": call(half, 1)}), dict[str, float])
    assert_type(offloop.run_branches_sync({"a": call(half, 1)}, on_error="collect"), dict[str, float | Exception])
    assert_type(offloop.close_default_session_sync(), None)


class Tuned(SyncSession):
    """A session of a class of one's own."""


def sessions_keep_types(X: Matrix) -> None:
    with SyncSession(workers=4, strategy="auto") as session:
        assert_type(session, SyncSession)
        assert_type(session.run(describe, 1, "a", label="one"), str)
        assert_type(session.run_parallel(half, {1, 2}, chunk_size=8), list[float])
        assert_type(session.run_parallel(lambda number: str(number), [1, 2]), list[str])
        assert_type(session.run_parallel(draw, [1], seed=1, on_error="collect"), list[float | Exception])
        assert_type(session.run_batches(predict, X, batch_size=64), Matrix)
        assert_type(session.run_branches({"a": call(half, 1), "b": call(half, 2)}), dict[str, float])
        assert_type(session.decide(half, [1]), Decision)
        assert_type(session.share(X), Matrix)
        assert_type(session.release(X), bool)
        assert_type(session.run_joblib(lambda: 1), int)
        assert_type(session.executor().submit(half, 1).result(), float)
        assert_type(session.warm(2), None)
        assert_type(session.drain(timeout_s=10), bool)
        assert_type(session.statistics(), SessionStatistics)
        assert_type(session.decisions, deque[Decision])
        assert_type(session.config, ParallelConfig)
        assert_type(session.close(), None)
    with Tuned(ParallelConfig(grace_s=0.1)) as tuned:
        assert_type(tuned, Tuned)
    assert_type(Tuned().open(), Tuned)


def streams_keep_types(session: SyncSession) -> None:
    assert_type(session.stream(half, [1]), SyncStream[float])
    assert_type(session.stream(draw, arrive(), seed=42, on_error="collect"), SyncStream[float | Exception])
    with session.stream(half, arrive(), ordered=False, window=64) as results:
        assert_type(results, SyncResults[float])
        assert_type(results.in_flight, int)
        assert_type(next(results), float)
        for result in results:
            assert_type(result, float)
        for index, result in results.indexed():
            assert_type((index, result), tuple[int, float])


def mistakes_are_found(session: SyncSession) -> None:
    session.run(half, "three")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    session.run(half, 1, retrys=0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    session.run_parallel(half, ["three"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    session.run_parallel(half, [1], on_error="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    session.stream(half, [1], on_error="group")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    offloop.run_sync(half, 1, workers=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    offloop.run_parallel_sync(draw, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SyncSession(worker=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
