"""Failures of items: what arrives, in each mode of on_error, from every strategy."""

from __future__ import annotations

import traceback
from functools import partial
from pathlib import Path

import anyio
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

NOT_RAISABLE = ["SystemExit", "KeyboardInterrupt", "StopIteration", "StopAsyncIteration", "GeneratorExit", "OwnBase"]


def notes(error: BaseException) -> str:
    return "\n".join(error.__notes__)


def failing_line(error: BaseException) -> str:
    """Return the line of code that a failure's traceback ends in, remote or not."""
    for note in error.__notes__:
        if note.startswith("offloop: in the worker"):
            code = [line.strip() for line in note.splitlines() if line.strip().strip("~^")]
            return code[-1]
    return traceback.extract_tb(error.__traceback__)[-1].line or ""


async def test_a_failure_arrives_as_itself(session: offloop.ParallelSession) -> None:
    """The user's own exception is raised, told apart by its index, its traceback ending in the user's line."""
    with pytest.raises(w.OwnError, match="no 3 please") as caught:
        await session.run_parallel(w.fail_on_3, range(10))
    assert "items[3]" in notes(caught.value)
    assert "fail_on_3" in notes(caught.value)
    assert failing_line(caught.value) == 'raise OwnError(f"no {x} please")  # the line that fails'


async def test_a_single_call_fails_alike(session: offloop.ParallelSession) -> None:
    """A call raises what fn raised, with its traceback."""
    with pytest.raises(w.OwnError, match="no 3 please") as caught:
        await session.run(w.fail_on_3, 3)
    assert failing_line(caught.value) == 'raise OwnError(f"no {x} please")  # the line that fails'


async def test_the_first_failure_stops_the_others(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Under on_error="raise" siblings under way are stopped, and what has not begun never does."""
    path = f"{tmp_path}/run"

    with anyio.fail_after(15), pytest.raises(w.OwnError):
        await session.run_parallel(partial(w.fail_once_met, path), range(50), chunk_size=1)
    assert len(w.lines(tmp_path / "run.began")) <= 4
    assert sorted(w.lines(tmp_path / "run.began")) == sorted(w.lines(tmp_path / "run.stopped"))


async def test_group_runs_everything_and_raises_all_failures(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Under on_error="group" every item runs, and failures come as one ExceptionGroup in the order of the items."""
    fn = partial(w.log_and_fail_on_odd, str(tmp_path / "log"))
    with pytest.raises(ExceptionGroup, match="5 of 10") as caught:
        await session.run_parallel(fn, range(10), on_error="group")
    assert [error.args for error in caught.value.exceptions] == [(1,), (3,), (5,), (7,), (9,)]
    assert all(type(error) is w.OwnError for error in caught.value.exceptions)
    assert [f"items[{i}]" in notes(error) for i, error in zip((1, 3, 5, 7, 9), caught.value.exceptions, strict=True)]
    assert sorted(map(int, w.lines(tmp_path / "log"))) == list(range(10))


async def test_group_without_failures_returns_results(session: offloop.ParallelSession) -> None:
    """Where nothing fails the mode makes no difference."""
    assert await session.run_parallel(w.double, range(5), on_error="group") == [0, 2, 4, 6, 8]
    assert await session.run_parallel(w.double, range(5), on_error="collect") == [0, 2, 4, 6, 8]


async def test_collect_puts_failures_in_place_of_results(session: offloop.ParallelSession) -> None:
    """Under on_error="collect" the list has one entry for each item, a failure where it failed."""
    results = await session.run_parallel(w.fail_on_odd, range(100), on_error="collect")
    assert len(results) == 100
    for index, result in enumerate(results):
        if index % 2:
            assert type(result) is w.OwnError
            assert result.args == (index,)
            assert f"items[{index}]" in notes(result)
        else:
            assert result == 2 * index


@pytest.mark.parametrize("name", NOT_RAISABLE)
@pytest.mark.fault(6)
async def test_what_would_end_the_callers_loop_arrives_as_an_item_error(
    session: offloop.ParallelSession, name: str
) -> None:
    """sys.exit and its like in fn are an ordinary failure of the item, with the original as the cause."""
    with anyio.fail_after(10), pytest.raises(offloop.ItemError, match=name) as caught:
        await session.run_parallel(w.raise_named, ["a", name, "b"])
    assert caught.value.index == 1
    assert type(caught.value.__cause__).__name__ == name
    assert "items[1]" in notes(caught.value)
    assert await session.run(w.double, 2) == 4


@pytest.mark.parametrize("name", NOT_RAISABLE)
@pytest.mark.fault(6)
async def test_a_single_call_is_safe_from_them_too(session: offloop.ParallelSession, name: str) -> None:
    """A call that ends in sys.exit and its like raises an ItemError."""
    with anyio.fail_after(10), pytest.raises(offloop.ItemError, match=name):
        await session.run(w.raise_named, name)


@pytest.mark.fault(6)
async def test_innocent_items_survive_them(session: offloop.ParallelSession) -> None:
    """No item is lost to its neighbour's sys.exit or StopIteration."""
    names = ["a", *NOT_RAISABLE, "b", "OwnInit", "HoldsLock", "BadText", "c"]
    results = await session.run_parallel(w.raise_named, names, on_error="collect")
    assert [r for r in results if isinstance(r, str)] == ["a", "b", "c"]
    assert all(isinstance(r, Exception) for r in results if not isinstance(r, str))


@pytest.mark.fault(19)
async def test_an_exception_with_an_init_of_its_own_arrives_as_itself(session: offloop.ParallelSession) -> None:
    """A class that can't be called with its args is rebuilt with its attributes all the same."""
    with pytest.raises(w.OwnInit, match="code 7: seven") as caught:
        await session.run(w.raise_named, "OwnInit")
    assert (caught.value.code, caught.value.detail) == (7, "seven")


@pytest.mark.fault(18)
async def test_an_unpicklable_exception_tells_type_text_and_traceback(session: offloop.ParallelSession) -> None:
    """An exception that can't travel is told of in full."""
    with pytest.raises((w.HoldsLock, offloop.ItemError)) as caught:
        await session.run_parallel(w.raise_named, ["a", "HoldsLock"])
    text = f"{type(caught.value).__name__} {caught.value} {notes(caught.value)}"
    assert "HoldsLock" in text
    assert "it holds a lock" in text
    assert "items[1]" in text
    assert failing_line(caught.value) == 'raise HoldsLock("it holds a lock")'


@pytest.mark.fault(18)
async def test_an_exception_without_a_text_arrives(session: offloop.ParallelSession) -> None:
    """A broken __str__ harms nothing."""
    with pytest.raises(w.BadText):
        await session.run(w.raise_named, "BadText")


async def test_a_group_arrives_as_itself(session: offloop.ParallelSession) -> None:
    """An ExceptionGroup from fn keeps its members."""
    with pytest.raises(ExceptionGroup) as caught:
        await session.run(w.raise_named, "group")
    assert [error.args for error in caught.value.exceptions] == [(1,), (2,)]


async def test_the_cause_of_a_failure_is_told(session: offloop.ParallelSession) -> None:
    """What fn's exception was raised from is in its traceback."""
    with pytest.raises(w.OwnError, match="outer") as caught:
        await session.run(w.raise_named, "caused")
    told = "".join(traceback.format_exception(caught.value))
    assert "KeyError" in told
    assert "inner" in told


async def test_failures_count_as_failed(anyio_backend: object, strategy: str) -> None:
    """Submitted items are the completed, the failed and the cancelled ones together."""
    async with offloop.ParallelSession(strategy=strategy) as session:
        await session.run_parallel(w.fail_on_odd, range(10), on_error="collect")
        statistics = session.statistics()
        assert (statistics.submitted, statistics.completed, statistics.failed) == (10, 5, 5)
        with pytest.raises(w.OwnError):
            await session.run_parallel(w.fail_on_3, range(1000))
        statistics = session.statistics()
        assert statistics.submitted == statistics.completed + statistics.failed + statistics.cancelled
        assert statistics.failed >= 6
