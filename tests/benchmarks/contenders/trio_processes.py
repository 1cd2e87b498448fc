"""trio-parallel, for its single calls."""

from collections.abc import Callable, Sequence

import anyio
import trio_parallel  # type: ignore[import-untyped]

from ..entrants import Entrant
from .base import Pooled, R, T, Ts


class TrioParallel(Pooled):
    """``trio_parallel.run_sync`` under a limiter; runs on trio only."""

    def __init__(self, entrant: Entrant, *, workers: int) -> None:
        super().__init__(entrant, workers=workers)
        self.limiter = anyio.CapacityLimiter(workers)

    async def call(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        async with self.limiter:
            result: R = await trio_parallel.run_sync(fn, *args)
        return result

    async def stoppable(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        async with self.limiter:
            result: R = await trio_parallel.run_sync(fn, *args, kill_on_cancel=True)
        return result

    async def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        raise NotImplementedError("trio-parallel enters with single calls only")
