"""Many runs at once under `auto`: measured, bridged, moved, cancelled and closed in each other's midst."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anyio
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

COSTS_S = [0.0, 0.0, 0.0001, 0.002, 0.02]


class Callers:
    """Tasks that make calls and maps of mixed cost, cancel some, and check that every answer is their own."""

    def __init__(self, sessions: list[offloop.ParallelSession], seed: int) -> None:
        self.sessions = sessions
        self.chance = random.Random(seed)
        self.answered = 0

    async def work(self, turns: int) -> None:
        for _ in range(turns):
            limit_s = self.chance.random() * 0.03 if self.chance.random() < 0.3 else 60.0
            with anyio.move_on_after(limit_s):
                await self.one_call(self.chance.choice(self.sessions))
                self.answered += 1

    async def one_call(self, session: offloop.ParallelSession) -> None:
        cost_s = self.chance.choice(COSTS_S)
        hint = {"item_cost_s": self.chance.choice([1e-6, 0.01, 0.5])} if self.chance.random() < 0.2 else {}
        number = self.chance.randrange(1 << 30)
        kind = self.chance.random()
        if kind < 0.4:
            assert await session.run(w.echo_after, cost_s, number) == number
        elif kind < 0.9:
            count = self.chance.randrange(1, 40 if cost_s else 3000)
            items = list(range(number, number + count))
            assert await session.run_parallel(partial(w.echo_after, cost_s), items, **hint) == items  # type: ignore[arg-type]
        else:
            with pytest.raises(w.OwnError):
                await session.run_parallel(w.fail_on_3, [*range(number % 50 + 4)])


@pytest.mark.parametrize("seed", range(2))
async def test_many_runs_at_once_on_two_sessions(anyio_backend: object, seed: int) -> None:
    """Everybody gets their own answers, what is cancelled is gone, and the books add up."""
    async with offloop.ParallelSession(workers=2) as one, offloop.ParallelSession(workers=2) as other:
        callers = Callers([one, other], seed)
        async with anyio.create_task_group() as tasks:
            for _ in range(12):
                tasks.start_soon(callers.work, 5)
        assert callers.answered >= 30
        for session in (one, other):
            statistics = session.statistics()
            assert statistics.submitted == statistics.completed + statistics.failed + statistics.cancelled
            assert statistics.queued == 0
            assert statistics.workers_crashed == 0
            assert await session.run_parallel(w.double, range(5)) == [0, 2, 4, 6, 8]
        for session in (one, other):
            backends = (session._venues.processes, session._venues.threads)
            assert [round(backend.backlog_s, 6) for backend in backends] == [0, 0]


@pytest.mark.parametrize("where", ["probing", "bridging", "moved", "cold calls"])
async def test_closing_ends_runs_wherever_they_are(anyio_backend: object, where: str, tmp_path: Path) -> None:
    """A close in mid-run is a SessionClosedError for each run, and nothing of them goes on."""
    path = str(tmp_path / "run")
    session = offloop.ParallelSession(workers=2).open()
    errors: list[Exception] = []

    async def fail(call: Any) -> None:
        try:
            await call
        except Exception as error:
            errors.append(error)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            if where == "probing":
                tasks.start_soon(fail, session.run_parallel(partial(w.loop_until_cancelled_as, path), range(3)))
                await w.appears(f"{path}.began")
            elif where == "bridging":
                items = [(i, 0.01) for i in range(1000)]
                fn = partial(w.log_and_sleep, path)
                tasks.start_soon(fail, session.run_parallel(fn, items, item_cost_s=0.05))
                await w.appears(path, 3)
            elif where == "moved":
                items = [(i, 0.01) for i in range(1000)]
                fn = partial(w.log_and_sleep, path)
                tasks.start_soon(fail, session.run_parallel(fn, items, item_cost_s=1e-6))
                while not session.statistics().workers:
                    await anyio.sleep(0.005)
            else:
                for number in range(30):
                    tasks.start_soon(fail, session.run(w.log_and_sleep, path, (number, 0.05)))
                await w.appears(path, 1)
            await session.aclose()
    assert errors
    assert {type(error) for error in errors} == {offloop.SessionClosedError}
    executed = len(w.lines(tmp_path / "run"))
    await anyio.sleep(0.1)
    assert len(w.lines(tmp_path / "run")) == executed
    assert session.statistics().workers == ()


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.one_loop) for seed in (2, 3))])
async def test_cancelling_at_any_moment_leaves_a_session_that_works(anyio_backend: object, seed: int) -> None:
    """Whatever a run was about, measuring, packing, waiting for a worker: after its end all is as before."""
    chance = random.Random(seed)
    async with offloop.ParallelSession(workers=2) as session:
        for _ in range(8):
            with anyio.move_on_after(chance.random() * 0.15):
                await session.run_parallel(partial(w.echo_after, 0.005), range(100))
        statistics = session.statistics()
        assert statistics.submitted == statistics.completed + statistics.failed + statistics.cancelled
        assert not session._records.runs
        assert session._venues.processes.backlog_s == pytest.approx(0)
        assert await session.run_parallel(partial(w.echo_after, 0.005), range(20)) == list(range(20))


def test_two_event_loops_share_the_default_session() -> None:
    """Runs from two threads, each with an event loop of its own kind, get their own answers."""
    results: dict[str, Any] = {}

    async def work(name: str, offset: int) -> None:
        found = await w.gather(
            offloop.run_parallel(partial(w.echo_after, 0.005), range(offset, offset + 60)),
            offloop.run_parallel(w.echo, range(offset, offset + 500)),
            *(offloop.run(w.echo_after, 0.01, offset + n) for n in range(10)),
        )
        expected = [list(range(offset, offset + 60)), list(range(offset, offset + 500))]
        results[name] = found == [*expected, *(offset + n for n in range(10))]

    threads = [
        threading.Thread(target=partial(anyio.run, work, "asyncio", 0, backend="asyncio"), name="loop asyncio"),
        threading.Thread(target=partial(anyio.run, work, "trio", 10_000, backend="trio"), name="loop trio"),
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert results == {"asyncio": True, "trio": True}
    finally:
        anyio.run(offloop.close_default_session)


@pytest.mark.parametrize("strategy", ["serial", "processes"])
async def test_slow_unpacking_holds_nothing_up(anyio_backend: object, strategy: Any) -> None:
    """Results that take long to unpickle pile up before they are taken in; the loop and the run go on."""
    async with offloop.ParallelSession(workers=2) as session:
        if strategy == "processes":
            await session.warm()
        with anyio.fail_after(30):
            results = await session.run_parallel(w.slow_to_rebuild, range(16), chunk_size=1, strategy=strategy)
    assert [result.number for result in results] == list(range(16))


# --- inside of workers ---------------------------------------------------------------------------------------------------


async def test_a_session_in_a_worker_is_serial(anyio_backend: object) -> None:
    """A run inside of a worker stays there, whatever it asks for, and says that it is nested."""
    async with offloop.ParallelSession(workers=2, strategy="processes") as session:
        strategy, reason, results = await session.run(w.reasons_inside, 4)
    assert (strategy, reason, results) == ("serial", "nested", [8, 10])


def test_a_session_in_a_foreign_worker_is_serial() -> None:
    """In the worker of somebody else's pool a run stays there, and says whose pool it is that has the cores."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        strategy, reason, results = executor.submit(w.reasons_inside, 4).result()
        assert executor.submit(os.getpid).result() != os.getpid()
    assert (strategy, reason, results) == ("serial", "foreign_pool", [8, 10])
