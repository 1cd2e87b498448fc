"""Runs inside of items: they run right there, whatever the strategy, and never deadlock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import anyio
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def default_session_is_closed(anyio_backend: object) -> AsyncIterator[None]:
    """Nested runs of local strategies use this process's default session."""
    yield
    await offloop.close_default_session()


@pytest.fixture
async def session(anyio_backend: object, strategy: str) -> AsyncIterator[offloop.ParallelSession]:
    """A session of the test's own, with which the local threads below its threads end."""
    async with offloop.ParallelSession(strategy=strategy, workers=2) as session:
        yield session


async def test_an_item_can_run_a_map(session: offloop.ParallelSession) -> None:
    """run_parallel works inside of an item."""
    with anyio.fail_after(15):
        assert await session.run_parallel(w.nested_map, range(6)) == [[2 * x, 2 * x + 2, 2 * x + 4] for x in range(6)]


async def test_a_map_can_be_nested_twice(session: offloop.ParallelSession) -> None:
    """And inside of an item of that, too."""
    with anyio.fail_after(15):
        assert await session.run(w.nested_twice, 1) == [[2, 4, 6], [4, 6, 8]]


@pytest.mark.parametrize("inner", ["auto", "serial", "threads", "processes"])
async def test_an_item_may_ask_for_any_strategy(session: offloop.ParallelSession, inner: str) -> None:
    """What a nested run asks for changes no result."""
    with anyio.fail_after(15):
        assert await session.run_parallel(partial(w.nested_on, inner), range(2)) == [[0, 2, 4], [2, 4, 6]]


async def test_a_worker_runs_nested_work_itself(workers: offloop.ParallelSession) -> None:
    """Inside of a worker no more processes are started: it does the nested work itself."""
    with anyio.fail_after(15):
        own, nested = await workers.run(w.nested_pids)
    assert nested == [own] * 3
    assert own in workers.statistics().workers
