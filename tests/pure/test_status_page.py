"""wire/status_page.py: what parent and worker can know of each other without a message."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.wire.status_page import (
    BUSY,
    CANCEL,
    DONE,
    ITEM,
    LAYOUT,
    OVER,
    SINCE,
    SIZE,
    UNPACKING,
    VERSION,
    item_base,
    last_begun,
    new_page,
    open_page,
)

EPOCHS = st.integers(1, 2**30)
INDEXES = st.integers(0, UNPACKING - 1) | st.sampled_from((UNPACKING, OVER))


@given(EPOCHS, INDEXES)
def test_an_item_word_tells_its_index(epoch: int, index: int) -> None:
    """Epoch and index are read back from the one word that holds both, at any size of either."""
    word = item_base(epoch) + index
    assert 0 <= word < 2**64
    assert last_begun(word, epoch) == index


@given(EPOCHS, st.integers(1, 2**24 - 1), INDEXES)
def test_a_word_of_another_chunk_tells_nothing(epoch: int, distance: int, index: int) -> None:
    """What a worker wrote of an earlier or later chunk is never taken for this one."""
    assert last_begun(item_base(epoch + distance) + index, epoch) is None


def test_a_fresh_page_names_no_item() -> None:
    """On a fresh page no chunk was begun, none is cancelled, and word 0 is the layout's version."""
    words = new_page(mmap.mmap(-1, SIZE))
    assert words[VERSION] == words[0] == LAYOUT
    assert (words[CANCEL], words[SINCE], words[DONE], words[BUSY]) == (0, 0, 0, 0)
    assert all(last_begun(words[ITEM], epoch) is None for epoch in range(1, 100))


def test_both_sides_see_the_same_words() -> None:
    """What one side writes the other reads: a page opened twice is one page of aligned 8-byte words."""
    memory = mmap.mmap(-1, SIZE)
    parent, worker = new_page(memory), open_page(memory)
    parent[CANCEL] = 7
    worker[ITEM] = 2**64 - 1
    assert (worker[CANCEL], parent[ITEM]) == (7, 2**64 - 1)
    assert worker.itemsize == 8
    assert len(worker) * 8 == SIZE


def test_words_do_not_overlap() -> None:
    """Every word has a place of its own, so that each is written by one side only."""
    assert sorted((VERSION, CANCEL, ITEM, SINCE, DONE, BUSY)) == list(range(6))


def test_special_indexes_are_no_items() -> None:
    """UNPACKING and OVER lie beyond any index, and a page refuses what doesn't fit a word."""
    assert OVER != UNPACKING
    assert min(OVER, UNPACKING) > 10**12
    with pytest.raises(ValueError):
        new_page(mmap.mmap(-1, SIZE))[ITEM] = 2**64
