"""anyio's worker processes, one call at a time each."""

from collections.abc import Callable, Sequence

import anyio
from anyio import to_process

from ..entrants import Entrant
from ..workloads import apply
from .base import Pooled, R, T, Ts


class AnyioProcesses(Pooled):
    """``to_process.run_sync`` under a limiter; a map is a task group over chunks."""

    def __init__(self, entrant: Entrant, *, workers: int) -> None:
        super().__init__(entrant, workers=workers)
        self.limiter = anyio.CapacityLimiter(workers)

    async def call(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        return await to_process.run_sync(fn, *args, limiter=self.limiter)

    async def stoppable(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        return await to_process.run_sync(fn, *args, cancellable=True, limiter=self.limiter)

    async def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        size = self.entrant.chunk or 1
        starts = range(0, len(items), size)
        parts: dict[int, list[R]] = {}

        async def run_chunk(start: int) -> None:
            parts[start] = await self.call(apply, fn, items[start : start + size])

        async with anyio.create_task_group() as tasks:
            for start in starts:
                tasks.start_soon(run_chunk, start)
        return [result for start in starts for result in parts[start]]
