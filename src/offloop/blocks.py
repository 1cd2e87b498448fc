"""The source of a run over rows: blocks of them, as (start, stop), cut as large as a lane should have them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from .deciding.chunking import PROBE_ITEMS
from .worker.rows import Span


class BlockSource:
    """Blocks of consecutive rows; how much they are is counted in rows.

    Args:
        n_rows: How many rows there are.
        fixed: Rows of each block, the last one shorter; None for as many as are asked for.
        first: Rows of a block while their cost isn't known.
        most: The most that a block may have.
        has_empty: Whether there is one block, an empty one, where there are no rows.
    """

    is_read = True
    n_ready = None
    failure: Exception | None = None
    item_bytes = 0.0

    def __init__(self, n_rows: int, *, fixed: int | None, first: int, most: int, has_empty: bool) -> None:
        self.total = n_rows or int(has_empty)
        self.unit = fixed or first
        self.probe = self.unit if fixed is None else max(fixed, PROBE_ITEMS)
        self._n_rows, self._fixed, self._most = n_rows, fixed, most
        self._next = 0

    @property
    def remaining(self) -> int:
        """Rows not taken yet."""
        return self.total - self._next

    @property
    def is_exhausted(self) -> bool:
        """Whether no more blocks will come out of `take`."""
        return self._next >= self.total

    def peek(self) -> Sequence[Span]:
        """Return nothing: what a block is like is seen by the rows."""
        return ()

    def take(self, count: int) -> Sequence[Span]:
        """Return blocks that come to about `count` rows: one, or if their size is fixed as many as fit."""
        if count <= 0 or self.is_exhausted:
            return ()
        size = self._fixed or max(1, min(count, self._most))
        n_blocks = 1 if self._fixed is None else max(1, count // size)
        start, self._next = self._next, min(self._next + n_blocks * size, self.total)
        last = min(self._next, self._n_rows)
        return [(first, min(first + size, last)) for first in range(start, self._next, size)]

    def weigh(self, items: Sequence[Span], count: int | None = None) -> int:
        """Return how many rows consecutive blocks have, or the first `count` of them; the empty block counts as one."""
        n_items = len(items) if count is None else min(count, len(items))
        return max(1, items[n_items - 1][1] - items[0][0]) if n_items else 0

    async def pull(self, count: int) -> None:
        """Never called: everything is at hand."""
        raise AssertionError("everything is at hand")

    def is_settled(self, exporter: object) -> bool:
        """All rows are there from the start."""
        return True

    def reading(self) -> AbstractAsyncContextManager[None]:
        """Return a context that does nothing: there is nothing to close."""
        return nullcontext()
