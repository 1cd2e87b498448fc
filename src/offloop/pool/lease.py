"""A lane for one turn, and the strategies' way to it."""

from __future__ import annotations

from types import TracebackType
from typing import Generic

import anyio
import anyio.to_thread

from .pool import L, Pool


class Lease(Generic[L]):
    """A lane for one turn; leaving the context abandons what is still in flight on it."""

    __slots__ = ("_grace_s", "_lane", "_pool")

    def __init__(self, pool: Pool[L], grace_s: float) -> None:
        self._pool, self._grace_s = pool, grace_s
        self._lane: L

    async def __aenter__(self) -> L:
        """Claim a lane."""
        self._lane = await self._pool.acquire()
        return self._lane

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back, empty or killed."""
        lane = self._lane
        if kind is GeneratorExit:  # the event loop is gone, and nothing can be awaited any more
            self._pool.discard(lane)
            return
        if lane.in_flight:
            with anyio.CancelScope(shield=True):
                await lane.abandon(self._grace_s)
        self._pool.release(lane)


class PooledBackend(Generic[L]):
    """A strategy whose lanes come from a pool; see `Backend`."""

    def __init__(self, pool: Pool[L], *, is_remote: bool) -> None:
        self.pool, self.is_remote = pool, is_remote

    @property
    def limit(self) -> int:
        """The most lanes that execute at a time."""
        return self.pool.limit

    @property
    def has_waiters(self) -> bool:
        """Whether someone waits for a lane, so that a holder should end its turn."""
        return self.pool.has_waiters

    def lease(self, grace_s: float) -> Lease[L]:
        """Lease a lane; leaving the context abandons what is still in flight on it."""
        return Lease(self.pool, grace_s)

    async def aclose(self) -> None:
        """End all lanes and wait until nothing of them is left."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.pool.close)
