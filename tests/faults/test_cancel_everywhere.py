"""Runs are cancelled as they wait for the n-th time, for every n: whatever it was that they waited for, nothing is left."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest

import cancelling
import offloop
import scripts
import stubborn
import workloads as w

pytestmark = pytest.mark.anyio

IS_LONG = bool(os.environ.get("FAULTS_LONG"))
WORKERS = 2
MIB = 1 << 20


@pytest.fixture(scope="module")
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    # With time to stop in, as on a busy machine an import takes a while in which nothing interrupts it.
    async with offloop.ParallelSession(strategy="processes", workers=WORKERS, idle_timeout_s=600, grace_s=20.0) as session:
        await w.start_all(session, "processes")
        await w.start_all(session, "threads")
        yield session


async def is_well(session: offloop.ParallelSession) -> None:
    """Fail where a session doesn't work, or has more processes than workers."""
    with anyio.fail_after(20):
        assert await session.run(w.double, 21) == 42
        assert await session.run_parallel(w.double, range(4), chunk_size=1) == [0, 2, 4, 6]
        alive = session.statistics().workers
        assert len(alive) <= WORKERS
        while set(cancelling.worker_processes()) - set(alive):  # one that was killed is gone soon
            await anyio.sleep(0.001)


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await anyio.lowlevel.checkpoint()
        yield number


def arrays() -> list[Any]:
    return [np.full(MIB, k) for k in range(4)]


async def share_and_run(session: offloop.ParallelSession) -> Any:
    array = np.zeros(MIB)
    session.share(array)
    try:
        return await session.run_parallel(partial(row_of, array), range(4), chunk_size=1)
    finally:
        session.release(array)


def row_of(array: Any, row: int) -> float:
    return float(array[row])


CALLS: dict[str, Callable[[offloop.ParallelSession], Awaitable[Any]]] = {
    "run": lambda session: session.run(w.nap, 0.001),
    "run_parallel": lambda session: session.run_parallel(w.double, range(12), chunk_size=3),
    "large arrays": lambda session: session.run_parallel(w.double, arrays(), chunk_size=1),
    "async source": lambda session: session.run_parallel(w.double, numbers(8), chunk_size=2),
    "iterator": lambda session: session.run_parallel(w.double, iter(range(8)), chunk_size=2),
    "run_batches": lambda session: session.run_batches(w.double, np.arange(2048.0), batch_size=512),
    "share": lambda session: share_and_run(session),
    "calls side by side": lambda session: w.gather(*(session.run(w.double, k) for k in range(4))),
    "auto": lambda session: session.run_parallel(w.double, range(50), strategy="auto"),
    "threads": lambda session: session.run_parallel(w.double, range(8), strategy="threads", chunk_size=2),
    "serial": lambda session: session.run_parallel(w.double, range(8), strategy="serial", chunk_size=2),
    "fails": lambda session: session.run_parallel(w.fail_on_3, range(8), chunk_size=1, on_error="collect"),
}

ON_EACH_LOOP = {"run", "run_parallel", "async source", "calls side by side", "auto"}  # others differ in what travels, or wait less


@pytest.mark.fault(29, 59)
@pytest.mark.parametrize("call", [call if call in ON_EACH_LOOP else pytest.param(call, marks=pytest.mark.one_loop) for call in CALLS])
async def test_a_cancel_at_any_step_leaves_a_session_that_works(
    session: offloop.ParallelSession, call: str
) -> None:
    """Cancelled at whatever step, a warm session runs the next calls, on no more workers than it may have."""
    with cancelling.counted_workers() as counts:
        assert await cancelling.at_every_step(partial(CALLS[call], session), partial(is_well, session))
    assert max(counts, default=0) <= WORKERS


STARTS: dict[str, Callable[[offloop.ParallelSession], Awaitable[Any]]] = {
    "call": lambda session: session.run(w.double, 1),
    "warm": lambda session: session.warm(),
}


@pytest.fixture
def limit() -> Iterator[int]:
    """Return how many workers there may be beside those of the module's session; fail where there were more."""
    limit = len(cancelling.worker_processes()) + WORKERS
    with cancelling.counted_workers() as counts:
        yield limit
    assert max(counts) <= limit


async def nobody_is_left(others: list[int]) -> None:
    """Fail where a worker lives on after its session was closed."""
    left = [pid for pid in cancelling.worker_processes() if pid not in others]
    assert await anyio.to_thread.run_sync(scripts.gone, left, 1.0)


@pytest.mark.fault(29)
async def test_a_cancel_at_any_step_of_a_first_call(anyio_backend: object, limit: int) -> None:
    """Cancelled from its opening to its close, whenever it is, a session leaves no worker and never has too many."""

    async def whole() -> None:
        async with offloop.ParallelSession(strategy="processes", workers=WORKERS) as session:
            await session.run_parallel(w.double, range(8), chunk_size=1)

    others = cancelling.worker_processes()
    assert await cancelling.at_every_step(whole, partial(nobody_is_left, others))


@pytest.mark.fault(29)
@pytest.mark.parametrize("start", STARTS)
async def test_a_cancel_while_workers_start(anyio_backend: object, limit: int, start: str) -> None:
    """A session whose first call was cancelled as it waited for its workers makes do with those, and works."""
    n_cancelled = 0
    with anyio.fail_after(60):
        while True:
            async with offloop.ParallelSession(strategy="processes", workers=WORKERS) as session:
                was_cancelled = await cancelling.cancelled_at(n_cancelled + 1, partial(STARTS[start], session))
                assert await session.run_parallel(w.double, range(4), chunk_size=1) == [0, 2, 4, 6]
                assert session.statistics().workers_started <= WORKERS
            if not was_cancelled:
                break
            n_cancelled += 1
    assert n_cancelled


@pytest.mark.fault(31)
@pytest.mark.parametrize("is_busy", [pytest.param(False, marks=pytest.mark.one_loop), True])
async def test_a_cancel_at_any_step_of_a_close(
    anyio_backend: object, limit: int, is_busy: bool, tmp_path: Path
) -> None:
    """A close that is cancelled has ended the workers when it returns all the same, idle and busy ones."""
    others, n_cancelled, was_cancelled = cancelling.worker_processes(), 0, True
    with anyio.fail_after(60):
        while was_cancelled:
            session = offloop.ParallelSession(strategy="processes", workers=1).open()
            path = f"{tmp_path}/{n_cancelled}"
            async with anyio.create_task_group() as tasks:
                if is_busy:
                    tasks.start_soon(ends_with_its_session, session, path)
                    await w.appears(f"{path}.began")
                else:
                    await session.warm()
                was_cancelled = await cancelling.cancelled_at(n_cancelled + 1, session.aclose)
                await nobody_is_left(others)
                await session.aclose()
            with pytest.raises(offloop.SessionClosedError):
                await session.run(w.double, 1)
            n_cancelled += was_cancelled
    assert n_cancelled


async def ends_with_its_session(session: offloop.ParallelSession, path: str) -> None:
    with pytest.raises(offloop.SessionClosedError):
        await session.run(stubborn.spin, path)


@pytest.mark.fault(30)
async def test_a_storm_of_cancels_while_workers_start(anyio_backend: object, limit: int) -> None:
    """40 calls cancelled at random moments of the start never make more workers than there may be."""
    chance = random.Random(5)
    with anyio.fail_after(60):
        for round_number in range(6 if IS_LONG else 2):
            async with offloop.ParallelSession(strategy="processes", workers=WORKERS) as session:

                async def cancelled_soon(delay_s: float, session: offloop.ParallelSession = session) -> None:
                    with anyio.move_on_after(delay_s):
                        await session.run(w.nap, 0.01)

                async with anyio.create_task_group() as tasks:
                    for _ in range(40):
                        tasks.start_soon(cancelled_soon, chance.random() * 0.3)
                assert len(session.statistics().workers) <= WORKERS
                assert await session.run_parallel(w.double, range(50)) == list(range(0, 100, 2))
                assert await session.run(w.double, round_number) == 2 * round_number
