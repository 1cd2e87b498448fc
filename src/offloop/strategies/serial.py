"""The serial strategy: the one local thread of this process, shared by all sessions and event loops."""

from __future__ import annotations

import threading

from ..forking import in_forked_child
from ..pool.lease import PooledBackend
from ..pool.pool import Pool
from ..pool.thread_lane import ThreadLane, current_thread_lane

_IDLE_S = 60.0  # a guess, like ParallelConfig.idle_timeout_s

_lock = threading.Lock()
_local: PooledBackend[ThreadLane] | None = None


def local_thread() -> PooledBackend[ThreadLane]:
    """Return the backend of the local thread; called from an item that runs there, that of a thread below it.

    A run that an item starts would otherwise wait for the thread that waits for it.
    """
    global _local
    outer = current_thread_lane()
    with _lock:
        if outer is not None:
            if outer.nested is None:
                outer.nested = thread_backend(1, "local", _IDLE_S)
            nested: PooledBackend[ThreadLane] = outer.nested
            return nested
        if _local is None:
            _local = thread_backend(1, "local", _IDLE_S)
        return _local


def thread_backend(limit: int, name: str, idle_timeout_s: float) -> PooledBackend[ThreadLane]:
    """Return a backend of up to `limit` threads."""
    pool: Pool[ThreadLane] = Pool(
        lambda breakable: ThreadLane(f"offloop-{name}", idle_timeout_s, lambda lane: pool.retire_if_idle(lane)),
        lambda lane: lane.thread.join(timeout=1.0),
        limit,
        f"start-{name}",
    )
    return PooledBackend(pool, is_remote=False)


@in_forked_child
def _after_fork_in_child() -> None:
    global _local, _lock
    _lock = threading.Lock()
    _local = None  # its thread was left behind in the parent
