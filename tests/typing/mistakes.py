"""What type checkers must refuse; checked, never run.

Each line has an ignore for mypy and one for pyright, and both checkers report an ignore that nothing needs: so an error
that is no longer found is one here.
"""

from __future__ import annotations

import numpy as np

import offloop
from offloop import ParallelConfig, ParallelSession


def half(number: int) -> float:
    return number / 2


def draw(item: int, *, rng: np.random.Generator) -> float:
    return item + float(rng.random())


async def wrong_arguments(session: ParallelSession) -> None:
    await offloop.run(half, "three")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await offloop.run(half)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await session.run(half, 1, 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def wrong_options(session: ParallelSession) -> None:
    await session.run(half, 1, retrys=0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await session.run(half, 1, workers=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await session.run(half, 1, strategy="process")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await session.run(half, 1, item_timeout_s=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await session.run(half, 1, timeout_s="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ParallelSession(workers="auto")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ParallelSession(worker=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ParallelConfig(strategy=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def wrong_maps(session: ParallelSession) -> None:
    await session.run_parallel(half, 3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await session.run_parallel(half, ["three"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await session.run_parallel(half, [1], on_error="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await session.run_parallel(half, [1], seed=3)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await session.run_parallel(half, [1], timeout_s=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await session.run_parallel(draw, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def predict(rows: list[float]) -> list[int]:
    return [round(row) for row in rows]


async def wrong_batches(session: ParallelSession) -> None:
    await session.run_batches(predict, "rows")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType]
    await session.run_batches(predict, [1.0], [2.0])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await session.run_batches(predict, [1.0], combine="sum")  # type: ignore[call-overload, call-arg]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await session.run_batches(predict, [1.0], on_error="collect")  # type: ignore[call-overload, call-arg]  # pyright: ignore[reportArgumentType]
    await session.run_batches(predict, [1.0], chunk_size=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def wrong_streams(session: ParallelSession) -> None:
    session.stream(half, 3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    session.stream(half, ["three"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    session.stream(half, [1], on_error="group")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    session.stream(half, [1], window="all")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    session.stream(half, [1], priority="urgent")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    session.stream(draw, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await session.run_parallel(half, [1], window=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def mean(scores: list[float]) -> float:
    return sum(scores) / len(scores)


async def wrong_branches(session: ParallelSession) -> None:
    one = offloop.call(half, 1)
    await session.run_branches([one])  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await session.run_branches({1: one})  # type: ignore[dict-item]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await session.run_branches({"a": one}, on_error="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await session.run_branches({"a": one}, chunk_size=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await session.run_branches({"a": one}, item_cost_s={"a": "long"})  # type: ignore[dict-item]  # pyright: ignore[reportCallIssue, reportArgumentType]
    offloop.units([3])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    offloop.units(half)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    offloop.units([one], combine=half)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
