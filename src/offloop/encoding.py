"""Making functions and items ready to travel: on the loop where that is quick, else in a thread."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from .errors import UnpicklableFunction, UnpicklableItem
from .strategies.base import Chunk, Job
from .wire.pickling import dumps, dumps_plain, is_plain, pack_function, travels_by_name
from .wire.unpicklable import find_unpicklable

R = TypeVar("R")

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("offloop_pickling")
_MAX_THREADS = 4  # pickling holds the GIL for most of its time, so that more would not be faster


async def in_thread(work: Callable[..., R], *args: Any) -> R:
    """Call in a thread; when cancelled, leave it to end by itself: it touches nothing that anybody else uses."""
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_MAX_THREADS)
        _limiter.set(limiter)
    return await anyio.to_thread.run_sync(work, *args, abandon_on_cancel=True, limiter=limiter)


async def pack(job: Job) -> None:
    """Pickle the function of a job, off the loop unless it travels by its name alone.

    Raises:
        UnpicklableFunction: It can't be pickled.
    """
    fn = job.fn
    if job.is_packed:
        return
    if travels_by_name(fn) and not job.by_value:
        packed, error = _attempt(pack_function, fn)
    else:
        packed, error = await in_thread(_attempt, pack_function, fn, job.by_value)
    if error is not None:
        path, kind = await in_thread(find_unpicklable, fn, "fn")
        raise UnpicklableFunction("the function", path, kind, job.name) from error
    job.packed = packed


def _attempt(work: Callable[..., R], *args: Any) -> tuple[R | None, BaseException | None]:
    """Call what may run the user's code: whatever that raises, SystemExit included, must not reach the loop."""
    try:
        return work(*args), None
    except BaseException as error:
        return None, error


def encode_inline(chunk: Chunk) -> bool:
    """Pickle items on the loop if that is quick and runs nobody's code; False if it is not."""
    if chunk.data is None:
        begun = monotonic()
        if is_plain(chunk.items):
            chunk.data = dumps_plain(chunk.items)
            chunk.encode_s = monotonic() - begun
    return chunk.data is not None


async def encode(chunk: Chunk, function: str) -> dict[int, Exception]:
    """Pickle items in a thread; if some can't be, return why, by index."""
    begun = monotonic()
    chunk.data, error = await in_thread(_attempt, dumps, chunk.items)
    chunk.encode_s = monotonic() - begun
    return {} if error is None else await in_thread(_unpicklable, chunk, function, error)


def _unpicklable(chunk: Chunk, function: str, error: BaseException) -> dict[int, Exception]:
    bad: dict[int, Exception] = {}
    for index, item in enumerate(chunk.items, chunk.start):
        _, cause = _attempt(dumps, item)
        if cause is not None:
            bad[index] = _explained(index, item, function, cause)
    if not bad:  # each alone can be pickled, but not together: its state changes, or it is too deep
        bad[chunk.start] = _explained(chunk.start, chunk.items, function, error)
    return bad


def _explained(index: int, value: object, function: str, cause: BaseException) -> UnpicklableItem:
    path, kind = find_unpicklable(value, f"items[{index}]")
    error = UnpicklableItem(f"items[{index}]", path, kind, function)
    error.__cause__ = cause
    return error
