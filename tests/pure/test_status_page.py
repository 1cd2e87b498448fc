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
    LATE,
    LAYOUT,
    LOADING,
    OVER,
    PACKED,
    SINCE,
    SIZE,
    SPENT,
    UNPACKING,
    VERSION,
    WHY_SPENT,
    Spent,
    is_to_stop,
    item_base,
    last_begun,
    n_finished,
    new_page,
    open_page,
)

EPOCHS = st.integers(1, 2**30)
ITEMS = st.integers(0, PACKED - 1)  # what may be an item's index
INDEXES = ITEMS | ITEMS.map(lambda index: index | PACKED) | st.sampled_from((LOADING, UNPACKING, OVER))


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
    assert (words[CANCEL], words[SINCE], words[DONE], words[BUSY], words[SPENT]) == (0, 0, 0, 0, 0)
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
    assert sorted((VERSION, CANCEL, ITEM, SINCE, DONE, BUSY, SPENT, LATE)) == list(range(8))


@pytest.mark.parametrize(
    ("cancelled", "late", "is_expected"),
    [(0, 0, False), (4, 0, False), (5, 0, True), (6, 0, True), (4, 13, True), (4, 12, False), (4, UNPACKING, False)],
)
def test_what_is_to_stop(cancelled: int, late: int, is_expected: bool) -> None:
    """A chunk is to stop if it, or a later one, was cancelled, and an item if just this one was found to be late."""
    words = new_page(mmap.mmap(-1, SIZE))
    words[ITEM] = item_base(5) + 13
    words[CANCEL] = cancelled
    words[LATE] = item_base(5) + late if late else 0
    assert is_to_stop(words, 5) is is_expected


def test_special_indexes_are_no_items() -> None:
    """What may stand in place of an index lies beyond any index, and a page refuses what doesn't fit a word."""
    assert len({OVER, UNPACKING, LOADING}) == 3
    assert 10**11 < PACKED < min(OVER, UNPACKING, LOADING)
    with pytest.raises(ValueError):
        new_page(mmap.mmap(-1, SIZE))[ITEM] = 2**64


@given(EPOCHS, st.integers(0, 10**11))
def test_what_is_behind_executed_items_is_no_item(epoch: int, index: int) -> None:
    """What is written while outcomes are packed is told from items and from what stands in their place, and gives back its index."""
    begun = last_begun(item_base(epoch) + (index | PACKED), epoch)
    assert begun is not None
    assert begun & PACKED
    assert begun & ~PACKED == index
    assert begun not in (OVER, UNPACKING, LOADING, index)


@pytest.mark.parametrize(
    ("begun", "finished"),
    [
        (None, 0),
        (LOADING, 0),
        (UNPACKING, 0),
        (10, 0),
        (13, 3),
        (10 | PACKED, 0),
        (13 | PACKED, 3),
        (15 | PACKED, 5),
        (OVER, 5),
    ],
)
def test_the_page_tells_how_many_items_are_finished(begun: int | None, finished: int) -> None:
    """Of items 10 to 14, those before the one that is executed are finished, and all once the chunk is over."""
    assert n_finished(begun, 10, 5) == finished


def test_every_way_to_be_spent_has_its_words() -> None:
    """Each number that says why a worker should be replaced has a sentence of its own, and none is 0."""
    numbers = [number for name, number in vars(Spent).items() if not name.startswith("_")]
    assert sorted(numbers) == sorted(WHY_SPENT)
    assert all(numbers)
    assert len(set(WHY_SPENT.values())) == len(numbers) == len(set(numbers))
