"""No processes: what is carried is copied as plainly as can be."""

from collections.abc import Callable, Sequence

import anyio

from .base import Pooled, R, T, Ts


class Copies(Pooled):
    """Every array is copied into fresh memory on its way there, and on its way back, in a thread."""

    async def call(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        return await anyio.to_thread.run_sync(self._carried, fn, *args)

    @staticmethod
    def _carried(fn: Callable[[*Ts], R], *args: *Ts) -> R:
        result = fn(*map(_copied, args))  # type: ignore[arg-type]
        return _copied(result)

    async def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        return [await self.call(fn, item) for item in items]


def _copied(value: R) -> R:
    return getattr(value, "copy", lambda: value)()
