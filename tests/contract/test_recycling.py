"""Recycling: workers that have done enough, or hold too much, are replaced, and nobody notices."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

MIB = 1 << 20
LIMIT = 150 * MIB
MUCH = 200 * MIB


def keep(n_bytes: int) -> int:
    """Hold so much more memory from now on, in the list that worker_init has made."""
    offloop.worker_state().append(b"x" * n_bytes)
    return os.getpid()


def use(n_bytes: int) -> int:
    """Take so much memory for a moment."""
    return len(b"x" * n_bytes) and os.getpid()


def keep_for_3(path: str, x: int) -> tuple[int, int]:
    """Note the execution of an item; item 3 keeps memory."""
    w.append(path, x)
    return x, keep(MUCH if x == 3 else 0)


# --- a number of items -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [None, 7])
async def test_a_worker_executes_no_more_than_it_may(
    anyio_backend: object, tmp_path: Path, chunk_size: int | None
) -> None:
    """However items come in chunks, no process executes more than its number, and each item is executed once."""
    path = f"{tmp_path}/run"

    def work(x: int) -> tuple[int, int]:
        w.append(path, x)
        return x, os.getpid()

    async with offloop.ParallelSession(strategy="processes", workers=2, max_items_per_worker=3) as session:
        with w.heard("worker.retired") as told:
            found = await session.run_parallel(work, range(20), chunk_size=chunk_size, retries=0)
        assert [x for x, _ in found] == list(range(20))
        assert max(Counter(pid for _, pid in found).values()) <= 3
        assert sorted(map(int, w.lines(Path(path)))) == list(range(20))
        statistics = session.statistics()
        assert len(statistics.workers) <= 2
        assert (statistics.failed, statistics.retried, statistics.workers_crashed) == (0, 0, 0)
        retired = [event.pid for event in told]
        assert len(set(retired)) == len(retired) >= 5
        assert set(retired) <= {pid for _, pid in found}


async def test_single_calls_count_too(anyio_backend: object) -> None:
    """A worker is replaced after its last call; the next one goes to a fresh process."""
    async with offloop.ParallelSession(strategy="processes", workers=1, max_items_per_worker=3) as session:
        pids = [await session.run(w.pid_of) for _ in range(8)]
        assert [len(set(pids[i : i + 3])) for i in (0, 3, 6)] == [1, 1, 1]
        assert len(set(pids)) == 3


@pytest.mark.one_loop
async def test_items_that_fail_count(anyio_backend: object) -> None:
    """An item that raises has been executed like any other."""
    async with offloop.ParallelSession(strategy="processes", workers=1, max_items_per_worker=2) as session:
        found: list[Any] = await session.run_parallel(w.fail_on_odd, range(6), chunk_size=6, on_error="collect")
        assert [type(value) for value in found] == [int, w.OwnError] * 3
        assert session.statistics().workers_started >= 3


@pytest.mark.one_loop
async def test_a_worker_for_each_item(anyio_backend: object) -> None:
    """With a limit of 1 each item has a process of its own, and many calls at a time all have their results."""
    async with offloop.ParallelSession(strategy="processes", workers=2, max_items_per_worker=1) as session:
        pids = await session.run_parallel(w.pid_of, range(6))
        pids += await w.gather(*[session.run(w.pid_of) for _ in range(4)])
        assert len(set(pids)) == 10


# --- memory ------------------------------------------------------------------------------------------------------------


async def test_a_worker_that_keeps_much_is_replaced(anyio_backend: object, tmp_path: Path) -> None:
    """After the item that took a worker above its memory the rest goes to a fresh process; nothing runs twice or is lost."""
    path = f"{tmp_path}/run"
    fn = offloop.call(keep_for_3, path)
    async with offloop.ParallelSession(
        strategy="processes", workers=1, worker_max_rss_bytes=LIMIT, worker_init=list
    ) as session:
        with w.heard("worker.retired") as told:
            found = await session.run_parallel(fn, range(8), chunk_size=4, retries=0)
        assert [x for x, _ in found] == list(range(8))
        pids = [pid for _, pid in found]
        assert pids == [pids[0]] * 4 + [pids[-1]] * 4
        assert pids[0] != pids[-1]
        assert [event.pid for event in told] == [pids[0]]
        assert "worker_max_rss_bytes" in told[0].why
        assert sorted(map(int, w.lines(Path(path)))) == list(range(8))


@pytest.mark.one_loop
async def test_memory_of_the_moment_costs_no_worker(anyio_backend: object) -> None:
    """What an item takes and gives back is its own affair: a worker is looked at between items."""
    async with offloop.ParallelSession(
        strategy="processes", workers=1, worker_max_rss_bytes=LIMIT, worker_init=list
    ) as session:
        first = await session.run(use, MUCH)
        assert await session.run(keep, 0) == first
        assert await session.run(keep, MUCH) == first  # it has its result all the same
        assert await session.run(keep, 0) != first


@pytest.mark.one_loop
async def test_a_limit_below_any_worker_still_gets_on(anyio_backend: object) -> None:
    """Where a fresh worker is above the limit already, each finishes what it has begun before it is replaced."""
    async with offloop.ParallelSession(strategy="processes", workers=1, worker_max_rss_bytes=1) as session:
        assert await session.run_parallel(w.double, range(6), chunk_size=3) == [0, 2, 4, 6, 8, 10]
        assert session.statistics().workers_started <= 4
