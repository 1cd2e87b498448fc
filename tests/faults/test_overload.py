"""More than can be served: what is too much is refused or given up before it costs anything, and nothing multiplies."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

WORKERS = 2
CALLERS = 1000


def log_and_take(path: str, seconds: float, number: int) -> int:
    """Note the execution of a call, and take so long."""
    w.append(path, number)
    w.sleep(seconds)
    return number


async def storm(session: offloop.ParallelSession, fn: Any, **options: Any) -> tuple[list[int], list[offloop.Overloaded]]:
    """Have a thousand callers call at once; return what came back, and what was refused."""
    served: list[int] = []
    refused: list[offloop.Overloaded] = []

    async def call(number: int) -> None:
        try:
            served.append(await session.run(fn, number, **options))
        except offloop.Overloaded as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        for number in range(CALLERS):
            tasks.start_soon(call, number)
    return served, refused


@pytest.mark.fault(67)
@pytest.mark.parametrize(
    ("settings", "options", "why"),
    [({"max_pending": 32}, {}, "max_pending"), ({}, {"max_wait_s": 0.1}, "max_wait_s")],
    ids=["by number", "by time"],
)
async def test_a_thousand_callers_over_capacity(
    anyio_backend: object, tmp_path: Path, settings: dict[str, Any], options: dict[str, Any], why: str
) -> None:
    """Each is served once or refused and never executed; who is refused knows when to come again, and then all is well."""
    path = tmp_path / "log"
    fn = partial(log_and_take, str(path), 0.005)
    async with offloop.ParallelSession(strategy="processes", workers=WORKERS, **settings) as session:
        await session.warm()
        for _ in range(3):
            await session.run(partial(log_and_take, f"{tmp_path}/before", 0.005), 0)
        with anyio.fail_after(60):
            served, refused = await storm(session, fn, **options)
        assert len(served) + len(refused) == CALLERS
        assert sorted(map(int, w.lines(path))) == sorted(set(served)) == sorted(served)
        assert served
        assert {error.why for error in refused} == {why}
        assert all(error.retry_after_s > 0 for error in refused)
        assert (session.statistics().refused, session.statistics().pending) == (len(refused), 0)
        assert await session.run_parallel(w.double, range(20)) == list(range(0, 40, 2))
        assert session.statistics().workers_started == WORKERS


@pytest.mark.fault(67, 68)
async def test_a_thousand_callers_who_give_up(anyio_backend: object, tmp_path: Path) -> None:
    """Those who gave up before their turn cost nothing: what was executed in vain is no more than what was under way."""
    path = tmp_path / "log"
    served: list[int] = []

    async def call(number: int) -> None:
        served.append(await session.run(partial(log_and_take, str(path), 0.005), number))

    async with offloop.ParallelSession(strategy="processes", workers=WORKERS) as session:
        await session.warm()
        with anyio.move_on_after(0.3) as scope:
            async with anyio.create_task_group() as tasks:
                for number in range(CALLERS):
                    tasks.start_soon(call, number)
        assert scope.cancelled_caught
        executed = w.lines(path)
        assert len(executed) - len(served) <= WORKERS
        assert await session.run(w.double, 21) == 42
        assert w.lines(path) == executed
        assert session.statistics().pending == 0


@pytest.mark.fault(68)
async def test_deadlines_that_pass_in_the_queue(anyio_backend: object, tmp_path: Path) -> None:
    """Calls, maps and streams whose time is over before they begin are never started, and their callers are told as they asked."""
    path, log = f"{tmp_path}/busy", tmp_path / "log"
    fn = partial(w.log_and_return, str(log))
    late = 0

    async def give_up(call: Any) -> None:
        nonlocal late
        try:
            with anyio.move_on_after(0.05) as scope:
                await call()
            late += scope.cancelled_caught
        except offloop.Overloaded as error:
            late += error.why in ("max_wait_s", "deadline")

    async def consume(session: offloop.ParallelSession) -> None:
        async with session.stream(fn, [7, 8]) as results:
            await anext(results)

    with anyio.fail_after(30):
        async with offloop.ParallelSession(strategy="processes", workers=1) as session, anyio.create_task_group() as tasks:
            tasks.start_soon(session.run, w.wait_for_file, path)
            await w.appears(f"{path}.began")
            async with anyio.create_task_group() as waiting:
                for number in range(30):
                    waiting.start_soon(give_up, partial(session.run, fn, number))
                    waiting.start_soon(give_up, partial(session.run, fn, number, max_wait_s=0.03))
                waiting.start_soon(give_up, partial(session.run_parallel, fn, range(5)))
                waiting.start_soon(give_up, partial(consume, session))
            Path(f"{path}.go").touch()
            assert await session.run(w.log_and_return, str(log), "last") == "last"
    assert late == 62
    assert w.lines(log) == ["last"]


def log_and_die_on_fives(path: str, x: int) -> int:
    """Note the execution of an item, and die on every tenth."""
    w.append(path, x)
    if x % 10 == 5:
        w.die("SIGKILL")
    return x


@pytest.mark.fault(69)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("retries", [0, 1])
async def test_retries_do_not_multiply(anyio_backend: object, tmp_path: Path, retries: int) -> None:
    """An item that kills is executed once and once for each retry; it stays the same call, in its place, and nothing else is read for it."""
    path = tmp_path / "log"
    taken = 0

    def source() -> Any:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield number

    fn = partial(log_and_die_on_fives, str(path))
    found: list[Any] = []
    with anyio.fail_after(60), w.heard("session.overloaded") as told:
        async with offloop.ParallelSession(strategy="processes", workers=1, max_pending=1) as session:
            async with session.stream(fn, source(), on_error="collect", retries=retries, window=4, chunk_size=1) as results:
                async for result in results:
                    assert results.in_flight <= 4
                    assert taken <= len(found) + 4
                    found.append(result)
            statistics = session.statistics()
    executed = Counter(map(int, w.lines(path)))
    assert [repr(type(found[i])) for i in (5, 15)] == [repr(offloop.WorkerCrashed)] * 2
    assert [x for x in found if isinstance(x, int)] == [x for x in range(20) if x % 10 != 5]
    assert {executed[5], executed[15]} == {1 + retries}
    assert statistics.retried == 2 * retries
    assert statistics.workers_crashed == 2 * (1 + retries)
    assert (statistics.submitted, statistics.refused, told) == (20, 0, [])
    assert max(executed[x] for x in range(20) if x % 10 != 5) <= 1 + retries
