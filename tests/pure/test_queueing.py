"""queueing.py: the items of a run that are on no lane."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.queueing import Queue
from offloop.sources import NoSource, source_of
from offloop.strategies.base import Chunk
from offloop.wire.buffers import Message


def queue_of(items: Any) -> Queue:
    """Return a queue over these items."""
    return Queue(source_of(items))


def span(chunk: Chunk | None) -> tuple[int, list[Any]] | None:
    """Return where a chunk starts, and its items."""
    return None if chunk is None else (chunk.start, list(chunk.items))


def test_items_come_in_order() -> None:
    """Chunks are consecutive items of the source, numbered from 0, until there are none."""
    queue = queue_of(list("abcde"))
    assert (queue.remaining, queue.has_any, queue.n_taken) == (5, True, 0)
    assert span(queue.take(2)) == (0, ["a", "b"])
    assert (queue.remaining, queue.n_taken) == (3, 2)
    assert span(queue.take(9)) == (2, ["c", "d", "e"])
    assert (queue.remaining, queue.n_taken, queue.has_any) == (0, 5, False)
    assert queue.take(1) is None


def test_what_came_back_goes_first() -> None:
    """Chunks that came back go before the source's items, the last to come back first."""
    queue = queue_of([*range(10)])
    first, second = queue.take(2), queue.take(2)
    assert first is not None
    assert second is not None
    queue.put_back(second)
    queue.put_back(first)
    assert (queue.remaining, queue.n_taken, queue.has_back) == (10, 4, True)
    assert queue.take(2) is first
    assert queue.take_back() is second
    assert span(queue.take(2)) == (4, [4, 5])
    assert queue.n_taken == 6


def test_a_chunk_that_came_back_is_split() -> None:
    """Of a chunk that came back and is too large now, the first items go, and the rest is next."""
    queue = queue_of([*range(10)])
    chunk = queue.take(5)
    assert chunk is not None
    queue.put_back(chunk)
    assert span(queue.take(2)) == (0, [0, 1])
    assert queue.remaining == 8
    assert span(queue.take(2)) == (2, [2, 3])
    assert span(queue.take(2)) == (4, [4])


def test_a_chunk_that_is_pickled_stays_whole() -> None:
    """A chunk that was pickled already is not taken apart."""
    queue = queue_of([*range(10)])
    chunk = queue.take(5)
    assert chunk is not None
    chunk.message = Message(b"pickled")
    queue.put_back(chunk)
    assert queue.take(1) is chunk
    assert chunk.message == Message(b"pickled")


def test_taking_it_back_as_it_is() -> None:
    """`take_back` never takes a chunk apart."""
    queue = queue_of([*range(10)])
    chunk = queue.take(5)
    assert chunk is not None
    queue.put_back(chunk)
    assert queue.take_back() is chunk
    assert (queue.has_back, queue.remaining) == (False, 5)


@pytest.mark.parametrize("make", [iter, lambda items: (item for item in items)])
def test_what_was_not_read_is_not_at_hand(make: Any) -> None:
    """Items that the source has not read are neither at hand nor counted; chunks that came back are."""
    queue = queue_of(make([1, 2, 3]))
    assert (queue.take(1), queue.has_any, queue.remaining) == (None, False, None)
    queue.put_back(Chunk(0, [7, 8]))
    assert (queue.has_any, queue.remaining) == (True, None)


def test_a_single_call_has_no_source() -> None:
    """Without a source there is what was put back, and nothing else."""
    queue = Queue(NoSource())
    assert (queue.take(1), queue.has_any, queue.remaining) == (None, False, 0)
    queue.put_back(Chunk(0, [7]))
    assert (queue.has_any, queue.remaining) == (True, 1)
    assert span(queue.take(1)) == (0, [7])


def test_what_is_stuck_is_kept_apart() -> None:
    """What may execute in this process only is not handed to whoever comes."""
    queue = queue_of([1])
    queue.stuck.append(Chunk(5, [0]))
    assert span(queue.take(9)) == (0, [1])
    assert (queue.take(9), queue.has_any, queue.remaining) == (None, False, 0)


steps = st.lists(st.tuples(st.integers(1, 7), st.integers(0, 7), st.booleans()), max_size=40)


@given(st.integers(0, 60), steps)
def test_no_item_is_lost_or_doubled(n_items: int, moves: list[tuple[int, int, bool]]) -> None:
    """However chunks are taken and come back in part, each item is out, waiting, or in the source: exactly once."""
    queue = queue_of([*range(n_items)])
    done: list[int] = []
    for size, n_done, is_pickled in moves:
        chunk = queue.take(size)
        if chunk is None:
            break
        assert len(chunk.items) >= 1
        assert len(chunk.items) <= size or chunk.message is not None
        assert list(chunk.items) == list(range(chunk.start, chunk.end))
        n_done = min(n_done, len(chunk.items))
        done.extend(chunk.items[:n_done])
        if n_done < len(chunk.items):
            rest = chunk.part(chunk.start + n_done, chunk.end)
            rest.message = Message(b"") if is_pickled else None
            queue.put_back(rest)
        assert queue.remaining == n_items - len(done)
    while (chunk := queue.take(5)) is not None:
        done.extend(chunk.items)
    assert sorted(done) == list(range(n_items))
