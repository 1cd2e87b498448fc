"""Items and results that fail on their way: that item only, and the lane lives on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import offloop
import scripts
import workloads as w

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy="processes", workers=2, idle_timeout_s=600) as session:
        await w.start_all(session, "processes")
        yield session


async def only_3_fails(session: offloop.ParallelSession, fn: Any, bad: object, **options: Any) -> Exception:
    """Run ten items of which number 3 is bad, and return what became of it."""
    items = [bad if i == 3 else i for i in range(10)]
    with anyio.fail_after(30):
        results = await session.run_parallel(fn, items, on_error="collect", **options)
        assert await session.run_parallel(w.double, range(5)) == [0, 2, 4, 6, 8]
    failure = results.pop(3)
    assert results == [i for i in range(10) if i != 3]
    assert isinstance(failure, Exception)
    assert "[3]" in f"{failure} {getattr(failure, '__notes__', '')}"
    return failure


@pytest.mark.parametrize("chunk_size", [None, 1, 10])
@pytest.mark.parametrize("bad", [w.FailsToUnpickle(), w.FailsToSetState(), w.SysExitsOnUnpickle()], ids=lambda b: type(b).__name__)
@pytest.mark.fault(20)
async def test_an_item_that_fails_to_unpickle(
    session: offloop.ParallelSession, bad: object, chunk_size: int | None
) -> None:
    """What raises in the worker while it is rebuilt fails itself."""
    failure = await only_3_fails(session, w.echo, bad, chunk_size=chunk_size)
    assert isinstance(failure, offloop.UnpicklableItem)


@pytest.mark.fault(20)
async def test_the_reason_is_told(session: offloop.ParallelSession) -> None:
    """What __setstate__ raised is in the error's text or notes."""
    with pytest.raises(offloop.UnpicklableItem) as caught:
        await session.run(w.echo, w.FailsToSetState())
    assert "no state please" in f"{caught.value} {caught.value.__notes__}"


@pytest.mark.parametrize("error", [w.OwnError, RecursionError, MemoryError])
@pytest.mark.fault(23)
async def test_an_item_that_fails_to_pickle(session: offloop.ParallelSession, error: type[BaseException]) -> None:
    """What __reduce__ raises, whatever it is, fails the item and never reaches the loop."""
    assert isinstance(await only_3_fails(session, w.echo, w.FailsToPickle(error)), offloop.UnpicklableItem)


@pytest.mark.fault(23)
async def test_a_function_that_fails_to_pickle(session: offloop.ParallelSession) -> None:
    """What is bound in fn and raises while it is pickled is an UnpicklableFunction."""
    with anyio.fail_after(10), pytest.raises(offloop.UnpicklableFunction):
        await session.run(offloop.call(w.echo, w.FailsToPickle(w.OwnError)))


@pytest.mark.fault(20)
async def test_a_function_that_fails_to_unpickle(session: offloop.ParallelSession) -> None:
    """What is bound in fn and raises while it is rebuilt is an UnpicklableFunction that tells what was raised."""
    with anyio.fail_after(10), pytest.raises(offloop.UnpicklableFunction, match="while unpickling"):
        await session.run(offloop.call(w.echo, w.FailsToUnpickle()))
    with anyio.fail_after(10), pytest.raises(offloop.UnpicklableFunction, match="while unpickling"):
        await session.run_parallel(offloop.call(w.add, w.FailsToUnpickle()), range(10))
    assert await session.run(w.double, 2) == 4


@pytest.mark.fault(23)
async def test_an_item_that_ends_its_worker_on_unpickling(anyio_backend: object) -> None:
    """os._exit while an item is rebuilt is a crash of that item only."""
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        failure = await only_3_fails(session, w.echo, w.ExitsOnUnpickle())
        assert isinstance(failure, offloop.WorkerCrashed)
        assert failure.exit_code == 11
        failure = await only_3_fails(session, w.echo, w.ExitsOnUnpickle(), chunk_size=10, retries=0)
        assert isinstance(failure, offloop.WorkerCrashed)


@pytest.mark.parametrize("fn", [w.unpickle_failure_for_3, w.sys_exit_on_unpickle_for_3])
@pytest.mark.fault(21)
async def test_a_result_that_fails_to_unpickle_here(session: offloop.ParallelSession, fn: Any) -> None:
    """What raises in this process while a result is rebuilt fails its item only."""
    failure = await only_3_fails(session, fn, 3)
    assert isinstance(failure, offloop.UnpicklableResult)


@pytest.mark.fault(22)
async def test_a_deep_item(session: offloop.ParallelSession) -> None:
    """A structure too deep to be pickled fails alone."""
    assert isinstance(await only_3_fails(session, w.echo, w.nest(100_000)), offloop.UnpicklableItem)


@pytest.mark.fault(22)
async def test_a_deep_result(session: offloop.ParallelSession) -> None:
    """A result too deep to be pickled fails alone."""
    failure = await only_3_fails(session, w.nest_for_3, 3)
    assert isinstance(failure, offloop.UnpicklableResult)


@pytest.mark.fault(23)
async def test_results_whose_pickling_exits(session: offloop.ParallelSession) -> None:
    """sys.exit in a result's __reduce__ fails its item only."""
    assert isinstance(await only_3_fails(session, w.reduce_exit_for_3, 3), offloop.UnpicklableResult)


@pytest.mark.fault(18, 19, 21)
async def test_an_exception_that_fails_to_unpickle_here(session: offloop.ParallelSession) -> None:
    """Type, text and traceback arrive, and the reader lives on."""
    failure = await only_3_fails(session, w.bad_exception_for_3, 3)
    assert "BadToRebuild" in f"{type(failure).__name__} {failure}"


EXITING = """
import sys, anyio, offloop, workloads as w

async def main():
    bad = w.FailsToPickle({"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}[sys.argv[2]])
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        results = await session.run_parallel(w.echo, [1, bad, 3], on_error="collect")
        assert results[::2] == [1, 3], results
        assert isinstance(results[1], offloop.UnpicklableItem), results
        try:
            await session.run(offloop.call(w.echo, bad))
        except offloop.UnpicklableFunction:
            print("all is well")

anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("error", ["SystemExit", "KeyboardInterrupt"])
@pytest.mark.fault(23)
def test_pickling_that_exits_never_reaches_the_loop(tmp_path: Path, backend: str, error: str) -> None:
    """sys.exit and its like in __reduce__ fail the item, or the function, and end nobody's program."""
    done = scripts.run(EXITING, backend, error, cwd=tmp_path)
    assert (done.stdout, done.stderr[-500:], done.returncode) == ("all is well\n", "", 0)
