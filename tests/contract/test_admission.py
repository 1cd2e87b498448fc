"""Admission: a session takes so many calls, and tells the next one at once when to come again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def occupied(session: offloop.ParallelSession, path: str) -> AsyncIterator[list[Any]]:
    """Have one call execute until the body is over; the list gets what it returns."""
    found: list[Any] = []

    async def wait() -> None:
        found.append(await session.run(w.wait_for_file, path))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await w.appears(f"{path}.began")
            try:
                yield found
            finally:
                Path(f"{path}.go").touch()


def nested_calls(count: int) -> list[int]:
    """Make calls of the session that this item belongs to, in this process."""
    return anyio.run(_nested_calls, count)


async def _nested_calls(count: int) -> list[int]:
    return [await nesting[0].run(w.double, number) for number in range(count)]


nesting: list[offloop.ParallelSession] = []


async def test_one_call_too_many_is_refused_at_once(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """Whatever it is: it says which limit and when to come again; calls that were let in return, and then there is room."""
    path = f"{tmp_path}/run"
    with w.heard("session.overloaded") as told:
        async with offloop.ParallelSession(strategy=strategy, workers=1, max_pending=1) as session:
            async with occupied(session, path) as found:
                entrances: list[Any] = [
                    session.run(w.double, 1),
                    session.run_parallel(w.double, [1]),
                    session.run_parallel(w.double, iter([1])),
                    session.run_batches(w.echo, [1, 2]),
                ]
                for entrance in entrances:
                    with pytest.raises(offloop.Overloaded, match="max_pending=1") as refused:
                        await entrance
                    error = refused.value
                    assert (error.why, error.pending, error.limit) == ("max_pending", 1, 1)
                    assert error.retry_after_s > 0
                with pytest.raises(offloop.Overloaded):
                    async with session.stream(w.double, [1]) as results:
                        await anext(results)
                statistics = session.statistics()
                assert (statistics.pending, statistics.refused, statistics.state) == (1, 5, "open")
                assert found == []
            assert found == ["went"]
            assert await session.run_parallel(w.double, [1, 2]) == [2, 4]
            statistics = session.statistics()
            assert (statistics.pending, statistics.refused, statistics.failed) == (0, 5, 0)
    assert [(event.n_refused, event.why, event.limit) for event in told][:1] == [(1, "max_pending", 1)]


async def test_a_map_and_a_stream_are_one_call(anyio_backend: object, strategy: str) -> None:
    """However many items they have, whatever their source does, and they leave room when they are over."""
    async with offloop.ParallelSession(strategy=strategy, workers=1, max_pending=1) as session:

        async def source() -> AsyncIterator[int]:
            for number in range(5):
                yield await session.run(w.double, number)

        for _ in range(2):
            assert await session.run_parallel(w.double, range(30)) == list(range(0, 60, 2))
            assert await session.run_parallel(w.double, source()) == [0, 4, 8, 12, 16]
            assert await session.run_batches(w.echo, list(range(600))) == list(range(600))
            async with session.stream(w.double, source()) as results:
                assert [result async for result in results] == [0, 4, 8, 12, 16]
                with anyio.fail_after(10):
                    while session.statistics().pending:
                        await anyio.lowlevel.checkpoint()
        assert session.statistics().refused == 0


async def test_a_consumer_is_not_part_of_its_stream(anyio_backend: object, strategy: str) -> None:
    """What it starts beside an open stream counts for itself."""
    async with offloop.ParallelSession(strategy=strategy, workers=1, max_pending=1) as session:
        send, receive = anyio.create_memory_object_stream[int](5)
        async with send, session.stream(w.double, receive) as results:
            await send.send(1)
            assert await anext(results) == 2
            assert session.statistics().pending == 1
            with pytest.raises(offloop.Overloaded):
                await session.run(w.double, 1)
        assert await session.run(w.double, 1) == 2


async def test_what_an_item_starts_here_is_part_of_its_call(anyio_backend: object) -> None:
    """It would be in its own way otherwise."""
    async with offloop.ParallelSession(strategy="serial", max_pending=1) as session:
        nesting[:] = [session]
        assert await session.run(nested_calls, 3) == [0, 2, 4]
        assert session.statistics().refused == 0
    nesting.clear()


async def test_bytes_of_calls_are_limited(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """Together they bring no more than that; one that is larger by itself comes in when nobody else is there."""
    path = f"{tmp_path}/run"
    async with offloop.ParallelSession(strategy=strategy, workers=1, max_pending_bytes=1000) as session:
        assert await session.run(len, bytes(5000)) == 5000
        async with occupied(session, path), anyio.create_task_group() as tasks:
            tasks.start_soon(session.run, len, bytes(900))
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(offloop.Overloaded, match="max_pending_bytes=1000") as refused:
                await session.run(len, bytes(500))
            assert (refused.value.why, refused.value.pending) == ("max_pending_bytes", 2)
            Path(f"{path}.go").touch()
        assert await session.run(len, bytes(900)) == 900


async def test_nobody_waits_for_longer_than_they_may(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """A call that has got no worker in time is refused and never executed; those with time go on waiting."""
    path, log = f"{tmp_path}/run", tmp_path / "log"
    results: list[Any] = []

    async def wait() -> None:
        results.append(await session.run(w.double, 21))

    async with offloop.ParallelSession(strategy=strategy, workers=1, max_wait_s=30) as session:
        async with occupied(session, path), anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            for call in (
                session.run(w.log_and_return, str(log), 1, max_wait_s=0.02),
                session.run_parallel(partial(w.log_and_return, str(log)), [2, 3], max_wait_s=0.02),
            ):
                with pytest.raises(offloop.Overloaded) as refused:
                    await call
                assert (refused.value.why, refused.value.limit) == ("max_wait_s", 0.02)
            with pytest.raises(offloop.Overloaded):
                async with session.stream(partial(w.log_and_return, str(log)), [4], max_wait_s=0.02) as stream:
                    await anext(stream)
            Path(f"{path}.go").touch()
        assert results == [42]
        assert w.lines(log) == []
        assert await session.run(w.log_and_return, str(log), 5, max_wait_s=20) == 5
        assert session.statistics().refused == 3


async def test_who_would_wait_for_too_long_is_refused_before(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """By what calls were learned to take, where many are there already."""
    path = f"{tmp_path}/run"
    async with offloop.ParallelSession(strategy=strategy, workers=1) as session:
        for _ in range(2):
            await session.run(w.sleep, 0.02)
        async with occupied(session, path), anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(session.run, w.sleep, 0.02)
            await anyio.wait_all_tasks_blocked()
            with w.heard("session.overloaded") as told, pytest.raises(offloop.Overloaded) as refused:
                await session.run(w.sleep, 0.02, max_wait_s=0.1, label="eleventh")
            assert refused.value.retry_after_s >= 0.1
            assert [(event.why, event.limit, event.label) for event in told] == [("max_wait_s", 0.1, "eleventh")]
            with anyio.fail_after(10):
                assert refused.value.pending == session.statistics().pending == 11
            tasks.cancel_scope.cancel()


async def test_a_deadline_is_its_callers(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """Who gives up as they wait gets what they would get anywhere; the call is never executed."""
    path, log = f"{tmp_path}/run", tmp_path / "log"
    async with offloop.ParallelSession(strategy=strategy, workers=1) as session:
        async with occupied(session, path):
            for call in (
                partial(session.run, w.log_and_return, str(log), 1),
                partial(session.run_parallel, partial(w.log_and_return, str(log)), [2, 3]),
            ):
                with pytest.raises(TimeoutError), anyio.fail_after(0.02):
                    await call()
        assert await session.run(w.log_and_return, str(log), 4) == 4
    assert w.lines(log) == ["4"]


async def test_who_cannot_make_their_deadline_is_refused_at_once(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """Where a session has limits, a call that can't begin in time is told so, rather than left to wait for nothing."""
    path = f"{tmp_path}/run"
    async with offloop.ParallelSession(strategy=strategy, workers=1, max_pending=100) as session:
        for _ in range(2):
            await session.run(w.sleep, 0.05)
        async with occupied(session, path), anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(session.run, w.sleep, 0.05)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(offloop.Overloaded, match="its caller allows") as refused, anyio.fail_after(0.1):
                await session.run(w.sleep, 0.05)
            assert refused.value.why == "deadline"
            tasks.cancel_scope.cancel()


async def test_a_single_call_goes_before_the_chunks_of_a_map(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """A map that has a worker gives it to a call that waits; a call that is as little urgent takes turns with it."""
    path, log = f"{tmp_path}/run", f"{tmp_path}/log"
    async with offloop.ParallelSession(strategy=strategy, workers=1) as session:
        items = [(f"{path}.go", log, number) for number in range(12)]
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(session.run_parallel, offloop.star(log_after), items, chunk_size=1))
                await w.appears(log)
                tasks.start_soon(partial(session.run, w.log_and_return, log, "batch", priority="batch", label="b"))
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(session.run, w.log_and_return, log, "call")
                await anyio.wait_all_tasks_blocked()
                Path(f"{path}.go").touch()
    found = w.lines(Path(log))
    assert sorted(found) == sorted([*map(str, range(12)), "batch", "call"])
    assert found.index("call") <= 3  # behind what was on the worker already, and one turn of each
    assert found.index("batch") <= 5


def log_after(gate: str, log: str, number: int) -> int:
    """Note the execution of an item, and wait until a file is there."""
    w.append(log, number)
    while not Path(gate).exists():
        offloop.checkpoint()
        w.sleep(0.001)
    return number


async def test_a_session_works_after_a_storm(anyio_backend: object, strategy: str) -> None:
    """Each of many callers at once is let in and gets its result, or is refused; none is lost, and then all is as before."""
    results: list[Any] = []

    async def call(number: int) -> None:
        try:
            results.append(await session.run(w.double, number))
        except offloop.Overloaded as error:
            results.append(error)

    async with offloop.ParallelSession(strategy=strategy, workers=1, max_pending=10) as session:
        await session.run(w.double, 1)
        with w.heard("session.overloaded") as told, anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for number in range(200):
                    tasks.start_soon(call, number)
        n_refused = sum(isinstance(result, offloop.Overloaded) for result in results)
        assert len(results) == 200
        assert len({result for result in results if isinstance(result, int)}) == 200 - n_refused >= 10
        statistics = session.statistics()
        assert (statistics.refused, statistics.pending, statistics.completed) == (n_refused, 0, 201 - n_refused)
        assert n_refused > 0
        assert 1 <= len(told) <= 2
        assert await session.run_parallel(w.double, range(20)) == list(range(0, 40, 2))


async def test_states_are_told(anyio_backend: object) -> None:
    """A session says whether it is open, draining or closed."""
    session = offloop.ParallelSession()
    assert session.statistics().state == "not open"
    async with session:
        assert session.statistics().state == "open"
        await session.drain()
        assert session.statistics().state == "draining"
    assert session.statistics().state == "closed"
