"""Inline sessions: what a session does, in this process and in one known order."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import offloop
from offloop.adapters.starlette import install
from offloop.events import RunFellBack, RunFinished, WorkerStarted
from offloop.telemetry import emit
from offloop.testing import InlineSession, Kit, Overload, assert_decided, assert_no_fallbacks, inline

from . import work


@pytest.fixture
async def session(anyio_backend: object) -> AsyncIterator[InlineSession]:
    """An inline session with all defaults."""
    work.calls.clear()
    async with InlineSession() as session:
        yield session


async def test_items_execute_in_order(session: InlineSession) -> None:
    """Items of every kind execute one after another, in the order of their indexes, in one thread of this process."""
    assert await session.run_parallel(work.note, range(100), chunk_size=7) == list(range(100))
    assert await session.run_parallel(work.note, [object, str, int]) == [object, str, int]
    async with session.stream(work.note, iter(range(5)), ordered=False) as results:
        assert [result async for result in results] == [0, 1, 2, 3, 4]
    assert work.calls == [*range(100), object, str, int, *range(5)]
    (ident,) = set(await session.run_parallel(_thread, range(3)))
    assert ident != threading.get_ident()


def _thread(_: int) -> int:
    return threading.get_ident()


async def test_all_entrances_are_there(session: InlineSession) -> None:
    """Single calls, batches, branches, seeds, decisions and statistics are those of any session."""
    assert await session.run(pow, 2, 5) == 32
    assert await session.run_batches(work.total, list(range(6)), batch_size=4) == [0, 2, 4, 6, 8, 10]
    assert work.calls == [[0, 1, 2, 3], [4, 5]]
    branches = {"a": offloop.call(work.double, 4), "b": offloop.units([offloop.call(work.double, x) for x in (1, 2)], combine=sum)}
    assert await session.run_branches(branches) == {"a": 8, "b": 6}
    async with offloop.ParallelSession(strategy="serial") as ordinary:
        expected = await ordinary.run_parallel(work.note_random, range(4), seed=7)
    assert await session.run_parallel(work.note_random, range(4), seed=7) == expected
    decision = await session.decide(work.double, range(9))
    assert (decision.strategy, decision.n_items) == ("processes", 9)
    assert (session.statistics().failed, session.statistics().cancelled) == (0, 0)


async def test_an_executor_stands_on_it(session: InlineSession) -> None:
    """`session.executor()` executes inline too."""
    with session.executor() as executor:
        future = executor.submit(os.getpid)
        assert await anyio.to_thread.run_sync(future.result) == os.getpid()


async def test_figures_do_not_depend_on_the_clock(session: InlineSession) -> None:
    """Two runs of the same work tell the same of it, chunk sizes included."""
    told: list[tuple[Any, ...]] = []
    for _ in range(2):
        async with InlineSession() as one:
            await one.run_parallel(work.double, range(300))
            told.append((one.statistics().busy_s, one.statistics().workers, one.decisions[-1].workers))
    assert told[0] == told[1]
    assert told[0][0] == pytest.approx(0.3)


async def test_the_host_is_the_same_everywhere(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither CI nor variables of offloop's own change what an inline session does; `cores` does."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("OFFLOOP_PARALLEL", "off")
    monkeypatch.setenv("OFFLOOP_WORKERS", "nonsense")
    async with InlineSession(cores=7) as session:
        assert await session.run(work.double, 2) == 4
        assert_decided(session, fn=work.double, strategy="processes", reason="explicit")
        decision = await session.decide(work.double, range(1000), strategy="auto", item_cost_s=0.1)
        assert decision.estimated_serial_s == pytest.approx(100.0)
    assert offloop.ParallelConfig().workers is None


async def test_a_call_is_cancelled(session: InlineSession, tmp_path: Path) -> None:
    """An item that never ends stops when its caller is cancelled, and the session goes on."""
    path = tmp_path / "began"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(session.run, work.loop_for_ever, str(path)))
        while not path.exists():
            await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    assert await session.run(work.double, 2) == 4


async def test_items_may_start_runs(anyio_backend: object, offloop_kit: Kit) -> None:
    """An item that starts a run of its own doesn't wait for itself."""
    with anyio.fail_after(20):
        assert await offloop.run_parallel(work.nested, [2, 3]) == [[0, 2], [0, 2, 4]]


async def test_calls_at_the_same_time_are_served_one_by_one(session: InlineSession) -> None:
    """Many calls at once are executed one after another."""
    async with anyio.create_task_group() as tasks:
        for x in range(50):
            tasks.start_soon(session.run, work.note, x)
    assert sorted(work.calls) == list(range(50))


async def test_sessions_that_others_make_are_inline(anyio_backend: object) -> None:
    """Within `inline` whatever session is made is inline, and the module-level functions use such a one."""
    with inline(max_pending=3) as kit:
        async with offloop.ParallelSession(workers=4) as session:
            assert await session.run(os.getpid) == os.getpid()
        assert await offloop.run(os.getpid) == os.getpid()
        assert kit.session.config.max_pending == 3
        assert [event.strategy for event in kit.decisions] == ["processes"] * 2
        assert len(kit.events.of(WorkerStarted)) == 2
        assert [event.tasks_completed for event in kit.events.of(RunFinished)] == [1, 1]
        assert_no_fallbacks(kit)
        assert_no_fallbacks(kit.session)
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        assert "_means" not in vars(session)
        assert type(session._processes.pool).__name__ == "Pool"
        assert session._processes.is_remote


def test_sync_callers_are_served() -> None:
    """The functions that block use the inline session too, and what is left of them is closed with it."""
    with inline():
        assert offloop.run_parallel_sync(work.double, [1, 2]) == [2, 4]
        offloop.close_default_session_sync()
        assert offloop.run_sync(os.getpid) == os.getpid()


async def test_assertions_tell_what_is_wrong(session: InlineSession) -> None:
    """A failed assertion names what the decision has instead, or that there is none."""
    with pytest.raises(AssertionError, match=r"no run of testing_kit\.work\.double"):
        assert_decided(session, fn=work.double)
    await session.run(work.double, 2)
    with pytest.raises(AssertionError, match=r"strategy=<Strategy\.PROCESSES.*not 'serial'"):
        assert_decided(session, strategy="serial")
    with pytest.raises(AssertionError, match="no 'stratagem'"):
        assert_decided(session, stratagem="serial")
    decision = assert_decided(session, strategy=offloop.Strategy.PROCESSES, n_items=1)
    assert decision is session.decisions[-1]


class Fallen(offloop.ParallelSession):
    """A session on which something has fallen back."""

    def statistics(self) -> offloop.SessionStatistics:
        return offloop.SessionStatistics(fallbacks={offloop.Reason.UNPICKLABLE: 2})


def test_a_fallback_is_told() -> None:
    """What falls back fails the assertion, with where to and why, by the events and by the counts."""
    with inline() as kit:
        emit(RunFellBack(from_strategy="processes", to_strategy="serial", reason="unpicklable", fn="app.score"))
        with pytest.raises(AssertionError, match=r"app\.score to serial: unpicklable"):
            assert_no_fallbacks(kit)
        with pytest.raises(AssertionError, match="unpicklable"):
            assert_no_fallbacks(kit.events)
    with pytest.raises(AssertionError, match=r"unpicklable \(2\)"):
        assert_no_fallbacks(Fallen())


async def answer(request: Request) -> JSONResponse:
    return JSONResponse(await request.state.offloop.run(work.double, int(request.path_params["x"])))


async def test_an_app_is_served_on_the_same_loop(anyio_backend: object, offloop_kit: Kit) -> None:
    """An app with `install` has an inline session on the loop of the test too, as with httpx's ASGITransport."""
    app = Starlette(routes=[Route("/double/{x}", answer)])
    install(app, workers=2)

    async with app.router.lifespan_context(app) as state:

        async def served(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(served), base_url="http://app") as client:
            assert (await client.get("/double/4")).json() == 8
            offloop_kit.inject({0: Overload()})
            assert (await client.get("/double/4")).status_code == 503
    assert_decided(offloop_kit, fn=work.double, strategy="processes", workers=1)
