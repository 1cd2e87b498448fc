"""What happens while workers start, and when a run turns out other than it was thought to be."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import offloop
import workloads as w
from offloop import Strategy
from offloop.pool.worker import Worker

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("usual_host")]


@pytest.fixture
async def session(anyio_backend: object, transport: str) -> AsyncIterator[offloop.ParallelSession]:
    """A session that chooses for itself, with nothing learned and nothing started."""
    async with offloop.ParallelSession(workers=2) as session:
        yield session


@pytest.fixture
def stuck_starts(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Workers that take for ever to start, until the test is over; the event tells that one has begun to."""
    begun, over = threading.Event(), threading.Event()

    def start(*_: Any, **__: Any) -> Worker:
        begun.set()
        over.wait(60)
        raise offloop.WorkerStartError("too late")

    monkeypatch.setattr(Worker, "start", start)
    yield begun
    over.set()


def numbered(*spans: tuple[int, float]) -> list[tuple[int, float]]:
    """Return numbered items: so many of so many seconds each."""
    seconds = [each for count, each in spans for _ in range(count)]
    return list(enumerate(seconds))


def check(results: list[tuple[int, int]], log: Path) -> set[int]:
    """Check that every item ran once and has its place; return where."""
    assert [number for number, _ in results] == list(range(len(results)))
    assert sorted(map(int, w.lines(log))) == list(range(len(results)))
    return {pid for _, pid in results}


async def test_this_process_works_while_workers_start(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Dear work on a cold session: both this process and workers do their share, nothing is done twice."""
    log = tmp_path / "log"
    results = await session.run_parallel(partial(w.log_and_sleep, str(log)), numbered((60, 0.03)))
    pids = check(results, log)
    assert os.getpid() in pids
    assert len(pids) == 3
    here = [number for number, pid in results if pid == os.getpid()]
    assert here[0] == 0
    assert session.decisions[-1].strategy is Strategy.PROCESSES
    assert session.decisions[-1].start_cost_s > 0


@pytest.mark.one_loop
async def test_the_bridge_ends_when_all_workers_are_there(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Once the workers have come the local thread takes no more items: the last ones all ran in workers."""
    log = tmp_path / "log"
    results = await session.run_parallel(partial(w.log_and_sleep, str(log)), numbered((80, 0.03)))
    pids = check(results, log)
    workers = pids - {os.getpid()}
    assert len(workers) == 2
    assert {pid for _, pid in results[-8:]} <= workers


@pytest.mark.one_loop
async def test_nobody_waits_for_a_worker_while_there_is_a_bridge(
    session: offloop.ParallelSession, stuck_starts: threading.Event, tmp_path: Path
) -> None:
    """Workers that never come hold nothing up: this process does all of it."""
    log = tmp_path / "log"
    results = await session.run_parallel(partial(w.log_and_sleep, str(log)), numbered((60, 0.03)))
    assert stuck_starts.is_set()
    assert check(results, log) == {os.getpid()}
    assert Strategy.PROCESSES in {decision.strategy for decision in session.decisions}


async def test_work_that_turns_out_cheap_does_not_wait(
    session: offloop.ParallelSession, stuck_starts: threading.Event, tmp_path: Path
) -> None:
    """A dear first item may call for workers; the cheap ones behind it are done long before they come."""
    log = tmp_path / "log"
    results = await session.run_parallel(partial(w.log_and_sleep, str(log)), numbered((2, 0.06), (2000, 0.0)))
    assert check(results, log) == {os.getpid()}


@pytest.mark.one_loop
async def test_work_that_turns_out_dear_grows(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """A run whose first items are cheap and whose others are dear moves to the workers, with a record of it."""
    log = tmp_path / "log"
    with w.heard("parallel.decision") as told:
        results = await session.run_parallel(partial(w.log_and_sleep, str(log)), numbered((300, 0.0), (60, 0.03)))
    assert len(check(results, log) - {os.getpid()}) == 2
    first = session.decisions[0]
    saw_dear_ones = first.strategy is Strategy.PROCESSES and (first.item_s or 0.0) > 0.0005  # a machine that is slow just then
    assert first.strategy is Strategy.SERIAL or saw_dear_ones
    assert session.decisions[-1].strategy is Strategy.PROCESSES
    assert 2 - saw_dear_ones <= len(session.decisions) <= 5
    assert [event.strategy for event in told] == [decision.strategy for decision in session.decisions]


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("hint_s", "items", "first"),
    [
        (20e-6, numbered((60, 0.02)), Strategy.SERIAL),
        (0.2, numbered((3000, 0.0002)), Strategy.PROCESSES),
        (0.2, numbered((3000, 0.0)), Strategy.PROCESSES),
    ],
    ids=["a thousand times too low", "a thousand times too high", "far too high"],
)
async def test_a_wrong_hint_is_put_right(
    session: offloop.ParallelSession, tmp_path: Path, hint_s: float, items: Any, first: Strategy
) -> None:
    """What the caller says of the cost may be off by far: all results come, and each move has its record."""
    log = tmp_path / "log"
    with w.heard("parallel.decision") as told:
        results = await session.run_parallel(partial(w.log_and_sleep, str(log)), items, item_cost_s=hint_s)
    check(results, log)
    assert session.decisions[0].strategy is first
    assert len(session.decisions) <= 5
    assert len(told) == len(session.decisions)
    if first is Strategy.SERIAL:
        assert session.decisions[-1].strategy is Strategy.PROCESSES


@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "warm"])
async def test_a_long_first_item_holds_no_other_up(
    session: offloop.ParallelSession, tmp_path: Path, is_warm: bool
) -> None:
    """While the first item is being measured and turns out long, the others begin elsewhere."""
    if is_warm:
        await session.warm()
    together = partial(w.meet, str(tmp_path / "meeting"), 2, limit_s=5.0)
    assert await session.run_parallel(together, range(2)) == [0, 1]


@pytest.mark.one_loop
async def test_what_holds_the_loop_does_not_bridge(session: offloop.ParallelSession) -> None:
    """Items that keep the GIL for long wait for the workers: one is run to find out, and another or two may have begun by then."""
    pids = await session.run_parallel(w.hold_gil_for, [0.1] * 16)
    assert pids.count(os.getpid()) <= 3
    assert await session.run_parallel(w.hold_gil_for, [0.1] * 4) != [os.getpid()] * 4


async def test_a_bridged_run_is_cancelled_in_both_places(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Cancelled while the local thread and workers are at it, everything has stopped when the call returns."""
    path = str(tmp_path / "run")

    async with anyio.create_task_group() as tasks:
        fn = partial(w.loop_until_cancelled_as, path)
        tasks.start_soon(partial(session.run_parallel, fn, range(100), item_cost_s=0.05))
        began = await w.appears(f"{path}.began", 2)
        tasks.cancel_scope.cancel()
    began = w.lines(tmp_path / "run.began")
    assert len(set(began)) >= 2
    assert sorted(w.lines(tmp_path / "run.stopped")) == sorted(began)
    statistics = session.statistics()
    assert statistics.cancelled == statistics.submitted > 0
    assert await session.run_parallel(w.double, range(5)) == [0, 2, 4, 6, 8]
