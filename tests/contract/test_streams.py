"""Streams: results as they come, from sources that may be endless, with a bounded number in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

WINDOW_CHUNKS = 4  # of an implicit window, for each lane


class Source:
    """Numbers from a generator of either kind, which knows the most that were in flight as it gave one."""

    def __init__(self, count: int | None = None, *, raises: bool = False) -> None:
        self.count, self.raises = count, raises
        self.given = self.opened = self.closed = 0
        self.done = 0  # results that the consumer is done with
        self.most = 0

    def _next(self) -> int:
        if self.given == self.count:
            raise w.OwnError("the source is broken")
        self.given += 1
        self.most = max(self.most, self.given - self.done)
        return self.given - 1

    @property
    def _has_more(self) -> bool:
        return self.raises or self.given != self.count

    def plain(self) -> Iterator[int]:
        self.opened += 1
        try:
            while self._has_more:
                yield self._next()
        finally:
            self.closed += 1

    async def waiting(self) -> AsyncIterator[int]:
        self.opened += 1
        try:
            while self._has_more:
                await anyio.lowlevel.checkpoint()
                yield self._next()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            self.closed += 1

    async def structured(self) -> AsyncIterator[int]:
        """Numbers that a task of a task group makes, in a scope with a deadline."""
        self.opened += 1
        send, receive = anyio.create_memory_object_stream[int](0)

        async def make() -> None:
            async with send:
                while self._has_more:
                    await send.send(self._next())

        try:
            with anyio.move_on_after(60):
                async with anyio.create_task_group() as tasks, receive:
                    tasks.start_soon(make)
                    async for number in receive:
                        yield number
                    tasks.cancel_scope.cancel()
        finally:
            self.closed += 1


Read = Callable[[Source], Any]
READS: dict[str, Read] = {"plain": Source.plain, "async": Source.waiting}


async def all_of(results: Any) -> list[Any]:
    """Return all results of a stream, or what an iterator over it yields."""
    return [result async for result in results]


async def kept(results: Any) -> tuple[list[Any], Exception | None]:
    """Return what comes out of a stream, and what it ends with."""
    found: list[Any] = []
    try:
        async for result in results:
            found.append(result)
    except Exception as error:
        return found, error
    return found, None


# --- what comes out ----------------------------------------------------------------------------------------------------


async def test_results_come_in_order(session: offloop.ParallelSession) -> None:
    """The results stand in the order of their items, though these take turns in being slow."""
    delays = [0.002 * (i % 3) for i in range(30)]
    async with session.stream(w.spin, delays) as results:
        assert await all_of(results) == delays


async def test_without_an_order_all_results_come(session: offloop.ParallelSession) -> None:
    """Each result comes once, and its index says whose it is."""
    delays = [0.002 * (i % 3) for i in range(30)]
    async with session.stream(w.spin, iter(delays), ordered=False, chunk_size=2) as results:
        found = await all_of(results.indexed())
    assert sorted(index for index, _ in found) == list(range(30))
    assert all(delays[index] == result for index, result in found)


async def test_without_an_order_nothing_waits_for_a_slow_item(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """Others overtake it."""
    path = f"{tmp_path}/go"
    async with workers.stream(partial(wait_at_0, path), range(20), ordered=False, chunk_size=1) as results:
        with anyio.fail_after(30):
            assert await anext(results) != 0
            Path(path).touch()
            assert 0 in await all_of(results)


def wait_at_0(path: str, x: int) -> int:
    """Wait at item 0 until a file is there."""
    while x == 0 and not Path(path).exists():
        offloop.checkpoint()
        w.sleep(0.001)
    return x


SOURCES: dict[str, Callable[[], Any]] = {
    "list": lambda: list(range(50)),
    "range": lambda: range(50),
    "dict": lambda: dict.fromkeys(range(50)),
    "iterator": lambda: iter(range(50)),
    "generator": lambda: Source(50).plain(),
    "blocking": lambda: slowly(50),
    "async generator": lambda: Source(50).waiting(),
    "async generator with a task group": lambda: Source(50).structured(),
    "memory stream": lambda: filled(50),
    "too short a length": lambda: Liar(50, 3),
    "too great a length": lambda: Liar(50, 1000),
}


def slowly(count: int) -> Iterator[int]:
    """Yield numbers, now and then after a while."""
    for number in range(count):
        if number % 10 == 0:
            w.sleep(0.003)
        yield number


def filled(count: int) -> Any:
    """Return a memory object stream that has so many numbers and no end that sends."""
    send, receive = anyio.create_memory_object_stream[int](count)
    for number in range(count):
        send.send_nowait(number)
    send.close()
    return receive


class Liar:
    """Numbers whose length is wrong."""

    def __init__(self, count: int, length: int) -> None:
        self.count, self.length = count, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))

    def __contains__(self, x: object) -> bool:
        return x in range(self.count)


async def test_a_source_may_be_anything_iterable(session: offloop.ParallelSession) -> None:
    """Whatever yields items, plain or async, is read to its end."""
    for kind, source in SOURCES.items():
        async with session.stream(w.double, source()) as results:
            assert await all_of(results) == list(range(0, 100, 2)), kind
            assert results.in_flight == 0


async def test_an_empty_source_gives_nothing(session: offloop.ParallelSession) -> None:
    """Nothing in, nothing out, at once."""
    for source in ([], iter(()), Source(0).plain(), Source(0).waiting(), filled(0)):
        async with session.stream(w.double, source) as results:
            assert await all_of(results) == []


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_a_source_may_be_endless(session: offloop.ParallelSession, read: Read, ordered: bool) -> None:
    """The consumer takes what it wants and leaves; the source is closed by then."""
    source, found = Source(), []
    async with session.stream(w.double, read(source), ordered=ordered) as results:
        async for result in results:
            found.append(result)
            if len(found) == 100:
                break
    assert source.closed == 1
    assert len(set(found)) == 100
    assert not ordered or found == list(range(0, 200, 2))


async def test_seeds_are_those_of_maps(session: offloop.ParallelSession) -> None:
    """Item i draws the same numbers as in `run_parallel`, in whatever order the results come."""
    expected = await session.run_parallel(w.draws, range(40), seed=42)
    async with session.stream(w.draws, iter(range(40)), seed=42, chunk_size=3) as results:
        assert await all_of(results) == expected
    async with session.stream(w.draws, Source(40).waiting(), seed=42, ordered=False, window=5) as results:
        assert sorted(await all_of(results)) == expected


@pytest.mark.on_workers
async def test_large_arrays_travel(session: offloop.ParallelSession) -> None:
    """Items and results that go by files arrive equal, and stay valid after the stream."""
    arrays = [np.full(30_000, float(i)) for i in range(12)]
    async with session.stream(w.double, iter(arrays), window=4) as results:
        found = await all_of(results)
    assert all(np.array_equal(result, 2 * array) for result, array in zip(found, arrays, strict=True))


async def test_what_a_stream_is_called_is_told(session: offloop.ParallelSession) -> None:
    """Its label is in what is told of it, like that of a map."""
    with w.heard() as told:
        async with session.stream(w.double, range(5), label="five", priority="interactive", max_wait_s=20) as results:
            assert await all_of(results) == [0, 2, 4, 6, 8]
    labelled = [event for event in told if event.event in ("parallel.decision", "parallel.finished")]
    assert {event.event for event in labelled} == {"parallel.decision", "parallel.finished"}
    assert {event.label for event in labelled} == {"five"}


# --- the consumer ------------------------------------------------------------------------------------------------------


async def test_results_can_be_had_one_by_one(session: offloop.ParallelSession) -> None:
    """`anext`, `indexed` and `async for` take turns, and each goes on where the other one was left."""
    async with session.stream(w.double, iter(range(40)), chunk_size=3) as results:
        assert [await anext(results) for _ in range(4)] == [0, 2, 4, 6]
        assert await anext(results.indexed()) == (4, 8)
        async for result in results:
            if result == 20:
                break
        async for index, result in results.indexed():
            assert result == 2 * index
            if index == 20:
                break
        assert await all_of(results) == list(range(42, 80, 2))
        assert await all_of(results) == []
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_waiting_for_a_result_can_be_cancelled(session: offloop.ParallelSession) -> None:
    """Nothing is lost by it."""
    send, receive = anyio.create_memory_object_stream[int](5)
    async with send, session.stream(w.double, receive) as results:
        with anyio.move_on_after(0.01) as scope:
            await anext(results)
        assert scope.cancelled_caught
        for number in range(5):
            send.send_nowait(number)
        send.close()
        with anyio.fail_after(30):
            assert await all_of(results) == [0, 2, 4, 6, 8]


async def test_a_stream_is_entered_once(session: offloop.ParallelSession) -> None:
    """A second time is refused with what to do; the first goes on."""
    stream = session.stream(w.double, [1, 2])
    async with stream as results:
        with pytest.raises(RuntimeError, match="make another"):
            await stream.__aenter__()
        assert await all_of(results) == [2, 4]
    with pytest.raises(RuntimeError, match="make another"):
        await stream.__aenter__()


async def test_a_stream_that_was_left_has_an_end(session: offloop.ParallelSession) -> None:
    """Who goes on asking outside of its context is told, and not left waiting."""
    async with session.stream(w.double, Source().waiting()) as results:
        assert await anext(results) == 0
    with anyio.fail_after(10), pytest.raises(RuntimeError, match="was left"):
        await all_of(results)


async def test_a_stream_that_is_not_entered_does_nothing(session: offloop.ParallelSession) -> None:
    """Its source isn't touched."""
    source = Source()
    session.stream(w.double, source.plain())
    assert (source.opened, source.given) == (0, 0)


async def test_a_stream_in_a_generator_ends_when_that_is_closed(session: offloop.ParallelSession) -> None:
    """An async generator that yields a stream's results may be closed in the middle, as web servers do."""
    source = Source()

    async def doubled() -> AsyncIterator[int]:
        async with session.stream(w.double, source.waiting()) as results:
            async for result in results:
                yield result

    async with aclosing(doubled()) as numbers:  # type: ignore[type-var]
        assert [await anext(numbers) for _ in range(3)] == [0, 2, 4]
    assert source.closed == 1
    assert await session.run(w.double, 2) == 4


async def test_a_stream_may_read_another(session: offloop.ParallelSession) -> None:
    """The results of one are the items of the next, and both end together."""
    source = Source()
    with anyio.fail_after(30):
        async with session.stream(w.double, source.waiting(), window=6) as ones, session.stream(w.double, ones, window=6) as twos:
            assert [await anext(twos) for _ in range(30)] == list(range(0, 120, 4))
    assert source.closed == 1
    assert source.given <= 30 + 6 + 6


async def test_streams_go_on_side_by_side(session: offloop.ParallelSession) -> None:
    """Two of one session are each in their own order, beside a map and a call."""
    async with session.stream(w.double, Source(60).plain()) as ones, session.stream(w.echo, Source(60).waiting()) as others:
        found = await w.gather(
            all_of(ones),
            all_of(others),
            session.run_parallel(w.double, range(50)),
            session.run(w.double, 7),
        )
    assert found == [list(range(0, 120, 2)), list(range(60)), list(range(0, 100, 2)), 14]


# --- what is in flight ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "chunk_size", "ordered"), [(1, None, True), (7, None, False), (7, 3, True), (None, 3, False)]
)
@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_no_more_than_the_window_is_in_flight(
    session: offloop.ParallelSession, read: Read, window: int | None, chunk_size: int | None, ordered: bool
) -> None:
    """At no moment more was taken from the source than the consumer is done with and the window allows."""
    source = Source()
    limit = window or WINDOW_CHUNKS * 2 * (chunk_size or 1)
    options: dict[str, Any] = {"window": window, "chunk_size": chunk_size, "ordered": ordered}
    async with session.stream(w.double, read(source), **options) as results:
        for _ in range(40):
            await anext(results)
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
                assert 1 <= results.in_flight <= limit
            source.done += 1
    assert source.most <= limit


async def test_a_consumer_that_stops_stops_the_source(session: offloop.ParallelSession) -> None:
    """While it does something else, no more is taken than the window; then all goes on."""
    source = Source()
    async with session.stream(w.double, source.waiting(), window=10) as results:
        assert await anext(results) == 0
        await session.run_parallel(w.double, range(100))
        await anyio.wait_all_tasks_blocked()
        assert source.given <= 10
        assert [await anext(results) for _ in range(50)] == list(range(2, 102, 2))


async def test_a_consumer_that_never_asks_stops_the_source(session: offloop.ParallelSession) -> None:
    """Entering begins the work; where nobody asks, the window is all that is taken."""
    source = Source()
    async with session.stream(w.double, source.waiting(), window=10) as results:
        with anyio.fail_after(30):
            while source.given < 8:
                await anyio.sleep(0.001)
        await session.run(w.double, 1)
        await anyio.wait_all_tasks_blocked()
        assert source.given == results.in_flight <= 10
    assert source.closed == 1


async def test_a_first_item_that_is_slowest_holds_the_others(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """In order no more than the window waits behind it."""
    path, source = f"{tmp_path}/go", Source()
    async with workers.stream(partial(wait_at_0, path), source.waiting(), window=8, chunk_size=1) as results:
        with anyio.fail_after(30):
            while source.given < 8:
                await anyio.sleep(0.001)
        await workers.run_parallel(w.double, range(50))
        await anyio.wait_all_tasks_blocked()
        assert (source.given, results.in_flight) == (8, 8)
        Path(path).touch()
        assert [await anext(results) for _ in range(30)] == list(range(30))


@pytest.mark.on_workers
async def test_large_items_are_held_by_their_bytes(anyio_backend: object, strategy: str) -> None:
    """What is in flight may not bring more bytes than the session allows, whatever the window; one is let in always."""
    source = Source()

    async def heavy() -> AsyncIterator[bytes]:
        async with aclosing(source.waiting()) as numbers:  # type: ignore[type-var]
            async for number in numbers:
                yield bytes(100_000 + number)

    async with offloop.ParallelSession(strategy=strategy, workers=1, max_in_flight_bytes=1_000_000) as session:
        async with session.stream(len, heavy(), window=100) as results:
            for number in range(30):
                assert await anext(results) == 100_000 + number
                assert results.in_flight <= 10
                source.done += 1
    assert source.closed == 1


# --- ends ------------------------------------------------------------------------------------------------------------------


async def left_at_its_end(results: Any) -> None:
    await all_of(results)


async def left_by_a_break(results: Any) -> None:
    async for _ in results:
        break


async def left_without_asking(results: Any) -> None:
    """Leave at once."""


async def left_by_an_error(results: Any) -> None:
    await anext(results)
    raise w.OwnError("the consumer is broken")


async def left_by_a_deadline(results: Any) -> None:
    with anyio.fail_after(0):
        await all_of(results)


LEAVES = (left_at_its_end, left_by_a_break, left_without_asking, left_by_an_error, left_by_a_deadline)
SOURCE_KINDS: dict[str, Read] = {**READS, "structured": Source.structured}


@pytest.mark.parametrize("read", SOURCE_KINDS.values(), ids=SOURCE_KINDS)
async def test_a_source_is_closed_once(session: offloop.ParallelSession, read: Read) -> None:
    """In whatever way the stream is left; one that was never opened has nothing to close."""
    for leave in LEAVES:
        source = Source(200)
        with suppress(w.OwnError, TimeoutError):
            async with session.stream(w.double, read(source)) as results:
                await leave(results)
        assert source.closed == source.opened <= 1, leave
    assert await session.run_parallel(w.double, range(5)) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("read", SOURCE_KINDS.values(), ids=SOURCE_KINDS)
async def test_a_cancelled_consumer_leaves_nothing(
    session: offloop.ParallelSession, read: Read, tmp_path: Path
) -> None:
    """Cancelling returns when its items have stopped and its source is closed."""
    source, path = Source(), f"{tmp_path}/run"
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def consume() -> None:
                async with session.stream(partial(w.loop_until_cancelled_as, path), read(source)) as results:
                    await all_of(results)

            tasks.start_soon(consume)
            await w.appears(f"{path}.began")
            scope.cancel()
    assert scope.cancelled_caught
    assert source.closed == 1
    assert len(w.lines(Path(f"{path}.began"))) == len(w.lines(Path(f"{path}.stopped")))


async def test_a_memory_stream_is_closed(session: offloop.ParallelSession) -> None:
    """Who sends into it finds that nobody reads any more."""
    send, receive = anyio.create_memory_object_stream[int](100)
    async with send:
        send.send_nowait(1)
        async with session.stream(w.double, receive) as results:
            assert await anext(results) == 2
        with pytest.raises(anyio.BrokenResourceError):
            send.send_nowait(2)


@pytest.mark.parametrize("read", SOURCE_KINDS.values(), ids=SOURCE_KINDS)
async def test_what_a_source_raises_comes_after_all_results(session: offloop.ParallelSession, read: Read) -> None:
    """All items that it gave before have theirs; then it is raised as itself, once."""
    source = Source(25, raises=True)
    async with session.stream(w.double, read(source), on_error="collect", chunk_size=3) as results:
        found, error = await kept(results)
        assert await all_of(results) == []
    assert found == list(range(0, 50, 2))
    told = error.exceptions[0] if isinstance(error, ExceptionGroup) else error  # its own task group has put it into one
    assert repr(told) == "OwnError('the source is broken')"
    assert source.closed == 1


@pytest.mark.parametrize("chunk_size", [None, 1, 4])
async def test_what_an_item_raises_comes_in_its_place(session: offloop.ParallelSession, chunk_size: int | None) -> None:
    """The results before it come, then the error as itself, with its index; then the stream is over."""
    source = Source()
    async with session.stream(w.fail_on_3, source.plain(), chunk_size=chunk_size) as results:
        found, error = await kept(results)
        assert await all_of(results) == []
    assert found == [0, 2, 4]
    assert isinstance(error, w.OwnError)
    assert any("items[3]" in note for note in error.__notes__)
    assert source.closed == 1


async def test_errors_may_stand_in_place_of_results(session: offloop.ParallelSession) -> None:
    """Collected, they come like results, and the stream goes on."""
    async with session.stream(w.fail_on_odd, Source(40).plain(), on_error="collect") as results:
        found = await all_of(results)
    assert [x for x in found if not isinstance(x, Exception)] == list(range(0, 80, 4))
    assert [type(x) for x in found[1::2]] == [w.OwnError] * 20


async def test_what_is_wrong_from_the_start_is_raised_at_once(session: offloop.ParallelSession) -> None:
    """An async fn, a bad option and a source that can't be iterated over are refused before anything is entered."""
    with pytest.raises(offloop.AsyncFunctionError):
        session.stream(w.async_double, [1])
    with pytest.raises(offloop.SettingError, match="window=0"):
        session.stream(w.double, [1], window=0)
    with pytest.raises(offloop.SettingError, match="group"):
        session.stream(w.double, [1], on_error="group")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="iterable"):
        session.stream(w.double, 3)  # type: ignore[call-overload]


async def test_an_option_of_streams_is_one_of_streams_alone(session: offloop.ParallelSession) -> None:
    """A map refuses it, also after a stream of the same function has had it."""
    async with session.stream(w.double, [1], window=5) as results:
        assert await all_of(results) == [2]
    with pytest.raises(offloop.SettingError, match="window"):
        await session.run_parallel(w.double, [1], window=5)  # type: ignore[call-overload]


async def test_a_session_that_is_closed_ends_its_streams(anyio_backend: object, strategy: str) -> None:
    """Iterating then raises SessionClosedError, after the results that were there; a new stream does too."""
    source = Source()
    async with offloop.ParallelSession(strategy=strategy, workers=1) as session:
        async with session.stream(w.double, source.waiting(), window=5) as results:
            assert await anext(results) == 0
            await session.aclose()
            found, error = await kept(results)
            assert len(found) <= 5
            assert isinstance(error, offloop.SessionClosedError)
        assert source.closed == 1
        with pytest.raises(offloop.SessionClosedError):
            session.stream(w.double, [1])


async def test_draining_waits_for_streams(anyio_backend: object, strategy: str) -> None:
    """A stream that was begun goes on to its end, its source may start runs, and no other is let in."""

    async def source() -> AsyncIterator[int]:
        for number in range(20):
            yield await session.run(w.double, number)

    done: list[bool] = []

    async def drain() -> None:
        done.append(await session.drain())

    with anyio.fail_after(30):
        async with offloop.ParallelSession(strategy=strategy, workers=1) as session, anyio.create_task_group() as tasks:
            async with session.stream(w.double, source(), window=3) as results:
                assert await anext(results) == 0
                tasks.start_soon(drain)
                while session.statistics().state == "open":
                    await anyio.sleep(0.001)
                with pytest.raises(offloop.SessionClosedError, match="draining"):
                    session.stream(w.double, [1])
                assert not done
                assert await all_of(results) == list(range(4, 80, 4))
    assert done == [True]


# --- as with maps ------------------------------------------------------------------------------------------------------


async def test_an_item_that_takes_too_long_fails_alone(workers: offloop.ParallelSession) -> None:
    """Its time limit holds in a stream as in a map."""
    async with workers.stream(w.sleep, iter([0, 30, 0, 0]), item_timeout_s=0.1, on_error="collect", chunk_size=2) as results:
        found = await all_of(results)
    assert [type(x) for x in found] == [int, offloop.ItemTimeout, int, int]


@pytest.mark.on_workers
async def test_an_item_whose_worker_died_runs_again(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """Its result stands in its place, and all others are kept."""
    async with offloop.ParallelSession(strategy=strategy, workers=1) as session:
        async with session.stream(partial(w.die_once, f"{tmp_path}/died"), Source(30).plain(), chunk_size=3) as results:
            assert await all_of(results) == list(range(0, 60, 2))


async def test_an_item_that_cannot_travel_fails_in_its_place(workers: offloop.ParallelSession) -> None:
    """The others come as ever, and the source goes on."""
    items = [w.Request(number, has_client=number == 3) for number in range(8)]
    async with workers.stream(w.number_of, iter(items), on_error="collect") as results:
        found = await all_of(results)
    assert found[:3] + found[4:] == [0, 1, 2, 4, 5, 6, 7]
    assert isinstance(found[3], offloop.UnpicklableItem)
