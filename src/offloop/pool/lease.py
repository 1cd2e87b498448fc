"""A lane for one turn, and the strategies' way to it."""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import Generic

from ..strategies.base import ORDINARY, Chunk, Job, Place
from .pool import Pool
from .pooled import L
from .shielding import shielded
from .threads import call_blocking
from .waiting import Order


class Lease(Generic[L]):
    """A lane for one turn; leaving the context abandons what is still in flight on it."""

    __slots__ = ("_grace_s", "_lane", "_order", "_place", "_pool")

    def __init__(self, pool: Pool[L], grace_s: float, order: Order | None, place: Place) -> None:
        self._pool, self._grace_s, self._order, self._place = pool, grace_s, order, place
        self._lane: L

    async def __aenter__(self) -> L:
        """Claim a lane."""
        self._lane = await self._pool.acquire(self._order, self._grace_s, self._place)
        return self._lane

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back, empty or killed."""
        await self._pool.give_back(self._lane, error, self._grace_s)


class PooledBackend(Generic[L]):
    """A strategy whose lanes come from a pool; see `Backend`."""

    def __init__(self, pool: Pool[L], *, is_remote: bool) -> None:
        self.pool, self.is_remote = pool, is_remote
        self.backlog_s = self.interactive_s = 0.0
        self.n_shares = 0
        self.n_spawning = 0

    @property
    def limit(self) -> int:
        """The most lanes that execute at a time."""
        return self.pool.limit

    @property
    def n_idle(self) -> int:
        """How many lanes are up and free."""
        return self.pool.n_idle

    @property
    def has_waiters(self) -> bool:
        """Whether someone waits for a lane, so that a holder should end its turn."""
        return self.pool.has_waiters

    @property
    def has_interactive_waiters(self) -> bool:
        """Whether someone interactive does, so that a holder that isn't should end its turn at once."""
        return self.pool.has_interactive_waiters

    def lease(
        self,
        grace_s: float,
        job: Job | None = None,
        chunk: Chunk | None = None,
        budget_s: float = 0.0,
        place: Place = ORDINARY,
    ) -> Lease[L]:
        """Lease a lane, and send a chunk as soon as there is one; see `Backend`."""
        order = Order(job, chunk, budget_s) if job is not None and chunk is not None else None
        return Lease(self.pool, grace_s, order, place)

    async def aclose(self) -> None:
        """End all lanes and wait until nothing of them is left."""
        await shielded(partial(call_blocking, self.pool.close))
