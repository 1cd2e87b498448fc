"""Making functions and items ready to travel: on the loop where that is quick, else in a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Generic, TypeVar

import anyio
from anyio.lowlevel import RunVar

from .errors import PayloadTooLarge, UnpicklableFunction, UnpicklableItem
from .outgoing import Outgoing
from .pool.threads import call_blocking
from .sharing import Ledger, is_frozen
from .strategies.base import Chunk, Job
from .wire.buffers import BUFFER_BYTES, Message, Packer, Segment, Span
from .wire.functions import pack_function
from .wire.memory import MemoryFile
from .wire.pickling import dumps, dumps_apart, dumps_plain, is_plain, travels_by_name
from .wire.unpicklable import find_unpicklable

R = TypeVar("R")

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("offloop_pickling")
_MAX_THREADS = 4  # pickling holds the GIL for most of its time, so that more would not be faster

_MANY = 1024  # more items than these are small enough to be pickled together, 2 to 4 µs each less
_RECENT = 4  # a buffer that stands in one of the last messages of a run, and again in this one, is not stored again


async def in_thread(work: Callable[..., R], *args: Any) -> R:
    """Call in a thread; when cancelled, leave it to end by itself: it touches nothing that anybody else uses."""
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_MAX_THREADS)
        _limiter.set(limiter)
    errand = ThreadCall(work, args)
    try:
        async with limiter:  # not by the thread itself: on trio one that was left would keep its place until it ends
            await call_blocking(errand, abandon_on_cancel=True)
        return errand.result.pop()
    finally:
        errand.is_wanted = False


class ThreadCall(Generic[R]):
    """A call in a thread that leaves nothing behind: a thread keeps what it has called until it is given another call.

    Attributes:
        result: What was returned, until it is taken out.
        is_wanted: Whether anybody will take it.
    """

    __slots__ = ("_args", "_work", "is_wanted", "result")

    def __init__(self, work: Callable[..., R], args: tuple[Any, ...]) -> None:
        self._work: Callable[..., R] | None = work
        self._args = args
        self.result: list[R] = []
        self.is_wanted = True

    def __call__(self) -> None:
        """Call it, in the thread."""
        work, args = self._work, self._args
        self._work, self._args = None, ()
        assert work is not None
        self.result.append(work(*args))
        if not self.is_wanted:
            self.result.clear()


def _attempt(work: Callable[..., R], *args: Any) -> tuple[R | None, BaseException | None]:
    """Call what may run the user's code: whatever that raises, SystemExit included, must not reach the loop."""
    try:
        return work(*args), None
    except BaseException as error:
        return None, error


def encode_inline(chunk: Chunk) -> bool:
    """Pickle items on the loop if that is quick and runs nobody's code; False if it is not."""
    if chunk.message is None:
        begun = monotonic()
        if is_plain(chunk.items):
            chunk.message = Message(dumps_plain(chunk.items))
            chunk.encode_s = monotonic() - begun
    return chunk.message is not None


def _timed(chunk: Chunk, work: Callable[..., R], *args: Any) -> R:
    """Call, and add how long that takes to what the chunk has taken: to wait for a turn is no cost of the items."""
    begun = monotonic()
    try:
        return work(*args)
    finally:
        chunk.encode_s += monotonic() - begun


class _Sent:
    """Buffers of one message that may stand in others too.

    Attributes:
        spans: The buffers, by address and length.
        file: Where they are; None until they are stored, or if they go with the message.
        is_stored: Set once that is settled.
    """

    def __init__(self, spans: dict[tuple[int, int], Span]) -> None:
        self.spans = spans
        self.file: MemoryFile | None = None
        self.is_stored = anyio.Event()


class Encoder:
    """Makes the function and the items of one run ready to travel.

    Large buffers are stored once for the message that they stand in. Once for the run are stored those bound in the
    function; arrays that nobody can write to; and what stands in several items, if all items are there from the start, or if
    it is a snapshot of what an iterator has yielded more than once. Else what comes out of an iterator is stored anew
    each time, since it may be one buffer that is filled again and again.

    Args:
        outgoing: The session's.
        job: What is executed.
        is_settled: Says of an object that exports a buffer whether it is the same for the whole run.
    """

    __slots__ = ("_are_large", "_is_settled", "_job", "_ledger", "_outgoing", "_packing", "_recent", "_segments")

    def __init__(self, outgoing: Outgoing, job: Job, is_settled: Callable[[object], bool]) -> None:
        self._outgoing, self._job, self._is_settled = outgoing, job, is_settled
        self._are_large = False  # whether items bring large buffers, so that each is pickled by itself
        self._ledger: Ledger | None = None
        self._packing: anyio.Lock | None = None
        self._recent: deque[_Sent] = deque(maxlen=_RECENT)
        self._segments: deque[Segment] = deque()  # what several of its messages refer to, the last ones: a stream may be endless

    @property
    def ledger(self) -> Ledger:
        """Where memory that workers have lies, of this run's and of what the session shares."""
        if self._ledger is None:
            self._ledger = Ledger(self._outgoing.shares.ledger)
        return self._ledger

    def close(self) -> None:
        """Let go of what was stored for the run, at once: runs are in cycles, and memory files shouldn't wait for those."""
        self._ledger = None
        self._recent.clear()
        self._segments.clear()
        if self._job.packed is not None and self._job.packed.segments:
            self._job.packed = None

    # --- the function ------------------------------------------------------------------------------------------------

    async def pack(self) -> None:
        """Pickle the function of the job, off the loop unless it travels by its name alone.

        Raises:
            UnpicklableFunction: It can't be pickled.
            PayloadTooLarge: Memory has no room for what is bound in it.
        """
        job = self._job
        if job.is_packed:
            return
        if travels_by_name(job.fn) and not job.by_value:
            packed, error = _attempt(pack_function, job.fn)
        else:
            if self._packing is None:
                self._packing = anyio.Lock()
            async with self._packing:  # what is bound in it is stored once, however many lanes ask
                if job.is_packed:
                    return
                packed, error = await in_thread(_attempt, self._pack)
                job.packed = packed or job.packed
        if isinstance(error, PayloadTooLarge):
            raise error
        if error is not None:
            path, kind = await in_thread(find_unpicklable, job.fn, "fn")
            raise UnpicklableFunction("the function", path, kind, job.name) from error
        job.packed = packed

    def _pack(self) -> Any:
        def keep(packer: Packer) -> Segment | None:
            segment = self._outgoing.keep(packer)
            if segment is not None:
                self.ledger.add(segment, packer.spans)
            return segment

        return pack_function(self._job.fn, self._job.by_value, packer=self._packer(), keep=keep)

    def _packer(self) -> Packer:
        shares = self._outgoing.shares
        shares.store_pending()
        return Packer(self.ledger.find, shares.values)

    # --- items -------------------------------------------------------------------------------------------------------

    async def encode(self, chunk: Chunk) -> dict[int, Exception]:
        """Pickle items in a thread; if some can't be, or memory has no room for them, return why, by index.

        Several items for which together there is no room are left as they are: they may go one by one.
        """
        while True:
            packed, error = await in_thread(_attempt, _timed, chunk, self._pickle, chunk)
            if error is not None:
                return await in_thread(_unpicklable, chunk, self._job.name, error)
            if not isinstance(packed, Packer):
                chunk.message = packed
                break
            if len(chunk.items) > 1 and self._outgoing.is_beyond_limit(packed.n_bytes):
                return {}
            spans = self._spans_of(packed)
            before = next((sent for sent in self._recent if not spans.keys().isdisjoint(sent.spans)), None)
            if before is None:
                failure = await self._store(chunk, packed, spans)
                if failure is not None:
                    return {chunk.start: failure} if len(chunk.items) == 1 else {}
                break
            await before.is_stored.wait()
            self._share(before)  # so that it is found the next time
        return {}

    def _pickle(self, chunk: Chunk) -> Message | Packer | None:
        shares = self._outgoing.shares
        shares.store_pending()
        if len(chunk.items) > 1 and not self._are_large and not shares.values:
            data, buffers = dumps_apart(chunk.items, BUFFER_BYTES)
            if not buffers and (len(data) < BUFFER_BYTES or len(chunk.items) > _MANY):
                return Message(data)
            self._are_large = True
        packer = self._packer()
        for item in chunk.items:
            packer.add(item)
        return packer if packer.has_buffers else packer.message(None)

    def _spans_of(self, packer: Packer) -> dict[tuple[int, int], Span]:
        """Return the buffers of a message that may stand in others too, and are the same there."""
        return {
            (span.start, span.n_bytes): span
            for span in packer.spans
            if self._is_settled(span.raw.obj) or is_frozen(span.raw)
        }

    async def _store(
        self, chunk: Chunk, packer: Packer, spans: dict[tuple[int, int], Span]
    ) -> Exception | None:
        """Store the buffers of a message as soon as so much may be in flight; return why they couldn't be, if so."""
        sent = _Sent(spans)
        if spans:
            self._recent.append(sent)
        try:
            load = await self._outgoing.admit(packer.n_bytes)
            sent.file, error = await in_thread(_attempt, _timed, chunk, self._outgoing.store, packer)
        finally:
            sent.is_stored.set()
        if isinstance(error, Exception):  # no room in memory, mostly
            return error
        if error is not None:
            raise error
        chunk.message = packer.message(sent.file)._replace(load=load)
        return None

    def _share(self, sent: _Sent) -> None:
        """Let later messages refer to what was sent with an earlier one."""
        if sent in self._recent:
            self._recent.remove(sent)
            if sent.file is not None:
                segment = self._outgoing.segment(sent.file, [span.raw for span in sent.spans.values()])
                self._segments.append(segment)
                self.ledger.add(segment, sent.spans.values())
                while len(self._segments) > 1 and self._outgoing.is_beyond_limit(sum(one.file.size for one in self._segments)):
                    self._segments.popleft()


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
