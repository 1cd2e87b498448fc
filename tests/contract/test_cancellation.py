"""Cancellation: it returns when the work has stopped, soon, and the session is usable after."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

GRACE_S = 0.2
MARGIN_S = 0.5 + 1.5  # the promise, and what two busy cores may add to it


async def cancel_once_begun(path: str, fn: Any, *args: Any, **options: Any) -> float:
    """Cancel a call as soon as an item of it has begun, and return how long that took to return."""
    returned = 0.0

    async def call() -> None:
        nonlocal returned
        try:
            await fn(*args, **options)
        finally:
            returned = time.monotonic()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await w.appears(f"{path}.began")
        cancelled = time.monotonic()
        tasks.cancel_scope.cancel()
    return returned - cancelled


async def test_a_cancelled_call_has_stopped_when_it_returns(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """An item that looks at checkpoint stops at once, and its worker stays."""
    path = f"{tmp_path}/run"
    before = session.statistics().workers
    took = await cancel_once_begun(path, session.run, w.loop_until_cancelled, path)
    assert took < GRACE_S + MARGIN_S
    assert w.lines(Path(f"{path}.began")) == w.lines(Path(f"{path}.stopped"))
    assert sorted(session.statistics().workers) == sorted(before)
    assert await session.run(w.double, 2) == 4


async def test_a_cancelled_map_has_stopped_when_it_returns(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """All items under way stop, and none begins after."""
    path = f"{tmp_path}/run"
    fn = partial(w.loop_first, path)
    took = await cancel_once_begun(path, session.run_parallel, fn, range(1000), chunk_size=5)
    assert took < GRACE_S + MARGIN_S
    began = w.lines(Path(f"{path}.began"))
    assert sorted(began) == sorted(w.lines(Path(f"{path}.stopped")))
    assert await session.run_parallel(w.double, range(100)) == list(range(0, 200, 2))
    assert w.lines(Path(f"{path}.began")) == began


async def test_move_on_after_returns_in_time(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """A caller's own time limit works."""
    with anyio.move_on_after(0.1) as scope:
        await session.run(w.loop_until_cancelled, f"{tmp_path}/run")
    assert scope.cancelled_caught
    with pytest.raises(TimeoutError), anyio.fail_after(0.1):
        await session.run_parallel(w.loop_until_cancelled, [f"{tmp_path}/run"] * 10)
    assert await session.run(w.double, 2) == 4


async def test_a_deaf_item_is_left_after_grace(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """An item that never looks holds its caller no longer than grace, and the next call works."""
    path = f"{tmp_path}/run"
    async with offloop.ParallelSession(strategy=strategy, workers=2) as session:
        try:
            took = await cancel_once_begun(path, session.run, w.wait_deafly, path, grace_s=GRACE_S)
            assert GRACE_S * 0.5 < took < GRACE_S + MARGIN_S
            with anyio.fail_after(10):
                assert await session.run(w.double, 2) == 4
                assert await session.run_parallel(w.double, range(50)) == list(range(0, 100, 2))
        finally:
            Path(f"{path}.go").touch()


async def test_a_deaf_map_is_left_after_grace(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """A map of deaf items holds its caller no longer than grace, not grace for each item."""
    path = f"{tmp_path}/run"
    async with offloop.ParallelSession(strategy=strategy, workers=2, grace_s=GRACE_S) as session:
        try:
            took = await cancel_once_begun(path, session.run_parallel, w.wait_deafly, [path] * 20)
            assert took < GRACE_S + MARGIN_S
            with anyio.fail_after(10):
                assert await session.run(w.double, 2) == 4
        finally:
            Path(f"{path}.go").touch()


async def test_a_killed_worker_is_replaced_and_its_neighbour_stays(
    anyio_backend: object, tmp_path: Path
) -> None:
    """Only the worker under a deaf item is killed; what runs beside it never notices."""
    path = f"{tmp_path}/run"
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        await session.warm()
        before = session.statistics().workers
        if len(before) < 2:
            pytest.skip("one usable core")
        neighbour: list[str] = []

        async def beside() -> None:
            neighbour.append(await session.run(w.wait_for_file, f"{tmp_path}/beside"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(beside)
            await w.appears(f"{tmp_path}/beside.began")
            await cancel_once_begun(path, session.run, w.loop_deaf, path, grace_s=0.1)
            Path(f"{tmp_path}/beside.go").touch()
        assert neighbour == ["went"]
        killed = int(w.lines(Path(f"{path}.began"))[0])
        assert killed not in session.statistics().workers
        assert set(before) - {killed} <= set(session.statistics().workers)


async def test_cancelling_while_in_line_returns_at_once(
    anyio_backend: object, strategy: str, tmp_path: Path
) -> None:
    """A call that waits for a lane gives up its place, and who comes after is served."""
    path = f"{tmp_path}/run"
    async with offloop.ParallelSession(strategy=strategy, workers=1) as session, anyio.create_task_group() as tasks:
        tasks.start_soon(session.run, w.loop_until_cancelled, path)
        await w.appears(f"{path}.began")
        with anyio.move_on_after(0.05) as scope:
            await session.run(w.double, 1)
        assert scope.cancelled_caught
        tasks.cancel_scope.cancel()
    async with offloop.ParallelSession(strategy=strategy, workers=1) as session:
        assert await session.run(w.double, 1) == 2


@pytest.mark.parametrize("delay_s", [0, 0.01, 0.05, 0.1])
async def test_cancelling_while_a_worker_starts_leaves_nothing(anyio_backend: object, delay_s: float) -> None:
    """Whenever the cancellation comes in the start of the first worker, the session is usable and leaves no orphan."""
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        with anyio.move_on_after(delay_s):
            await session.run(w.double, 1)
        with anyio.fail_after(15):
            assert await session.run(w.double, 2) == 4
        assert len(session.statistics().workers) == 1


async def test_closing_while_a_worker_starts_leaves_nothing(anyio_backend: object) -> None:
    """A session may be left before its worker is up."""
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        with anyio.move_on_after(0.02):
            await session.run_parallel(w.double, range(10))


async def test_a_cancelled_map_closes_its_source(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """An async generator that a cancelled run was reading is closed when the run returns."""
    closed = 0
    path = f"{tmp_path}/run"

    async def items() -> AsyncIterator[str]:
        nonlocal closed
        try:
            while True:
                yield path
        finally:
            closed += 1

    source = items()
    await cancel_once_begun(path, session.run_parallel, w.loop_until_cancelled, source)
    assert closed == 1


@contextmanager
def at_most(workers: int, session: offloop.ParallelSession) -> Iterator[None]:
    yield
    assert len(session.statistics().workers) <= workers


async def test_a_storm_of_cancellations(session: offloop.ParallelSession, strategy: str) -> None:
    """Many calls cancelled at random times never leave a lane behind, nor a wrong answer."""
    chance = random.Random(1)
    for round_number in range(40):
        with at_most(2, session), anyio.move_on_after(chance.random() * 0.02):
            async with anyio.create_task_group() as tasks:
                for n in range(4):
                    tasks.start_soon(session.run_parallel, w.double, range(n * 50))
                    tasks.start_soon(session.run, w.nap, chance.random() * 0.01)
        assert await session.run(w.echo, round_number) == round_number


async def call_once(session: offloop.ParallelSession, path: str) -> None:
    await session.run(w.loop_until_cancelled, path)


async def call_often(session: offloop.ParallelSession, path: str) -> None:
    await session.run_parallel(w.loop_until_cancelled, [path] * 5)


async def read_stream(session: offloop.ParallelSession, path: str) -> None:
    async with session.stream(w.loop_until_cancelled, iter([path] * 5)) as results:
        await anext(results)


@pytest.mark.parametrize(
    "anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"], indirect=True
)
@pytest.mark.parametrize("call", [call_once, call_often, read_stream])
async def test_an_asyncio_task_may_be_cancelled_again_and_again(
    session: offloop.ParallelSession, tmp_path: Path, call: Any
) -> None:
    """Cancelled once more while its items stop, it still waits for them, and its lanes stay."""
    path = f"{tmp_path}/run"
    before = session.statistics().workers
    task = asyncio.ensure_future(call(session, path))
    await w.appears(f"{path}.began")
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task])
    assert task.cancelled()
    assert sorted(w.lines(Path(f"{path}.began"))) == sorted(w.lines(Path(f"{path}.stopped")))
    with anyio.fail_after(30):
        assert await session.run_parallel(w.double, range(100)) == list(range(0, 200, 2))
    assert sorted(session.statistics().workers) == sorted(before)


async def test_is_cancelled_tells_inside_fn(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """An item can ask whether its run was cancelled, and return in its own way."""
    path = f"{tmp_path}/run"
    await cancel_once_begun(path, session.run, w.ask_until_cancelled, path)
    assert w.lines(Path(f"{path}.stopped")) == w.lines(Path(f"{path}.began"))


async def test_an_except_clause_does_not_swallow_a_cancellation(
    session: offloop.ParallelSession, tmp_path: Path
) -> None:
    """`except Exception` in the user's code lets the cancellation through."""
    path = f"{tmp_path}/run"
    took = await cancel_once_begun(path, session.run, w.swallow_exceptions, path, grace_s=5.0)
    assert took < 4.0
    assert w.lines(Path(f"{path}.stopped")) == w.lines(Path(f"{path}.began"))


def loop_in_python(path: str) -> None:
    """Say that it began, never end, and say that it was stopped."""
    try:
        w.append(f"{path}.began", os.getpid())
        while True:
            try:
                sum(range(10))
            except Exception:
                continue
    finally:
        w.append(f"{path}.stopped", os.getpid())


async def test_a_loop_that_never_looks_is_interrupted(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Plain Python code is stopped wherever it executes, its `finally` runs, and its worker stays."""
    path = f"{tmp_path}/run"
    before = session.statistics().workers
    took = await cancel_once_begun(path, session.run, loop_in_python, path, grace_s=20.0)
    assert took < 15.0
    assert w.lines(Path(f"{path}.began")) == w.lines(Path(f"{path}.stopped"))
    assert sorted(session.statistics().workers) == sorted(before)
    assert await session.run(w.double, 2) == 4


async def test_a_map_that_never_looks_is_interrupted(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """All items under way are interrupted, none begins after, and the workers stay."""
    path = f"{tmp_path}/run"
    before = session.statistics().workers
    took = await cancel_once_begun(path, session.run_parallel, loop_in_python, [path] * 50, chunk_size=5, grace_s=20.0)
    assert took < 15.0
    began = w.lines(Path(f"{path}.began"))
    assert sorted(began) == sorted(w.lines(Path(f"{path}.stopped")))
    assert sorted(session.statistics().workers) == sorted(before)
    assert await session.run_parallel(w.double, range(100)) == list(range(0, 200, 2))
    assert w.lines(Path(f"{path}.began")) == began


async def test_a_sleep_is_interrupted(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """A worker that waits for the system is stopped at once, and stays."""
    path = f"{tmp_path}/run"
    before = workers.statistics().workers

    def work() -> None:
        w.append(f"{path}.began", 1)
        time.sleep(60)

    assert await cancel_once_begun(path, workers.run, work, grace_s=20.0) < 15.0
    assert workers.statistics().workers == before


async def test_an_interrupt_that_is_swallowed_comes_again(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Code that takes an interrupt for a failure of its own is interrupted again."""
    path = f"{tmp_path}/run"

    def work() -> None:
        w.append(f"{path}.began", 1)
        for _ in range(3):
            with suppress(BaseException):
                while True:
                    pass
        w.append(f"{path}.swallowed", 1)
        while True:
            pass

    assert await cancel_once_begun(path, session.run, work, grace_s=20.0) < 15.0
    assert len(w.lines(Path(f"{path}.swallowed"))) == 1
    assert await session.run(w.double, 2) == 4


async def test_a_shielded_block_is_finished(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """What an item does within a shield it does to the end; then it is stopped."""
    path = f"{tmp_path}/run"

    def work() -> None:
        with offloop.shield():
            w.append(f"{path}.began", 1)
            while not offloop.is_cancelled():
                offloop.checkpoint()
            w.spin(0.1)
            w.append(f"{path}.done", 1)
        w.append(f"{path}.behind", 1)

    assert await cancel_once_begun(path, session.run, work, grace_s=20.0) < 15.0
    assert len(w.lines(Path(f"{path}.done"))) == 1
    assert w.lines(Path(f"{path}.behind")) == []
    assert await session.run(w.double, 2) == 4


async def test_a_shield_does_not_outlast_the_grace(anyio_backend: object, tmp_path: Path) -> None:
    """A worker whose item hides behind a shield for longer than its grace is killed like any other."""
    path = f"{tmp_path}/run"

    def work() -> None:
        with offloop.shield():
            w.loop_deaf(path)

    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        took = await cancel_once_begun(path, session.run, work, grace_s=GRACE_S)
        assert GRACE_S * 0.5 < took < GRACE_S + MARGIN_S
        assert await session.run(w.double, 2) == 4


async def test_an_item_that_was_told_is_left_to_finish(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """An item that is_cancelled has told is not interrupted in what it does then, within its grace."""
    path = f"{tmp_path}/run"

    def work() -> None:
        w.append(f"{path}.began", 1)
        while not offloop.is_cancelled():
            pass
        w.spin(0.3)
        w.append(f"{path}.finished", 1)

    assert await cancel_once_begun(path, session.run, work, grace_s=20.0) < 15.0
    assert len(w.lines(Path(f"{path}.finished"))) == 1


async def test_checkpoint_outside_of_a_run_does_nothing(anyio_backend: object) -> None:
    """Code that calls checkpoint can be called anywhere."""
    offloop.checkpoint()
    assert not offloop.is_cancelled()
    assert not offloop.in_worker()
    assert offloop.worker_state() is None
