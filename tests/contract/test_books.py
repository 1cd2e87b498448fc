"""Events and statistics: what they say is true, and saying it never changes a result."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import offloop
import workloads as w
from offloop import Reason, Strategy

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("usual_host")]

@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop will do: what is proved here knows nothing of it."""
    return "trio"


STRATEGIES: list[Any] = ["auto", "serial", "threads", "processes"]


@pytest.fixture(scope="module")
async def session(anyio_backend: object, transport: str) -> AsyncIterator[offloop.ParallelSession]:
    """A session that chooses for itself, with everything started."""
    async with offloop.ParallelSession(workers=2, idle_timeout_s=600) as session:
        await w.start_all(session, "processes")
        await w.start_all(session, "threads")
        yield session


def adds_up(event: Any) -> bool:
    return bool(event.tasks_submitted == event.tasks_completed + event.tasks_failed + event.tasks_cancelled)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.fault(40)
async def test_a_raising_sink_changes_nothing(session: offloop.ParallelSession, strategy: Any) -> None:
    """Whatever a sink does on whatever event, results and errors are the same, and other sinks hear of it."""
    seen: list[str] = []

    def fail(event: offloop.Event) -> None:
        seen.append(event.event)
        raise SystemExit("a sink failed")

    remove = offloop.add_sink(fail)
    try:
        with w.heard() as told:
            assert await session.run_parallel(w.double, range(50), strategy=strategy) == list(range(0, 100, 2))
            assert await session.run(w.double, 2, strategy=strategy) == 4
            with pytest.raises(w.OwnError):
                await session.run_parallel(w.fail_on_3, range(10), strategy=strategy)
    finally:
        remove()
    assert seen == [event.event for event in told]
    assert seen.count("parallel.decision") >= 3
    assert seen.count("parallel.finished") == 3


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_success_adds_up(session: offloop.ParallelSession, strategy: Any) -> None:
    """A run that went well completed all that was submitted, and tells estimate and truth side by side."""
    with w.heard("parallel.finished") as told:
        await session.run_parallel(w.sleep_and_tell, [0.01] * 20, strategy=strategy, label="mine")
    (end,) = told
    assert (end.tasks_submitted, end.tasks_completed, end.tasks_failed, end.tasks_cancelled) == (20, 20, 0, 0)
    assert end.label == "mine"
    assert end.busy_s >= 0.2
    assert end.wall_s >= end.busy_s / 2
    assert 0 < end.worker_utilisation_pct <= 100
    assert end.peak_in_flight >= 1
    if strategy == "auto":
        assert end.estimated_s is not None
        assert end.estimated_s > 0


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_failure_adds_up(session: offloop.ParallelSession, strategy: Any) -> None:
    """What failed and what was then dropped are counted apart."""
    with w.heard("parallel.finished") as told:
        with pytest.raises(w.OwnError):
            await session.run_parallel(w.fail_on_3, range(5000), strategy=strategy, chunk_size=10)
        await session.run_parallel(w.fail_on_odd, range(100), strategy=strategy, on_error="collect")
    first, second = told
    assert adds_up(first)
    assert first.tasks_failed >= 1
    assert (second.tasks_submitted, second.tasks_completed, second.tasks_failed) == (100, 50, 50)


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_cancellation_adds_up(session: offloop.ParallelSession, strategy: Any, tmp_path: Path) -> None:
    """Items that were stopped are cancelled ones, in the event as in the statistics."""
    path = str(tmp_path / "run")
    before = session.statistics()
    with w.heard("parallel.finished") as told:
        async with anyio.create_task_group() as tasks:
            fn = partial(w.loop_until_cancelled_as, path)
            tasks.start_soon(partial(session.run_parallel, fn, range(5), strategy=strategy, chunk_size=1))
            await w.appears(f"{path}.began")
            tasks.cancel_scope.cancel()
    (end,) = told
    after = session.statistics()
    assert adds_up(end)
    assert end.tasks_cancelled == end.tasks_submitted >= 1
    assert after.cancelled - before.cancelled == end.tasks_cancelled
    assert after.submitted == after.completed + after.failed + after.cancelled
    assert after.queued == 0


async def test_one_slow_item_among_fast_ones_is_no_full_use(session: offloop.ParallelSession) -> None:
    """One slow item and seven fast ones on two workers: half of what they could have done, or little more."""
    with w.heard("parallel.finished") as told:
        items = [0.4, *[0.005] * 7]
        await session.run_parallel(w.sleep_and_tell, items, strategy="processes", chunk_size=1)
    assert told[0].worker_utilisation_pct < 75
    assert told[0].busy_s >= 0.4


async def test_decisions_carry_their_estimates(session: offloop.ParallelSession) -> None:
    """The event of a decision has the numbers that it rests on, those of `session.decisions`."""
    with w.heard("parallel.decision") as told:
        await session.run_parallel(w.double, [b"a" * 100] * 50, item_cost_s=0.02, item_bytes=1000)
    event, decision = told[0], session.decisions[-len(told)]
    assert (event.fn, event.n_items, event.item_s, event.payload_bytes) == ("workloads.double", 50, 0.02, 1000)
    for field in ("estimated_serial_s", "estimated_s", "start_cost_s", "workers", "gil_held", "platform", "hint"):
        assert getattr(event, field) == getattr(decision, field)
    assert event.estimated_s < event.estimated_serial_s
    assert event.executor_type == "loky"


async def test_statistics_tell_all_there_is(anyio_backend: object, tmp_path: Path) -> None:
    """Counts by outcome, strategy and reason, workers by process id, and what is under way while it is."""
    async with offloop.ParallelSession(workers=2) as session:
        assert session.statistics() == offloop.SessionStatistics()
        path = str(tmp_path / "run")
        async with anyio.create_task_group() as tasks:
            fn = partial(w.log_and_wait, path)
            tasks.start_soon(partial(session.run_parallel, fn, range(6), strategy="processes", chunk_size=1))
            await w.appears(path, 2)
            during = session.statistics()
            assert (during.submitted, during.completed) == (0, 0)  # runs count once they are over
            assert during.queued >= 2
            w.append(f"{path}.go", "")
        await session.run_parallel(w.double, range(10), strategy="serial")
        await session.run_parallel(w.fail_on_odd, range(4), strategy="threads", on_error="collect")
        await session.run(w.double, 1)
        with pytest.raises(offloop.WorkerCrashed):
            await session.run(w.die, "exit", strategy="processes")
        held = partial(w.log_request_of, w.Client(), path)  # can't travel, as is found before the first item is sent
        await session.run_parallel(held, [w.Request(n, has_client=False) for n in range(30)], item_cost_s=0.1)
        now = session.statistics()
    assert (now.submitted, now.completed, now.failed, now.cancelled) == (52, 49, 3, 0)
    assert (now.retried, now.workers_crashed, now.queued) == (1, 2, 0)
    assert now.decisions[Strategy.SERIAL] >= 2
    assert now.decisions[Strategy.THREADS] == 1
    assert now.decisions[Strategy.PROCESSES] >= 2
    assert sum(now.decisions.values()) == 6
    assert now.fallbacks == {Reason.UNPICKLABLE: 1}
    assert now.busy_s > 0
    assert 0 < now.utilisation_pct <= 100
    assert os.getpid() not in now.workers
    assert now.workers_started >= 2


# --- a dry run ---------------------------------------------------------------------------------------------------------


async def test_a_dry_run_runs_nothing(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """`decide` calls nothing, starts nothing, counts nothing, and takes nothing out of an iterator."""
    log = tmp_path / "log"
    fn = partial(w.log_and_return, str(log))
    taken: list[int] = []

    def produce() -> Any:
        for number in range(3):
            taken.append(number)
            yield number

    async def produce_later() -> Any:
        for number in produce():
            yield number

    before, decided = session.statistics(), len(session.decisions)
    plain, later = produce(), produce_later()
    for items in ([1, 2, 3], plain, later, range(0), iter([1])):
        decision = await session.decide(fn, items)
        assert len(str(decision).splitlines()) == 2
        assert decision.reason.value in str(decision)
    assert (await session.decide(fn, [])).reason is Reason.NO_ITEMS
    assert (taken, w.lines(log)) == ([], [])
    assert session.statistics() == before
    assert len(session.decisions) == decided
    assert await session.run_parallel(fn, plain) == [0, 1, 2]
    assert await session.run_parallel(fn, later) == [0, 1, 2]


@pytest.mark.parametrize("options", [{}, {"strategy": "threads"}, {"workers": 1}, {"item_cost_s": 0.5}], ids=str)
async def test_a_dry_run_says_what_then_happens(session: offloop.ParallelSession, options: Any) -> None:
    """For work that is known, what is decided dry is what is done, from the same numbers."""
    await session.run_parallel(w.sleep_and_tell, [0.01] * 20)
    dry = await session.decide(w.sleep_and_tell, [0.01] * 20, **options)
    with w.heard("parallel.decision") as told:
        await session.run_parallel(w.sleep_and_tell, [0.01] * 20, **options)
    done = session.decisions[-len(told)]
    assert (dry.strategy, dry.reason, dry.workers) == (done.strategy, done.reason, done.workers)
    assert dry.item_s == done.item_s


async def test_a_dry_run_refuses_what_a_run_refuses(session: offloop.ParallelSession) -> None:
    """An async function, a wrong option or a closed session is the same error."""
    with pytest.raises(offloop.AsyncFunctionError):
        await session.decide(w.async_double, [1])
    with pytest.raises(offloop.SettingError):
        await session.decide(w.double, [1], strategy="x")  # type: ignore[arg-type]
    with pytest.raises(offloop.SessionClosedError):
        await offloop.ParallelSession().decide(w.double, [1])
