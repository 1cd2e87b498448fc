"""Workers that die: what is lost, what is said, and what goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

HOWS = {
    "exit": (5, None, "exit code 5"),
    "exit 0": (0, None, "exit code 0"),
    "SIGKILL": (-9, "SIGKILL", "SIGKILL"),
    "SIGSEGV": (-11, "SIGSEGV", "SIGSEGV"),
    "SIGABRT": (-6, "SIGABRT", "SIGABRT"),
}


@pytest.fixture
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        yield session


@pytest.mark.one_loop
@pytest.mark.fault(2, 4)
@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("how", HOWS)
async def test_an_item_that_kills_its_worker_fails_alone(
    session: offloop.ParallelSession, tmp_path: Path, how: str, retries: int
) -> None:
    """It is named with exit code or signal, runs 1 + retries times, and no innocent is lost."""
    log = tmp_path / "log"
    exit_code, signal_name, told = HOWS[how]
    with anyio.fail_after(30):
        results = await session.run_parallel(
            partial(w.die_on_5, how, str(log)), range(20), retries=retries, on_error="collect", chunk_size=1
        )
        crash = results[5]
        assert isinstance(crash, offloop.WorkerCrashed)
        assert (crash.first, crash.last, crash.exit_code, crash.signal) == (5, 5, exit_code, signal_name)
        assert "items[5]" in str(crash)
        assert told in str(crash)
        assert "die_on_5" in str(crash)
        assert results[:5] + results[6:] == [2 * x for x in range(20) if x != 5]
        executed = w.lines(log)
        assert executed.count("5") == 1 + retries
        assert all(executed.count(str(x)) == 1 for x in range(20) if x != 5)
        assert await session.run_parallel(w.double, range(10)) == list(range(0, 20, 2))


@pytest.mark.one_loop
@pytest.mark.fault(2)
@pytest.mark.parametrize("retries", [0, 1])
async def test_innocents_in_the_same_chunk(session: offloop.ParallelSession, tmp_path: Path, retries: int) -> None:
    """In a chunk with an item that kills, those after it run; those before it ran, and are lost only if they may not run again."""
    log = tmp_path / "log"
    with anyio.fail_after(30):
        results = await session.run_parallel(
            partial(w.die_on_5, "SIGKILL", str(log)), range(10), retries=retries, on_error="collect", chunk_size=10
        )
    assert isinstance(results[5], offloop.WorkerCrashed)
    assert results[6:] == [12, 14, 16, 18]
    executed = w.lines(log)
    if retries:
        assert results[:5] == [0, 2, 4, 6, 8]
    else:
        assert all(executed.count(str(x)) == 1 for x in range(10))


@pytest.mark.fault(1)
async def test_one_transient_death_loses_nothing(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """A worker that dies once costs a retry, no result."""
    with anyio.fail_after(30):
        results = await session.run_parallel(partial(w.die_once, str(tmp_path / "died")), range(20))
    assert results == [2 * x for x in range(20)]
    assert session.statistics().retried >= 1
    assert session.statistics().workers_crashed == 1


async def test_the_crash_is_raised(session: offloop.ParallelSession) -> None:
    """Under on_error="raise", and from a call, the crash is the error."""
    with anyio.fail_after(30):
        with pytest.raises(offloop.WorkerCrashed, match=r"items\[1\].*SIGKILL"):
            await session.run_parallel(w.die_named, ["", "SIGKILL"])
        with pytest.raises(offloop.WorkerCrashed, match="exit code 5"):
            await session.run(w.die, "exit", retries=0)
        assert await session.run(w.double, 2) == 4


@pytest.mark.one_loop
@pytest.mark.fault(13)
async def test_random_kills_lose_nothing(session: offloop.ParallelSession) -> None:
    """Workers killed from outside during a map cost time, and not one result."""
    await session.warm()

    async def kill_some() -> None:
        for _ in range(5):
            await anyio.sleep(0.05)
            for pid in session.statistics().workers[:1]:
                os.kill(pid, signal.SIGKILL)

    with anyio.fail_after(40):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill_some)
            results = await session.run_parallel(w.spin, [0.002 + i * 1e-7 for i in range(300)], retries=10)
    assert results == [0.002 + i * 1e-7 for i in range(300)]


@pytest.mark.fault(10)
async def test_an_idle_worker_that_was_killed_is_not_noticed(session: offloop.ParallelSession) -> None:
    """A death in idleness is nobody's failure, and nothing runs twice for it."""
    for _ in range(3):
        await session.warm()
        pids = session.statistics().workers
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        with anyio.fail_after(20):
            assert await session.run(w.double, 2, retries=0) == 4
            assert await session.run_parallel(w.double, range(20), retries=0) == list(range(0, 40, 2))
        assert not set(pids) & set(session.statistics().workers)
    assert session.statistics().retried == 0


@pytest.mark.fault(48)
async def test_a_child_that_holds_the_lane_does_not_hide_a_death(
    session: offloop.ParallelSession, tmp_path: Path
) -> None:
    """A worker that leaves a grandchild and dies is found dead at once."""
    with anyio.fail_after(10), pytest.raises(offloop.WorkerCrashed, match="exit code 5"):
        await session.run(w.die_with_child, str(tmp_path / "child"), retries=0)
    assert await session.run(w.double, 2) == 4


@pytest.mark.fault(41)
async def test_other_sessions_go_on(session: offloop.ParallelSession) -> None:
    """A crash in one session is nothing to another."""
    async with offloop.ParallelSession(strategy="processes", workers=1) as other:
        pid = await other.run(w.pid_of)
        with pytest.raises(offloop.WorkerCrashed):
            await session.run(w.die, "SIGKILL")
        assert await other.run(w.pid_of) == pid


@pytest.mark.fault(15)
async def test_a_stopped_worker_can_be_cancelled(session: offloop.ParallelSession) -> None:
    """A worker under SIGSTOP is killed after grace like any that does not answer."""
    await session.warm()
    stopped = session.statistics().workers
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    with anyio.fail_after(10):
        with anyio.move_on_after(0.1) as scope:
            await session.run(w.double, 2, grace_s=0.2)
        assert scope.cancelled_caught
