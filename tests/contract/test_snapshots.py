"""Items that an iterator yields: each is as it was when it was yielded, whatever happens to it afterwards."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import numpy as np
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

ITEMS = 8
LARGE = 40_000  # of 8 bytes: 320 kB, beyond what is pickled in band, and beyond what is compared before it is copied


def array_of(size: int) -> Iterator[Any]:
    """Yield one array, refilled."""
    buffer = np.empty(size)
    for number in range(ITEMS):
        buffer[:] = number
        yield buffer


def bytearray_of(size: int) -> Iterator[Any]:
    """Yield one bytearray, refilled."""
    buffer = bytearray(size)
    for number in range(ITEMS):
        buffer[:] = bytes([number]) * size
        yield buffer


def view_of(size: int) -> Iterator[Any]:
    """Yield views of one array, refilled."""
    for buffer in array_of(2 * size):
        yield buffer[::2]


def list_of(size: int) -> Iterator[Any]:
    """Yield one list, refilled."""
    row = [0] * min(size, 3000)
    for number in range(ITEMS):
        row[:] = [number] * len(row)
        yield row


def dict_of(size: int) -> Iterator[Any]:
    """Yield one dict with one array in it, refilled."""
    record: dict[str, Any] = {}
    for buffer in array_of(size):
        record["data"] = buffer
        yield record


def deque_of(size: int) -> Iterator[Any]:
    """Yield one deque that moves on."""
    window = deque([0.0] * 5, maxlen=5)
    for number in range(ITEMS):
        window.extend([float(number)] * 5)
        yield window


def tuple_of(size: int) -> Iterator[Any]:
    """Yield tuples that hold one array, refilled."""
    yield from enumerate(array_of(size))


def frame_of(size: int) -> Iterator[Any]:
    """Yield one frame over one array, refilled."""
    pandas = pytest.importorskip("pandas", reason="a frame needs pandas")
    memory = np.empty((size, 1))
    frame = pandas.DataFrame(memory, copy=False)
    for number in range(ITEMS):
        memory[:] = number
        yield frame


MAKERS = {
    maker.__name__: maker
    for maker in (array_of, bytearray_of, view_of, list_of, dict_of, deque_of, tuple_of, frame_of)
}
Maker = Callable[[int], Iterator[Any]]


def first_and_last(item: Any) -> tuple[float, float]:
    """Return the first and the last number in an item."""
    if isinstance(item, tuple):
        return float(item[0]), float(item[1][-1])
    if isinstance(item, dict):
        item = item["data"]
    if hasattr(item, "to_numpy"):
        item = item.to_numpy()[:, 0]
    return float(item[0]), float(item[-1])


async def waiting(items: Iterator[Any]) -> AsyncIterator[Any]:
    """Yield items as an async iterable would that waits for each."""
    for item in items:
        await anyio.lowlevel.checkpoint()
        yield item


@pytest.mark.one_loop
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("size", [5, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
@pytest.mark.fault(66)
async def test_a_refilled_item_is_as_many_items(
    session: offloop.ParallelSession, maker: Maker, size: int, is_async: bool
) -> None:
    """A generator that refills and yields one and the same object gives different items, on every strategy."""
    source: Any = waiting(maker(size)) if is_async else maker(size)
    expected = [(float(i), float(i)) for i in range(ITEMS)]
    assert await session.run_parallel(first_and_last, source) == expected


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
async def test_a_refilled_item_is_as_many_items_by_measure(workers: offloop.ParallelSession, is_async: bool) -> None:
    """That holds too where the first items are measured to decide where the others execute."""
    source: Any = waiting(array_of(LARGE)) if is_async else array_of(LARGE)
    expected = [(float(i), float(i)) for i in range(ITEMS)]
    assert await workers.run_parallel(first_and_last, source, strategy="auto") == expected


async def test_what_is_returned_is_independent_of_the_generator(session: offloop.ParallelSession) -> None:
    """Results that are the items themselves don't change as the generator goes on."""
    results = await session.run_parallel(w.echo, array_of(LARGE))
    assert [item.tolist() for item in results] == [[float(i)] * LARGE for i in range(ITEMS)]


async def test_an_array_beside_each_parameter_is_held_once(session: offloop.ParallelSession) -> None:
    """A generator of an unchanged large array beside a parameter gives the array beside each of them."""
    data = np.arange(float(LARGE))
    results = await session.run_parallel(w.echo, ((data, number) for number in range(20)))
    assert [number for _, number in results] == list(range(20))
    assert all(np.array_equal(item, data) for item, _ in results)


@pytest.mark.fault(66)
async def test_a_change_between_two_yields_is_seen(session: offloop.ParallelSession) -> None:
    """An array that changes in one place between two items arrives as it was at each."""

    def items() -> Iterator[Any]:
        data = np.zeros(LARGE)
        for number in range(20):
            data[number * 100] = 1
            yield data

    assert await session.run_parallel(np.sum, items()) == list(range(1, 21))
