"""A plain loop in this very thread."""

from collections.abc import Callable, Sequence

from .base import Pooled, R, T, Ts


class Serial(Pooled):
    """No pool at all: what parallel work has to beat."""

    async def call(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        return fn(*args)

    async def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        return [fn(item) for item in items]
