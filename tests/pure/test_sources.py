"""sources.py: where items come from, read ahead no further than asked for."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest

from offloop.sources import NoSource, Source, source_of

pytestmark = pytest.mark.anyio


async def drain(source: Source, size: int) -> list[Any]:
    """Take everything in portions, pulling when nothing is at hand."""
    items: list[Any] = []
    async with source.reading():
        while not source.is_exhausted:
            if source.n_ready == 0:
                await source.pull(size)
            taken = source.take(size)
            assert len(taken) <= size
            items.extend(taken)
    return items


def count_to(n: int) -> Iterator[int]:
    """Yield numbers."""
    yield from range(n)


async def count_slowly_to(n: int) -> AsyncIterator[int]:
    """Yield numbers, giving way between them."""
    for number in range(n):
        await anyio.lowlevel.checkpoint()
        yield number


class ByIndex:
    """Iterable by its index alone."""

    def __getitem__(self, index: int) -> int:
        if index >= 7:
            raise IndexError(index)
        return index


class Liar:
    """Says it is longer or shorter than it is."""

    def __init__(self, says: int, has: int) -> None:
        self.says, self.has = says, has

    def __len__(self) -> int:
        return self.says

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.has))

    def __contains__(self, item: object) -> bool:
        return False


SEVEN = list(range(7))


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize(
    "make",
    [
        lambda: list(SEVEN),
        lambda: tuple(SEVEN),
        lambda: range(7),
        lambda: deque(SEVEN),
        lambda: dict.fromkeys(SEVEN, "value"),
        lambda: set(SEVEN),
        lambda: frozenset(SEVEN),
        lambda: dict.fromkeys(SEVEN).keys(),
        lambda: count_to(7),
        lambda: map(int, "0123456"),
        lambda: np.arange(7),
        ByIndex,
        lambda: Liar(says=3, has=7),
        lambda: Liar(says=20, has=7),
        lambda: count_slowly_to(7),
    ],
)
async def test_every_iterable_gives_its_items_in_order(make: Callable[[], Any], size: int) -> None:
    """Any iterable or async iterable gives all its items in order, whatever its length claims."""
    assert [int(item) for item in await drain(source_of(make()), size)] == SEVEN


@pytest.mark.parametrize("empty", [[], (), range(0), {}, iter(()), count_to(0), np.empty(0), ""])
async def test_an_empty_iterable_gives_nothing(empty: Iterable[Any]) -> None:
    """An empty iterable is exhausted with nothing taken."""
    assert await drain(source_of(empty), 5) == []


@pytest.mark.parametrize("wrong", [3, None, object(), len])
def test_what_cannot_be_iterated_is_refused(wrong: Any) -> None:
    """What isn't iterable is a TypeError that names its type."""
    with pytest.raises(TypeError, match=f"must be iterable or async iterable, not {type(wrong).__name__}"):
        source_of(wrong)


async def test_a_sequence_knows_what_remains() -> None:
    """What remains of a collection at hand is known at every moment, and all of it is ready."""
    source = source_of([1, 2, 3, 4, 5])
    assert (source.remaining, source.n_ready, source.is_exhausted) == (5, None, False)
    assert source.take(2) == [1, 2]
    assert source.remaining == 3
    assert source.take(9) == [3, 4, 5]
    assert (source.remaining, source.is_exhausted) == (0, True)


@pytest.mark.parametrize(
    ("items", "remaining"), [(np.arange(5), 5), (count_to(5), None), (map(str, "ab"), None), (count_slowly_to(2), None)]
)
async def test_what_remains_is_known_where_there_is_a_length(items: Any, remaining: int | None) -> None:
    """The length of a collection is known before it is read; of a generator nothing is known until its end."""
    source = source_of(items)
    async with source.reading():
        assert source.remaining == remaining
        assert not source.is_exhausted


async def test_no_more_is_read_than_asked_for() -> None:
    """An iterator is read no further than a pull asks, so that an endless one can be read as room is made."""
    read: list[int] = []

    def endless() -> Iterator[int]:
        number = 0
        while True:
            read.append(number)
            yield number
            number += 1

    source = source_of(endless())
    async with source.reading():
        await source.pull(5)
        assert (read, source.n_ready, source.remaining) == ([0, 1, 2, 3, 4], 5, None)
        assert list(source.take(3)) == [0, 1, 2]
        await source.pull(1)
        assert (read[-1], source.n_ready) == (5, 3)


async def test_an_iterator_is_read_off_the_loop() -> None:
    """A plain iterator, which may block, runs in another thread than the event loop."""
    threads: set[int] = set()

    def where() -> Iterator[int]:
        threads.add(threading.get_ident())
        yield 1

    await drain(source_of(where()), 1)
    assert threads
    assert threading.get_ident() not in threads


async def test_a_generator_is_closed() -> None:
    """A generator that isn't read to its end is closed, so that its finally blocks run before the run returns."""
    closed: list[str] = []

    def plain() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            closed.append("plain")

    async def awaiting() -> AsyncIterator[int]:
        try:
            for number in range(9):
                yield number
        finally:
            closed.append("async")

    for items in (plain(), awaiting()):
        source = source_of(items)
        async with source.reading():
            await source.pull(1)
    assert closed == ["plain", "async"]


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_what_the_source_raises_is_kept_behind_its_items(kind: str) -> None:
    """What the iterable raises ends it, is kept as itself, and no item before it is lost."""

    def plain() -> Iterator[int]:
        yield 1
        raise LookupError("source")

    async def awaiting() -> AsyncIterator[int]:
        yield 1
        raise LookupError("source")

    source = source_of(plain() if kind == "plain" else awaiting())
    async with source.reading():
        await source.pull(1)
        assert list(source.take(9)) == [1]
        await source.pull(1)
    assert (type(source.failure), source.is_exhausted) == (LookupError, True)


async def cancelled_within() -> AsyncIterator[int]:
    """Yield a number, then wait for an asyncio task that was cancelled."""
    yield 1
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task


class Bare:
    """An async iterator that is no generator, over one that is."""

    def __init__(self, items: AsyncIterator[int]) -> None:
        self._items = items

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        return await anext(self._items)


@pytest.mark.parametrize(
    "anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"], indirect=True
)
@pytest.mark.parametrize("make", [cancelled_within, lambda: Bare(cancelled_within())], ids=["generator", "iterator"])
async def test_a_source_that_is_cancelled_from_within_has_failed(anyio_backend: object, make: Callable[[], Any]) -> None:
    """Nobody has left it, so that whoever reads it is told, behind its items."""
    source = source_of(make())
    async with source.reading():
        for expected in ([1], []):
            with anyio.fail_after(30):
                await source.pull(1)
            assert list(source.take(9)) == expected
    assert source.is_exhausted
    assert isinstance(source.failure, RuntimeError)
    assert isinstance(source.failure.__cause__, asyncio.CancelledError)


async def test_blocked_iterators_leave_the_program_its_threads(anyio_backend: object) -> None:
    """However many block, each can be left, is closed once it goes on, and whoever else wants a thread gets one."""
    count, go = 45, threading.Event()
    blocked: list[int] = []
    closed: list[int] = []

    def blocking() -> Iterator[int]:
        blocked.append(1)
        try:
            go.wait(60)
            yield 1
        finally:
            closed.append(1)

    async def read() -> None:
        source = source_of(blocking())
        async with source.reading():
            await source.pull(1)

    with anyio.fail_after(30):
        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(count):
                    tasks.start_soon(read)
                await reaches(blocked, count)
                tasks.cancel_scope.cancel()
            await anyio.to_thread.run_sync(closed.copy)
            assert closed == []
        finally:
            go.set()
        await reaches(closed, count)


async def reaches(events: list[int], count: int) -> None:
    """Wait until there are so many."""
    while len(events) < count:
        await anyio.sleep(0.001)


class SlowToOpen:
    """A lock whose holder lets it go when told to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.acquire, self.release = self._lock.acquire, self._lock.release
        self.n_leaving: list[int] = []
        self.go = threading.Event()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.n_leaving.append(1)
        self.go.wait(60)
        self.release()


async def test_a_generator_is_closed_that_is_left_as_it_was_read(anyio_backend: object) -> None:
    """Left when its thread has done with it and not said so yet, it is closed by that."""
    closed: list[int] = []

    def numbers() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            closed.append(1)

    source: Any = source_of(numbers())
    source._in_use = lock = SlowToOpen()
    with anyio.fail_after(30):
        try:
            async with source.reading(), anyio.create_task_group() as tasks:
                tasks.start_soon(source.pull, 1)
                await reaches(lock.n_leaving, 1)
                tasks.cancel_scope.cancel()
            assert closed == []
        finally:
            lock.go.set()
        await reaches(closed, 1)


async def test_no_source_has_nothing() -> None:
    """The source of a single call is exhausted from the start."""
    assert await drain(NoSource(), 3) == []
    assert (NoSource().remaining, NoSource().is_exhausted) == (0, True)
