"""offloop itself."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import offloop

from ..entrants import Entrant
from .base import Pooled, R, T, Ts


class Offloop(Pooled):
    """One session; ``variant`` names the strategy where it isn't ``processes``."""

    def __init__(self, entrant: Entrant, *, workers: int) -> None:
        super().__init__(entrant, workers=workers)
        self.strategy = offloop.Strategy[(entrant.variant or "processes").upper()]
        self.session = offloop.ParallelSession(workers=workers)

    async def __aenter__(self) -> Self:
        await self.session.__aenter__()
        await self.session.warm()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        await self.session.__aexit__(kind, error, trace)

    async def call(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        return await self.session.run(fn, *args, strategy=self.strategy)

    async def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        return await self.session.run_parallel(fn, items, strategy=self.strategy)
