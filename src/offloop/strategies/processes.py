"""The processes strategy: a session's own worker processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..pool.lane import WorkerLane
from ..pool.lease import PooledBackend
from ..pool.pool import Pool
from ..pool.worker import Worker
from ..settings import ParallelConfig
from ..wire.pickling import dumps


def processes(config: ParallelConfig, limit: int, env: Mapping[str, str]) -> PooledBackend[WorkerLane]:
    """Return a backend of up to `limit` worker processes, started as they are needed.

    Args:
        config: The session's settings.
        limit: The most workers at a time.
        env: Environment variables that workers get besides this process's.
    """

    def start(breakable: Callable[[Callable[[], object]], None]) -> WorkerLane:
        init = None if config.worker_init is None else dumps((config.worker_init, config.worker_init_args))
        worker = Worker.start(init, env=env, nice=config.worker_nice, idle_timeout_s=config.idle_timeout_s, breakable=breakable)
        return WorkerLane(worker)

    pool: Pool[WorkerLane] = Pool(start, lambda lane: lane.worker.join(), limit, "start-worker")
    return PooledBackend(pool, is_remote=True)
