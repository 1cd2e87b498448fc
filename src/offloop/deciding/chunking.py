"""How many items travel together."""

from __future__ import annotations

import math

TARGET_S = 0.015  # a chunk's work: a round trip of 0.1 ms costs less than 1 % of it, and a cancel waits no longer
BUDGET_S = 3 * TARGET_S  # a chunk that runs longer was misjudged; it hands the rest back
FLOOR_S = 0.001  # less work than this is not worth a round trip of its own, so the last chunks are of this size
SHARES = 4  # a chunk is at most this part of what each worker still has to do, so that all finish together
MAX_ITEMS = 1 << 14  # more are not pickled on the loop, see wire/pickling.py
PROBE_ITEMS = 1024  # what work of unknown cost begins with: enough to time items of 0.1 µs
SHORT_S = 2 * TARGET_S  # what is estimated to take no longer in the local thread is executed there in one go
LOCAL_ITEMS = 1 << 20  # to a thread nothing is pickled, so that time alone is the limit


def next_size(item_s: float | None, remaining: int | None, lanes: int, most: int = MAX_ITEMS) -> int:
    """Return how many items the next chunk takes.

    Guided self-scheduling (Polychronopoulos and Kuck, 1987) with an upper limit by time: chunks shrink as the work
    runs out, down to single items.

    Args:
        item_s: Measured seconds per item; None before the first measurement, which takes a single item.
        remaining: Items that are not yet sent; None where it isn't known.
        lanes: Lanes that take part.
        most: The most that may travel together.
    """
    if item_s is None:
        return 1
    if lanes == 1 and remaining is not None and remaining * item_s <= TARGET_S:
        return max(1, min(remaining, most))
    size = _items_in(TARGET_S, item_s, most)
    if remaining is not None:
        share = math.ceil(remaining / (SHARES * lanes))
        size = min(size, max(share, _items_in(FLOOR_S, item_s, most)), max(1, remaining))
    return size


def first_size(item_s: float | None, remaining: int | None, estimated_s: float | None) -> int:
    """Return how many items the local thread begins a run with.

    Args:
        item_s: Seconds per item; None if that isn't known.
        remaining: Items of the run; None where it isn't known.
        estimated_s: What the run is estimated to take there; None if it is only being measured, or wasn't estimated.
    """
    if item_s is None:
        return PROBE_ITEMS
    if estimated_s is not None and estimated_s <= SHORT_S:
        return LOCAL_ITEMS
    return next_size(item_s, remaining, 1, LOCAL_ITEMS)


def _items_in(seconds: float, item_s: float, most: int) -> int:
    return most if item_s * most <= seconds else max(1, int(seconds / item_s))


def may_queue_second(remaining: int | None, size: int, lanes: int) -> bool:
    """Whether a lane may be sent a second chunk while it is on the first.

    It then never waits for the loop. Near the end it must not: a chunk that waits behind a long item is one that an
    idle lane could have taken.
    """
    return remaining is None or remaining > 2 * lanes * size


class Pace:
    """Seconds per item as measured so far, leaning to the low side.

    Older chunks count less and less, so that a change of cost is followed. A chunk far below the estimate replaces it; one
    far above counts as `_LEAP` times the estimate. So the first item, which may have paid for an import, and a few
    long items among many short ones don't cut the chunks to pieces; too large a chunk hands the rest back anyway.
    """

    __slots__ = ("_items", "_seconds")

    _MEMORY = 0.7  # a guess: five chunks back still count for a sixth
    _LEAP = 4.0  # a guess

    def __init__(self, item_s: float | None = None) -> None:
        self._seconds = item_s or 0.0
        self._items = 0.0 if item_s is None else 1.0

    @property
    def item_s(self) -> float | None:
        """Seconds per item; None before the first measurement."""
        return self._seconds / self._items if self._items else None

    def measured(self, items: int, seconds: float) -> None:
        """Take in what a chunk took."""
        if not items:
            return
        known_s = (self.item_s or 0.0) * items
        if seconds * self._LEAP < known_s:
            self._seconds, self._items = seconds, float(items)
            return
        if known_s:
            seconds = min(seconds, self._LEAP * known_s)
        self._seconds = self._seconds * self._MEMORY + seconds
        self._items = self._items * self._MEMORY + items
