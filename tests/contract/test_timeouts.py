"""Time limits of items: what takes too long is stopped, alone, and what waits does not count."""

from __future__ import annotations

import math
import os
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

import offloop
import workloads as w
from offloop import ItemTimeout, Reason, SettingError, Strategy

pytestmark = pytest.mark.anyio

LIMIT_S = 0.4
GRACE_S = 0.2
AMPLE_S = 30.0


def endless(x: Any) -> Any:
    while True:
        pass
    return x


def endless_for_3(x: int) -> int:
    return endless(x) if x == 3 else 2 * x


def sleeps_for_3(x: int) -> float:
    return w.sleep(60) if x == 3 else 2 * x


def deaf_for_3(x: int) -> int:
    while x == 3:
        try:
            endless(x)
        except BaseException:
            continue
    return 2 * x


def holds_the_gil_for_3(x: int) -> int:
    return sum(range(10**15)) if x == 3 else 2 * x


class Stuck:
    """Takes a minute to unpickle."""

    def __reduce__(self) -> Any:
        return w.sleep, (60,)


STOPPED = [endless_for_3, sleeps_for_3]
KILLED = [deaf_for_3, holds_the_gil_for_3]
HOW_KILLED = [deaf_for_3, pytest.param(holds_the_gil_for_3, marks=pytest.mark.one_loop)]
ONE_CHUNK = pytest.param(endless_for_3, 6, marks=pytest.mark.one_loop)


@pytest.fixture
async def own(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """A session of a test's own, whose workers may be killed."""
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        await session.warm()
        yield session


def check(error: Any, index: int = 0, limit_s: float = LIMIT_S) -> None:
    """Assert that an error says which item took how long."""
    assert type(error) is ItemTimeout
    assert isinstance(error, TimeoutError)
    assert (error.index, error.limit_s) == (index, limit_s)
    assert error.age_s >= limit_s
    assert f"items[{index}]" in str(error)


# --- a single call -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fn", STOPPED)
@pytest.mark.fault(14)
async def test_a_call_that_takes_too_long_is_stopped(workers: offloop.ParallelSession, fn: Callable[[int], Any]) -> None:
    """Python code and what lets signals through is interrupted: the caller gets ItemTimeout, the worker stays."""
    before = workers.statistics().workers
    with pytest.raises(ItemTimeout) as found:
        await workers.run(fn, 3, timeout_s=LIMIT_S)
    check(found.value)
    assert fn.__name__ in found.value.function
    assert await workers.run(fn, 2, timeout_s=AMPLE_S) == 4
    assert workers.statistics().workers == before


@pytest.mark.parametrize("fn", HOW_KILLED)
@pytest.mark.fault(14)
async def test_a_call_that_can_not_be_interrupted_is_killed(
    own: offloop.ParallelSession, fn: Callable[[int], Any]
) -> None:
    """What doesn't stop within its grace costs its worker, is not tried again, and the next call works."""
    before = own.statistics()
    with pytest.raises(ItemTimeout) as found:
        await own.run(fn, 3, timeout_s=LIMIT_S, grace_s=GRACE_S)
    check(found.value)
    assert await own.run(fn, 2, timeout_s=AMPLE_S) == 4
    after = own.statistics()
    assert after.workers_started <= before.workers_started + 1
    assert (after.failed, after.retried, after.workers_crashed) == (1, 0, 0)


@pytest.mark.one_loop
async def test_an_argument_that_is_never_rebuilt_times_out(own: offloop.ParallelSession) -> None:
    """Time that an argument takes to unpickle counts."""
    with pytest.raises(ItemTimeout) as found:
        await own.run(w.echo, Stuck(), timeout_s=LIMIT_S, grace_s=GRACE_S)
    check(found.value)
    assert await own.run(w.echo, 5, timeout_s=AMPLE_S) == 5


@pytest.mark.one_loop
async def test_user_code_can_clean_up(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """`finally` runs in an item whose time is over, and `except Exception` lets the interrupt through."""
    path = f"{tmp_path}/run"

    def work() -> None:
        while True:
            try:
                endless(0)
            except Exception:
                continue
            finally:
                w.append(path, "finally")

    with pytest.raises(ItemTimeout):
        await workers.run(work, timeout_s=LIMIT_S)
    assert w.lines(Path(path)) == ["finally"]


@pytest.mark.one_loop
async def test_an_item_may_stop_in_its_own_way(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """What an item returns that is_cancelled has told to stop is its result."""
    assert await workers.run(w.ask_until_cancelled, f"{tmp_path}/run", timeout_s=LIMIT_S) == "stopped by itself"


@pytest.mark.one_loop
async def test_a_checkpoint_stops_it(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """checkpoint() raises in an item whose time is over."""
    with pytest.raises(ItemTimeout):
        await workers.run(w.loop_until_cancelled, f"{tmp_path}/run", timeout_s=LIMIT_S)
    assert len(w.lines(tmp_path / "run.stopped")) == 1


@pytest.mark.one_loop
async def test_a_shield_is_respected_within_the_grace(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """What an item does under a shield is done, then it is stopped."""
    path = f"{tmp_path}/run"

    def work() -> None:
        with offloop.shield():
            while not offloop.is_cancelled():
                pass
            w.spin(0.05)
            w.append(path, "done")
        w.append(path, "never")

    with pytest.raises(ItemTimeout):
        await workers.run(work, timeout_s=LIMIT_S, grace_s=AMPLE_S)
    assert w.lines(Path(path)) == ["done"]


# --- many items --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fn", "chunk_size"), [(endless_for_3, None), ONE_CHUNK, (sleeps_for_3, 6)])
async def test_siblings_go_on(
    workers: offloop.ParallelSession, fn: Callable[[int], Any], chunk_size: int | None
) -> None:
    """One item of many that takes too long fails; those before and behind it have their results, in order."""
    await check_siblings(workers, fn, chunk_size)


@pytest.mark.parametrize("fn", HOW_KILLED)
async def test_siblings_go_on_after_a_kill(own: offloop.ParallelSession, fn: Callable[[int], Any]) -> None:
    """Also where an item costs its worker, nobody else fails."""
    await check_siblings(own, fn, 6)


async def check_siblings(session: offloop.ParallelSession, fn: Callable[[int], Any], chunk_size: int | None) -> None:
    with w.heard("item.timed_out") as told:
        found = await session.run_parallel(
            fn, range(12), chunk_size=chunk_size, item_timeout_s=LIMIT_S, grace_s=GRACE_S, on_error="collect"
        )
    check(found[3], 3)
    assert found[:3] + found[4:] == [2 * x for x in range(12) if x != 3]
    assert [(event.item, event.is_killed) for event in told] == [(3, fn in KILLED)]


@pytest.mark.one_loop
async def test_all_may_time_out(workers: offloop.ParallelSession) -> None:
    """Each item of a chunk has its own time, and each that takes too long its own error; no worker is lost."""
    before = workers.statistics().workers
    found: list[Any] = await workers.run_parallel(
        endless, range(4), chunk_size=4, item_timeout_s=LIMIT_S / 2, on_error="collect"
    )
    for index, error in enumerate(found):
        check(error, index, LIMIT_S / 2)
    assert workers.statistics().workers == before


async def test_failures_of_a_group_come_together(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """Under on_error="group" all other items run, and the timeout is among the failures."""
    path = f"{tmp_path}/run"

    def work(x: int) -> int:
        w.append(path, x)
        return endless_for_3(w.fail_on_0(x) // 2)

    with pytest.raises(ExceptionGroup) as found:
        await workers.run_parallel(work, range(10), chunk_size=5, item_timeout_s=LIMIT_S, on_error="group")
    assert {type(error) for error in found.value.exceptions} == {w.OwnError, ItemTimeout}
    assert sorted(map(int, w.lines(Path(path)))) == list(range(10))


async def test_the_first_timeout_is_raised(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """By default a timeout cancels its siblings and is raised."""
    path = f"{tmp_path}/run"

    def work(x: int) -> None:
        if x == 3:
            endless(x)
        w.loop_until_cancelled(path)

    with pytest.raises(ItemTimeout):
        await workers.run_parallel(work, [3, *range(10, 20)], chunk_size=1, item_timeout_s=LIMIT_S, retries=0)
    assert sorted(w.lines(Path(f"{path}.began"))) == sorted(w.lines(Path(f"{path}.stopped")))
    assert await workers.run(w.double, 2) == 4


async def test_a_block_has_a_time_limit(workers: offloop.ParallelSession) -> None:
    """Of run_batches it is a block that may take so long."""

    def work(rows: Any) -> Any:
        return endless(rows) if 6 in rows else 2 * rows

    rows = np.arange(12)
    found = await workers.run_batches(
        work, rows, batch_size=4, combine="list", on_error="collect", item_timeout_s=LIMIT_S
    )
    check(found[1], 1)
    assert [list(found[0]), list(found[2])] == [[0, 2, 4, 6], [16, 18, 20, 22]]
    with pytest.raises(ItemTimeout):
        await workers.run_batches(work, rows, batch_size=4, item_timeout_s=LIMIT_S)
    assert list(await workers.run_batches(work, rows[:4], item_timeout_s=AMPLE_S)) == [0, 2, 4, 6]


@pytest.mark.one_loop
async def test_an_item_that_is_never_rebuilt_times_out_alone(own: offloop.ParallelSession) -> None:
    """Where unpickling an item takes too long, that item of a chunk fails and no other."""
    items: list[Any] = [0, 1, Stuck(), 3, 4]
    found = await own.run_parallel(
        w.echo, items, chunk_size=5, item_timeout_s=LIMIT_S, grace_s=GRACE_S, on_error="collect"
    )
    check(found.pop(2), 2)
    assert found == [0, 1, 3, 4]


@pytest.mark.one_loop
@pytest.mark.parametrize("fn", [endless_for_3, deaf_for_3])
async def test_nothing_runs_twice_without_retries(
    own: offloop.ParallelSession, tmp_path: Path, fn: Callable[[int], Any]
) -> None:
    """With retries=0 no item runs twice, neither the one that took too long nor its siblings."""
    path = f"{tmp_path}/run"

    def work(x: int) -> Any:
        w.append(path, x)
        return fn(x)

    found: list[Any] = await own.run_parallel(
        work, range(12), chunk_size=6, item_timeout_s=LIMIT_S, grace_s=GRACE_S, retries=0, on_error="collect"
    )
    check(found[3], 3)
    assert sorted(map(int, w.lines(Path(path)))) == list(range(12))
    assert found[4:] == [2 * x for x in range(4, 12)]
    if fn is endless_for_3:
        assert found[:3] == [0, 2, 4]


@pytest.mark.one_loop
async def test_random_numbers_stay_the_same(workers: offloop.ParallelSession) -> None:
    """With a time limit items draw what they draw without one, also behind one that took too long."""

    def draws(x: int, *, rng: Any) -> Any:
        return endless(x) if x == 3 else float(rng.random())

    expected = await workers.run_parallel(lambda x, rng: float(rng.random()), range(8), seed=7)
    assert await workers.run_parallel(draws, [0, 1, 2, 4, 4, 5, 6, 7], seed=7, item_timeout_s=AMPLE_S) == expected
    found: list[Any] = await workers.run_parallel(
        draws, range(8), seed=7, chunk_size=8, item_timeout_s=LIMIT_S, on_error="collect"
    )
    check(found[3], 3)
    assert found[:3] + found[4:] == expected[:3] + expected[4:]


# --- what doesn't count ------------------------------------------------------------------------------------------------


async def test_waiting_for_a_worker_does_not_count(anyio_backend: object) -> None:
    """Calls that wait in line for longer than they may execute are not stopped."""
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        await session.warm()
        calls = [session.run(w.sleep, 0.15, timeout_s=LIMIT_S) for _ in range(6)]
        assert await w.gather(*calls) == [0.15] * 6


@pytest.mark.one_loop
async def test_waiting_in_a_chunk_does_not_count(workers: offloop.ParallelSession) -> None:
    """Items of a chunk that takes longer than one of them may are not stopped."""
    found = await workers.run_parallel(w.sleep, [0.1] * 7, chunk_size=7, item_timeout_s=LIMIT_S)
    assert found == [0.1] * 7


@pytest.mark.parametrize("grace_s", [0, GRACE_S])
async def test_a_loop_that_is_late_does_not_count(
    workers: offloop.ParallelSession, tmp_path: Path, grace_s: float
) -> None:
    """A result that came in time is taken, though the event loop was busy for longer than the item may execute."""
    path = f"{tmp_path}/run"
    found: list[Any] = []

    async def call() -> None:
        found.append(await workers.run(w.wait_for_file, path, timeout_s=LIMIT_S * 2, grace_s=grace_s))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await w.appears(f"{path}.began")
        Path(f"{path}.go").touch()
        time.sleep(LIMIT_S * 3)
    assert found == ["went"]


@pytest.mark.one_loop
async def test_large_results_do_not_count_twice(workers: offloop.ParallelSession) -> None:
    """Results that take a while to be sent arrive, where each item is quick."""
    found = await workers.run_parallel(bytes, [5_000_000] * 6, chunk_size=6, item_timeout_s=AMPLE_S, grace_s=0)
    assert [len(data) for data in found] == [5_000_000] * 6


# --- where it executes -------------------------------------------------------------------------------------------------


async def test_auto_takes_processes_from_the_first_item(anyio_backend: object) -> None:
    """With a time limit nothing executes in this process, not even to be measured, and the decision says why."""
    async with offloop.ParallelSession(workers=2) as session:
        pids = await session.run_parallel(w.pid_of, range(5), item_timeout_s=AMPLE_S)
        pids += [await session.run(w.pid_of, timeout_s=AMPLE_S)]
        pids += await session.run_batches(lambda rows: [os.getpid()] * len(rows), [1, 2, 3], item_timeout_s=AMPLE_S)
        assert os.getpid() not in pids
        assert {(one.strategy, one.reason) for one in session.decisions} == {(Strategy.PROCESSES, Reason.HAS_TIMEOUT)}


@pytest.mark.one_loop
async def test_auto_takes_processes_under_ci_too(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under CI, where auto stays at home, a time limit is kept all the same."""
    monkeypatch.setenv("CI", "true")
    async with offloop.ParallelSession(workers=2) as session:
        assert os.getpid() not in await session.run_parallel(w.pid_of, range(5), item_timeout_s=AMPLE_S)


@pytest.mark.parametrize("strategy", ["serial", "threads"])
async def test_strategies_of_this_process_are_refused(anyio_backend: object, strategy: Any) -> None:
    """A thread can't be killed, so a strategy that is asked for and needs one is refused, in the words of the caller."""
    async with offloop.ParallelSession() as session:
        with pytest.raises(SettingError, match=f"^timeout_s=5.*{strategy}"):
            await session.run(w.double, 1, timeout_s=5, strategy=strategy)
        with pytest.raises(SettingError, match=f"^item_timeout_s=5.*{strategy}"):
            await session.run_parallel(w.double, [1], item_timeout_s=5, strategy=strategy)
        with pytest.raises(SettingError, match=f"^item_timeout_s=5.*{strategy}"):
            await session.run_batches(w.double, [1], item_timeout_s=5, strategy=strategy)
    async with offloop.ParallelSession(strategy=strategy) as session:
        with pytest.raises(SettingError, match=r"^timeout_s=5"):
            await session.run(w.double, 1, timeout_s=5)
        assert await session.run(w.double, 1, timeout_s=5, strategy="processes") == 2
        assert await session.run(w.double, 1, timeout_s=None) == 2


@pytest.mark.one_loop
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "1", True])
async def test_bad_limits_are_refused(workers: offloop.ParallelSession, value: Any) -> None:
    """A time that can't be one is refused before anything executes."""
    with pytest.raises(SettingError, match=r"^timeout_s="):
        await workers.run(w.double, 1, timeout_s=value)
    with pytest.raises(SettingError, match=r"^item_timeout_s="):
        await workers.run_parallel(w.double, [1], item_timeout_s=value)


@pytest.mark.one_loop
async def test_each_kind_of_call_has_its_own_word(workers: offloop.ParallelSession) -> None:
    """A single call has timeout_s, a map item_timeout_s, and the other's word is refused with a guess."""
    with pytest.raises(SettingError, match="did you mean timeout_s"):
        await workers.run(w.double, 1, item_timeout_s=5)  # type: ignore[call-arg]
    with pytest.raises(SettingError, match="did you mean item_timeout_s"):
        await workers.run_parallel(w.double, [1], timeout_s=5)  # type: ignore[call-overload]


# --- where processes may not be ----------------------------------------------------------------------------------------


async def test_off_does_what_it_can(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the operator says off, Python code is stopped in its thread, and siblings go on."""
    monkeypatch.setenv("OFFLOOP_PARALLEL", "off")
    async with offloop.ParallelSession() as session:
        with pytest.raises(ItemTimeout) as raised:
            await session.run(endless, 1, timeout_s=LIMIT_S)
        check(raised.value)
        found: list[Any] = await session.run_parallel(
            endless_for_3, range(6), item_timeout_s=LIMIT_S, on_error="collect", retries=0
        )
        check(found[3], 3)
        assert found[:3] + found[4:] == [0, 2, 4, 8, 10]
        assert {one.reason for one in session.decisions} == {Reason.OPERATOR_OFF}
        assert session.statistics().workers_started == 0


async def test_off_leaves_what_can_not_be_stopped(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the operator says off, a thread that does not stop is left alone, which is told; the caller goes on."""
    monkeypatch.setenv("OFFLOOP_PARALLEL", "off")
    path = f"{tmp_path}/run"

    def work(x: int) -> Any:
        return w.wait_deafly(path) if x == 3 else 2 * x

    try:
        async with offloop.ParallelSession() as session:
            with w.heard("item.abandoned") as told:
                found: list[Any] = await session.run_parallel(
                    work, range(6), item_timeout_s=LIMIT_S, grace_s=GRACE_S, on_error="collect"
                )
            check(found[3], 3)
            assert found[:3] + found[4:] == [0, 2, 4, 8, 10]
            assert [event.item for event in told] == [3]
            assert await session.run(w.double, 2, timeout_s=AMPLE_S) == 4
    finally:
        Path(f"{path}.go").touch()


@pytest.mark.one_loop
@pytest.mark.parametrize("fn", [partial(endless, 1), offloop.call(endless, 1)])
async def test_a_function_may_be_wrapped(workers: offloop.ParallelSession, fn: Callable[[], Any]) -> None:
    """Partials and calls are stopped like functions."""
    with pytest.raises(ItemTimeout):
        await workers.run(fn, timeout_s=LIMIT_S, grace_s=AMPLE_S)
    assert await workers.run(w.double, 2) == 4
