"""local="never": no item begins in this process, whatever goes wrong."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

import offloop
import workloads as w
from offloop import Reason, Strategy
from offloop.pool.worker import Worker

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop will do: what is proved here knows nothing of it."""
    return "trio"


@pytest.fixture
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """A cold session that keeps everything out of this process."""
    async with offloop.ParallelSession(workers=2, local="never") as session:
        yield session


async def test_nothing_runs_here(session: offloop.ParallelSession) -> None:
    """Unknown or known, cheap or dear, a call or a map, cold or warm: it all runs in workers, and the record says why."""
    for _ in range(2):
        pids = [await session.run(w.pid_of), *await session.run_parallel(w.pid_of, range(300))]
        pids += [pid for pid, _ in await session.run_parallel(w.sleep_and_tell, [0.02] * 10)]
        pids += await session.run_parallel(w.pid_of, range(5), item_cost_s=1e-6, thread_safe=True)
        pids += await session.run_parallel(w.pid_of, (x for x in range(50)), workers=1)
        assert os.getpid() not in pids
    assert {(one.strategy, one.reason) for one in session.decisions} == {(Strategy.PROCESSES, Reason.LOCAL_NEVER)}


async def test_what_crashes_its_process_leaves_this_one_alive(session: offloop.ParallelSession) -> None:
    """An unknown function that ends its process ends a worker."""
    with pytest.raises(offloop.WorkerCrashed):
        await session.run(w.die, "exit")
    with pytest.raises(offloop.WorkerCrashed):
        await session.run_parallel(w.die, ["SIGKILL"] * 3)
    assert await session.run_parallel(w.double, range(3)) == [0, 2, 4]


async def test_what_cant_travel_is_an_error(session: offloop.ParallelSession) -> None:
    """A function, an item or a result that can't be pickled does not come home: it fails, and nothing fell back."""
    lock = threading.Lock()
    with w.heard("parallel.fallback") as told:
        with pytest.raises(offloop.UnpicklableFunction):
            await session.run(lambda: lock)
        with pytest.raises(offloop.UnpicklableFunction):
            await session.run_parallel(lambda x: (x, lock), range(3))
        with pytest.raises(offloop.UnpicklableItem):
            await session.run(w.echo, lock)
        with pytest.raises(offloop.UnpicklableItem):
            await session.run_parallel(w.echo, [1, lock, 2])
        with pytest.raises(offloop.UnpicklableResult):
            await session.run(w.lock_for_3, 3)
        results = await session.run_parallel(w.lock_for_3, range(5), on_error="collect")
    assert [x for x in results if isinstance(x, int)] == [0, 1, 2, 4]
    assert isinstance(results[3], offloop.UnpicklableResult)
    assert not told
    assert not session.statistics().fallbacks


async def test_no_worker_is_an_error(session: offloop.ParallelSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no worker can be started nothing runs at all."""

    def fail(*_: Any, **__: Any) -> Worker:
        raise offloop.WorkerStartError("no memory")

    monkeypatch.setattr(Worker, "start", fail)
    with pytest.raises(offloop.WorkerStartError):
        await session.run(w.pid_of)
    with pytest.raises(offloop.WorkerStartError):
        await session.run_parallel(w.pid_of, range(10))


@pytest.mark.parametrize("strategy", ["serial", "threads"])
async def test_strategies_of_this_process_are_refused(session: offloop.ParallelSession, strategy: Any) -> None:
    """Asking for what may never be is an error at once, at a call or at the session."""
    with pytest.raises(offloop.SettingError, match="local"):
        await session.run(w.double, 1, strategy=strategy)
    with pytest.raises(offloop.SettingError, match="local"):
        await session.run_parallel(w.double, [1], strategy=strategy)
    with pytest.raises(offloop.SettingError, match="local"):
        offloop.ParallelSession(local="never", strategy=strategy)
    assert session.statistics().submitted == 0


async def test_it_holds_under_ci(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI makes `auto` serial, but not where nothing may run here."""
    monkeypatch.setenv("CI", "true")
    async with offloop.ParallelSession(workers=2, local="never") as session:
        assert await session.run(partial(w.pid_of)) != os.getpid()


async def test_one_worker_is_enough(anyio_backend: object) -> None:
    """With workers=1 the one worker does it, though `auto` would be serial otherwise."""
    async with offloop.ParallelSession(workers=1, local="never") as session:
        pids = set(await session.run_parallel(w.pid_of, range(20)))
        assert len(pids) == 1
        assert os.getpid() not in pids
