"""Executing the items of one chunk, the same way in a worker process and in a thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic_ns
from types import CoroutineType
from typing import Any, NamedTuple, Protocol

from ..errors import AsyncFunctionError, TaskCancelled
from ..wire.frames import Flag
from ..wire.status_page import BUSY, CANCEL, DONE, ITEM, OVER, SINCE, item_base
from .task import Task, current

_SPREAD = Flag.STAR | Flag.SEEDED
_LOOK_NS = 20_000
FLUSH_NS = 20_000_000  # outcomes of a long chunk leave at least so often, so that a crash loses little


class Rest(NamedTuple):
    """What consecutive items returned that has not been emitted yet, and how long the chunk took."""

    start: int
    values: list[Any]
    elapsed_ns: int


class Emit(Protocol):
    """Where outcomes go while a chunk is under way, in the order of the items."""

    def values(self, start: int, values: list[Any], elapsed_ns: int) -> None:
        """Take what consecutive items returned."""
        ...

    def failure(self, index: int, error: BaseException) -> None:
        """Take what one item raised."""
        ...


def execute(
    fn: Callable[..., Any], items: Sequence[Any], *, start: int, flags: int, budget_ns: int, task: Task, emit: Emit
) -> Rest:
    """Execute items one after another and return the last outcomes.

    It ends early when the chunk is cancelled, and when it has run for `budget_ns` (0: no limit): the items that have
    had no outcome by then were not begun.

    Args:
        fn: Takes an item; its arguments (Flag.STAR); index and item (Flag.SEEDED).
        items: What to execute.
        start: Index of the first.
        flags: How to call fn.
        budget_ns: How long this chunk may take before it hands the rest back.
        task: What user code may ask about.
        emit: Where outcomes go.
    """
    words, epoch = task.words, task.epoch
    calls: Sequence[Any] = items
    if flags & Flag.SEEDED:
        calls = list(enumerate(items, start))
    spread = flags & _SPREAD
    begun = flushed = now = monotonic_ns()
    look_at = now  # when to look whether to go on: not at each item, for they may be of less than a microsecond
    words[SINCE] = begun
    word = item_base(epoch) + start
    first = start
    values: list[Any] = []
    current.task = task
    try:
        for item in calls:
            if now >= look_at:
                if words[CANCEL] >= epoch or (budget_ns and now - begun > budget_ns):
                    break
                if now - flushed > FLUSH_NS and values:
                    emit.values(first, values, now - begun)
                    first += len(values)
                    values = []
                    flushed = now
                look_at = now + _LOOK_NS
            words[ITEM] = word
            word += 1
            try:
                value = fn(*item) if spread else fn(item)
                if type(value) is CoroutineType:
                    value.close()
                    raise AsyncFunctionError(getattr(fn, "__qualname__", repr(fn)))
                values.append(value)
            except TaskCancelled:
                break
            except BaseException as error:
                if values:
                    emit.values(first, values, monotonic_ns() - begun)
                    first += len(values)
                    values = []
                emit.failure(first, error)
                first += 1
            now = monotonic_ns()
    finally:
        current.task = None
        words[ITEM] = item_base(epoch) | OVER
    elapsed = monotonic_ns() - begun
    words[DONE] += first + len(values) - start
    words[BUSY] += elapsed
    return Rest(first, values, elapsed)
