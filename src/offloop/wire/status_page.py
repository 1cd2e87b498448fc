"""The status page: what parent and worker can know of each other without a message.

A page of memory that both sides map. Each word is 8 bytes, aligned, written by one side only, so a reader sees an old
value or a new one and never half of either:

    word  written by  meaning
    0     parent      version of this layout
    1     parent      cancel: chunks of this epoch and before must stop
    2     worker      item: epoch (low 24 bits) << 40 | index (low 40 bits) of the item being executed;
                      instead of an index: LOADING the function, UNPACKING the items, PACKED + index while outcomes of
                      the items before that one are made ready to be sent, OVER after the last item
    3     worker      since: when that chunk began, ns of the monotonic clock; where items have a time limit, when what
                      the item word says began. It is written before the item word and read after it, so that what is
                      read is never older than what it belongs to
    4     worker      done: items finished since the worker started
    5     worker      busy: ns spent on items since the worker started
    6     worker      spent: why it should be replaced, a number of `Spent`; 0 while it should not
    7     parent      late: the item word of what has executed for too long, and must stop; what comes after it need not
    8     worker      fraction: how much of an item its code says is done, in millionths
    9     worker      fraction of: the item word of that item. It is overwritten with NOTHING before the fraction is written, and
                      with the item word after that, and read before and after it

In the file behind the page there is place for text: what faulthandler writes as the worker dies.
"""

from __future__ import annotations

import mmap
from typing import Final

SIZE = 4096
TEXT = 12288  # bytes behind the page, for text
LAYOUT = 2

VERSION, CANCEL, ITEM, SINCE, DONE, BUSY, SPENT, LATE, FRACTION, FRACTION_OF = range(10)

_INDEX_BITS = 40
_INDEX_MASK = (1 << _INDEX_BITS) - 1
_EPOCH_MASK = (1 << 24) - 1

OVER = _INDEX_MASK  # in place of an index: the chunk is over
UNPACKING = _INDEX_MASK - 1  # the worker has read the chunk and unpickles its items
LOADING = _INDEX_MASK - 2  # … or unpickles the function, which may import for seconds
NOTHING = _INDEX_MASK - 3  # an item word that is never written: nothing is late
MILLION = 1_000_000
PACKED = 1 << (_INDEX_BITS - 1)  # added to an index: no item is executed, those before this one were


class Spent:
    """Why a worker should be replaced. Plain numbers, for a word of the page."""

    ITEMS: Final = 1
    MEMORY: Final = 2
    THREADS: Final = 3
    SIGNALS: Final = 4
    EXCEPTION: Final = 5


WHY_SPENT = {
    Spent.ITEMS: "it has executed max_items_per_worker items",
    Spent.MEMORY: "it holds more memory than worker_max_rss_bytes",
    Spent.THREADS: "an interrupted item has left threads behind",
    Spent.SIGNALS: "an interrupted item has left a signal handler or a timer behind",
    Spent.EXCEPTION: "an interrupted item has left an exception being handled",
}


def item_base(epoch: int) -> int:
    """Return the item word of index 0 in this epoch; add the index to it."""
    return (epoch & _EPOCH_MASK) << _INDEX_BITS


def last_begun(word: int, epoch: int) -> int | None:
    """Return the index that an item word names if it is of this epoch, or what stands in its place; else None."""
    return word & _INDEX_MASK if word >> _INDEX_BITS == epoch & _EPOCH_MASK else None


def is_to_stop(words: memoryview, epoch: int) -> bool:
    """Whether what the worker does now is to stop: the chunk of this epoch, or just what the item word says."""
    return words[CANCEL] >= epoch or words[LATE] == words[ITEM]


def n_finished(begun: int | None, start: int, count: int) -> int:
    """Return how many of `count` items from index `start` on are finished, by what `last_begun` returned."""
    if begun is None or begun in (UNPACKING, LOADING):
        return 0
    return count if begun == OVER else (begun & ~PACKED) - start


def write_fraction(words: memoryview, fraction: float) -> None:
    """Note how much of the item that is executed is done."""
    words[FRACTION_OF] = NOTHING
    words[FRACTION] = int(fraction * MILLION)
    words[FRACTION_OF] = words[ITEM]


def read_fraction(words: memoryview) -> float:
    """Return how much of the item that is executed is done, as far as it says so."""
    item = words[ITEM]
    if words[FRACTION_OF] != item:
        return 0.0
    millionths = words[FRACTION]
    return millionths / MILLION if words[FRACTION_OF] == item else 0.0


def open_page(memory: mmap.mmap | bytearray) -> memoryview:
    """Return the words of a page over this memory."""
    return memoryview(memory)[:SIZE].cast("Q")


def new_page(memory: mmap.mmap | bytearray) -> memoryview:
    """Return the words of a fresh page over this memory."""
    words = open_page(memory)
    words[VERSION] = LAYOUT
    words[ITEM], words[LATE], words[FRACTION_OF] = OVER, NOTHING, NOTHING
    return words
