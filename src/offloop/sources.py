"""Where items come from: a sequence, an iterable or an async iterable, read ahead no further than a window."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from itertools import islice
from time import monotonic
from typing import Any, Protocol

import anyio
from anyio.lowlevel import checkpoint

from .alongside import Alongside
from .changes import Changes
from .deciding.chunking import PROBE_ITEMS
from .encoding import ThreadCall, in_thread
from .pool.shielding import shielded
from .pool.threads import call_blocking
from .sensing.size import size_up
from .snapshots import IMMUTABLE, Snapshots, TooLarge

_PULL_S = 0.010  # a blocking iterator is read for so long before what it gave is sent on
_PULL_ITEMS = 1024
_READ_S = 0.001  # an async iterable that never waits gives way after so long

_RECENT = 4  # so many of the items that were looked at last tell what one brings
_COPY_BYTES = 1 << 20  # more than this is copied in a thread: about 0.5 ms

_DICT: dict[Any, Any] = {}
_VIEWS = (type(_DICT.keys()), type(_DICT.values()), type(_DICT.items()))
_AT_HAND = (list, tuple, range, set, frozenset, dict, deque, *_VIEWS)  # reading these runs nobody's code


class Source(Protocol):
    """Items in order.

    How much they are is counted in what their cost is counted by: items, or the rows of blocks.

    Attributes:
        unit: How much to take at a time while its cost isn't known.
        probe: How much to begin with, where it is executed one by one until it has taken long enough.
        failure: What it raised as it was read; no item comes after that.
        item_bytes: About how many bytes an item brings, by those that were read last; 0 where that was looked at before.
    """

    unit: int
    probe: int
    item_bytes: float
    failure: Exception | None

    @property
    def total(self) -> int | None:
        """How much it is in all; None where it isn't known."""
        ...

    @property
    def remaining(self) -> int | None:
        """How much is not taken yet; None where it isn't known."""
        ...

    @property
    def is_read(self) -> bool:
        """Whether there is nothing to pull any more."""
        ...

    @property
    def is_exhausted(self) -> bool:
        """Whether no more items will come out of `take`."""
        ...

    @property
    def n_ready(self) -> int | None:
        """Items that could be taken now; None for all of them."""
        ...

    def peek(self) -> Sequence[Any]:
        """Return the first item if it is at hand, and leave it there."""
        ...

    def take(self, count: int) -> Sequence[Any]:
        """Return items that are at hand and come to about `count`, at least one; none if that is 0 or nothing is left."""
        ...

    def weigh(self, items: Sequence[Any], count: int | None = None) -> int:
        """Return how much some consecutive items come to, or the first `count` of them."""
        ...

    async def pull(self, count: int) -> None:
        """Wait for more items, at most `count`, to be at hand, or for the end; within `reading`."""
        ...

    def is_settled(self, exporter: object) -> bool:
        """Whether this object, which exports a buffer of an item, is the same for the whole run, whoever else has it."""
        ...

    def reading(self) -> AbstractAsyncContextManager[None]:
        """Return the context in which it may be read, and at whose end it is closed."""
        ...


def source_of(
    items: Iterable[Any] | AsyncIterable[Any], is_shared: Callable[[object], bool] | None = None
) -> Source:
    """Return the source for what a caller passed.

    Args:
        items: Anything that can be iterated over.
        is_shared: Says of what in them the user has promised not to change it.

    Raises:
        TypeError: It can't be iterated over.
    """
    if isinstance(items, list | tuple | range):
        return _SequenceSource(items)
    if isinstance(items, _AT_HAND):
        return _SequenceSource(list(items))
    if isinstance(items, AsyncIterable):
        return _AsyncSource(items, is_shared)
    if isinstance(items, Iterable) or hasattr(items, "__getitem__"):
        return _IteratorSource(items, is_shared)
    raise TypeError(f"items must be iterable or async iterable, not {type(items).__name__}")


class _OneByOne:
    """Items that count one each."""

    unit = 1
    probe = PROBE_ITEMS
    item_bytes = 0.0
    failure: Exception | None = None

    def reading(self) -> AbstractAsyncContextManager[None]:
        """Return a context that does nothing: there is nothing to close."""
        return nullcontext()

    def is_settled(self, exporter: object) -> bool:
        """All items are there from the start."""
        return True

    def weigh(self, items: Sequence[Any], count: int | None = None) -> int:
        """Return how many they are."""
        return len(items) if count is None else count


class NoSource(_OneByOne):
    """No items: those of a single call are not taken from a source."""

    total = remaining = 0
    is_read = True
    is_exhausted = True
    n_ready = None

    def peek(self) -> Sequence[Any]:
        """Return nothing."""
        return ()

    def take(self, count: int) -> Sequence[Any]:
        """Return nothing."""
        return ()

    async def pull(self, count: int) -> None:
        """Do nothing."""


NO_SOURCE = NoSource()


class _SequenceSource(_OneByOne):
    """A sequence that is at hand as a whole."""

    is_read = True
    n_ready = None

    def __init__(self, items: Sequence[Any]) -> None:
        self._items, self._next = items, 0
        self.total = len(items)

    @property
    def remaining(self) -> int:
        return self.total - self._next

    @property
    def is_exhausted(self) -> bool:
        return self._next >= self.total

    def peek(self) -> Sequence[Any]:
        return self._items[self._next : self._next + 1]

    def take(self, count: int) -> Sequence[Any]:
        start, self._next = self._next, min(self._next + count, self.total)
        return self._items[start : self._next]

    async def pull(self, count: int) -> None:
        raise AssertionError("everything is at hand")


class _BufferedSource(_OneByOne):
    """Items that come in their own time."""

    def __init__(self, size: int | None, is_shared: Callable[[object], bool] | None) -> None:
        self._buffer: deque[Any] = deque()
        self._size = size  # what the iterable says of its length; it may be wrong
        self._taken = 0
        self._snapshots = Snapshots(is_shared)
        self.is_read = False

    def is_settled(self, exporter: object) -> bool:
        """A snapshot is."""
        return self._snapshots.made(exporter)  # anything else may be filled anew for the next item

    @property
    def total(self) -> int | None:
        remaining = self.remaining
        return None if remaining is None else remaining + self._taken

    @property
    def remaining(self) -> int | None:
        if self.is_read:
            return len(self._buffer)
        return None if self._size is None else max(self._size - self._taken, len(self._buffer) + 1)

    @property
    def is_exhausted(self) -> bool:
        return self.is_read and not self._buffer

    @property
    def n_ready(self) -> int:
        return len(self._buffer)

    def peek(self) -> Sequence[Any]:
        return [self._buffer[0]] if self._buffer else []

    def _weigh_last(self) -> None:
        """Learn from the item that was read last what one brings."""
        n_bytes = size_up(self._buffer[-1]).n_bytes
        self.item_bytes += (n_bytes - self.item_bytes) / (_RECENT if self.item_bytes else 1)

    def take(self, count: int) -> Sequence[Any]:
        items = [self._buffer.popleft() for _ in range(min(count, len(self._buffer)))]
        self._taken += len(items)
        return items


class _IteratorSource(_BufferedSource):
    """An iterable whose code may block, so it is read in a thread."""

    def __init__(self, items: Iterable[Any], is_shared: Callable[[object], bool] | None) -> None:
        super().__init__(len(items) if isinstance(items, Collection) else None, is_shared)
        self._iterator: Iterator[Any] | None = None
        self._items = items
        self._in_use = threading.Lock()  # held while a thread is in the user's code, which can't be interrupted there
        self._is_closing = False

    async def pull(self, count: int) -> None:
        call = ThreadCall(self._read, (min(count, _PULL_ITEMS),))
        await call_blocking(call, abandon_on_cancel=True)
        batch, self.is_read, self.failure = call.result.pop()
        self._buffer.extend(batch)
        if batch:
            self._weigh_last()

    def _read(self, count: int) -> tuple[list[Any], bool, Exception | None]:
        try:
            with self._in_use:
                return self._read_on(count)
        finally:  # looked at only now: who leaves meanwhile finds it free, or has said before that it is to be closed
            if self._is_closing:
                self._close_if_free()

    def _read_on(self, count: int) -> tuple[list[Any], bool, Exception | None]:
        """Return what could be read, whether that was all, and what the iterable raised behind it."""
        batch: list[Any] = []
        deadline = monotonic() + _PULL_S
        try:
            if self._iterator is None:
                self._iterator = iter(self._items)
            for item in islice(self._iterator, count):
                batch.append(item if id(type(item)) in IMMUTABLE else self._snapshots.of(item))
                if monotonic() > deadline:
                    return batch, False, None
        except Exception as error:
            return batch, True, error
        return batch, len(batch) < count, None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._is_closing = True
            if hasattr(self._iterator, "send"):  # a generator: its finally blocks are the user's code
                await shielded(partial(call_blocking, self._close_if_free))

    def _close_if_free(self) -> None:
        if self._in_use.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._in_use.release()

    def _close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None and hasattr(self._iterator, "send"):
            close()


class _AsyncSource(_BufferedSource):
    """An async iterable; one task opens it, reads it and closes it, since there may be cancel scopes and task groups in it."""

    failure: Exception | None

    def __init__(self, items: AsyncIterable[Any], is_shared: Callable[[object], bool] | None) -> None:
        super().__init__(None, is_shared)
        self._items = items
        self._n_wanted = 0
        self._demand, self._news = Changes(), Changes()

    def reading(self) -> AbstractAsyncContextManager[None]:
        return Alongside(self._read)

    async def pull(self, count: int) -> None:
        self._n_wanted = count
        self._demand.notify()
        await self._news.wait()

    async def _read(self) -> None:
        with anyio.CancelScope() as scope:  # around the iterator's own scopes: what is entered first is left last
            try:
                iterator: Any = aiter(self._items)
                try:
                    await self._read_from(iterator, scope)
                except anyio.get_cancelled_exc_class() as cancelled:
                    scope.shield = False
                    if anyio.current_effective_deadline() == -math.inf:  # by leaving
                        raise
                    raise RuntimeError("the source was cancelled from within") from cancelled
                finally:
                    scope.shield = True
                    if hasattr(iterator, "aclose"):
                        await iterator.aclose()
            except Exception as error:
                self.failure = error
        self.is_read = True
        self._news.notify()

    async def _read_from(self, iterator: AsyncIterator[Any], scope: anyio.CancelScope) -> None:
        gives_way_at = 0.0
        while True:
            try:
                is_first = not self._n_wanted or monotonic() > gives_way_at
                if not is_first:
                    item = await anext(iterator)
                else:
                    item = await self._next_wanted(iterator, scope)
                    gives_way_at = monotonic() + _READ_S
            except StopAsyncIteration:
                return
            try:
                snapshot = self._snapshots.of(item, _COPY_BYTES)
            except TooLarge:
                snapshot = await self._copied(item)
            self._buffer.append(snapshot)
            if is_first:
                self._weigh_last()
            self._n_wanted -= 1
            self._news.notify()

    async def _copied(self, item: Any) -> Any:
        """Return a snapshot that takes a while; not cancelled, since the iterator is not to be left here: see `_next_wanted`."""
        with anyio.CancelScope(shield=True):
            return await in_thread(self._snapshots.of, item)

    async def _next_wanted(self, iterator: Any, scope: anyio.CancelScope) -> Any:
        """Give way, wait until another item is wanted, and return it.

        Meanwhile a generator stands at its ``yield``. A cancellation that comes then may be one of its own scopes', so it is
        raised there: they see it, and are left in order. What it does at its end isn't cancelled.
        """
        try:
            await checkpoint()
            while not self._n_wanted:
                await self._demand.wait()
        except anyio.get_cancelled_exc_class() as cancelled:
            if not hasattr(iterator, "athrow"):
                raise
            scope.shield = True
            item = await iterator.athrow(cancelled)
            scope.shield = False  # it goes on
            return item
        return await anext(iterator)
