"""pebble's ProcessPool."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pebble import ProcessPool

from ..entrants import Entrant
from .base import Pooled, R, T, Ts


class Pebble(Pooled):
    """Futures are wrapped for the loop; maps are read in a thread."""

    def __init__(self, entrant: Entrant, *, workers: int) -> None:
        super().__init__(entrant, workers=workers)
        self.pool: Any = ProcessPool(max_workers=workers)

    def close(self) -> None:
        self.pool.close()
        self.pool.join()

    async def call(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        return await asyncio.wrap_future(self.pool.schedule(fn, args=args))

    async def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        return await asyncio.to_thread(self._collect, fn, items)

    def imap(self, fn: Callable[[T], R], source: Iterable[T]) -> Iterator[R]:
        results: Iterator[R] = self.pool.map(fn, source, chunksize=self.entrant.chunk or 1).result()
        return results

    def _collect(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        return list(self.pool.map(fn, items, chunksize=self.entrant.chunk or 1).result())
