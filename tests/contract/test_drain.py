"""Draining: what was admitted is finished, nothing new is taken, and whoever waits for that is told."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio


async def begins(session: offloop.ParallelSession) -> None:
    """Wait until a session drains."""
    with anyio.fail_after(20):
        while session._records.state == "open":
            await anyio.sleep(0.002)


async def kept(results: list[Any], call: Any) -> None:
    """Keep what a call returns, or the error that it raises."""
    try:
        results.append(await call)
    except Exception as error:
        results.append(error)


async def test_what_was_admitted_is_finished(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """Runs that execute and runs that wait in line all return their results; then drain returns True, and tells so."""
    path = f"{tmp_path}/run"
    results: list[Any] = []
    with anyio.fail_after(30), w.heard("session.drained") as told:
        async with offloop.ParallelSession(strategy=strategy, workers=1) as session, anyio.create_task_group() as tasks:
            tasks.start_soon(kept, results, session.run_parallel(w.wait_for_file, [path] * 3, chunk_size=1))
            await w.appears(f"{path}.began")
            for n in range(3):
                tasks.start_soon(kept, results, session.run(w.double, n))
            tasks.start_soon(kept, results, session.run_parallel(w.double, range(10)))
            await anyio.wait_all_tasks_blocked()
            done: list[Any] = []
            tasks.start_soon(kept, done, session.drain())
            await begins(session)
            assert not told
            Path(f"{path}.go").touch()
            while not done:
                await anyio.sleep(0.002)
            assert len(results) == 5
            statistics = session.statistics()
    assert done == [True]
    assert all(result in results for result in (0, 2, 4, ["went"] * 3, list(range(0, 20, 2))))
    assert (statistics.queued, statistics.completed) == (0, 16)
    (event,) = told
    assert (event.is_done, event.n_left) == (True, 0)
    assert event.wall_s > 0


async def test_nothing_new_is_admitted(anyio_backend: object, strategy: str) -> None:
    """From the moment of draining on every entrance says that the session is draining, also when that is done."""
    async with offloop.ParallelSession(strategy=strategy) as session:
        data = [1, 2, 3]
        assert await session.run(w.double, 1) == 2
        assert await session.drain()
        for entrance in (
            lambda: session.run(w.double, 1),
            lambda: session.run_parallel(w.double, [1]),
            lambda: session.run_parallel(w.double, iter([1])),
            lambda: session.run_batches(w.echo, data),
            lambda: session.decide(w.double, [1]),
            lambda: session.warm(),
        ):
            with pytest.raises(offloop.SessionClosedError, match="draining"):
                await entrance()
        with pytest.raises(offloop.SessionClosedError, match="draining"):
            session.share(data)
        with pytest.raises(offloop.SessionClosedError, match="draining already"):
            session.open()
        assert not session.release(data)
        assert session.statistics().completed == 1
    with pytest.raises(offloop.SessionClosedError, match="closed"):
        await session.run(w.double, 1)


async def test_a_time_limit_ends_the_waiting_and_not_the_work(
    anyio_backend: object, strategy: str, tmp_path: Path
) -> None:
    """What is not finished in time goes on; how much that is is told, and a second drain waits for it."""
    path = f"{tmp_path}/run"
    results: list[Any] = []
    with anyio.fail_after(30), w.heard("session.drained") as told:
        async with offloop.ParallelSession(strategy=strategy, workers=1) as session, anyio.create_task_group() as tasks:
            tasks.start_soon(kept, results, session.run_parallel(w.wait_for_file, [path] * 3, chunk_size=3))
            await w.appears(f"{path}.began")
            assert await session.drain(timeout_s=0) is False
            assert await session.drain(timeout_s=0.01) is False
            assert not results
            Path(f"{path}.go").touch()
            assert await session.drain(timeout_s=20) is True
            assert results == [["went"] * 3]
            assert await session.drain(timeout_s=0) is True
    assert [(event.is_done, event.n_left) for event in told] == [(False, 3), (False, 3), (True, 0), (True, 0)]


async def test_several_may_wait(anyio_backend: object, tmp_path: Path) -> None:
    """All who drain wait for the same end, each with a time limit of its own, and each is told of."""
    path = f"{tmp_path}/run"
    done: list[Any] = []
    with anyio.fail_after(30), w.heard("session.drained") as told:
        async with offloop.ParallelSession(strategy="serial") as session, anyio.create_task_group() as tasks:
            tasks.start_soon(session.run, w.wait_for_file, path)
            await w.appears(f"{path}.began")
            for _ in range(3):
                tasks.start_soon(kept, done, session.drain())
            assert await session.drain(timeout_s=0.01) is False
            assert done == []
            Path(f"{path}.go").touch()
    assert done == [True] * 3
    assert len(told) == 4


async def test_a_cancelled_drain_leaves_the_session_draining(
    anyio_backend: object, strategy: str, tmp_path: Path
) -> None:
    """Cancelling ends the waiting alone: what is under way goes on, and nothing is admitted again."""
    path = f"{tmp_path}/run"
    results: list[Any] = []
    with anyio.fail_after(30), w.heard("session.drained") as told:
        async with offloop.ParallelSession(strategy=strategy, workers=1) as session, anyio.create_task_group() as tasks:
            tasks.start_soon(kept, results, session.run(w.wait_for_file, path))
            await w.appears(f"{path}.began")
            async with anyio.create_task_group() as others:
                others.start_soon(session.drain)
                await begins(session)
                others.cancel_scope.cancel()
            assert not told
            with pytest.raises(offloop.SessionClosedError, match="draining"):
                await session.run(w.double, 1)
            Path(f"{path}.go").touch()
            assert await session.drain()
    assert results == ["went"]
    assert not session._records.changed._waiting


async def test_closing_overtakes_draining(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """Where a session is closed in mid-drain its runs are stopped, and drain says that not everything was finished."""
    path = f"{tmp_path}/run"
    results: list[Any] = []
    done: list[Any] = []
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            session = offloop.ParallelSession(strategy=strategy, workers=1).open()
            tasks.start_soon(kept, results, session.run_parallel(w.loop_until_cancelled, [path]))
            await w.appears(f"{path}.began")
            tasks.start_soon(kept, done, session.drain())
            await begins(session)
            await session.aclose()
            assert await session.drain() is True
    assert [type(result) for result in results] == [offloop.SessionClosedError]
    assert done == [False]
    assert w.lines(Path(f"{path}.began")) == w.lines(Path(f"{path}.stopped"))


async def test_draining_then_closing_stops_nothing(anyio_backend: object, strategy: str) -> None:
    """After a drain there is nothing left to stop; draining what is closed is done at once."""
    session = offloop.ParallelSession(strategy=strategy).open()
    with anyio.fail_after(30):
        results: list[Any] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kept, results, session.run_parallel(w.nap, [0.001] * 20))
            await anyio.wait_all_tasks_blocked()
            assert await session.drain(timeout_s=20)
            await session.aclose()
        assert [type(result) for result in results] == [list]
        assert await session.drain() is True
        assert await session.drain(timeout_s=0) is True


async def test_a_session_that_was_never_opened_has_nothing_to_drain(anyio_backend: object) -> None:
    """It says so, like any other use."""
    session = offloop.ParallelSession()
    with pytest.raises(offloop.SessionClosedError, match="not open"):
        await session.drain()
    async with session:
        assert await session.run(w.double, 1) == 2


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), float("inf")])
async def test_a_time_limit_that_is_none_is_refused(anyio_backend: object, timeout_s: float) -> None:
    """A value that can't be a time is refused before anything happens, and the session stays open."""
    async with offloop.ParallelSession(strategy="serial") as session:
        with pytest.raises(offloop.SettingError, match="timeout_s"):
            await session.drain(timeout_s)
        with pytest.raises(offloop.SettingTypeError, match="timeout_s"):
            await session.drain("1")  # type: ignore[arg-type]
        assert await session.run(w.double, 1) == 2


# --- several event loops ------------------------------------------------------------------------------------------------


class OtherLoop:
    """A thread with an event loop of its own that awaits one call."""

    def __init__(self, backend: str, call: Callable[..., Any], *args: Any) -> None:
        self.results: list[Any] = []
        self._thread = threading.Thread(target=lambda: self.results.append(anyio.run(call, *args, backend=backend)))
        self._thread.start()

    async def over(self) -> list[Any]:
        """Wait for its end and return what the call returned."""
        await anyio.to_thread.run_sync(self._thread.join)
        return self.results


@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_runs_of_other_event_loops_are_waited_for(
    anyio_backend: object, strategy: str, other: str, tmp_path: Path
) -> None:
    """Drain returns when the runs of all event loops are over, wherever it is called."""
    path = f"{tmp_path}/run"
    with anyio.fail_after(30):
        async with offloop.ParallelSession(strategy=strategy, workers=2) as session, anyio.create_task_group() as tasks:
            here: list[Any] = []
            thread = OtherLoop(other, session.run_parallel, w.wait_for_file, [f"{path}.other"])
            await w.appears(f"{path}.other.began")
            tasks.start_soon(kept, here, session.run_parallel(w.double, range(5)))
            await anyio.wait_all_tasks_blocked()
            done: list[Any] = []
            tasks.start_soon(kept, done, session.drain())
            elsewhere = OtherLoop(other, session.drain)
            await begins(session)
            await anyio.wait_all_tasks_blocked()
            assert (done, elsewhere.results) == ([], [])
            Path(f"{path}.other.go").touch()
            assert await thread.over() == [["went"]]
            assert await elsewhere.over() == [True]
    assert done == [True]
    assert here == [[0, 2, 4, 6, 8]]


async def test_a_run_whose_event_loop_was_closed_is_not_waited_for(anyio_backend: object, tmp_path: Path) -> None:
    """A run that ended with its event loop, and will never return, holds nobody once it is collected."""
    path = f"{tmp_path}/run"
    session = offloop.ParallelSession(strategy="threads").open()

    def abandon() -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)  # "Task was destroyed but it is pending!"
        task = loop.create_task(session.run_parallel(w.loop_until_cancelled, [path]))
        loop.run_until_complete(w.appears(f"{path}.began"))
        loop.close()
        del task, loop
        gc.collect()

    thread = threading.Thread(target=abandon)
    thread.start()
    with anyio.fail_after(30):
        await anyio.to_thread.run_sync(thread.join)
        assert await session.drain()
        await session.aclose()
    assert w.lines(Path(f"{path}.began")) == w.lines(Path(f"{path}.stopped"))


# --- what an admitted run needs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("local", ["serial", "threads"])
async def test_what_an_item_runs_is_admitted(anyio_backend: object, local: Any, tmp_path: Path) -> None:
    """An item of this process that uses the session finishes as if the session were not draining."""
    path = f"{tmp_path}/run"

    def use(session: offloop.ParallelSession) -> list[int]:
        assert w.wait_for_file(path) == "went"
        assert anyio.run(session.run, w.double, 1) == 2
        return anyio.run(session.run_parallel, w.double, range(5))

    results: list[Any] = []
    with anyio.fail_after(30):
        async with offloop.ParallelSession(strategy=local, workers=2) as session, anyio.create_task_group() as tasks:
            tasks.start_soon(kept, results, session.run_parallel(use, [session]))
            await w.appears(f"{path}.began")
            tasks.start_soon(session.drain)
            await begins(session)
            with pytest.raises(offloop.SessionClosedError):
                await session.run(w.double, 1)
            Path(f"{path}.go").touch()
            assert await session.drain()
    assert results == [[[0, 2, 4, 6, 8]]]


async def test_what_a_source_runs_is_admitted(anyio_backend: object, strategy: str) -> None:
    """A source of items that uses the session is read to its end, and its run returns all results."""
    results: list[Any] = []
    async with offloop.ParallelSession(strategy=strategy, workers=2) as session:
        reading, goes_on = anyio.Event(), anyio.Event()

        async def items() -> AsyncIterator[int]:
            yield 0
            reading.set()
            await goes_on.wait()
            for n in range(3):
                yield await session.run(w.double, n)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kept, results, session.run_parallel(w.double, items()))
                await reading.wait()
                tasks.start_soon(session.drain)
                await begins(session)
                with pytest.raises(offloop.SessionClosedError):
                    await session.run(w.double, 1)
                goes_on.set()
                assert await session.drain()
    assert results == [[0, 0, 4, 8]]


async def test_what_a_source_has_started_is_not_admitted_for_ever(anyio_backend: object) -> None:
    """A task that began as part of a run has its way only for as long as that run."""
    async with offloop.ParallelSession(strategy="serial") as session, anyio.create_task_group() as tasks:
        is_over = anyio.Event()
        results: list[Any] = []

        async def later() -> None:
            await is_over.wait()
            await kept(results, session.run(w.double, 1))

        async def items() -> AsyncIterator[int]:
            tasks.start_soon(later)
            yield 1

        assert await session.run_parallel(w.double, items()) == [2]
        assert await session.drain()
        is_over.set()
        with anyio.fail_after(10):
            while not results:
                await anyio.sleep(0.002)
        assert [type(result) for result in results] == [offloop.SessionClosedError]


async def test_a_run_over_blocks_is_finished_with_its_concatenation(anyio_backend: object, tmp_path: Path) -> None:
    """Drain waits for all that run_batches does before its first block and after its last."""
    path = f"{tmp_path}/run"
    results: list[Any] = []

    def block(rows: list[int]) -> list[int]:
        w.wait_for_file(path)
        return rows

    with anyio.fail_after(30):
        async with offloop.ParallelSession(strategy="threads") as session, anyio.create_task_group() as tasks:
            tasks.start_soon(kept, results, session.run_batches(block, list(range(20)), batch_size=5))
            await w.appears(f"{path}.began")
            tasks.start_soon(session.drain)
            await begins(session)
            Path(f"{path}.go").touch()
            assert await session.drain()
            assert session._records.is_quiet
    assert results == [list(range(20))]
