"""blocks.py: rows cut into blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.blocks import BlockSource
from offloop.deciding.chunking import PROBE_ITEMS


def steered(n_rows: int, first: int = 256, most: int = 10_000, has_empty: bool = False) -> BlockSource:
    """Return a source whose blocks are as large as is asked for."""
    return BlockSource(n_rows, fixed=None, first=first, most=most, has_empty=has_empty)


def fixed(n_rows: int, size: int, has_empty: bool = False) -> BlockSource:
    """Return a source whose blocks have a fixed size."""
    return BlockSource(n_rows, fixed=size, first=256, most=10_000, has_empty=has_empty)


@given(st.integers(0, 2000), st.none() | st.integers(1, 300), st.lists(st.integers(-1, 700), max_size=30))
def test_blocks_cover_all_rows_once(n_rows: int, size: int | None, counts: list[int]) -> None:
    """Whatever is asked for, blocks follow each other without a gap, and what remains is told in rows at every moment."""
    source = steered(n_rows) if size is None else fixed(n_rows, size)
    row = 0
    for count in (*counts, *[700] * 2000):
        blocks = source.take(count)
        for start, stop in blocks:
            assert start == row < stop
            assert size is None or stop - start == min(size, n_rows - start)
            row = stop
        assert source.weigh(blocks) == sum(stop - start for start, stop in blocks)
        assert (source.remaining, source.total) == (n_rows - row, n_rows)
        if source.is_exhausted:
            break
    assert row == n_rows
    assert source.take(1) == ()


def test_a_steered_block_is_as_large_as_asked_for() -> None:
    """A block has the rows that are asked for: at most as many as its data allows, and one at a time."""
    source = steered(50_000)
    assert source.take(300) == [(0, 300)]
    assert source.take(20_000) == [(300, 10_300)]
    assert (source.unit, source.probe) == (256, 256)


def test_fixed_blocks_travel_together() -> None:
    """As many blocks of a fixed size come as fit into what is asked for, at least one."""
    source = fixed(1000, 100)
    assert source.take(1) == [(0, 100)]
    assert source.take(350) == [(100, 200), (200, 300), (300, 400)]
    assert (source.unit, source.probe) == (100, PROBE_ITEMS)
    assert fixed(10_000, 5000).probe == 5000


@pytest.mark.parametrize("make", [lambda: steered(0, has_empty=True), lambda: fixed(0, 256, has_empty=True)])
def test_no_rows_may_be_one_empty_block(make: type[BlockSource]) -> None:
    """Where fn is to see no rows as well, there is one empty block, which counts like a row."""
    source = make()
    assert (source.total, source.remaining, source.is_exhausted) == (1, 1, False)
    blocks = source.take(5)
    assert blocks == [(0, 0)]
    assert source.weigh(blocks) == 1
    assert source.is_exhausted


def test_no_rows_are_no_blocks() -> None:
    """Else there is nothing to take."""
    assert (steered(0).total, steered(0).is_exhausted, steered(0).take(5)) == (0, True, ())


def test_the_first_of_some_blocks_are_weighed() -> None:
    """What the first blocks of several come to is told in rows; more than there are count as all."""
    blocks = fixed(250, 100).take(1000)
    assert [fixed(250, 100).weigh(blocks, count) for count in range(5)] == [0, 100, 200, 250, 250]
