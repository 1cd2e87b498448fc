"""mpire's WorkerPool."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mpire.pool import WorkerPool

from ..entrants import Entrant
from .base import Pooled, R, T, Ts


class Mpire(Pooled):
    """A pool kept alive from map to map, one map at a time."""

    def __init__(self, entrant: Entrant, *, workers: int) -> None:
        super().__init__(entrant, workers=workers)
        self.pool = self._open()
        self.mapping = asyncio.Lock()

    def _open(self) -> WorkerPool:
        return WorkerPool(n_jobs=self.workers, keep_alive=True)

    def close(self) -> None:
        self.pool.stop_and_join()

    def rest(self) -> None:
        """Start anew: its idle workers look for work 100 times a second each."""
        self.close()
        self.pool = self._open()

    async def call(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()

        def succeed(result: R) -> None:
            loop.call_soon_threadsafe(answer.set_result, result)

        def fail(error: Exception) -> None:
            loop.call_soon_threadsafe(answer.set_exception, error)

        self.pool.apply_async(fn, args=args, callback=succeed, error_callback=fail)
        return await answer

    async def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        async with self.mapping:
            return await asyncio.to_thread(self._collect, fn, items)

    def imap(self, fn: Callable[[T], R], source: Iterable[T]) -> Iterator[R]:
        results: Iterator[R] = self.pool.imap(fn, source, chunk_size=self.entrant.chunk)
        return results

    def _collect(self, fn: Callable[[T], R], items: Sequence[T]) -> list[Any]:
        # mpire unpacks a tuple into arguments; where an item is one, it has to be wrapped.
        wrapped = [(item,) if isinstance(item, tuple) else item for item in items]
        size = self.entrant.chunk
        return list(self.pool.map(fn, wrapped, chunk_size=size, concatenate_numpy_output=False))
