"""A plain loop."""

from collections.abc import Callable, Sequence

from anyio import to_thread

from ..workloads import apply
from .base import Pooled, R, T, Ts


class Serial(Pooled):
    """In this very thread, no pool at all: what parallel work has to beat."""

    async def call(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        return fn(*args)

    async def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        return [fn(item) for item in items]


class SerialThread(Pooled):
    """In another thread, as a program has to that keeps its event loop alive."""

    async def call(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        return await to_thread.run_sync(fn, *args)

    async def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        return await to_thread.run_sync(apply, fn, items)
