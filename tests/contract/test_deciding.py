"""What `auto` does with work that it doesn't know, and what it has learned for the next call."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import offloop
import workloads as w
from offloop import Reason, Strategy

pytestmark = [pytest.mark.anyio, pytest.mark.one_loop, pytest.mark.usefixtures("usual_host")]


@pytest.fixture
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """A session that chooses for itself, with nothing learned and nothing started."""
    async with offloop.ParallelSession(workers=2) as session:
        yield session


@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize(("n_items", "seconds"), [(500, 0.0), (30, 0.02)], ids=["cheap", "dear"])
async def test_what_is_measured_counts(
    session: offloop.ParallelSession, tmp_path: Path, is_warm: bool, n_items: int, seconds: float
) -> None:
    """Every item runs once, the first ones that are timed included, and every result is kept in its place."""
    if is_warm:
        await session.warm()
    log = tmp_path / "log"
    results = await session.run_parallel(partial(w.log_and_sleep, str(log)), [(i, seconds) for i in range(n_items)])
    assert [number for number, _ in results] == list(range(n_items))
    assert sorted(map(int, w.lines(log))) == list(range(n_items))


async def test_cheap_work_stays(session: offloop.ParallelSession) -> None:
    """Cheap work never leaves the local thread: one record, with the measured cost and why; no worker is started."""
    with w.heard("parallel.decision") as told:
        threads = await session.run_parallel(w.thread_of, range(200))
        assert set(threads) == {await session.run(w.thread_of)}
    first = session.decisions[0]
    assert (first.strategy, first.reason, first.workers) == (Strategy.SERIAL, Reason.TOO_SMALL, 1)
    assert first.item_s is not None
    assert 0 < first.item_s < 0.001
    assert [event.n_items for event in told] == [200, 1]
    assert session.statistics().workers_started == 0


async def test_dear_work_leaves(session: offloop.ParallelSession) -> None:
    """Dear work goes to the workers for the gain that was estimated, and that is told once."""
    await session.warm()
    with w.heard("parallel.decision") as told:
        results = await session.run_parallel(w.sleep_and_tell, [0.03] * 30)
    workers = {pid for pid, _ in results} - {os.getpid()}
    assert workers == set(session.statistics().workers)
    decision = session.decisions[-1]  # on a machine that is slow to start a thread, one before it may say "measuring"
    assert (decision.strategy, decision.reason, decision.workers) == (Strategy.PROCESSES, Reason.FASTER, 2)
    assert decision.estimated_s is not None
    assert decision.estimated_serial_s is not None
    assert decision.estimated_s * 1.2 <= decision.estimated_serial_s
    assert [event.n_items for event in told if event.strategy == "processes"] == [30]


async def test_a_warm_worker_is_where_unknown_work_is_timed(session: offloop.ParallelSession) -> None:
    """Work of unknown cost, of a function that the workers have, is tried out in one that is idle."""
    await session.warm()
    await session.run_parallel(w.sleep_by_size_here, [b"a"], strategy="processes")
    pids = await session.run_parallel(w.sleep_by_size_here, [b"a" * 1000] * 3)
    assert pids[0] in session.statistics().workers


async def test_the_second_call_is_not_measured(session: offloop.ParallelSession) -> None:
    """What the first call has cost is what the second is decided by."""
    assert (await session.decide(w.sleep_and_tell, [0.01] * 5)).reason is Reason.MEASURING
    await session.run_parallel(w.sleep_and_tell, [0.01] * 5)
    known = await session.decide(w.sleep_and_tell, [0.01] * 5)
    assert known.reason is not Reason.MEASURING
    await session.run_parallel(w.sleep_and_tell, [0.01] * 5)
    assert session.decisions[-1].reason is not Reason.MEASURING
    assert known.item_s is not None
    assert known.item_s >= 0.01


async def test_a_second_single_call_is_not_measured(session: offloop.ParallelSession) -> None:
    """The first call of a function is decided as unknown, the next by what it took."""
    await session.run(w.sleep_and_tell, 0.003)
    await session.run(w.sleep_and_tell, 0.003)
    first, second = session.decisions
    assert (first.reason, first.item_s) == (Reason.MEASURING, None)
    assert second.reason is not Reason.MEASURING
    assert second.item_s is not None
    assert second.item_s >= 0.003


async def test_another_size_of_input_is_other_work(session: offloop.ParallelSession) -> None:
    """What small inputs have cost says nothing of large ones, or the other way round."""
    fn = partial(w.sleep_by_size, 1e-7)  # the large ones take 50 ms
    small, large = [b"a" * 10] * 20, [b"a" * 500_000] * 20
    await session.run_parallel(fn, small, strategy="processes")  # workers are up then, and have the function's module
    await session.run_parallel(fn, small)
    assert (await session.decide(fn, small)).reason is Reason.TOO_SMALL
    assert (await session.decide(fn, large)).reason is Reason.MEASURING
    await session.run_parallel(fn, large)
    assert (await session.decide(fn, large)).reason in (Reason.FASTER, Reason.PROTECTS_LOOP)
    assert (await session.decide(fn, small)).reason is Reason.TOO_SMALL


async def test_a_different_partial_of_equal_size_is_the_same_work(session: offloop.ParallelSession) -> None:
    """A function that is bound anew for each call is known all the same."""
    await session.run_parallel(partial(w.add, 4), range(50))
    assert (await session.decide(partial(w.add, 5), range(50))).reason is Reason.TOO_SMALL


@pytest.mark.parametrize(
    ("hints", "strategy", "reason"),
    [
        ({"item_cost_s": 0.1}, Strategy.PROCESSES, Reason.FASTER),
        ({"item_cost_s": 1e-6}, Strategy.SERIAL, Reason.TOO_SMALL),
        ({"item_cost_s": 0.004, "item_bytes": 100_000_000}, Strategy.SERIAL, Reason.TOO_SMALL),
    ],
    ids=str,
)
async def test_hints_decide_the_first_call(
    session: offloop.ParallelSession, hints: dict[str, Any], strategy: Strategy, reason: Reason
) -> None:
    """What the caller knows takes the place of measuring."""
    await session.warm()
    await session.run_parallel(w.double, range(60), **hints)
    assert (session.decisions[0].strategy, session.decisions[0].reason) == (strategy, reason)


async def test_consent_brings_threads(session: offloop.ParallelSession) -> None:
    """Work that lets the GIL go runs in several threads of this process, if the call says that it may."""
    results = await session.run_parallel(w.sleep_and_tell, [0.02] * 40, thread_safe=True)
    assert {pid for pid, _ in results} == {os.getpid()}
    assert len({thread for _, thread in results}) >= 2
    assert session.decisions[-1].strategy is Strategy.THREADS
    assert session.statistics().workers_started == 0


async def test_without_consent_fn_is_never_in_two_threads(anyio_backend: object) -> None:
    """However many runs there are, cold or warm, in whatever session: one thread of a process at a time."""
    pids: set[int] = set()
    async with offloop.ParallelSession(workers=2) as one, offloop.ParallelSession(workers=2) as other:
        for _ in range(2):
            found = await w.gather(
                one.run_parallel(w.guarded, [0.01] * 30),
                one.run_parallel(w.guarded, [0.002] * 30),
                one.run_parallel(w.guarded, [0.0] * 500),
                other.run_parallel(w.guarded, [0.01] * 20),
                *(session.run(w.guarded, 0.01) for session in (one, other) for _ in range(10)),
            )
            flat = [pair for result in found for pair in (result if isinstance(result, list) else [result])]
            assert len(flat) == 600
            assert {most for _, most in flat} == {1}
            pids |= {pid for pid, _ in flat}
    assert len(pids) >= 2


async def test_a_session_remembers_its_last_decisions(session: offloop.ParallelSession) -> None:
    """The latest is at the end, and there are never more than 128."""
    for _ in range(130):
        await session.run(w.double, 1)
    await session.run_parallel(w.double, range(7))
    assert len(session.decisions) == 128
    assert [decision.n_items for decision in session.decisions][-2:] == [1, 7]
