"""The life of a session: opened once, closed for good, its workers reused in between."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import sniffio

import offloop
import workloads as w
from offloop.pool.thread_lane import ThreadLane

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


@pytest.mark.fault(37)
async def test_use_before_opening_is_refused(anyio_backend: object) -> None:
    """A session that was not opened says so."""
    session = offloop.ParallelSession()
    with pytest.raises(offloop.SessionClosedError, match="not open"):
        await session.run(w.double, 1)
    with pytest.raises(offloop.SessionClosedError, match="async with"):
        await session.run_parallel(w.double, [1])


@pytest.mark.fault(37)
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


@pytest.mark.fault(37)
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


# --- closing amid work --------------------------------------------------------------------------------------------------


async def kept(results: list[Any], call: Any) -> None:
    """Keep what a call returns, or the error that it raises."""
    try:
        results.append(await call)
    except Exception as error:
        results.append(error)


def clean_up(path: str, limit_s: float = 30.0) -> None:
    """Go on until cancelled, and then for as long as cleaning up takes: until there is a file."""
    try:
        w.loop_until_cancelled(path)
    finally:
        w.append(f"{path}.cleaning", 1)
        end = time.monotonic() + limit_s
        while not os.path.exists(f"{path}.go") and time.monotonic() < end:
            time.sleep(0.001)
        w.append(f"{path}.cleaned", 1)


ENTRANCES: dict[str, Callable[..., Any]] = {
    "run": lambda session, fn, path, **options: session.run(fn, path, **options),
    "run_parallel": lambda session, fn, path, **options: session.run_parallel(fn, [path] * 10, **options),
    "run_batches": lambda session, fn, path, **options: session.run_batches(
        partial(of_block, fn, path), range(100), batch_size=10, **options
    ),
}


def of_block(fn: Callable[[str], Any], path: str, rows: Any) -> Any:
    fn(path)
    return rows


@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_closing_stops_what_is_under_way(
    anyio_backend: object, strategy: str, entrance: str, tmp_path: Path
) -> None:
    """Runs that a close overtakes fail with the session-closed error and their items stop; what is in line never begins."""
    path = f"{tmp_path}/run"
    session = offloop.ParallelSession(strategy=strategy, workers=1).open()
    results: list[Any] = []
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kept, results, ENTRANCES[entrance](session, w.loop_until_cancelled, path))
            await w.appears(f"{path}.began")
            tasks.start_soon(kept, results, session.run(w.log_and_return, f"{path}.late", 1))
            tasks.start_soon(kept, results, session.run_parallel(partial(w.log_and_return, f"{path}.late"), range(9)))
            await anyio.wait_all_tasks_blocked()
            await session.aclose()
            began = w.lines(Path(f"{path}.began"))
            assert began == w.lines(Path(f"{path}.stopped"))
    assert [type(result) for result in results] == [offloop.SessionClosedError] * 3
    assert w.lines(Path(f"{path}.began")) == began
    assert w.lines(Path(f"{path}.late")) == []
    assert session.statistics().cancelled >= 2


@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_items_may_clean_up_when_the_session_closes(
    anyio_backend: object, strategy: str, entrance: str, tmp_path: Path
) -> None:
    """The finally block of an item runs to its end before the session is closed, if grace_s allows."""
    path = f"{tmp_path}/run"
    results: list[Any] = []
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            session = offloop.ParallelSession(strategy=strategy, workers=1, grace_s=20).open()
            tasks.start_soon(kept, results, ENTRANCES[entrance](session, clean_up, path))
            await w.appears(f"{path}.began")
            tasks.start_soon(session.aclose)
            await w.appears(f"{path}.cleaning")
            assert results == []
            Path(f"{path}.go").touch()
    assert [type(result) for result in results] == [offloop.SessionClosedError]
    assert w.lines(Path(f"{path}.cleaned")) == ["1"]


async def test_closing_waits_no_longer_than_grace(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """What doesn't stop in time holds nobody: its worker is killed, a thread is left to itself."""
    path = f"{tmp_path}/run"
    results: list[Any] = []
    try:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                session = offloop.ParallelSession(strategy=strategy, workers=1, grace_s=0.1).open()
                tasks.start_soon(kept, results, session.run_parallel(clean_up, [path]))
                await w.appears(f"{path}.began")
                await session.aclose()
                assert w.lines(Path(f"{path}.cleaned")) == []
        assert [type(result) for result in results] == [offloop.SessionClosedError]
        assert session.statistics().workers == ()
    finally:
        Path(f"{path}.go").touch()


async def test_an_exception_in_the_body_stops_what_is_under_way(
    anyio_backend: object, strategy: str, tmp_path: Path
) -> None:
    """Leaving the context with an exception returns when the items have stopped, and raises that exception."""
    path = f"{tmp_path}/run"
    results: list[Any] = []
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            with pytest.raises(w.OwnError, match="in the body"):
                async with offloop.ParallelSession(strategy=strategy, workers=1) as session:
                    tasks.start_soon(kept, results, session.run_parallel(w.loop_until_cancelled, [path] * 10))
                    await w.appears(f"{path}.began")
                    raise w.OwnError("in the body")
            assert w.lines(Path(f"{path}.began")) == w.lines(Path(f"{path}.stopped"))
    assert [type(result) for result in results] == [offloop.SessionClosedError]


async def test_what_is_broken_off_too_late_costs_nobody_else(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A close that overtakes an item which is over already leaves nothing to whoever uses its thread next, in any session."""
    real = ThreadLane.receive

    async def receive(lane: ThreadLane) -> Any:
        monkeypatch.setattr(ThreadLane, "receive", real)
        while not lane._reports:  # it is over, and its event loop doesn't know yet
            time.sleep(0.001)
        lane.break_off()
        return await real(lane)

    async with offloop.ParallelSession(strategy="serial") as session:
        monkeypatch.setattr(ThreadLane, "receive", receive)
        assert await session.run(w.double, 1) == 2
        assert await session.run(w.double, 2) == 4


@pytest.mark.fault(29)
async def test_closing_while_workers_start_fails_who_waits_for_them(anyio_backend: object) -> None:
    """A close that comes before the first worker is up ends the run that waits for it, and leaves no worker."""
    session = offloop.ParallelSession(strategy="processes", workers=2).open()
    results: list[Any] = []
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kept, results, session.run(w.double, 1))
            tasks.start_soon(kept, results, session.run_parallel(w.double, range(10)))
            while not session._processes.n_spawning:
                await anyio.sleep(0.001)
            await session.aclose()
    assert [type(result) for result in results] == [offloop.SessionClosedError] * 2
    assert session.statistics().workers == ()


@pytest.mark.fault(37)
async def test_who_closes_while_it_is_closed_waits_for_the_same_end(
    anyio_backend: object, strategy: str, tmp_path: Path
) -> None:
    """However many close a session, on whatever event loops, each returns when nothing is left."""
    path = f"{tmp_path}/run"
    left: list[Any] = []
    results: list[Any] = []

    async def close(session: offloop.ParallelSession) -> None:
        await session.aclose()
        left.append((session._records.runs, session._processes.pool.lanes, session._threads.pool.lanes))

    with anyio.fail_after(30):
        session = offloop.ParallelSession(strategy=strategy, workers=1, grace_s=20).open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kept, results, session.run_parallel(clean_up, [path]))
            await w.appears(f"{path}.began")
            tasks.start_soon(close, session)
            await w.appears(f"{path}.cleaning")
            tasks.start_soon(close, session)
            thread = threading.Thread(target=anyio.run, args=(close, session))
            thread.start()
            await anyio.wait_all_tasks_blocked()
            assert left == []
            Path(f"{path}.go").touch()
            await anyio.to_thread.run_sync(thread.join)
    assert left == [({}, [], [])] * 3
    assert [type(result) for result in results] == [offloop.SessionClosedError]


@pytest.mark.fault(31)
async def test_closing_is_not_cancelled(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """Cancelling who closes a session changes nothing of it: all is gone when that returns."""
    path = f"{tmp_path}/run"
    results: list[Any] = []
    session = offloop.ParallelSession(strategy=strategy, workers=1, grace_s=20).open()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kept, results, session.run_parallel(clean_up, [path]))
            await w.appears(f"{path}.began")
            async with anyio.create_task_group() as closing:
                closing.start_soon(session.aclose)
                await w.appears(f"{path}.cleaning")
                closing.cancel_scope.cancel()
                Path(f"{path}.go").touch()
            assert w.lines(Path(f"{path}.cleaned")) == ["1"]
            assert session._processes.pool.lanes == session._threads.pool.lanes == []
    assert [type(result) for result in results] == [offloop.SessionClosedError]


@pytest.mark.fault(31)
async def test_cancelling_an_asyncio_task_that_closes_changes_nothing(
    anyio_backend: object, strategy: str, tmp_path: Path
) -> None:
    """asyncio's own way to cancel, which knows no shields, doesn't break off a close either; it is raised at its end."""
    if sniffio.current_async_library() != "asyncio":
        pytest.skip("asyncio's own cancellation")
    path = f"{tmp_path}/run"
    results: list[Any] = []
    session = offloop.ParallelSession(strategy=strategy, workers=1, grace_s=20).open()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(kept(results, session.run_parallel(clean_up, [path])))
        await w.appears(f"{path}.began")
        closing = tasks.create_task(session.aclose())
        await w.appears(f"{path}.cleaning")
        for _ in range(3):
            closing.cancel()
            await anyio.wait_all_tasks_blocked()
        assert not closing.done()
        Path(f"{path}.go").touch()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert w.lines(Path(f"{path}.cleaned")) == ["1"]
        assert session._processes.pool.lanes == session._threads.pool.lanes == []
    assert [type(result) for result in results] == [offloop.SessionClosedError]


@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_closing_stops_the_runs_of_other_event_loops(
    anyio_backend: object, strategy: str, other: str, tmp_path: Path
) -> None:
    """A session may be closed from another event loop than its runs are on; both get their errors."""
    path = f"{tmp_path}/run"
    here: list[Any] = []
    there: list[Any] = []
    with anyio.fail_after(30):
        session = offloop.ParallelSession(strategy=strategy, workers=2).open()
        call = session.run_parallel(w.loop_until_cancelled, [f"{path}.there"])
        thread = threading.Thread(target=partial(anyio.run, kept, there, call, backend=other))
        thread.start()
        async with anyio.create_task_group() as tasks:
            await w.appears(f"{path}.there.began")
            tasks.start_soon(kept, here, session.run_parallel(w.double, iter(range(10**9))))
            await anyio.wait_all_tasks_blocked()
            await session.aclose()
        await anyio.to_thread.run_sync(thread.join)
    assert [type(result) for result in (*here, *there)] == [offloop.SessionClosedError] * 2
    assert w.lines(Path(f"{path}.there.began")) == w.lines(Path(f"{path}.there.stopped"))


async def test_a_stalled_event_loop_does_not_hold_a_close(
    anyio_backend: object, strategy: str, tmp_path: Path
) -> None:
    """A run whose event loop hangs is given no longer than its grace; then its worker goes like the others."""
    path = f"{tmp_path}/run"
    stalled: list[Any] = []
    is_closed = threading.Event()

    async def stall(call: Any) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kept, stalled, call)
            await w.appears(f"{path}.began")
            Path(f"{path}.stalls").touch()
            is_closed.wait(30)

    session = offloop.ParallelSession(strategy=strategy, workers=1, grace_s=0.1).open()
    call = session.run_parallel(w.loop_until_cancelled, [path])
    thread = threading.Thread(target=anyio.run, args=(stall, call))
    thread.start()
    try:
        with anyio.fail_after(20):
            while not Path(f"{path}.stalls").exists():
                await anyio.sleep(0.002)
            await session.aclose()
            assert session._processes.pool.lanes == session._threads.pool.lanes == []
            assert stalled == []
    finally:
        is_closed.set()
        await anyio.to_thread.run_sync(thread.join)
    assert [type(result) for result in stalled] == [offloop.SessionClosedError]


async def test_a_cancelled_body_closes_the_session(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """Cancelling the block that holds the session leaves nothing."""
    with anyio.move_on_after(0.3) as scope:
        async with offloop.ParallelSession(strategy=strategy) as session:
            await session.run_parallel(w.loop_until_cancelled, [f"{tmp_path}/run"] * 10)
    assert scope.cancelled_caught


@pytest.mark.one_loop
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


@pytest.mark.one_loop
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


@pytest.mark.one_loop
@pytest.mark.fault(38)
async def test_a_dropped_session_warns_and_leaves_nothing(anyio_backend: object) -> None:
    """A session that nobody closed tells so when it is collected, and its workers end."""
    session = offloop.ParallelSession(strategy="processes", workers=1).open()
    await session.run(w.double, 1)
    with pytest.warns(ResourceWarning, match="never closed"):
        del session
        gc.collect()


async def test_nothing_of_a_call_is_kept(session: offloop.ParallelSession) -> None:
    """What calls and branches take, return and raise is dropped with them: a garbage collection may be long in coming."""
    kept: list[weakref.ref[Any]] = []

    def boxed(number: int) -> w.Boxed:
        box = w.Boxed(number)
        kept.append(weakref.ref(box))
        return box

    async def call_all() -> None:
        kept.append(weakref.ref(await session.run(w.echo, boxed(1))))
        with suppress(TypeError):
            await session.run(w.double, boxed(2))
        with suppress(TypeError):
            await session.run_branches({"a": offloop.call(w.double, boxed(3))})
        branches = {"a": offloop.call(w.echo, boxed(4)), "b": offloop.call(w.double, boxed(5))}
        results = await session.run_branches(branches, on_error="collect")
        kept.append(weakref.ref(results["a"]))

    await session.run(w.double, 1)
    gc.collect()
    gc.disable()
    try:
        await call_all()
        await session.run(w.nothing)  # the last steps of the calls before are over
        assert [ref() for ref in kept] == [None] * 7
    finally:
        gc.enable()


@pytest.mark.one_loop
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


async def test_who_closes_the_default_session_waits_for_its_end(anyio_backend: object, tmp_path: Path) -> None:
    """Of two that close it at once both return when it is gone, and it is a new one from the first moment on."""
    path = f"{tmp_path}/run"
    results: list[Any] = []
    n_closed = 0

    async def close() -> None:
        nonlocal n_closed
        await offloop.close_default_session()
        n_closed += 1

    try:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                call = offloop.run_parallel(clean_up, [path], strategy="processes", grace_s=20)
                tasks.start_soon(kept, results, call)
                await w.appears(f"{path}.began")
                tasks.start_soon(close)
                await w.appears(f"{path}.cleaning")
                tasks.start_soon(close)
                await anyio.wait_all_tasks_blocked()
                assert n_closed == 0
                assert await offloop.run(w.double, 1, strategy="serial") == 2
                Path(f"{path}.go").touch()
        assert n_closed == 2
        assert [type(result) for result in results] == [offloop.SessionClosedError]
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
