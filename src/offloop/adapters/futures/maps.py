"""Maps over an executor: many calls at once, or a window of them, whose results are iterated over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from time import monotonic
from typing import TypeVar

from .future import ExecutorFuture

R = TypeVar("R")


def results_of(
    calls: Iterator[Callable[[], ExecutorFuture[R]]], buffersize: int | None, until: float | None
) -> Iterator[R]:
    """Submit calls, all or so many at once, and return an iterator over what they return."""
    futures = deque(submit() for submit in islice(calls, buffersize))

    def results() -> Iterator[R]:
        try:
            while futures:
                if buffersize is not None and (submit := next(calls, None)) is not None:
                    futures.append(submit())
                yield _result_of(futures.popleft(), until)
        finally:
            for future in futures:
                future.cancel()

    return results()


def _result_of(future: ExecutorFuture[R], until: float | None) -> R:
    """Return what a call returns; one that is not waited for any more is cancelled."""
    try:
        return future.result(None if until is None else until - monotonic())
    finally:
        future.cancel()
        del future  # an exception's traceback would keep it, and it the exception


def flattened(chunks: Iterator[list[R]]) -> Iterator[R]:
    """Yield what is in the lists and keep none of it."""
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()
