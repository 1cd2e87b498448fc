"""A worker ends at every step of the protocol, in every way: one outcome for each item, and the next call works."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

import failpoints
import offloop
import workloads as w
from failpoints import HOWS, POINTS, Death, deadly

pytestmark = pytest.mark.anyio

IS_LONG = bool(os.environ.get("FAULTS_LONG"))
MIB = 1 << 20
BEFORE_WORK = ("start", "hello")
RUN_AGAIN = ("packing", "mid_send")  # the item was in progress, and its outcome died with the worker
UVLOOP = ("asyncio", {"use_uvloop": True})
# By default each point with SIGKILL and with one of the others, these in turn.
ENDS = [
    (point, how, "asyncio")
    for number, point in enumerate(POINTS)
    for how in (HOWS if IS_LONG else (HOWS[0], HOWS[1 + number % (len(HOWS) - 1)]))
]
ENDS += [(point, "SIGKILL", loop) for point in ("hello", "mid_send", "sent") for loop in (UVLOOP, "trio")]
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP, "trio"] if IS_LONG else ["asyncio"])
on_trio_too = pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP, "trio"] if IS_LONG else ["asyncio", "trio"])


def session_of(workers: int) -> offloop.ParallelSession:
    return offloop.ParallelSession(strategy="processes", workers=workers)


async def settled(call: Any) -> Any:
    """Await a call that may find that no worker can be started, once."""
    try:
        return await call()
    except offloop.WorkerStartError:
        return await call()


@pytest.mark.fault(4, 8, 9, 10)
@pytest.mark.parametrize(("point", "how", "anyio_backend"), ENDS)
async def test_a_call_survives_the_end_of_its_worker(anyio_backend: object, how: str, point: str, tmp_path: Path) -> None:
    """Its item runs again only if it was in progress; calls before and after never notice."""
    ran, died = str(tmp_path / "ran"), tmp_path / "died"
    with deadly(Death(point, how, str(died))), anyio.fail_after(40):
        async with session_of(1) as session:
            assert await settled(partial(session.run, w.log_and_return, ran, 7)) == 7
            executed = w.lines(tmp_path / "ran")
            assert len(executed) == 1 + (point in RUN_AGAIN)
            assert await session.run(w.double, 21) == 42
    assert len(w.lines(died)) == 1
    assert session.statistics().retried == (point in (*RUN_AGAIN, "unpacking"))


@pytest.mark.fault(9)
@on_trio_too
@pytest.mark.parametrize("point", [*RUN_AGAIN, "unpacking"])
async def test_a_call_that_may_not_run_again_fails(anyio_backend: object, point: str, tmp_path: Path) -> None:
    """With retries=0 nothing runs twice: the crash is the outcome."""
    with deadly(Death(point, "SIGKILL", str(tmp_path / "died"))), anyio.fail_after(40):
        async with session_of(1) as session:
            with pytest.raises(offloop.WorkerCrashed, match="SIGKILL"):
                await session.run(w.log_and_return, str(tmp_path / "ran"), 7, retries=0)
            assert len(w.lines(tmp_path / "ran")) <= 1
            assert await session.run(w.double, 21) == 42


@pytest.mark.fault(1, 9)
@on_asyncio
@pytest.mark.parametrize("how", HOWS if IS_LONG else ["SIGKILL"])
@pytest.mark.parametrize("point", POINTS)
async def test_a_map_survives_the_ends_of_workers(anyio_backend: object, how: str, point: str, tmp_path: Path) -> None:
    """Two of its workers end on the way: each result comes once, and only what was in progress there runs again."""
    ran, chunk = str(tmp_path / "ran"), 5
    items = list(range(60))
    with deadly(Death(point, how, str(tmp_path / "died"), times=2)), anyio.fail_after(40):
        async with session_of(2) as session:
            fn = partial(w.log_and_return, ran)
            results = await settled(partial(session.run_parallel, fn, items, chunk_size=chunk, retries=2))
            assert results == items
            executed = [int(line) for line in w.lines(tmp_path / "ran")]
            assert set(executed) == set(items)
            assert len(executed) - len(items) <= (2 * chunk if point in RUN_AGAIN else 0)
            assert await session.run_parallel(w.double, items) == [2 * x for x in items]
    assert len(w.lines(tmp_path / "died")) == 2


@pytest.mark.fault(9, 69)
@on_asyncio
@pytest.mark.parametrize("point", ["received", *RUN_AGAIN])
async def test_a_map_of_which_nothing_may_run_twice(anyio_backend: object, point: str, tmp_path: Path) -> None:
    """With retries=0 items in progress fail as crashed, none runs twice, and all others have their results."""
    ran, items = str(tmp_path / "ran"), list(range(40))
    with deadly(Death(point, "SIGKILL", str(tmp_path / "died"))), anyio.fail_after(40):
        async with session_of(2) as session:
            fn = partial(w.log_and_return, ran)
            results = await session.run_parallel(fn, items, chunk_size=4, retries=0, on_error="collect")
            executed = w.lines(tmp_path / "ran")
            assert len(executed) == len(set(executed)) == len(items)
            lost = [index for index, result in enumerate(results) if isinstance(result, offloop.WorkerCrashed)]
            assert [results[index] for index in items if index not in lost] == [x for x in items if x not in lost]
            assert len(lost) == (0 if point == "received" else 4)
            for index in lost:
                assert f"items[{index}]" in str(results[index])


@pytest.mark.fault(7)
@on_asyncio
@pytest.mark.parametrize("kind", ["array", "bytes"])
async def test_death_amid_a_huge_result(anyio_backend: object, kind: str, tmp_path: Path) -> None:
    """A worker that dies when half of its result is written stalls nobody: the item runs again, and arrives whole."""
    size = (600 if IS_LONG else 64) * MIB
    with deadly(Death("mid_send", "SIGKILL", str(tmp_path / "died"))), anyio.fail_after(60):
        async with session_of(2) as session:
            beside: list[int] = []

            async def work_beside() -> None:
                beside.extend(await session.run_parallel(w.double, range(50), retries=3))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work_beside)
                result = await session.run(np.ones if kind == "array" else bytes, size, retries=3)
            assert len(result) == size
            assert beside == list(range(0, 100, 2))
    assert len(w.lines(tmp_path / "died")) == 1


@pytest.mark.fault(11)
@on_trio_too
@pytest.mark.parametrize("point", BEFORE_WORK)
async def test_workers_that_never_come_up(anyio_backend: object, point: str, tmp_path: Path) -> None:
    """Where every start fails the call says so, in time, after few starts; later ones work."""
    with deadly(Death(point, "SIGSEGV", str(tmp_path / "died"), times=1000)), anyio.fail_after(40):
        async with session_of(2) as session:
            with pytest.raises(offloop.WorkerStartError):
                await session.run_parallel(w.double, range(100), chunk_size=1)
    assert len(w.lines(tmp_path / "died")) <= 12
    async with session_of(1) as session:
        assert await session.run(w.double, 21) == 42


@pytest.mark.fault(2, 69)
@on_asyncio
@pytest.mark.parametrize("how", HOWS if IS_LONG else ["SIGTERM", "exit 0"])
async def test_an_item_that_always_kills_its_worker(anyio_backend: object, how: str, tmp_path: Path) -> None:
    """It runs 1 + retries times, whatever their number, and costs none of its neighbours in a chunk."""
    log = tmp_path / "log"
    async with session_of(2) as session:
        with anyio.fail_after(40):
            fn = partial(failpoints.die_at_7, how, str(log))
            results = await session.run_parallel(fn, range(20), retries=2, chunk_size=10, on_error="collect")
    assert isinstance(results[7], offloop.WorkerCrashed)
    assert [results[k] for k in range(20) if k != 7] == [2 * k for k in range(20) if k != 7]
    assert w.lines(log).count("7") == 3


@pytest.mark.fault(15)
@on_trio_too
@pytest.mark.parametrize("point", ["received", "packing", "mid_send"])
async def test_a_stopped_worker_ends_with_its_cancelled_call(anyio_backend: object, point: str, tmp_path: Path) -> None:
    """SIGSTOP at any step holds a cancelled caller no longer than grace, and its worker is replaced."""
    stopped = tmp_path / "stopped"
    with deadly(Death(point, "SIGSTOP", str(stopped))), anyio.fail_after(40):
        async with session_of(1) as session:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(session.run, w.double, 1, grace_s=0.1))
                await w.appears(stopped)
                tasks.cancel_scope.cancel()
            assert await session.run(w.double, 21) == 42
            assert int(w.lines(stopped)[0]) not in session.statistics().workers


@pytest.mark.fault(10)
@on_trio_too
async def test_idle_workers_that_were_stopped_or_killed(anyio_backend: object) -> None:
    """The next calls get others in place of those that were killed while they idled."""
    async with session_of(2) as session:
        for _ in range(3):
            await session.warm()
            for pid in session.statistics().workers:
                os.kill(pid, signal.SIGKILL)
            with anyio.fail_after(20):
                assert await session.run_parallel(w.double, range(20), retries=0) == list(range(0, 40, 2))
        assert session.statistics().retried == 0
