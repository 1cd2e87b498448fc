"""The threads strategy: a session's own threads in this process."""

from __future__ import annotations

from ..pool.lease import Lease, PooledBackend
from ..pool.thread_lane import ThreadLane, current_thread_lane
from ..strategies.base import ORDINARY, Chunk, Job, Place
from .serial import thread_below, thread_pool


class Threads(PooledBackend[ThreadLane]):
    """A session's threads.

    Where an item in one of them, or below one, starts a run, that has the one thread below it, whichever session it asks:
    threads that wait for each other could be all that there are, and each with as many below it would be more than the cores.
    From the local thread, which has no others beside it, all can be had.
    """

    @property
    def _here(self) -> PooledBackend[ThreadLane] | None:
        """The one thread that the caller can have; None if it can have all."""
        outer = current_thread_lane()
        return thread_below(outer) if outer is not None and outer.is_beside_others else None

    @property
    def has_waiters(self) -> bool:
        """Whether someone waits for a lane, so that a holder should end its turn."""
        here = self._here
        return super().has_waiters if here is None else here.has_waiters

    @property
    def has_interactive_waiters(self) -> bool:
        """Whether someone interactive does, so that a holder that isn't should end its turn at once."""
        here = self._here
        return super().has_interactive_waiters if here is None else here.has_interactive_waiters

    def lease(
        self,
        grace_s: float,
        job: Job | None = None,
        chunk: Chunk | None = None,
        budget_s: float = 0.0,
        place: Place = ORDINARY,
    ) -> Lease[ThreadLane]:
        """Lease a lane, and send a chunk as soon as there is one; see `Backend`."""
        here = self._here
        if here is not None:
            return here.lease(grace_s, job, chunk, budget_s, place)
        return super().lease(grace_s, job, chunk, budget_s, place)


def threads(limit: int, idle_timeout_s: float) -> PooledBackend[ThreadLane]:
    """Return a backend of up to `limit` threads, started as they are needed."""
    return Threads(thread_pool(limit, "thread", idle_timeout_s, is_beside_others=True), is_remote=False)
