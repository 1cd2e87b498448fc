"""The life of a session: opened once, closed for good, its workers reused in between."""

from __future__ import annotations

import gc
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio


async def test_workers_are_reused_from_call_to_call(workers: offloop.ParallelSession) -> None:
    """The same processes serve call after call; none is started for a call."""
    before = workers.statistics()
    seen = {await workers.run(w.pid_of) for _ in range(10)}
    seen |= set(await workers.run_parallel(w.pid_of, range(100)))
    after = workers.statistics()
    assert seen <= set(before.workers)
    assert os.getpid() not in seen
    assert sorted(after.workers) == sorted(before.workers)
    assert after.workers_started == before.workers_started


@pytest.mark.parametrize("local", ["serial", "threads"])
async def test_local_strategies_stay_in_this_process_but_off_the_loop(anyio_backend: object, local: Any) -> None:
    """Serial and threads execute here, in another thread than the event loop's."""
    async with offloop.ParallelSession(strategy=local) as session:
        here = w.thread_of()
        for pid, thread in await session.run_parallel(w.thread_of, range(20)):
            assert pid == here[0]
            assert thread != here[1]
        assert session.statistics().workers == ()


async def test_serial_is_one_thread_for_all_sessions(anyio_backend: object) -> None:
    """What runs serially never runs beside itself, whatever the number of sessions."""
    async with offloop.ParallelSession(strategy="serial") as first, offloop.ParallelSession(strategy="serial") as other:
        threads = {*await first.run_parallel(w.thread_of, range(10)), *await other.run_parallel(w.thread_of, range(10))}
    assert len(threads) == 1


async def test_threads_work_side_by_side(anyio_backend: object, tmp_path: Path) -> None:
    """Under threads as many items run at a time as there are workers."""
    async with offloop.ParallelSession(strategy="threads", workers=2) as session:
        if session._threads.limit < 2:
            pytest.skip("one usable core")
        path = str(tmp_path / "meeting")
        assert await session.run_parallel(offloop.call(w.meet, path, 2), range(2), chunk_size=1) == [0, 1]


async def test_a_call_can_use_fewer_workers(workers: offloop.ParallelSession) -> None:
    """`workers` of a call caps that run and changes nothing else."""
    before = workers.statistics().workers
    assert len(set(await workers.run_parallel(w.pid_of, range(200), workers=1, chunk_size=1))) <= len(before)
    assert sorted(workers.statistics().workers) == sorted(before)


async def test_use_before_opening_is_refused(anyio_backend: object) -> None:
    """A session that was not opened says so."""
    session = offloop.ParallelSession()
    with pytest.raises(offloop.SessionClosedError, match="not open"):
        await session.run(w.double, 1)
    with pytest.raises(offloop.SessionClosedError, match="async with"):
        await session.run_parallel(w.double, [1])


async def test_use_after_closing_is_refused(anyio_backend: object, strategy: str) -> None:
    """A closed session says so, whatever is asked of it."""
    async with offloop.ParallelSession(strategy=strategy) as session:
        assert await session.run(w.double, 1) == 2
    with pytest.raises(offloop.SessionClosedError, match="closed"):
        await session.run(w.double, 1)
    with pytest.raises(offloop.SessionClosedError, match="closed"):
        await session.run_parallel(w.double, [1])
    with pytest.raises(offloop.SessionClosedError, match="closed"):
        await session.run_parallel(w.double, [])
    with pytest.raises(offloop.SessionClosedError, match="closed"):
        await session.warm()
    assert session.statistics().completed == 1
    assert session.statistics().workers == ()


async def test_closing_twice_is_closing_once(anyio_backend: object, strategy: str) -> None:
    """A second close does nothing."""
    async with offloop.ParallelSession(strategy=strategy) as session:
        await session.run(w.double, 1)
        await session.aclose()
        await session.aclose()


async def test_opening_twice_is_refused(anyio_backend: object) -> None:
    """A session is opened once, and never again after it was closed."""
    async with offloop.ParallelSession() as session:
        with pytest.raises(offloop.SessionClosedError):
            await session.__aenter__()
    with pytest.raises(offloop.SessionClosedError):
        await session.__aenter__()


async def test_closing_an_unopened_session_is_harmless(anyio_backend: object) -> None:
    """There is nothing to close."""
    await offloop.ParallelSession().aclose()


async def test_an_exception_in_the_body_closes_the_session(anyio_backend: object, strategy: str) -> None:
    """What the consumer's body raises comes out as itself, with everything closed."""
    with pytest.raises(w.OwnError, match="in the body"):
        async with offloop.ParallelSession(strategy=strategy) as session:
            assert await session.run_parallel(w.double, range(10)) == list(range(0, 20, 2))
            raise w.OwnError("in the body")
    with pytest.raises(offloop.SessionClosedError):
        await session.run(w.double, 1)


async def test_closing_ends_what_is_under_way(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """A call that a close overtakes fails with the session-closed error, soon, and its item stops."""
    path = f"{tmp_path}/run"
    session = await offloop.ParallelSession(strategy=strategy).__aenter__()
    caught: list[Exception] = []

    async def call() -> None:
        try:
            await session.run(w.loop_until_cancelled, path)
        except Exception as error:
            caught.append(error)

    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await w.appears(f"{path}.began")
            await session.aclose()
    assert [type(error) for error in caught] == [offloop.SessionClosedError]


async def test_a_cancelled_body_closes_the_session(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """Cancelling the block that holds the session leaves nothing."""
    with anyio.move_on_after(0.3) as scope:
        async with offloop.ParallelSession(strategy=strategy) as session:
            await session.run_parallel(w.loop_until_cancelled, [f"{tmp_path}/run"] * 10)
    assert scope.cancelled_caught


async def test_warm_starts_workers_early(anyio_backend: object) -> None:
    """After warm the workers are up, and later calls start none."""
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        await session.warm(1)
        assert len(session.statistics().workers) == 1
        await session.warm()
        up = session.statistics().workers
        await session.warm()
        assert await session.run_parallel(w.double, range(50)) == list(range(0, 100, 2))
        assert sorted(session.statistics().workers) == sorted(up)
        assert session.statistics().workers_started == len(up)


async def test_an_idle_worker_ends_itself(anyio_backend: object) -> None:
    """After idle_timeout_s a worker is gone, and the next call starts another, unseen by its caller."""
    async with offloop.ParallelSession(strategy="processes", workers=1, idle_timeout_s=0.2) as session:
        first = await session.run(w.pid_of)
        with anyio.fail_after(20):
            while session.statistics().workers:
                await anyio.sleep(0.01)
            assert await session.run(w.pid_of) != first
        assert session.statistics().retried == 0


async def test_a_session_cant_be_pickled(anyio_backend: object) -> None:
    """Sending a session anywhere is a TypeError that tells what to do."""
    async with offloop.ParallelSession(strategy="processes") as session:
        with pytest.raises(TypeError, match=r"run_parallel"):
            pickle.dumps(session)
        with pytest.raises(TypeError):
            await session.run(w.echo, session)
        with pytest.raises(TypeError):
            await session.run(lambda: session)


async def test_a_dropped_session_warns_and_leaves_nothing(anyio_backend: object) -> None:
    """A session that nobody closed tells so when it is collected, and its workers end."""
    session = offloop.ParallelSession(strategy="processes", workers=1).open()
    await session.run(w.double, 1)
    with pytest.warns(ResourceWarning, match="never closed"):
        del session
        gc.collect()


async def test_the_default_session_reuses_its_workers(anyio_backend: object) -> None:
    """The module-level functions share processes from call to call; after closing others are started."""
    try:
        first = await offloop.run(w.pid_of, strategy="processes")
        assert await offloop.run(w.pid_of, strategy="processes") == first
        await offloop.close_default_session()
        await offloop.close_default_session()
        assert await offloop.run(w.pid_of, strategy="processes") != first
    finally:
        await offloop.close_default_session()


def test_the_default_session_outlives_event_loops() -> None:
    """One process serves one event loop after another, of any kind."""

    async def call() -> int:
        return await offloop.run(w.pid_of, strategy="processes")

    def run_loops() -> list[int]:
        try:
            return [
                anyio.run(call),
                anyio.run(call, backend="trio"),
                anyio.run(call, backend_options={"use_uvloop": True}),
                anyio.run(call),
            ]
        finally:
            anyio.run(offloop.close_default_session)

    with ThreadPoolExecutor(1) as thread:  # this one may have the loop of the module's fixtures
        assert len(set(thread.submit(run_loops).result())) == 1


async def test_warm_waits_for_workers_that_others_start(anyio_backend: object) -> None:
    """However many ask at once, each goes on only when the workers answer."""
    async with offloop.ParallelSession(workers=2) as session:
        up: list[int] = []

        async def warm() -> None:
            await session.warm()
            up.append(len(session.statistics().workers))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(warm)
        assert up == [2, 2, 2]
