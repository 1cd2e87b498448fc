"""The threads strategy: a session's own threads in this process."""

from __future__ import annotations

from ..pool.lease import PooledBackend
from ..pool.thread_lane import ThreadLane
from .serial import thread_backend


def threads(limit: int, idle_timeout_s: float) -> PooledBackend[ThreadLane]:
    """Return a backend of up to `limit` threads, started as they are needed."""
    return thread_backend(limit, "thread", idle_timeout_s)
