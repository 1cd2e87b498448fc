"""Executing the items of one chunk, the same way in a worker process and in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from threading import Lock
from time import monotonic_ns
from types import CoroutineType
from typing import Any, NamedTuple, Protocol

from ..errors import AsyncFunctionError, TaskCancelled
from ..wire.frames import Flag
from ..wire.status_page import BUSY, DONE, ITEM, OVER, PACKED, SINCE, SPENT, item_base
from .gil import GilWatch
from .interrupt import calls_user_code, interruptible
from .task import Task, current

_SPREAD = Flag.STAR | Flag.SEEDED
_SINGLY = _SPREAD | Flag.TIMED  # each item is noted by itself
_LOOK_NS = 100_000
_TINY_LOOK = 2  # with more items between two looks, the next ones run without a look in between, which takes 1.5 µs
_TINY_BATCH = 128
_TINY_NS = 200_000  # for about so long: a cancel waits no longer
FLUSH_NS = 20_000_000  # outcomes of a long chunk leave a worker at least so often, so that a crash loses little


class Rest(NamedTuple):
    """What is left to tell at the end of a chunk.

    Attributes:
        start: Index of the first item whose outcome has not been emitted.
        values: What these items returned.
        elapsed_ns: How long the chunk took.
        longest_ns: How long its longest item took, as far as items were timed singly.
        gil_held: Share of the time that the GIL was held; None if it wasn't watched, or too short to tell.
        stall_ns: The longest that another thread had to wait for the GIL.
    """

    start: int
    values: list[Any]
    elapsed_ns: int
    longest_ns: int = 0
    gil_held: float | None = None
    stall_ns: int = 0


class Items(Protocol):
    """What a chunk executes: a sequence, or values that are rebuilt as they are asked for, which may raise."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Iterate over them; goes on behind one that raises."""
        ...


class Emit(Protocol):
    """Where outcomes go while a chunk is under way, in the order of the items."""

    def gather(self, start: int, values: list[Any]) -> None:
        """Take note of where the next outcomes are put until they are told; `start` is the index of the first."""
        ...

    def values(self, start: int, values: list[Any], elapsed_ns: int) -> None:
        """Take what consecutive items returned."""
        ...

    def failure(self, index: int, error: BaseException) -> None:
        """Take what one item raised."""
        ...


@calls_user_code
def execute(
    fn: Callable[..., Any],
    items: Items,
    *,
    start: int,
    flags: int,
    budget_ns: int,
    task: Task,
    emit: Emit,
    most: int | None = None,
    watch: GilWatch | None = None,
    sent_ns: int | None = None,
    others: Lock | None = None,
) -> Rest:
    """Execute items one after another and return the last outcomes.

    It ends early when the chunk is cancelled, when it has run for `budget_ns` (0: no limit), and when the worker is spent:
    the items that have had no outcome by then were not begun, or were interrupted.

    Args:
        fn: Takes an item; its arguments (Flag.STAR); index and item (Flag.SEEDED).
        items: What to execute.
        start: Index of the first.
        flags: How to call fn.
        budget_ns: How long this chunk may take before it hands the rest back.
        task: What user code may ask about.
        emit: Where outcomes go.
        most: How many items to execute at most; None for all.
        watch: Watches the GIL meanwhile, and is stopped at the end.
        sent_ns: Since when the budget is used up, by the monotonic clock; None for now.
        others: To be acquired before the items behind the first; if that can't be, they are somebody else's.
    """
    words, epoch, guard = task.words, task.epoch, task.guard
    spread, is_timed = flags & _SPREAD, flags & Flag.TIMED
    end = start + (len(items) if most is None else min(len(items), most))
    # Not enumerate: it would count on only behind an item that can be had, and one of these may fail.
    calls = iter(zip(range(start, start + len(items)), items, strict=True) if flags & Flag.SEEDED else items)
    begun = flushed = now = monotonic_ns()
    sent_ns = begun if sent_ns is None else sent_ns
    look_at = now  # when to look whether to go on: not at each item, for they may be of less than a microsecond
    words[SINCE] = begun
    base = item_base(epoch)
    first = looked = index = start
    longest = 0
    values: list[Any] = []
    emit.gather(first, values)
    current.task = task
    called = interruptible(fn)
    guard.open(words, epoch)
    try:
        while index < end:
            if others is not None and index > start:
                if not others.acquire(blocking=False):
                    break
                others = None
            tiny = 0
            if now >= look_at:
                if task.is_cancelled or words[SPENT] or (budget_ns and now - sent_ns > budget_ns):
                    break
                if task.in_worker and now - flushed > FLUSH_NS and values:
                    words[SINCE], words[ITEM] = now, base + (index | PACKED)
                    emit.values(first, values, now - begun)
                    first += len(values)
                    values = []
                    emit.gather(first, values)
                    flushed = now = monotonic_ns()
                if index - looked > _TINY_LOOK and not flags & _SINGLY:
                    tiny = (index - looked) * _TINY_NS // (now - look_at + _LOOK_NS)
                looked = index
                look_at = now + _LOOK_NS
            try:
                if tiny:
                    tiny = min(tiny, end - index)
                    _execute_tiny(fn, calls, values, words if task.in_worker else None, base + index, tiny)
                    value = values.pop()
                else:
                    if is_timed:
                        guard.reopen(words, epoch)
                        words[SINCE] = now
                    words[ITEM] = base + index
                    item = next(calls)
                    value = called(*item) if spread else called(item)
                    if is_timed:
                        guard.shut()  # what was to stop this item must not reach the next
                if type(value) is CoroutineType:
                    value.close()
                    raise AsyncFunctionError(getattr(fn, "__qualname__", repr(fn)))
                values.append(value)
            except BaseException as error:
                guard.shut()
                if task.is_cancelled:  # whatever fn has made of the interrupt
                    break
                failed = first + len(values)
                if values:
                    words[ITEM] = base + (failed + 1 | PACKED)
                    emit.values(first, values, monotonic_ns() - begun)
                    values = []
                words[ITEM] = base + failed
                emit.failure(failed, error)
                first = failed + 1
                emit.gather(first, values)
                guard.reopen(words, epoch)
            index = first + len(values)
            before, now = now, monotonic_ns()
            if now - before > longest and not tiny:
                longest = now - before
    except TaskCancelled:  # an interrupt of a thread that came between two items
        pass
    finally:
        try:
            guard.shut()
        except TaskCancelled:  # one that was on its way came before it could be taken back
            guard.shut()
        current.task = None
        if is_timed:
            words[SINCE] = monotonic_ns()
        words[ITEM] = base | OVER
        held = watch.stop() if watch is not None else None
    elapsed = monotonic_ns() - begun
    words[DONE] += first + len(values) - start
    words[BUSY] += elapsed
    return Rest(first, values, elapsed, longest, held, int(watch.stall_s * 1e9) if watch is not None else 0)


@calls_user_code
def _execute_tiny(
    fn: Callable[[Any], Any], calls: Any, values: list[Any], words: memoryview | None, word: int, count: int
) -> None:
    """Execute up to `count` items that take about a microsecond each, with next to nothing between them.

    A worker still notes each item on its status page, so that a crash is pinned to it: 30 ns. After every 128 items the clock
    is looked at, in case the next ones are not like the last. What is written in C has no frame of its own here, so that it
    can't be interrupted: should an item turn out long after all, its worker is killed.
    """
    append = values.append
    ends = monotonic_ns() + 2 * _TINY_NS
    while True:  # at least once, however late this thread has its turn
        batch = islice(calls, min(count, _TINY_BATCH))
        count -= _TINY_BATCH
        if words is None:
            for item in batch:
                append(fn(item))
        else:
            for item in batch:
                words[ITEM] = word
                word += 1
                append(fn(item))
        if count <= 0 or monotonic_ns() > ends:
            return
