"""How many items travel together, or how many rows a block has.

What is said of items holds for rows; blocks of them have two more rules. While the cost of a row isn't known a block has
`first_rows`. And since a call of a vectorised function may cost something whatever its rows, 10 ms for a forest of 100
trees, blocks of 15 ms would be nearly all overhead: `BlockPace.least` keeps them large enough.
"""

from __future__ import annotations

import math

TARGET_S = 0.015  # a chunk's work: a round trip of 0.1 ms costs less than 1 % of it, and a cancel waits no longer
BUDGET_S = 3 * TARGET_S  # a chunk that runs longer was misjudged; it hands the rest back
FLOOR_S = 0.001  # less work than this is not worth a round trip of its own, so the last chunks are of this size
SHARES = 4  # a chunk is at most this part of what each worker still has to do, so that all finish together
MAX_ITEMS = 1 << 14  # more are not pickled on the loop, see wire/pickling.py
MESSAGE_BYTES = 16 << 20  # nor larger messages sent than these, unless by a single item: 8 ms of writing at 2 GB/s
PROBE_ITEMS = 1024  # what work of unknown cost begins with: enough to time items of 0.1 µs
SHORT_S = 2 * TARGET_S  # what is estimated to take no longer in the local thread is executed there in one go
LOCAL_ITEMS = 1 << 20  # to a thread nothing is pickled, so that time alone is the limit
FIRST_ROWS = (256, 1024)  # of a block of unknown cost: from the playbook that this library grew from
BLOCK_BYTES = 64_000_000  # a block has no more data, nor presumably its result: a guess
OVERHEAD = 6  # a block takes at least so many times what a call costs whatever its rows: a guess
SEEDED_ROWS = 256  # of a block where there is a seed: results must not depend on anything measured


def first_rows(n_rows: int, workers: int, row_bytes: float) -> int:
    """Return how many rows a block has while their cost isn't known: a quarter of a worker's share, within bounds."""
    low, high = FIRST_ROWS
    rows = min(max(low, n_rows // (SHARES * workers)), high, math.ceil(n_rows / workers))
    return max(1, min(rows, most_rows(row_bytes)))


def most_rows(row_bytes: float) -> int:
    """Return how many rows a block may have at most."""
    return max(1, int(BLOCK_BYTES / max(row_bytes, 1.0)))


def next_size(
    item_s: float | None, remaining: int | None, lanes: int, most: int = MAX_ITEMS, least: int = 1
) -> int:
    """Return how many items the next chunk takes.

    Guided self-scheduling (Polychronopoulos and Kuck, 1987) with an upper limit by time: chunks shrink as the work
    runs out, down to single items.

    Args:
        item_s: Measured seconds per item; None before the first measurement, which takes `least`.
        remaining: Items that are not yet sent; None where it isn't known.
        lanes: Lanes that take part.
        most: The most that may travel together.
        least: The least that is worth it, as long as that leaves something for the other lanes.
    """
    if item_s is None:
        return least
    if lanes == 1 and remaining is not None and remaining * item_s <= TARGET_S:
        return max(1, min(remaining, most))
    size = max(_items_in(TARGET_S, item_s, most), min(least, most))
    if remaining is not None:
        share = math.ceil(remaining / (SHARES * lanes))
        floor = max(_items_in(FLOOR_S, item_s, most), least // (OVERHEAD - 1))
        size = min(size, max(share, floor), max(1, remaining))
    return size


def most_items(item_bytes: float) -> int:
    """Return how many items may travel together, if each of them, or its result, is so large."""
    return MAX_ITEMS if item_bytes * MAX_ITEMS <= MESSAGE_BYTES else max(1, int(MESSAGE_BYTES / item_bytes))


def first_size(
    item_s: float | None,
    remaining: int | None,
    estimated_s: float | None,
    probe: int = PROBE_ITEMS,
    least: int = 1,
) -> int:
    """Return how many items the local thread begins a run with.

    Args:
        item_s: Seconds per item; None if that isn't known.
        remaining: Items of the run; None where it isn't known.
        estimated_s: What the run is estimated to take there; None if it is only being measured, or wasn't estimated.
        probe: With how many, if their cost isn't known.
        least: The least that is worth it.
    """
    if item_s is None:
        return probe
    if estimated_s is not None and estimated_s <= SHORT_S:
        return LOCAL_ITEMS
    return next_size(item_s, remaining, 1, LOCAL_ITEMS, least)


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

    least = 1  # the least that is worth sending together

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


class BlockPace(Pace):
    """Seconds per row, and what a call costs whatever its rows: a straight line through the blocks measured so far.

    Older blocks count less and less. While all have been of about one size nothing can be told of the two apart, and
    what was told before stays.
    """

    __slots__ = ("_sums", "call_s", "row_s")

    _SPREAD = 0.02  # of the mean square of the sizes, as variance: a guess, some 15 % of the size
    _LINE_MEMORY = 0.9  # a guess: a line through three blocks is mostly noise, so ten of them count

    def __init__(self, item_s: float | None = None) -> None:
        super().__init__(item_s)
        self.call_s: float = 0.0
        self.row_s: float = item_s or 0.0
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)  # blocks, rows, seconds, rows², rows × seconds

    @property
    def least(self) -> int:  # type: ignore[override]
        """Rows of which a block takes `OVERHEAD` times what a call costs; at most as many times those of late."""
        if not self.call_s:
            return 1
        n_blocks, n_rows, *_ = self._sums
        rows = (OVERHEAD - 1) * self.call_s / max(self.row_s, 1e-9)
        return max(1, int(min(rows, OVERHEAD * n_rows / n_blocks)))

    def measured(self, items: int, seconds: float) -> None:
        """Take in what a block took."""
        if not items:
            return
        super().measured(items, seconds)
        expected_s = self.call_s + self.row_s * items
        if seconds * self._LEAP < expected_s:  # it is quicker than was thought: begin again
            self._sums, self.call_s, self.row_s = (0.0, 0.0, 0.0, 0.0, 0.0), 0.0, 0.0
        elif expected_s:
            seconds = min(seconds, self._LEAP * expected_s)
        new = (1.0, items, seconds, items * items, items * seconds)
        n, x, y, xx, xy = (self._LINE_MEMORY * old + one for old, one in zip(self._sums, new, strict=True))
        self._sums = n, x, y, xx, xy
        spread = xx / n - (x / n) ** 2
        if spread > self._SPREAD * xx / n:
            slope = (xy / n - x * y / n**2) / spread
            self.row_s = min(max(slope, y / x / 100), y / x)  # noise may make it nothing, or more than all
            self.call_s = (y - self.row_s * x) / n
        else:
            self.row_s = max(0.0, y - self.call_s * n) / x
