"""Results: one for each item, in the order of the items, whatever the items come from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import anyio
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio


class Source:
    """Items from a generator of either kind, which tells whether it was closed."""

    def __init__(self, count: int, fail_at: int | None = None) -> None:
        self.count, self.fail_at = count, fail_at
        self.given = 0
        self.closed = 0

    def _next(self, index: int) -> int:
        if index == self.fail_at:
            raise w.OwnError("the source failed")
        self.given += 1
        return index

    def items(self) -> Iterator[int]:
        try:
            for index in range(self.count):
                yield self._next(index)
        finally:
            self.closed += 1

    async def items_async(self) -> AsyncIterator[int]:
        try:
            for index in range(self.count):
                await anyio.sleep(0)
                yield self._next(index)
        finally:
            self.closed += 1


async def test_results_come_in_input_order(session: offloop.ParallelSession) -> None:
    """The result of item i stands at place i, though items take turns in being slow."""
    delays = [0.004 * (i % 3) for i in range(40)]
    assert await session.run_parallel(w.spin, delays) == delays


@pytest.mark.parametrize("items", [[], (), range(0), {}, iter(())], ids=lambda items: type(items).__name__)
async def test_no_items_give_no_results(session: offloop.ParallelSession, items: object) -> None:
    """Nothing in, an empty list out."""
    assert await session.run_parallel(w.double, items if items != iter(()) else iter(())) == []


async def test_no_items_start_no_worker(anyio_backend: object, strategy: str) -> None:
    """Where there is nothing to do, no process and no thread is started for it."""
    async with offloop.ParallelSession(strategy=strategy) as session:
        assert await session.run_parallel(w.double, []) == []
        assert session.statistics().workers_started == 0
        assert session._threads.pool.n_started == 0


async def test_one_item_gives_one_result(session: offloop.ParallelSession) -> None:
    """A single item works like many."""
    assert await session.run_parallel(w.double, [21]) == [42]
    assert await session.run(w.double, 21) == 42


async def test_a_hundred_thousand_items_arrive(session: offloop.ParallelSession) -> None:
    """Tiny items are batched, so that many of them are no burden."""
    with anyio.fail_after(30):
        assert await session.run_parallel(w.double, range(100_000)) == list(range(0, 200_000, 2))


@pytest.mark.parametrize("chunk_size", [1, 3, 1000])
async def test_a_chunk_size_changes_no_result(session: offloop.ParallelSession, chunk_size: int) -> None:
    """However items are dealt, the results are the same."""
    assert await session.run_parallel(w.double, range(50), chunk_size=chunk_size) == list(range(0, 100, 2))


@pytest.mark.parametrize("count", [0, 1, 2, 500])
async def test_a_generator_is_read_to_its_end(session: offloop.ParallelSession, count: int) -> None:
    """A generator gives its items once, in order."""
    source = Source(count)
    assert await session.run_parallel(w.double, source.items()) == list(range(0, 2 * count, 2))
    assert source.given == count


@pytest.mark.parametrize("count", [0, 1, 2, 500])
async def test_an_async_generator_is_read_to_its_end(session: offloop.ParallelSession, count: int) -> None:
    """An async generator gives its items once, in order, and is closed."""
    source = Source(count)
    assert await session.run_parallel(w.double, source.items_async()) == list(range(0, 2 * count, 2))
    assert (source.given, source.closed) == (count, 1)


@pytest.mark.parametrize(
    "items",
    [{3: "x", 1: "y"}, dict.fromkeys("abc").keys(), "abc", b"abc", (1, 2), frozenset({7})],
    ids=lambda items: type(items).__name__,
)
async def test_any_iterable_will_do(session: offloop.ParallelSession, items: object) -> None:
    """Items are whatever iteration gives."""
    assert await session.run_parallel(w.echo, items) == list(items)


async def test_a_source_that_lies_about_its_length_is_read_as_it_is(session: offloop.ParallelSession) -> None:
    """A length is a hint; what counts is what iteration gives."""

    class Liar:
        def __init__(self, length: int) -> None:
            self.length = length

        def __len__(self) -> int:
            return self.length

        def __iter__(self) -> Iterator[int]:
            return iter(range(5))

        def __contains__(self, _: object) -> bool:
            return False

    assert await session.run_parallel(w.double, Liar(1)) == [0, 2, 4, 6, 8]
    assert await session.run_parallel(w.double, Liar(50)) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("kind", ["items", "items_async"])
async def test_a_source_that_fails_ends_the_run_with_its_error(session: offloop.ParallelSession, kind: str) -> None:
    """What the source raises arrives as itself."""
    source = Source(100, fail_at=30)
    with pytest.raises(w.OwnError, match="the source failed"):
        await session.run_parallel(w.double, getattr(source, kind)())
    assert source.closed == 1


async def closed_soon(source: Source) -> bool:
    """A generator that was being read in a thread at the time is closed when that step is over."""
    with anyio.move_on_after(3):
        while not source.closed:
            await anyio.sleep(0.002)
    return source.closed == 1


@pytest.mark.parametrize("kind", ["items", "items_async"])
async def test_a_failing_item_closes_the_source(session: offloop.ParallelSession, kind: str) -> None:
    """When a run ends early, the generator that it read is closed, once, and not read to its end."""
    source = Source(1_000_000)
    items = getattr(source, kind)()
    with pytest.raises(w.OwnError):
        await session.run_parallel(w.fail_on_3, items)
    assert await closed_soon(source)
    assert source.given < 1_000_000


@pytest.mark.parametrize("fn", [w.fail_on_3, w.fail_on_0])
@pytest.mark.parametrize("kind", ["items", "items_async"])
async def test_auto_closes_the_source_of_a_failing_item(anyio_backend: object, kind: str, fn: Any) -> None:
    """The generator is closed also where the run ends among the items that are measured."""
    source = Source(1_000)
    items = getattr(source, kind)()
    async with offloop.ParallelSession() as session:
        with pytest.raises(w.OwnError):
            await session.run_parallel(fn, items)
    assert await closed_soon(source)


async def test_reading_ahead_is_bounded(session: offloop.ParallelSession, tmp_path: object) -> None:
    """An async source is read no further than the work needs."""
    source = Source(10**9)
    path = f"{tmp_path}/run"

    async with aclosing(source.items_async()) as items, anyio.create_task_group() as tasks:
        tasks.start_soon(session.run_parallel, lambda _: w.loop_until_cancelled(path), items)
        await w.appears(f"{path}.began")
        await anyio.sleep(0.1)  # time enough to run away, if it were to
        given = source.given
        tasks.cancel_scope.cancel()
    assert given < 200
    assert source.closed == 1


async def test_what_is_not_iterable_is_refused(session: offloop.ParallelSession) -> None:
    """Items that are none are an error at once."""
    with pytest.raises(TypeError, match="iterable"):
        await session.run_parallel(w.double, 5)


async def test_the_module_level_functions_work_alike(anyio_backend: object, strategy: str) -> None:
    """run and run_parallel without a session do the same on the process-wide one."""
    try:
        assert await offloop.run_parallel(w.double, range(10), strategy=strategy) == list(range(0, 20, 2))
        assert await offloop.run(w.add, 1, 2, strategy=strategy) == 3
        assert await offloop.run_parallel(w.double, range(10)) == list(range(0, 20, 2))
    finally:
        await offloop.close_default_session()


async def test_no_items_is_no_fallback(workers: offloop.ParallelSession, caplog: pytest.LogCaptureFixture) -> None:
    """Where there is nothing to do, nobody is warned that no worker did it."""
    assert await workers.run_parallel(w.double, []) == []
    assert caplog.records == []
