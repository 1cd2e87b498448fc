"""joblib's default backend, warm."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import joblib

from ..entrants import Entrant
from .base import Pooled, R, T, Ts


class Joblib(Pooled):
    """One ``Parallel`` kept open, used from the one thread that opened it.

    joblib keeps its worker processes per thread, hence a thread of its own; it has no single
    call, so a call is a map of one.
    """

    def __init__(self, entrant: Entrant, *, workers: int) -> None:
        super().__init__(entrant, workers=workers)
        self.thread = ThreadPoolExecutor(1)
        self.parallel = self.thread.submit(self._open).result()

    def _open(self) -> Any:
        batch_size = self.entrant.chunk or "auto"
        return joblib.Parallel(n_jobs=self.workers, backend="loky", batch_size=batch_size).__enter__()

    def close(self) -> None:
        self.thread.submit(self._close).result()
        self.thread.shutdown()

    def _close(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        self.parallel.__exit__(None, None, None)
        get_reusable_executor().shutdown(wait=True)

    async def call(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        (result,) = await self._submit([joblib.delayed(fn)(*args)])
        return cast(R, result)

    async def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        return await self._submit(joblib.delayed(fn)(item) for item in items)

    def imap(self, fn: Callable[[T], R], source: Iterable[T]) -> Iterator[R]:
        batch_size = self.entrant.chunk or "auto"
        parallel = joblib.Parallel(
            n_jobs=self.workers, backend="loky", batch_size=batch_size, return_as="generator"
        )
        return cast(Iterator[R], parallel(joblib.delayed(fn)(item) for item in source))

    async def _submit(self, calls: Any) -> list[Any]:
        loop = asyncio.get_running_loop()
        return cast(list[Any], await loop.run_in_executor(self.thread, self.parallel, calls))
