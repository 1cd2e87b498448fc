"""What a worker does for joblib besides making calls: what is parallel within them, and what is to be done first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from joblib.parallel import ParallelBackendBase, ThreadingBackend, cpu_count

_prepared: set[str] = set()


class WorkerBackend(ThreadingBackend):  # type: ignore[misc, unused-ignore]
    """joblib's backend inside of a worker: threads, never more than its share of the cores, so mostly none."""

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many threads there are for so many jobs."""
        n_threads: int = super().effective_n_jobs(n_jobs)
        n_cores: int = cpu_count()  # LOKY_MAX_CPU_COUNT, which says in a worker what its share is
        return min(n_threads, n_cores)


class Prepared:
    """A batch that is executed as joblib was told to, besides.

    Args:
        batch: The batch.
        initializer: Called once in a worker for all that have the same key; None if nothing is.
        initargs: With these.
        key: Names it.
        n_threads: How many threads each library in C may use meanwhile; None for the worker's share.
    """

    def __init__(
        self,
        batch: Callable[[], list[Any]],
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        key: str,
        n_threads: int | None,
    ) -> None:
        self.batch, self.initializer, self.initargs, self.key, self.n_threads = batch, initializer, initargs, key, n_threads

    def __call__(self) -> list[Any]:
        """Execute it."""
        if self.initializer is not None and self.key not in _prepared:
            self.initializer(*self.initargs)
            _prepared.add(self.key)
        if self.n_threads is None:
            return self.batch()
        with _inner_threads(self.n_threads):
            return self.batch()


@contextmanager
def _inner_threads(n: int) -> Iterator[None]:
    """Let each library in C use so many threads: those that are loaded, and those that will be, which read variables."""
    import threadpoolctl  # type: ignore[import-untyped, unused-ignore]

    before = {name: os.environ.get(name) for name in ParallelBackendBase.MAX_NUM_THREADS_VARS}
    os.environ.update(dict.fromkeys(before, str(n)))
    try:
        with threadpoolctl.threadpool_limits(n):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
