"""Recycling: when a worker has done enough, or holds too much, to be used on."""

from __future__ import annotations

import os
from typing import NamedTuple

from ..wire.status_page import Spent

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Recycling(NamedTuple):
    """The limits of one worker; None for none.

    Attributes:
        max_items: Items that it may execute.
        max_rss_bytes: Memory of its own that it may hold between two items; shared pages don't count.
    """

    max_items: int | None = None
    max_rss_bytes: int | None = None

    def items_left(self, done: int) -> int | None:
        """Return how many items it may still execute; None for any number."""
        return None if self.max_items is None else max(0, self.max_items - done)

    def spent(self, done: int) -> int:
        """Return why it should be replaced, as `Spent`; 0 while it should not. About 10 µs where memory is limited."""
        if self.max_items is not None and done >= self.max_items:
            return Spent.ITEMS
        if self.max_rss_bytes is not None and _own_bytes() > self.max_rss_bytes:
            return Spent.MEMORY
        return 0


def _own_bytes() -> int:
    """Return the resident memory of this process without what it shares; 0 where that can't be seen."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            _, resident, shared = statm.read().split()[:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * _PAGE
