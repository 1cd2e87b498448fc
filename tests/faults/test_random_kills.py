"""Workers are killed at random moments: every result is right, and each comes exactly once."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import failpoints
import offloop
import workloads as w

pytestmark = pytest.mark.anyio

IS_LONG = bool(os.environ.get("FAULTS_LONG"))
N_ITEMS, N_KILLS = (10_000, 500) if IS_LONG else (1_000, 20)


async def kill_one(session: offloop.ParallelSession, chance: random.Random) -> bool:
    """Kill one of a session's workers, if there is one."""
    workers = session.statistics().workers
    if not workers:
        return False
    try:
        os.kill(chance.choice(workers), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.one_loop
@pytest.mark.fault(1, 13, 69)
@pytest.mark.parametrize("seed", range(3) if IS_LONG else [1])
async def test_a_map_under_random_kills(anyio_backend: object, seed: int, tmp_path: Path) -> None:
    """Dozens of kills during a map lose nothing, double nothing, and have each item run at most 1 + retries times."""
    log, chance, kills = tmp_path / "log", random.Random(seed), list[bool]()
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:

        async def kill_often() -> None:
            n_executed = 0
            while True:
                n_executed += chance.randrange(2 * N_ITEMS // N_KILLS)
                await w.appears(log, n_executed, limit_s=100)
                kills.append(await kill_one(session, chance))

        with anyio.fail_after(110):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill_often)
                results = await session.run_parallel(
                    partial(failpoints.log_and_square, str(log)), range(N_ITEMS), retries=5, on_error="collect"
                )
                tasks.cancel_scope.cancel()
        counts = Counter(map(int, w.lines(log)))
        lost = {index: result for index, result in enumerate(results) if isinstance(result, Exception)}
        assert not lost
        assert results == [x * x for x in range(N_ITEMS)]
        assert set(counts) == set(range(N_ITEMS))
        assert max(counts.values()) <= 6
        assert sum(kills) > N_KILLS / 2
        assert session.statistics().completed == N_ITEMS
        assert await session.run(w.double, 21) == 42


@pytest.mark.fault(13, 67)
async def test_calls_under_random_kills(anyio_backend: object) -> None:
    """Of 300 calls, twelve at a time, all return what they should, though a worker dies every now and then."""
    chance, results = random.Random(3), dict[int, int]()
    n_calls = 300 if IS_LONG else 120
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        numbers = iter(range(n_calls))

        async def call_on() -> None:
            for number in numbers:
                await session.run(w.spin, 0.01, retries=5)
                results[number] = await session.run(w.double, number, retries=5)

        async def kill_now_and_then() -> None:
            while True:
                await anyio.sleep(0.3)
                await kill_one(session, chance)

        async with anyio.create_task_group() as killing:
            killing.start_soon(kill_now_and_then)
            with anyio.fail_after(100):
                async with anyio.create_task_group() as calling:
                    for _ in range(12):
                        calling.start_soon(call_on)
            killing.cancel_scope.cancel()
    assert results == {number: 2 * number for number in range(n_calls)}


@pytest.mark.fault(2, 13)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("chunk_size", [1, 7])
@settings(max_examples=50 if IS_LONG else 5, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    plan=st.dictionaries(st.integers(0, 19), st.integers(1, 2), max_size=2),
    retries=st.integers(0, 2),
)
def test_any_items_that_die_any_number_of_times(
    tmp_path_factory: pytest.TempPathFactory,
    anyio_backend: str,
    chunk_size: int,
    plan: dict[int, int],
    retries: int,
) -> None:
    """Whatever items kill their workers and how often: those that may not run again fail, all others have their results."""
    log = tmp_path_factory.mktemp("plan") / "log"

    async def run() -> list[int | Exception]:
        async with offloop.ParallelSession(strategy="processes", workers=2) as session:
            fn = partial(failpoints.die_as_told, plan, str(log))
            return await session.run_parallel(
                fn, range(20), chunk_size=chunk_size, retries=retries, on_error="collect"
            )

    results = anyio.run(run)
    executed = Counter(map(int, w.lines(log)))
    for index, result in enumerate(results):
        deaths = plan.get(index, 0)
        if isinstance(result, offloop.WorkerCrashed):
            assert deaths > retries or retries == 0
            assert result.first <= index <= result.last
        else:
            assert result == -index
            assert deaths <= retries
    assert all(executed[index] == 1 for index in range(20) if not plan and not retries)
    if retries == 0:
        assert max(executed.values()) == 1
