"""The items of a run that are on no lane: those in the source, and chunks that came back."""

from __future__ import annotations

from collections import deque

from .sources import Source
from .strategies.base import Chunk


class Queue:
    """Items in the source, chunks that go to whatever lane is next, and chunks that can't leave this process.

    Attributes:
        source: Where items come from.
        n_taken: How many were taken from it.
        stuck: What may execute in this process only.
    """

    __slots__ = ("_back", "_n_back", "n_taken", "source", "stuck")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.n_taken = 0
        self.stuck: deque[Chunk] = deque()
        self._back: deque[Chunk] = deque()
        self._n_back = 0

    @property
    def has_back(self) -> bool:
        """Whether a chunk has come back."""
        return bool(self._back)

    @property
    def has_any(self) -> bool:
        """Whether there are items at hand that may go to any lane."""
        return bool(self._back) or (not self.source.is_exhausted and self.source.n_ready != 0)

    @property
    def remaining(self) -> int | None:
        """How much is on no lane, counted as the source does; None where it isn't known."""
        remaining = self.source.remaining
        return None if remaining is None else remaining + self._n_back

    def take(self, size: int) -> Chunk | None:
        """Return consecutive items that come to about `size`, those first that have waited longest; None if none is at hand."""
        if self._back:
            chunk = self.take_back()
            weight, n_items = self.source.weigh(chunk.items), len(chunk.items)
            if weight > size and n_items > 1 and chunk.message is None:
                n_items = max(1, size * n_items // weight)
                self.put_back(chunk.part(chunk.start + n_items, chunk.end))
                chunk = chunk.part(chunk.start, chunk.start + n_items)
            return chunk
        items = self.source.take(size)
        if not items:
            return None
        chunk = Chunk(self.n_taken, items)
        self.n_taken += len(items)
        return chunk

    def take_back(self) -> Chunk:
        """Return the chunk that has waited longest, as it is."""
        chunk = self._back.popleft()
        self._n_back -= self.source.weigh(chunk.items)
        return chunk

    def put_back(self, chunk: Chunk) -> None:
        """Queue a chunk again, before all others: it has waited longest."""
        self._back.appendleft(chunk)
        self._n_back += self.source.weigh(chunk.items)
