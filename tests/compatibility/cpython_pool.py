"""What stands in the place of ProcessPoolExecutor in CPython's own tests: a session of its own, and its executor."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import test

import offloop

offloop.use_default_sink(False)  # what tests start must be silent


def prepare(folder: str | None, pickled: bytes) -> None:
    """Have a worker find the test modules, then do what the test wants it to begin with."""
    if folder is not None and folder not in test.__path__:
        test.__path__.append(folder)
    sys.stdout = open(1, "w", closefd=False)  # as a process pool has it: what tests print comes at once, as it is  # noqa: SIM115
    initializer, initargs = pickle.loads(pickled)
    if initializer is not None:
        initializer(*initargs)


class ProcessPoolExecutor(Executor):
    """A session's executor that ends its session, as a process pool ends its processes."""

    folder: str | None = None  # where the test modules are, if not with the interpreter's own

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: object = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._session = offloop.ParallelSession(
            workers=max_workers,
            strategy="processes",
            max_items_per_worker=max_tasks_per_child,
            worker_init=prepare,
            worker_init_args=(self.folder, pickle.dumps((initializer, initargs))),
        ).open()
        self._executor = self._session.executor()
        self._is_closed = False
        self._max_workers = self._executor._max_workers

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._executor.submit(fn, *args, **kwargs)

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> Iterator[Any]:
        return self._executor.map(fn, *iterables, **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait, cancel_futures=cancel_futures)
        if wait and not self._is_closed:
            self._is_closed = True
            self._session.portal.call(self._session.aclose)
            self._session.portal.close()
