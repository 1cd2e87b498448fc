"""Runs inside of items: they run right there, whatever the strategy, and never deadlock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

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


@pytest.mark.one_loop
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


# --- items that execute in this process, where a run could wait for the thread that waits for it -----------------------------


Entrance = Callable[[Callable[..., Awaitable[Any]]], Any]  # calls an async function of no arguments from inside an item


def by_asyncio(call: Callable[..., Awaitable[Any]]) -> Any:
    async def main() -> Any:
        return await call()

    return asyncio.run(main())


def by_trio(call: Callable[..., Awaitable[Any]]) -> Any:
    return anyio.run(call, backend="trio")


def by_an_own_portal(call: Callable[..., Awaitable[Any]]) -> Any:
    with start_blocking_portal() as portal:
        return portal.call(call)


def by_a_thread(call: Callable[..., Awaitable[Any]]) -> Any:
    """Call it in a thread of the item's own, which gets the item's context."""
    context = copy_context()
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(context.run, by_asyncio, call).result()


ENTRANCES: tuple[Entrance, ...] = (by_asyncio, by_trio, by_an_own_portal, by_a_thread)


def nested_in(session: offloop.ParallelSession, inner: Any, enter: Entrance, x: int) -> tuple[int, list[int]]:
    """Make a call and a map from inside an item."""
    one = enter(partial(session.run, w.double, x, strategy=inner))
    return one, enter(partial(session.run_parallel, w.double, [x, x + 1], strategy=inner))


def threads_below(session: offloop.ParallelSession, both: threading.Barrier, x: int) -> set[int]:
    """Return the threads that execute a map in threads, while another item of the same run is in the midst of its own."""

    def leaf(i: int) -> int:
        if i == 0:
            both.wait(10)
        return threading.get_ident()

    return set(by_asyncio(partial(session.run_parallel, leaf, range(6), strategy="threads", chunk_size=1)))


def ever_deeper(sessions: Sequence[offloop.ParallelSession], depth: int, x: int) -> int:
    """Run maps in threads of the sessions in turn, each from an item of the one before."""
    if depth == 0:
        return x
    fn = partial(ever_deeper, sessions, depth - 1)
    sums = by_asyncio(partial(sessions[depth % 2].run_parallel, fn, [x, x + 1], strategy="threads"))
    return sum(sums)


@pytest.mark.one_loop
@pytest.mark.parametrize("inner", ["auto", "serial", "threads"])
@pytest.mark.parametrize("outer", ["serial", "threads"])
async def test_a_single_thread_is_enough(anyio_backend: object, outer: Any, inner: str) -> None:
    """However an item comes to the session that it runs in, it gets its answer, though there is no other thread."""
    expected = [(2 * x, [2 * x, 2 * x + 2]) for x in range(2)]
    async with offloop.ParallelSession(workers=1) as session, offloop.ParallelSession(workers=1) as other:
        with anyio.fail_after(15):
            for enter in (*ENTRANCES, session.portal.call):
                for asked in (session, other):
                    fn = partial(nested_in, asked, inner, enter)
                    assert await session.run_parallel(fn, range(2), strategy=outer) == expected


@pytest.mark.parametrize("outer", ["serial", "threads"])
async def test_sessions_may_ask_each_other(anyio_backend: object, outer: Any) -> None:
    """Runs of two sessions from inside each other's items end, at any depth, though they need more threads than there are."""
    async with offloop.ParallelSession(workers=1) as session, offloop.ParallelSession(workers=1) as other:
        with anyio.fail_after(15):
            fn = partial(ever_deeper, (session, other), 4)
            assert await session.run_parallel(fn, range(2), strategy=outer) == [32, 48]


async def test_nested_threads_are_no_more_than_the_outer_ones(anyio_backend: object) -> None:
    """Each item of a run in threads has one thread for the runs that it starts, so as many work as without them."""
    both = threading.Barrier(2)
    async with offloop.ParallelSession(workers=2) as session:
        if (await session.decide(w.double, range(9), strategy="threads")).workers != 2:
            pytest.skip("two cores are needed to have two threads")
        with anyio.fail_after(15):
            below = await session.run_parallel(partial(threads_below, session, both), range(2), strategy="threads", chunk_size=1)
    assert [len(threads) for threads in below] == [1, 1]
    assert below[0] != below[1]


async def test_from_the_local_thread_all_threads_can_be_had(anyio_backend: object) -> None:
    """A single call that has nobody beside it may spread its work over the session's threads."""
    both = threading.Barrier(2)

    def meet(x: int) -> int:
        return both.wait(10)

    def spread() -> list[int]:
        return list(by_asyncio(partial(session.run_parallel, meet, range(2), strategy="threads", chunk_size=1)))

    async with offloop.ParallelSession(workers=2) as session:
        if (await session.decide(w.double, range(9), strategy="threads")).workers != 2:
            pytest.skip("two cores are needed to have two threads")
        with anyio.fail_after(15):
            assert sorted(await session.run(spread, strategy="serial")) == [0, 1]
