"""Anything that is a ``concurrent.futures.Executor``, the standard library's two first."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor

from ..entrants import Entrant
from ..workloads import noop
from .base import Pooled, R, T, Ts


class OnExecutor(Pooled):
    """Calls go through ``run_in_executor``, maps through ``executor.map`` read in a thread."""

    def __init__(self, entrant: Entrant, *, workers: int) -> None:
        super().__init__(entrant, workers=workers)
        self.executor = self.open()

    def open(self) -> Executor:
        raise NotImplementedError

    def close(self) -> None:
        self.executor.shutdown(wait=True)

    def renew(self) -> None:
        """Open the pool anew if it takes no more calls."""
        try:
            self.executor.submit(noop)
        except BrokenExecutor:
            self.executor = self.open()

    async def call(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        return await asyncio.get_running_loop().run_in_executor(self.executor, fn, *args)

    async def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        return await asyncio.to_thread(self._collect, fn, items)

    def imap(self, fn: Callable[[T], R], source: Iterable[T]) -> Iterator[R]:
        return self.executor.map(fn, source, chunksize=self.entrant.chunk or 1)

    def _collect(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        return list(self.executor.map(fn, items, chunksize=self.entrant.chunk or 1))


class StdlibProcesses(OnExecutor):
    """``ProcessPoolExecutor`` with the platform's own start method."""

    def open(self) -> Executor:
        return ProcessPoolExecutor(self.workers)


class StdlibThreads(OnExecutor):
    """``ThreadPoolExecutor``: cheap to reach, but one GIL for all."""

    def open(self) -> Executor:
        return ThreadPoolExecutor(self.workers)
