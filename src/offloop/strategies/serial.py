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
    """Return the backend of the local thread; for a run that an item in a thread of this process starts, that of the one below.

    It would otherwise wait for the thread that waits for it.
    """
    global _local
    outer = current_thread_lane()
    if outer is not None:
        return thread_below(outer)
    with _lock:
        if _local is None:
            _local = thread_backend(1, "local", _IDLE_S)
        return _local


def thread_below(outer: ThreadLane) -> PooledBackend[ThreadLane]:
    """Return the backend of the one thread for all that items of a thread start, which waits meanwhile."""
    with _lock:
        if outer.nested is None:
            outer.nested = thread_backend(1, "local", _IDLE_S, is_beside_others=outer.is_beside_others)
        nested: PooledBackend[ThreadLane] = outer.nested
        return nested


def thread_backend(
    limit: int, name: str, idle_timeout_s: float, *, is_beside_others: bool = False
) -> PooledBackend[ThreadLane]:
    """Return a backend of up to `limit` threads; see `ThreadLane`."""
    return PooledBackend(thread_pool(limit, name, idle_timeout_s, is_beside_others), is_remote=False)


def thread_pool(limit: int, name: str, idle_timeout_s: float, is_beside_others: bool) -> Pool[ThreadLane]:
    """Return a pool of up to `limit` threads; see `ThreadLane`."""
    pool: Pool[ThreadLane] = Pool(
        lambda breakable: ThreadLane(
            f"offloop-{name}", idle_timeout_s, lambda lane: pool.retire_if_idle(lane), is_beside_others
        ),
        lambda lane: lane.thread.join(timeout=1.0),
        limit,
        f"start-{name}",
    )
    return pool


@in_forked_child
def _after_fork_in_child() -> None:
    global _local, _lock
    _lock = threading.Lock()
    _local = None  # its thread was left behind in the parent
