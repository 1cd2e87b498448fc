"""Items that execute for too long fail alone, whatever they are doing; those that only wait do not."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import failpoints
import offloop
import stubborn
import workloads as w
from failpoints import Death, deadly

pytestmark = pytest.mark.anyio

LIMIT_S = 0.3
IS_LONG = bool(os.environ.get("FAULTS_LONG"))


def on_asyncio(*values: Any) -> list[Any]:
    """Return values of a parameter that tell nothing more on another loop."""
    return [pytest.param(value, marks=pytest.mark.one_loop) for value in values]


@pytest.fixture(scope="module")
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(workers=2, idle_timeout_s=600) as session:
        await w.start_all(session, "processes")
        await w.start_all(session, "threads")
        yield session


@pytest.fixture
async def own(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """A session of a test that costs workers."""
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        await session.warm()
        yield session


def is_told(error: BaseException, index: int) -> bool:
    """Whether an error says which item took too long and for how long."""
    assert isinstance(error, offloop.ItemTimeout)
    assert (error.index, error.limit_s) == (index, LIMIT_S)
    assert error.age_s >= LIMIT_S
    return isinstance(error, TimeoutError) and f"items[{index}]" in str(error)


@pytest.mark.fault(14, 27)
@pytest.mark.parametrize("fn", [stubborn.spin, *on_asyncio(stubborn.sleep, stubborn.deadlock, w.loop_until_cancelled)])
async def test_a_call_is_stopped_at_its_limit(session: offloop.ParallelSession, tmp_path: Path, fn: Any) -> None:
    """It is interrupted, runs its finally blocks, and its worker stays; `auto` never had it in this process."""
    path, before = f"{tmp_path}/run", session.statistics().workers
    with w.heard("item.timed_out") as told, pytest.raises(offloop.ItemTimeout) as caught:
        await session.run(fn, path, timeout_s=LIMIT_S, grace_s=20.0, retries=3)
    assert is_told(caught.value, 0)
    assert [(event.item, event.limit_s, event.is_killed) for event in told] == [(0, LIMIT_S, False)]
    (pid,) = map(int, w.lines(Path(f"{path}.began")))
    assert pid in before
    assert w.lines(Path(f"{path}.stopped")) == [str(pid)]
    assert sorted(session.statistics().workers) == sorted(before)
    assert session.decisions[-1].reason == "has_timeout"
    assert await session.run(w.double, 21, timeout_s=30) == 42


@pytest.mark.fault(14, 28)
async def test_c_code_is_killed_at_its_limit(own: offloop.ParallelSession, tmp_path: Path) -> None:
    """After limit and grace its worker is killed, it alone, and nothing executes twice for that."""
    path, before = f"{tmp_path}/run", own.statistics().workers
    with w.heard("item.timed_out") as told, pytest.raises(offloop.ItemTimeout) as caught:
        await own.run(failpoints.hold_the_gil_for_good, path, timeout_s=LIMIT_S, grace_s=0.1, retries=3)
    assert is_told(caught.value, 0)
    assert [event.is_killed for event in told] == [True]
    (pid,) = map(int, w.lines(Path(f"{path}.began")))
    assert set(before) - {pid} <= set(own.statistics().workers)
    assert await own.run(w.double, 21) == 42
    assert own.statistics().retried == 0


@pytest.mark.one_loop
@pytest.mark.fault(15)
@pytest.mark.parametrize("point", ["unpacking", *(["packing", "received"] if IS_LONG else [])])  # the last two take 10 s more
async def test_a_stopped_worker_is_killed_at_the_limit(anyio_backend: object, point: str, tmp_path: Path) -> None:
    """SIGSTOP before, within or after an item costs that worker only; its item fails or runs again, in time."""
    stopped = tmp_path / "stopped"
    with deadly(Death(point, "SIGSTOP", str(stopped))), anyio.fail_after(60):
        async with offloop.ParallelSession(strategy="processes", workers=1) as session:
            (result,) = await session.run_parallel(
                w.double, [21], item_timeout_s=LIMIT_S, grace_s=0.1, on_error="collect"
            )
            assert result == 42 or is_told(result, 0)
            assert await session.run(w.double, 21) == 42
            assert int(w.lines(stopped)[0]) not in session.statistics().workers


@pytest.mark.fault(14)
@pytest.mark.parametrize("chunk_size", [*on_asyncio(1, 5), None])
async def test_siblings_go_on(session: offloop.ParallelSession, tmp_path: Path, chunk_size: int | None) -> None:
    """Under collect, items that take too long fail at their places; all others have their results, executed once."""
    path = f"{tmp_path}/run"
    items = [index in (3, 7) for index in range(12)]
    results = await session.run_parallel(
        partial(spin_if, path),
        list(enumerate(items)),
        item_timeout_s=LIMIT_S,
        on_error="collect",
        chunk_size=chunk_size,
        grace_s=20.0,
    )
    for index, is_slow in enumerate(items):
        assert is_told(results[index], index) if is_slow else results[index] == index  # type: ignore[arg-type]
    assert Counter(w.lines(Path(f"{path}.ran"))) == Counter(str(index) for index in range(12))


def spin_if(path: str, item: tuple[int, bool]) -> int:
    """Note the execution of a numbered item, and loop for ever if it says so."""
    number, is_slow = item
    w.append(f"{path}.ran", number)
    if is_slow:
        stubborn.spin(path)
    return number


@pytest.mark.one_loop
@pytest.mark.fault(14)
async def test_all_that_take_too_long_are_told_together(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Under group the failures are one group, and everything runs."""
    items = list(enumerate([False, True, False, True]))
    with pytest.raises(ExceptionGroup) as caught:
        await session.run_parallel(
            partial(spin_if, f"{tmp_path}/run"), items, item_timeout_s=LIMIT_S, on_error="group", grace_s=20.0
        )
    assert sorted(error.index for error in caught.value.exceptions if isinstance(error, offloop.ItemTimeout)) == [1, 3]
    assert len(w.lines(tmp_path / "run.ran")) == 4


@pytest.mark.fault(14)
async def test_the_first_that_takes_too_long_ends_a_run(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Under raise its siblings are cancelled, and the workers stay."""
    path, before = f"{tmp_path}/run", session.statistics().workers
    with pytest.raises(offloop.ItemTimeout):
        await session.run_parallel(stubborn.spin, [path] * 6, item_timeout_s=LIMIT_S, grace_s=20.0, chunk_size=2)
    assert sorted(w.lines(Path(f"{path}.began"))) == sorted(w.lines(Path(f"{path}.stopped")))
    assert sorted(session.statistics().workers) == sorted(before)


@pytest.mark.fault(14)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_waiting_does_not_count(anyio_backend: object) -> None:
    """Neither the start of a worker, nor the line, nor a chunk's other items take from an item's time."""
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        results = await session.run_parallel(w.sleep, [0.1] * 12, item_timeout_s=1, chunk_size=12)
        assert results == [0.1] * 12
        calls = [session.run(w.sleep, 0.1, timeout_s=1) for _ in range(12)]
        assert await w.gather(*calls) == [0.1] * 12


@pytest.mark.one_loop
@pytest.mark.fault(2, 14)
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_limits_beside_deaths(own: offloop.ParallelSession, tmp_path: Path) -> None:
    """Items that time out and items that kill their workers, in the same chunks, each fail as what they are."""
    fn = partial(end_as_told, f"{tmp_path}/run")
    items = ["", "spin", "", "die", "hold", "", "die", "spin", ""]
    with anyio.fail_after(90):
        results = await own.run_parallel(
            fn, items, item_timeout_s=LIMIT_S, grace_s=0.1, on_error="collect", chunk_size=5
        )
    kinds = {"": str, "spin": offloop.ItemTimeout, "hold": offloop.ItemTimeout, "die": offloop.WorkerCrashed}
    assert [type(result) for result in results] == [kinds[item] for item in items]
    for index, result in enumerate(results):
        if isinstance(result, offloop.ItemTimeout):
            assert is_told(result, index)


def end_as_told(path: str, how: str) -> str:
    match how:
        case "spin":
            stubborn.spin(path)
        case "hold":
            failpoints.hold_the_gil_for_good(path)
        case "die":
            failpoints.end("SIGKILL")
    return how


@pytest.mark.parametrize("strategy", ["serial", "threads"])
async def test_a_limit_that_cannot_be_kept_is_refused(session: offloop.ParallelSession, strategy: Any) -> None:
    """A thread can't be killed, so a limit there is an error that says what to write."""
    with pytest.raises(offloop.SettingError, match="processes"):
        await session.run(w.double, 1, timeout_s=1, strategy=strategy)
    with pytest.raises(offloop.SettingError, match="processes"):
        await session.run_parallel(w.double, [1], item_timeout_s=1, strategy=strategy)


# --- callers' own limits, and load -------------------------------------------------------------------------------------


@pytest.mark.fault(68)
@pytest.mark.parametrize("strategy", ["processes", "serial"])
async def test_a_deadline_that_passes_in_the_line(anyio_backend: object, tmp_path: Path, strategy: Any) -> None:
    """What was still queued when its caller's time was over is never started."""
    async with offloop.ParallelSession(strategy=strategy, workers=1) as session, anyio.create_task_group() as tasks:
        tasks.start_soon(session.run, w.wait_for_file, f"{tmp_path}/busy")
        await w.appears(f"{tmp_path}/busy.began")
        scopes = []
        for number in range(20):
            with anyio.move_on_after(0.005) as scope:
                await session.run(w.log_and_return, f"{tmp_path}/late", number)
            scopes.append(scope)
        assert all(scope.cancelled_caught for scope in scopes)
        Path(f"{tmp_path}/busy.go").touch()
        assert await session.run(w.double, 21) == 42
    assert not w.lines(tmp_path / "late")


@pytest.mark.fault(67)
async def test_a_thousand_callers(session: offloop.ParallelSession) -> None:
    """A thousand calls at once, of two workers, all return, in the order in which they came, with no more threads."""
    order: list[int] = []
    n_threads = threading.active_count()

    async def call(number: int) -> None:
        assert await session.run(w.double, number, strategy="processes") == 2 * number
        order.append(number)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(1000):
                tasks.start_soon(call, number)
            await anyio.lowlevel.checkpoint()
            assert threading.active_count() <= n_threads + 1
    assert sorted(order) == list(range(1000))
    assert session.statistics().workers_started <= 2


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.fault(34)
@pytest.mark.parametrize("is_async", [True, False])
async def test_an_endless_source(session: offloop.ParallelSession, tmp_path: Path, is_async: bool) -> None:
    """While nothing is finished no more is read from it than the window; a cancel closes it, once."""
    taken, closed, path = list[int](), list[int](), f"{tmp_path}/run"

    def numbers() -> Iterator[int]:
        try:
            for number in iter(int, 1):
                taken.append(number)
                yield number
        finally:
            closed.append(1)

    async def numbers_async() -> AsyncIterator[int]:
        try:
            while True:
                taken.append(0)
                yield 0
        finally:
            closed.append(1)

    source: Any = numbers_async() if is_async else numbers()
    async with anyio.create_task_group() as tasks:
        fn = partial(w.log_and_wait, path)
        tasks.start_soon(partial(session.run_parallel, fn, source, strategy="processes", chunk_size=3))
        await w.appears(path, 2)
        await anyio.wait_all_tasks_blocked()
        assert len(taken) <= 4 * 2 * 3 + 1
        tasks.cancel_scope.cancel()
    assert len(taken) <= 4 * 2 * 3 + 1
    if is_async:
        assert closed == [1]
    assert await session.run(w.double, 21) == 42


@pytest.mark.fault(35)
@pytest.mark.parametrize("strategy", ["processes", "threads", "serial"])
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_source_that_raises(session: offloop.ParallelSession, strategy: Any, is_async: bool) -> None:
    """Its own error comes out as itself, items under way are stopped, and the session lives."""

    def numbers() -> Iterator[int]:
        yield from range(5)
        raise w.OwnError("no more")

    async def numbers_async() -> AsyncIterator[int]:
        for number in numbers():
            yield number

    source: Any = numbers_async() if is_async else numbers()
    with pytest.raises(w.OwnError, match="no more"):
        await session.run_parallel(w.double, source, strategy=strategy)
    assert await session.run(w.double, 21, strategy=strategy) == 42
