"""offloop itself."""

import inspect
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import offloop
from offloop.settings import Settings

from ..entrants import Entrant
from .base import Pooled, R, T, Ts

IDLE_TIMEOUT_S = 600.0  # workers stay while the others have their turns


class Offloop(Pooled):
    """One session; ``variant`` names the strategy of maps where it isn't ``processes``.

    With ``thread-safe`` behind it, maps are called so. A single call goes to a process wherever `auto` maps.
    """

    def __init__(self, entrant: Entrant, *, workers: int, settings: Settings | None = None) -> None:
        super().__init__(entrant, workers=workers)
        strategy, _, thread_safe = entrant.variant.partition(" ")
        self.strategy = offloop.Strategy[(strategy or "processes").upper()]
        self.thread_safe = thread_safe == "thread-safe"
        given: Settings = {"workers": workers, "idle_timeout_s": IDLE_TIMEOUT_S, **(settings or {})}
        self.session = offloop.ParallelSession(**given)

    @property
    def remark(self) -> str:
        if self.strategy is not offloop.Strategy.AUTO:
            return ""
        decision = self.session.decisions[-1]
        workers = f" with {decision.workers} workers" if decision.workers > 1 else ""
        return f"{decision.strategy} ( {decision.reason} ){workers}"

    async def __aenter__(self) -> Self:
        await self.session.__aenter__()
        await self.start()
        return self

    async def start(self) -> None:
        """Have all workers up before the first call."""
        await self.session.warm()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        await self.session.__aexit__(kind, error, trace)

    async def call(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        is_auto = self.strategy is offloop.Strategy.AUTO
        strategy = offloop.Strategy.PROCESSES if is_auto else self.strategy
        return await self.session.run(fn, *args, strategy=strategy)

    async def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        return await self.session.run_parallel(
            fn, items, strategy=self.strategy, thread_safe=self.thread_safe
        )

    def stream(self, fn: Callable[[T], R], source: Iterable[T] | AsyncIterable[T], **options: Any) -> Any:
        """Open a stream, which is an async context manager that gives the results."""
        return self.session.stream(fn, source, strategy=self.strategy, **options)

    async def map_batches(self, fn: Callable[[Any], Any], rows: Any) -> Any:
        """Await what fn makes of all rows, a block at a time."""
        return await self.session.run_batches(fn, rows, strategy=self.strategy)

    async def share(self, value: T) -> T:
        """Put one copy of the value where all workers can map it."""
        shared: Any = self.session.share(value)
        return await shared if inspect.isawaitable(shared) else shared
