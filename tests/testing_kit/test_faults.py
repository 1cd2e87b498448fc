"""Faults that are injected: the library's own errors and events, without a process that dies and without waiting."""

from __future__ import annotations

import signal
from functools import partial
from typing import Any

import pytest

import offloop
from offloop.events import ItemRetried, ItemTimedOut, SessionOverloaded, WorkerDied, WorkerStarted
from offloop.testing import (
    Crash,
    Events,
    Inject,
    InlineSession,
    MisplacedFault,
    Overload,
    Slow,
    TimeOut,
)

from . import work


@pytest.fixture(autouse=True)
async def on_all_loops(anyio_backend: object) -> None:
    """Have all tests run on all loops, and nothing noted yet."""
    work.calls.clear()


async def test_a_crash_is_survived(offloop_session: Any, offloop_faults: Inject, offloop_events: Events) -> None:
    """An item that crashes once is retried alone, nobody else runs again, and the events are those of a real crash."""
    offloop_faults({3: Crash()})
    assert await offloop_session.run_parallel(work.note, range(10), chunk_size=5) == list(range(10))
    assert work.calls == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    (death,) = offloop_events.of(WorkerDied)
    assert (death.item, death.signal, death.exit_code) == (3, "SIGKILL", -signal.SIGKILL)
    assert [event.item for event in offloop_events.of(ItemRetried)] == [3]
    assert len(offloop_events.of(WorkerStarted)) == 2
    statistics = offloop_session.statistics()
    assert (statistics.retried, statistics.workers_crashed, statistics.completed) == (1, 1, 10)


@pytest.mark.parametrize(("crash", "ending"), [(Crash(times=2), -9), (Crash(times=2, signal=None, exit_code=3), 3)])
async def test_a_crash_that_comes_again_fails_its_item(
    offloop_session: Any, offloop_faults: Inject, crash: Crash, ending: int
) -> None:
    """An item that crashes as often as retries allow fails as `WorkerCrashed`, with index and ending; the others return."""
    offloop_faults({2: crash})
    outcomes = await offloop_session.run_parallel(work.double, range(4), on_error="collect")
    assert [outcomes[0], outcomes[1], outcomes[3]] == [0, 2, 6]
    assert type(outcomes[2]) is offloop.WorkerCrashed
    assert (outcomes[2].first, outcomes[2].exit_code) == (2, ending)


async def test_retries_are_honoured(offloop_session: Any, offloop_faults: Inject) -> None:
    """With retries=0 one crash is enough, with retries=2 two are not; single calls too."""
    offloop_faults({0: [Crash(cause="too much at once"), Crash(), Crash()]})
    with pytest.raises(offloop.WorkerCrashed, match="too much at once"):
        await offloop_session.run(work.double, 1, retries=0)
    assert await offloop_session.run(work.double, 1, retries=2) == 2
    assert offloop_session.statistics().workers_crashed == 3


async def test_several_items_crash(offloop_session: Any, offloop_faults: Inject) -> None:
    """Crashes at several items of one chunk come one after the other, in a stream as well."""
    offloop_faults({index: Crash() for index in (0, 1, 4, 9)})
    async with offloop_session.stream(work.note, range(10), chunk_size=10) as results:
        assert [result async for result in results] == list(range(10))
    assert work.calls == list(range(10))


async def test_batches_and_branches_crash_too(offloop_session: Any, offloop_faults: Inject) -> None:
    """Blocks and calls of branches are items like others."""
    offloop_faults({1: Crash()}, fn=work.total)
    assert await offloop_session.run_batches(work.total, list(range(6)), batch_size=2) == [0, 2, 4, 6, 8, 10]
    offloop_faults({0: Crash()})
    assert await offloop_session.run_branches({"a": offloop.call(work.double, 1)}) == {"a": 2}
    assert offloop_session.statistics().workers_crashed == 2


async def test_an_item_times_out(offloop_session: Any, offloop_faults: Inject, offloop_events: Events) -> None:
    """An item that times out fails as `ItemTimeout` with its limit, and no time passes: not even a minute of limit."""
    offloop_faults({1: TimeOut(), 3: Slow(seconds=61)})
    outcomes = await offloop_session.run_parallel(work.note, range(5), item_timeout_s=60, on_error="collect")
    assert [type(outcome) for outcome in outcomes] == [int, offloop.ItemTimeout, int, offloop.ItemTimeout, int]
    assert (outcomes[3].index, outcomes[3].limit_s) == (3, 60)
    assert [event.item for event in offloop_events.of(ItemTimedOut, limit_s=60)] == [1, 3]
    assert work.calls == [0, 2, 4]
    offloop_faults({0: TimeOut()})
    with pytest.raises(offloop.ItemTimeout):
        await offloop_session.run(work.double, 1, timeout_s=60)


async def test_slow_items_count_as_slow(offloop_session: Any, offloop_faults: Inject) -> None:
    """A slow item within its limit returns, and its time is in the books."""
    offloop_faults({2: Slow(seconds=30)})
    assert await offloop_session.run_parallel(work.double, range(4), item_timeout_s=60) == [0, 2, 4, 6]
    assert offloop_session.statistics().busy_s == pytest.approx(30.004)


async def test_chosen_calls_are_refused(offloop_session: Any, offloop_faults: Inject, offloop_events: Events) -> None:
    """The calls that are chosen are refused with what the caller is told, and counted; others come in."""
    offloop_faults({1: Overload(retry_after_s=7, why="max_wait_s", times=2)}, fn=work.double)
    refused = []
    for x in range(4):
        assert await offloop_session.run(work.note, x) == x
        try:
            await offloop_session.run(work.double, x)
        except offloop.Overloaded as error:
            refused.append((x, error.retry_after_s, error.why))
    assert refused == [(1, 7, "max_wait_s"), (2, 7, "max_wait_s")]
    assert offloop_session.statistics().refused == len(offloop_events.of(SessionOverloaded)) == 2
    offloop_faults({0: Overload()})
    with pytest.raises(offloop.Overloaded):
        async with offloop_session.stream(work.note, range(3)) as results:
            await results.__anext__()


async def test_faults_are_chosen_by_item() -> None:
    """A function of index and item chooses what goes wrong, for one function alone if told so."""

    def choice(index: int, item: int) -> Crash | TimeOut | None:
        return Crash() if item == 30 else TimeOut() if index == 1 else None

    async with InlineSession() as session:
        session.inject(choice, fn=work.note)
        outcomes = await session.run_parallel(work.note, [10, 20, 30, 40], item_timeout_s=1, on_error="collect")
        assert [type(outcome).__name__ for outcome in outcomes] == ["int", "ItemTimeout", "WorkerCrashed", "int"]
        assert await session.run_parallel(work.double, [10, 20, 30]) == [20, 40, 60]
        assert session.faults_left == []


async def test_what_did_not_happen_is_told() -> None:
    """Faults whose item never came are left, so that a test can tell that it tests something."""
    async with InlineSession(faults={1: Crash(), 9: Crash()}) as session:
        await session.run_parallel(work.double, range(3))
        assert session.faults_left == [Crash()]


async def test_a_fault_that_can_not_happen_is_an_error(offloop_session: Any, offloop_faults: Inject) -> None:
    """A timeout of a call without a limit, or a crash where nothing is sent, tells what the test lacks."""
    offloop_faults({0: TimeOut()})
    with pytest.raises(MisplacedFault, match="item_timeout_s"):
        await offloop_session.run(work.double, 1)
    async with InlineSession(strict=False, faults={1: Crash()}) as lax:
        with pytest.raises(MisplacedFault, match="strict=True"):
            await lax.run_parallel(work.double, range(3))
    for faults, message in (({0: Crash}, "faults are Crash"), ([Crash()], "by index"), ({-1: Crash()}, "the index of an item")):
        with pytest.raises(TypeError, match=message):
            offloop_faults(faults)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="times=0"):
        Crash(times=0)


async def test_a_choice_that_fails_fails_its_item(anyio_backend: object) -> None:
    """What a test's own function raises, or should not return, is told for that item, and the session goes on."""

    def choice(index: int, item: int) -> Any:
        return {0: None, 1: Overload(), 2: "crash"}[item]

    async with InlineSession() as session:
        session.inject(choice)
        outcomes = await session.run_parallel(work.double, range(4), on_error="collect")
        assert [type(outcome) for outcome in outcomes] == [int, TypeError, TypeError, KeyError]
        assert await session.run_parallel(work.double, [0]) == [0]


async def test_faults_of_a_function_are_those_of_its_partials(offloop_session: Any, offloop_faults: Inject) -> None:
    """What is for a function happens to it however it is called, and to no other."""
    offloop_faults({0: Crash(times=5)}, fn=work.double)
    assert await offloop_session.run(work.note, 1) == 1
    with pytest.raises(offloop.WorkerCrashed):
        await offloop_session.run(partial(work.double, x=1))
    with pytest.raises(offloop.WorkerCrashed):
        await offloop_session.run_parallel(offloop.star(work.double), [(1,)])
    assert await offloop_session.run_branches({"a": offloop.call(work.double, 1)}) == {"a": 2}


async def test_a_failure_before_a_crash_ends_the_run(offloop_session: Any, offloop_faults: Inject) -> None:
    """An item that raises ends the run before the item that was to crash comes, and the next run is well."""
    offloop_faults({2: Crash()})
    with pytest.raises(KeyError):
        await offloop_session.run_parallel(work.refuse, range(4), chunk_size=4)
    assert await offloop_session.run_parallel(work.double, range(4)) == [0, 2, 4, 6]


@pytest.mark.parametrize("faults", [{55: Crash(), 75: [Crash(), Crash()]}, {55: TimeOut(), 75: TimeOut()}, {55: Slow(seconds=9)}])
async def test_the_order_stays_known(offloop_session: Any, offloop_faults: Inject, faults: Any) -> None:
    """Whatever goes wrong, items execute once, in the order of their indexes."""
    offloop_faults(faults)
    await offloop_session.run_parallel(work.note, range(200), chunk_size=10, item_timeout_s=1, on_error="collect")
    assert work.calls == sorted(set(work.calls))
    assert len(work.calls) >= 198
