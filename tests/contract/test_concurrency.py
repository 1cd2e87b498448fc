"""Runs side by side: on one session, on several, and inside task groups whose other tasks fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import pytest
import sniffio

import offloop
import workloads as w

pytestmark = pytest.mark.anyio


async def test_concurrent_runs_on_one_session(session: offloop.ParallelSession) -> None:
    """Runs that share a session each get their own results."""
    runs = [session.run_parallel(w.echo, range(n * 1000, n * 1000 + 200)) for n in range(8)]
    assert await w.gather(*runs) == [list(range(n * 1000, n * 1000 + 200)) for n in range(8)]


async def test_concurrent_calls_on_one_session(session: offloop.ParallelSession) -> None:
    """A hundred callers at once each get their own answer back."""
    assert await w.gather(*(session.run(w.echo, n) for n in range(100))) == list(range(100))


async def test_a_long_run_leaves_room_for_a_short_call(session: offloop.ParallelSession, strategy: str) -> None:
    """A call that comes in mid-run is served within turns of it, not at its end."""
    done: list[str] = []

    async def long() -> None:
        await session.run_parallel(w.spin, [0.002] * 400)
        done.append("long")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(long)
        while not session.decisions or session.decisions[-1].n_items != 400:
            await anyio.sleep(0.001)
        for _ in range(3):
            await session.run(w.double, 1)
            done.append("short")
    assert done == ["short"] * 3 + ["long"]


async def test_a_failing_run_harms_no_other(session: offloop.ParallelSession) -> None:
    """One run fails, the other on the same session returns all its results."""
    good, bad = await w.gather(
        session.run_parallel(w.spin, [0.001] * 100),
        _caught(session.run_parallel(w.fail_on_3, range(100), chunk_size=1)),
    )
    assert good == [0.001] * 100
    assert isinstance(bad, w.OwnError)


async def _caught(call: Any) -> Exception | None:
    try:
        await call
    except Exception as error:
        return error
    return None


async def test_concurrent_sessions(anyio_backend: object, strategy: str) -> None:
    """Sessions are independent of each other: one closes, the other works on."""
    async with offloop.ParallelSession(strategy=strategy) as first:
        async with offloop.ParallelSession(strategy=strategy) as second:
            results = await w.gather(
                first.run_parallel(w.double, range(100)), second.run_parallel(w.echo, range(100))
            )
            assert results == [list(range(0, 200, 2)), list(range(100))]
        assert await first.run_parallel(w.double, range(3)) == [0, 2, 4]


async def test_a_failing_sibling_stops_the_work(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Inside an anyio task group a call is cancelled with its siblings, and has stopped when the group ends."""
    path = f"{tmp_path}/run"

    async def sibling() -> None:
        await w.appears(f"{path}.began")
        raise w.OwnError("the sibling failed")

    with anyio.fail_after(15), pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run, w.loop_until_cancelled, path)
            tasks.start_soon(sibling)
    assert [str(error) for error in caught.value.exceptions] == ["the sibling failed"]
    assert len(w.lines(Path(f"{path}.stopped"))) == 1
    assert await session.run(w.double, 2) == 4


async def test_a_failing_sibling_stops_the_work_of_an_asyncio_task_group(
    session: offloop.ParallelSession, tmp_path: Path
) -> None:
    """Inside an asyncio.TaskGroup it is the same."""
    if sniffio.current_async_library() != "asyncio":
        pytest.skip("asyncio's own task groups")
    path = f"{tmp_path}/run"

    async def sibling() -> None:
        await w.appears(f"{path}.began")
        raise w.OwnError("the sibling failed")

    with pytest.raises(ExceptionGroup):
        async with asyncio.timeout(15), asyncio.TaskGroup() as tasks:
            tasks.create_task(session.run(w.loop_until_cancelled, path))
            tasks.create_task(sibling())
    assert len(w.lines(Path(f"{path}.stopped"))) == 1
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(session.run_parallel(w.double, [1, 2]))
    assert task.result() == [2, 4]


async def test_a_failing_call_cancels_its_siblings(session: offloop.ParallelSession) -> None:
    """What a call raises ends the task group that it is in, as itself."""
    with anyio.fail_after(10), pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 60)
            tasks.start_soon(session.run, w.fail_on_3, 3)
    assert [type(error) for error in caught.value.exceptions] == [w.OwnError]


async def test_the_loop_stays_live(session: offloop.ParallelSession) -> None:
    """While items sleep in their lanes the event loop goes on."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.005)
            ticks += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await session.run_parallel(w.sleep, [0.2, 0.2])
        tasks.cancel_scope.cancel()
    assert ticks >= 5
