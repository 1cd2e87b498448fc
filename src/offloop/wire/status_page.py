"""The status page: what parent and worker can know of each other without a message.

A page of memory that both sides map. Each word is 8 bytes, aligned, written by one side only, so a reader sees an old
value or a new one and never half of either:

    word  written by  meaning
    0     parent      version of this layout
    1     parent      cancel: chunks of this epoch and before must stop
    2     worker      item: epoch (low 24 bits) << 40 | index (low 40 bits) of the item being executed;
                      instead of an index: UNPACKING before the first, OVER after the last
    3     worker      since: when that chunk began, ns of the monotonic clock
    4     worker      done: items finished since the worker started
    5     worker      busy: ns spent on items since the worker started
"""

from __future__ import annotations

import mmap

SIZE = 4096
LAYOUT = 1

VERSION, CANCEL, ITEM, SINCE, DONE, BUSY = range(6)

_INDEX_BITS = 40
_INDEX_MASK = (1 << _INDEX_BITS) - 1
_EPOCH_MASK = (1 << 24) - 1

OVER = _INDEX_MASK  # in place of an index: the chunk is over
UNPACKING = _INDEX_MASK - 1  # the worker has read the chunk and is about to unpickle it


def item_base(epoch: int) -> int:
    """Return the item word of index 0 in this epoch; add the index to it."""
    return (epoch & _EPOCH_MASK) << _INDEX_BITS


def last_begun(word: int, epoch: int) -> int | None:
    """Return the index that an item word names if it is of this epoch (or UNPACKING, or OVER), else None."""
    return word & _INDEX_MASK if word >> _INDEX_BITS == epoch & _EPOCH_MASK else None


def open_page(memory: mmap.mmap | bytearray) -> memoryview:
    """Return the words of a page over this memory."""
    return memoryview(memory).cast("Q")


def new_page(memory: mmap.mmap | bytearray) -> memoryview:
    """Return the words of a fresh page over this memory."""
    words = open_page(memory)
    words[VERSION] = LAYOUT
    words[ITEM] = OVER
    return words
