"""The processes strategy: a session's own worker processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from ..events import Guidance
from ..pool.lane import WorkerLane
from ..pool.lease import PooledBackend
from ..pool.pool import Pool
from ..pool.worker import Worker
from ..sensing.memory import memory_headroom, memory_limit, private_bytes
from ..sensing.meter import meter
from ..sensing.oom import OomKills
from ..sensing.system import System
from ..settings import ParallelConfig
from ..telemetry import emit, tell_worker_started
from ..wire.pickling import dumps
from ..wire.storage import Storage
from ..worker.recycling import Recycling
from .base import PoolFull


def processes(
    config: ParallelConfig, limit: int, env: Mapping[str, str], system: System, storage: Storage
) -> PooledBackend[WorkerLane]:
    """Return a backend of up to `limit` worker processes, started as they are needed.

    Args:
        config: The session's settings.
        limit: The most workers at a time.
        env: Environment variables that workers get besides this process's.
        system: Where memory is looked up.
        storage: Where large buffers go; workers have theirs of the same kind.
    """
    room = _Room(system)
    kills = OomKills(system)
    lock = threading.Lock()

    @contextmanager
    def counted() -> Iterator[None]:
        with lock:
            backend.n_spawning += 1
        try:
            yield
        finally:
            with lock:
                backend.n_spawning -= 1

    def start(breakable: Callable[[Callable[[], object]], None]) -> WorkerLane:
        with room.taken([lane.worker.pid for lane in pool.lanes]):
            begun = time.monotonic()
            init = None if config.worker_init is None else dumps((config.worker_init, config.worker_init_args))
            with ExitStack() as spawning:
                spawning.enter_context(counted())

                def spawned(break_off: Callable[[], object]) -> None:
                    spawning.close()  # what is left of the start keeps the new process busy and not this one
                    breakable(break_off)

                worker = Worker.start(
                    init,
                    env=env,
                    nice=config.worker_nice,
                    idle_timeout_s=config.idle_timeout_s,
                    recycling=Recycling(config.max_items_per_worker, config.worker_max_rss_bytes),
                    storage=storage,
                    kills=kills,
                    breakable=spawned,
                )
            seconds = time.monotonic() - begun
            meter.started(seconds)
            tell_worker_started(worker.pid, seconds)
            return WorkerLane(worker, storage)

    pool: Pool[WorkerLane] = Pool(
        start, lambda lane: lane.worker.join(), limit, "start-worker", lambda lane: lane.worker.has_served
    )
    backend = PooledBackend(pool, is_remote=True)
    return backend


class _Room:
    """Memory for workers: another is started only where what is free holds one as large as the largest that lives."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._lock = threading.Lock()
        self._n_starting = 0
        self._is_told = False

    @contextmanager
    def taken(self, pids: list[int]) -> Iterator[None]:
        """Start a worker in this context.

        Args:
            pids: Of the workers that are up.

        Raises:
            PoolFull: There is no room beside these.
        """
        held = [n_bytes for pid in pids if (n_bytes := private_bytes(self._system, pid)) is not None]
        free = memory_headroom(self._system)
        with self._lock:
            if held and free is not None:
                each = max(held)
                most = memory_limit(free, each, len(held))
                if most is not None and len(held) + self._n_starting >= most:
                    self._tell(most, each, free)
                    raise PoolFull
            self._n_starting += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_starting -= 1

    def _tell(self, most: int, each: int, free: int) -> None:
        if not self._is_told:
            self._is_told = True
            advice = f"memory has room for {most} workers: each holds {each:,} bytes of its own, {free:,} are free"
            emit(Guidance(topic="memory", advice=advice))
