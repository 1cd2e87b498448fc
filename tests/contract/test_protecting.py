"""What `auto` keeps away from the event loop and out of this process."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import anyio
import pytest

import offloop
import workloads as w
from offloop import Reason, Strategy

pytestmark = pytest.mark.anyio


@pytest.fixture
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """A session that chooses for itself, with nothing learned and nothing started."""
    async with offloop.ParallelSession(workers=2) as session:
        yield session


async def rounds_of_the_loop_beside(work: Callable[[], Any]) -> Counter[int]:
    """Return how often another task got its turn in each whole second of some work."""
    rounds: Counter[int] = Counter()
    begun = time.monotonic()

    async def tick() -> None:
        while True:
            await anyio.sleep(0.005)
            rounds[int(time.monotonic() - begun)] += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await work()
        whole = int(time.monotonic() - begun)
        tasks.cancel_scope.cancel()
    return Counter({second: rounds[second] for second in range(whole)})


def is_live(rounds: Counter[int]) -> bool:
    """Whether the loop was never held for most of a second; free, it gets 150 to 190 rounds."""
    return len(rounds) > 0 and min(rounds.values()) >= 20


@pytest.mark.parametrize(("backend", "is_warm"), [("asyncio", False), ("trio", True)], ids=["cold", "warm"])
def test_fifty_calls_that_hold_the_gil_leave_the_loop_live(backend: str, is_warm: bool) -> None:
    """50 calls at once of 0.15 s each, which keep the GIL: nothing fails, all workers work, the loop goes on."""

    async def main() -> tuple[Counter[int], list[int]]:
        async with offloop.ParallelSession(workers=2) as session:
            if is_warm:
                await session.warm()
            pids: list[int] = []

            async def work() -> None:
                pids.extend(await w.gather(*(session.run(w.hold_gil_for, 0.15) for _ in range(50))))

            return await rounds_of_the_loop_beside(work), pids

    rounds, pids = anyio.run(main, backend=backend)
    here = pids.count(os.getpid())
    assert len(pids) == 50
    assert len(set(pids) - {os.getpid()}) == 2
    assert here <= 2, f"{here} of 50 ran in this process"
    assert is_live(Counter({second: count for second, count in rounds.items() if second})), rounds
    # In the first second the one call whose cost is being found out may hold the loop.
    assert rounds[0] >= 20, rounds


async def test_python_loops_at_once_leave_the_loop_live(session: offloop.ParallelSession) -> None:
    """Calls that are Python loops are spread over all workers, and the loop goes on beside them."""
    pids: list[int] = []

    async def work() -> None:
        calls = (session.run(partial(w.spin_and_tell, 0.1)) for _ in range(24))
        pids.extend(await w.gather(*calls))

    rounds = await rounds_of_the_loop_beside(work)
    assert len(pids) == 24
    assert len(set(pids) - {os.getpid()}) == 2
    assert is_live(rounds), rounds


async def test_a_long_call_that_holds_the_gil_goes_to_a_worker(session: offloop.ParallelSession) -> None:
    """Once it is known to be long, a worker takes it, though nothing is gained: the loop is protected."""
    await session.run(w.hold_gil_for, 0.05)
    assert await session.run(w.hold_gil_for, 0.05) != os.getpid()
    assert (session.decisions[-1].strategy, session.decisions[-1].reason) == (Strategy.PROCESSES, Reason.PROTECTS_LOOP)
    assert session.decisions[-1].gil_held is not None
    assert session.decisions[-1].gil_held > 0.5


async def test_a_long_call_that_lets_the_gil_go_stays(session: offloop.ParallelSession) -> None:
    """A call that leaves the loop its GIL need not leave this process."""
    for _ in range(3):
        await session.run(w.sleep_by_size_here, b"a" * 100_000)
    assert await session.run(w.sleep_by_size_here, b"a" * 100_000) == os.getpid()
    assert (session.decisions[-1].strategy, session.decisions[-1].reason) == (Strategy.SERIAL, Reason.TOO_SMALL)


async def test_a_function_that_has_crashed_never_runs_here(session: offloop.ParallelSession) -> None:
    """Once a worker has died under a function, this process is none of its places any more, whatever its input."""
    with pytest.raises(offloop.WorkerCrashed):
        await session.run(w.die_if_told, "exit", 0, strategy="processes", retries=0)
    assert (await session.decide(w.die_if_told, [])).strategy is Strategy.SERIAL
    for x in range(3):
        _, pid = await session.run(w.die_if_told, "", x)
        assert pid != os.getpid()
        assert (session.decisions[-1].strategy, session.decisions[-1].reason) == (Strategy.PROCESSES, Reason.HAS_CRASHED)
    results = await session.run_parallel(offloop.star(w.die_if_told), [("", x) for x in range(100)])
    assert [x for x, _ in results] == list(range(100))
    assert os.getpid() not in {pid for _, pid in results}
    with pytest.raises(offloop.UnpicklableItem):  # what can't travel does not run here either
        await session.run(w.die_if_told, "", w.Client())
    _, pid = await session.run(w.die_if_told, "", 1, strategy="serial")
    assert pid == os.getpid()  # who asks for it gets it


async def test_items_above_grace_never_run_here(session: offloop.ParallelSession) -> None:
    """What could not be stopped in time in this process goes to a worker from the first item on."""
    results = await session.run_parallel(w.sleep_and_tell, [0.03] * 6, item_cost_s=0.03, grace_s=0.02)
    assert os.getpid() not in {pid for pid, _ in results}
    assert {decision.reason for decision in session.decisions} == {Reason.ABOVE_GRACE}


async def test_items_learned_to_be_above_grace_leave(session: offloop.ParallelSession) -> None:
    """What was measured counts alike, for a call and for a map."""
    await session.run(w.sleep_and_tell, 0.03, grace_s=0.02)
    pid, _ = await session.run(w.sleep_and_tell, 0.03, grace_s=0.02)
    assert pid != os.getpid()
    assert session.decisions[-1].reason is Reason.ABOVE_GRACE
    results = await session.run_parallel(w.sleep_and_tell, [0.03] * 4, grace_s=0.02)
    assert os.getpid() not in {pid for pid, _ in results}


async def test_explicit_processes_never_run_fn_here(session: offloop.ParallelSession) -> None:
    """Whatever fn does to its process, unknown as it is, it does to workers alone: this one lives."""
    for attempt in range(2):  # cold, then warm
        with pytest.raises(offloop.WorkerCrashed):
            await session.run_parallel(w.die, ["exit"] * 5, strategy="processes", retries=attempt)
        with pytest.raises(offloop.WorkerCrashed):
            await session.run(w.die, "exit", strategy="processes", retries=attempt)
        pids = await session.run_parallel(w.pid_of, range(40), strategy="processes")
        assert os.getpid() not in pids
    assert session.statistics().workers_crashed >= 4
    assert {decision.reason for decision in session.decisions} == {Reason.EXPLICIT}
