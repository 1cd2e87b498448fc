"""What `auto` does about workers that don't start and things that don't travel: it is done here, once, and told."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import offloop
import workloads as w
from offloop import Reason
from offloop.pool.worker import Worker

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("usual_host")]

DEAR = {"item_cost_s": 0.1}  # so that workers are worth it from the first item on


@pytest.fixture(scope="module")
async def warm(anyio_backend: object, transport: str) -> AsyncIterator[offloop.ParallelSession]:
    """A session that chooses for itself, with all workers up."""
    async with offloop.ParallelSession(workers=2, idle_timeout_s=600) as session:
        await w.start_all(session, "processes")
        yield session


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host on which no worker can be started."""

    def fail(*_: Any, **__: Any) -> Worker:
        raise offloop.WorkerStartError("no memory")

    monkeypatch.setattr(Worker, "start", fail)


def requests(count: int, *bad: int) -> list[w.Request]:
    """Return items, of which these can't be pickled."""
    return [w.Request(number, has_client=number in bad) for number in range(count)]


def reasons(events: list[Any]) -> list[tuple[str, str, str]]:
    return [(event.from_strategy, event.to_strategy, event.reason) for event in events]


# --- workers don't start -----------------------------------------------------------------------------------------------


async def test_a_map_goes_on_here_where_no_worker_starts(
    anyio_backend: object, no_workers: None, tmp_path: Path
) -> None:
    """Every item runs once in this process, in order, and exactly one event tells that it fell back."""
    log = tmp_path / "log"
    async with offloop.ParallelSession(workers=2) as session:
        with w.heard("parallel.fallback") as told:
            items = [(i, 0.01) for i in range(40)]
            results = await session.run_parallel(partial(w.log_and_sleep, str(log)), items, **DEAR)
        assert results == [(i, os.getpid()) for i in range(40)]
        assert sorted(map(int, w.lines(log))) == list(range(40))
        assert reasons(told) == [("processes", "serial", "start_failed")]
        assert "WorkerStartError" in told[0].error
        assert session.statistics().fallbacks == {Reason.START_FAILED: 1}


@pytest.mark.one_loop
async def test_unknown_dear_work_goes_on_here_too(anyio_backend: object, no_workers: None) -> None:
    """So does a map that called for workers in mid-run."""
    async with offloop.ParallelSession(workers=2) as session:
        with w.heard("parallel.fallback") as told:
            results = await session.run_parallel(w.sleep_and_tell, [0.02] * 60)
        assert {pid for pid, _ in results} == {os.getpid()}
        assert reasons(told) == [("processes", "serial", "start_failed")]


async def test_a_call_goes_on_here_where_no_worker_starts(anyio_backend: object, no_workers: None) -> None:
    """A call that was meant for a worker runs in the local thread, with one event."""
    async with offloop.ParallelSession(workers=2) as session:
        await session.run(w.hold_gil_for, 0.3)  # long enough to be seen beside others too
        with w.heard("parallel.fallback") as told:
            assert await session.run(w.hold_gil_for, 0.3) == os.getpid()
        assert session.decisions[-1].reason is Reason.PROTECTS_LOOP
        assert reasons(told) == [("processes", "serial", "start_failed")]


async def test_explicit_processes_fail_where_no_worker_starts(anyio_backend: object, no_workers: None) -> None:
    """Who asks for processes gets them or an error."""
    async with offloop.ParallelSession(workers=2) as session:
        with w.heard("parallel.fallback") as told:
            with pytest.raises(offloop.WorkerStartError, match="no memory"):
                await session.run_parallel(w.pid_of, range(5), strategy="processes")
            with pytest.raises(offloop.WorkerStartError):
                await session.run(w.pid_of, strategy="processes")
        assert not told


# --- the function can't travel -----------------------------------------------------------------------------------------


@pytest.mark.one_loop
async def test_a_function_that_cant_travel_runs_here(warm: offloop.ParallelSession) -> None:
    """A closure over a lock, though worth workers, runs in this process with one event; so does a call of it."""
    lock = threading.Lock()

    def locked(x: int) -> tuple[int, int]:
        with lock:
            return x, w.sleep_and_tell(0.015)[0]

    with w.heard("parallel.fallback") as told:
        results = await warm.run_parallel(locked, range(30), **DEAR)
    assert results == [(x, os.getpid()) for x in range(30)]
    assert reasons(told) == [("processes", "serial", "unpicklable")]
    assert "UnpicklableFunction" in told[0].error

    def holding(seconds: float) -> tuple[int, bool]:
        return w.hold_gil_for(seconds), lock.locked()

    await warm.run(holding, 0.02)
    with w.heard("parallel.fallback") as told:
        assert await warm.run(holding, 0.02) == (os.getpid(), False)
    assert reasons(told) == [("processes", "serial", "unpicklable")]


# --- an item can't travel ----------------------------------------------------------------------------------------------


@pytest.mark.one_loop
@pytest.mark.parametrize("chunk_size", [None, 1, 40])
async def test_an_item_that_cant_travel_runs_here(
    warm: offloop.ParallelSession, tmp_path: Path, chunk_size: int | None
) -> None:
    """Only that one has to: its neighbours run in workers once these have answered; everything once, with one event."""
    log = tmp_path / "log"
    fn = partial(w.log_request, str(log))
    with w.heard("parallel.fallback") as told:
        results = await warm.run_parallel(fn, requests(40, 17, 30), chunk_size=chunk_size, **DEAR)
    assert [number for number, _ in results] == list(range(40))
    here = {number for number, pid in results if pid == os.getpid()}
    assert {17, 30} <= here
    assert len(here) < 20
    assert sorted(map(int, w.lines(log))) == list(range(40))
    assert reasons(told) == [("processes", "serial", "unpicklable")]


async def test_an_argument_that_cant_travel_makes_a_call_run_here(warm: offloop.ParallelSession, tmp_path: Path) -> None:
    """A call that was meant for a worker runs once, in this process, with one event."""
    log = tmp_path / "log"
    fn, request = partial(w.log_request_slowly, str(log)), w.Request(2, has_client=True)
    await warm.run(fn, request)  # now it is known to be worth a worker
    with w.heard("parallel.fallback") as told:
        assert await warm.run(fn, request) == (2, os.getpid())
    assert warm.decisions[-1].reason is Reason.PROTECTS_LOOP
    assert len(w.lines(log)) == 2
    assert reasons(told) == [("processes", "serial", "unpicklable")]


# --- a result can't travel ---------------------------------------------------------------------------------------------


async def test_a_result_that_cant_travel_is_made_again_here(warm: offloop.ParallelSession, tmp_path: Path) -> None:
    """Only that item runs again, in this process, where its result stays as it is; one event tells."""
    log = tmp_path / "log"
    with w.heard("parallel.fallback") as told:
        *others, last = await warm.run_parallel(partial(w.log_and_lock, str(log)), [*range(4, 30), 3], **DEAR)
    assert isinstance(last, type(threading.Lock()))
    assert [x for x, _ in others] == list(range(4, 30))
    assert {pid for _, pid in others} - {os.getpid()}
    assert Counter(map(int, w.lines(log))) == Counter({x: 2 if x == 3 else 1 for x in range(3, 30)})
    assert reasons(told) == [("processes", "serial", "unpicklable")]


async def test_without_retries_it_is_not_made_again(warm: offloop.ParallelSession, tmp_path: Path) -> None:
    """Under retries=0 nothing runs twice: the result that can't travel is the error that it is."""
    log = tmp_path / "log"
    fn = partial(w.log_and_lock, str(log))
    with w.heard("parallel.fallback") as told:
        results = await warm.run_parallel(fn, [*range(4, 30), 3], retries=0, on_error="collect", **DEAR)
        with pytest.raises(offloop.UnpicklableResult):
            await warm.run_parallel(fn, [*range(4, 30), 3], retries=0, **DEAR)
    assert isinstance(results[-1], offloop.UnpicklableResult)
    assert not told
    assert max(Counter(w.lines(log)).values()) == 2  # once for each of the two maps


async def test_a_call_whose_result_cant_travel(warm: offloop.ParallelSession, tmp_path: Path) -> None:
    """A call is made again here, unless it must not run twice."""
    for retries, times in ((1, 2), (0, 1)):
        log = tmp_path / f"log{retries}"
        fn = partial(w.hold_and_lock, str(log), 0.02)
        await warm.run(fn, 2, retries=retries)  # now it is known to be worth a worker
        log.unlink()
        with w.heard("parallel.fallback") as told:
            if retries:
                assert isinstance(await warm.run(fn, 3, retries=retries), type(threading.Lock()))
            else:
                with pytest.raises(offloop.UnpicklableResult):
                    await warm.run(fn, 3, retries=retries)
        assert len(w.lines(log)) == times
        assert len(told) == retries


@pytest.mark.parametrize("on_error", ["collect", "group"])
async def test_fallbacks_and_failures_mix(warm: offloop.ParallelSession, on_error: Any) -> None:
    """What fails fails, what can't travel comes home, what is fine is fine."""
    items: list[Any] = [1, 2, 3, 4, threading.Lock(), 6, 7]
    if on_error == "collect":
        results = await warm.run_parallel(w.fail_on_odd_or_lock, items, on_error="collect", **DEAR)
        assert [type(result).__name__ for result in results[:4]] == ["OwnError", "int", "OwnError", "int"]
        assert results[4] is items[4]
        assert [type(result).__name__ for result in results[5:]] == ["int", "OwnError"]
    else:
        with pytest.raises(ExceptionGroup) as caught:
            await warm.run_parallel(w.fail_on_odd_or_lock, items, on_error="group", **DEAR)
        assert [error.args for error in caught.value.exceptions] == [(1,), (3,), (7,)]


async def test_explicit_processes_raise_instead(warm: offloop.ParallelSession) -> None:
    """Who asks for processes is told what can't travel."""
    lock = threading.Lock()
    with w.heard("parallel.fallback") as told:
        with pytest.raises(offloop.UnpicklableFunction):
            await warm.run_parallel(lambda x: (x, lock), range(3), strategy="processes")
        with pytest.raises(offloop.UnpicklableItem):
            await warm.run_parallel(w.echo, [1, lock], strategy="processes")
        with pytest.raises(offloop.UnpicklableResult):
            await warm.run_parallel(w.lock_for_3, range(5), strategy="processes")
        with pytest.raises(offloop.UnpicklableItem):
            await warm.run(w.echo, lock, strategy="processes")
    assert not told


async def test_a_fallback_in_mid_run_is_cancelled_with_the_run(warm: offloop.ParallelSession, tmp_path: Path) -> None:
    """An item that came home stops like the others, and nothing goes on."""
    path = str(tmp_path / "run")
    items = [w.Request(0, has_client=True), *(w.Request(n, has_client=False) for n in range(1, 3))]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(warm.run_parallel, partial(w.loop_until_cancelled_as, path), items, **DEAR))
        await w.appears(f"{path}.began", 3)
        tasks.cancel_scope.cancel()
    began = w.lines(tmp_path / "run.began")
    assert str(os.getpid()) in began
    assert sorted(began) == sorted(w.lines(tmp_path / "run.stopped"))
    assert await warm.run_parallel(w.double, range(4)) == [0, 2, 4, 6]
