"""Sharing: which memory of this process workers have already, so that it need not travel again."""

from __future__ import annotations

import sys
import threading
import weakref
from bisect import bisect_right
from collections import ChainMap
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

from .errors import PayloadTooLarge
from .wire.buffers import Packer, Segment, Span

_MAX_NESTED = 16  # so many spans that begin before an address are looked at: those around it may overlap


class _Entry:
    """A span of memory that lies in a segment.

    It holds true for as long as the segment lives, which keeps the memory alive, and its owner, where that does.
    """

    __slots__ = ("_owner", "_segment", "offset", "start", "stop")

    def __init__(self, span: Span, segment: Segment, owner: weakref.ref[Any] | None) -> None:
        self.start, self.stop, self.offset = span.start, span.start + span.n_bytes, span.offset
        self._segment, self._owner = weakref.ref(segment), owner

    @property
    def segment(self) -> Segment | None:
        return self._segment() if self._owner is None or self._owner() is not None else None


class Ledger:
    """Where memory of this process is stored, by its address; any thread may ask.

    Args:
        outer: What is asked next.
    """

    def __init__(self, outer: Ledger | None = None) -> None:
        self._outer = outer
        self._lock = threading.Lock()
        self._entries: tuple[tuple[int, ...], tuple[_Entry, ...]] = ((), ())  # replaced as a whole

    def add(self, segment: Segment, spans: Iterable[Span], owner: weakref.ref[Any] | None = None) -> None:
        """Note that spans of memory lie in a segment.

        Args:
            segment: The segment.
            spans: The memory.
            owner: What keeps it alive, where the segment itself does not.
        """
        with self._lock:
            living = [entry for entry in self._entries[1] if entry.segment is not None]
            living += [_Entry(span, segment, owner) for span in spans]
            living.sort(key=lambda entry: entry.start)
            self._entries = tuple([entry.start for entry in living]), tuple(living)

    def discard(self, segment: Segment) -> None:
        """Forget what lies in a segment: the memory may be written to from now on."""
        with self._lock:
            living = [entry for entry in self._entries[1] if entry.segment not in (None, segment)]
            self._entries = tuple([entry.start for entry in living]), tuple(living)

    def find(self, start: int, n_bytes: int) -> tuple[Segment, int] | None:
        """Return the segment in which these bytes of memory are, and the offset there; None if they are in none."""
        starts, entries = self._entries
        behind = bisect_right(starts, start)
        for entry in reversed(entries[max(0, behind - _MAX_NESTED) : behind]):
            if start + n_bytes <= entry.stop and (segment := entry.segment) is not None:
                return segment, entry.offset + start - entry.start
        return self._outer.find(start, n_bytes) if self._outer is not None else None


class _Share:
    """An object that is shared, and its segment once it is stored."""

    __slots__ = ("_reference", "segment")

    def __init__(self, value: object, dropped: Callable[[Any], object]) -> None:
        self.segment: Segment | None = None
        self._reference: Callable[[], Any]
        try:
            self._reference = weakref.ref(value, dropped)
        except TypeError:  # it can't be told when it is dropped
            self._reference = lambda: value

    @property
    def value(self) -> Any:
        """The object; None once it is dropped."""
        return self._reference()

    @property
    def owner(self) -> weakref.ref[Any] | None:
        """A reference that tells whether the object lives; None where this keeps it alive."""
        return self._reference if isinstance(self._reference, weakref.ref) else None


class Shares:
    """The objects that a session shares, or one of its runs does.

    Args:
        keep: Stores what is in a packer in a segment; gets what must live as long. None if that is not worth it.
        outer: What the session shares, of those of a run.

    Attributes:
        ledger: Where their memory is.
        values: Segments of those that are more than an array, by id of the object: they are recognised as a whole. Their
            memory may not be: pandas puts the chunks of an Arrow column together anew at each pickling.
    """

    def __init__(self, keep: Callable[[Packer, list[Any]], Segment | None], outer: Shares | None = None) -> None:
        self.ledger: Ledger = Ledger(None if outer is None else outer.ledger)
        self.values: MutableMapping[int, Segment] = {} if outer is None else ChainMap({}, outer.values)
        self._keep, self._outer = keep, outer
        self._shares: dict[int, _Share] = {}
        self._pending: list[_Share] = []
        self._lock = threading.Lock()

    @property
    def has_any(self) -> bool:
        """Whether anything is shared."""
        return bool(self._shares) or (self._outer is not None and self._outer.has_any)

    @property
    def n_bytes(self) -> int:
        """Bytes of what is stored; any thread may ask."""
        segments = [share.segment for share in list(self._shares.values())]
        return sum(segment.file.size for segment in segments if segment is not None)

    def holds(self, value: Any) -> bool:
        """Whether this object is shared, or is an array that is a view of one that is."""
        while value is not None:
            if id(value) in self._shares:
                return True
            if self._outer is not None and self._outer.holds(value):
                return True
            value = value.base if _is_array(value) else None
        return False

    def add(self, value: object) -> None:
        """Share an object; it is stored by `store_pending`."""
        key = id(value)
        if key in self._shares:
            return
        share = _Share(value, lambda _: self._forget(key))
        self._shares[key] = share
        self._pending.append(share)

    def release(self, value: object) -> bool:
        """Stop sharing an object; False if it isn't shared."""
        return self._forget(id(value))

    def clear(self) -> None:
        """Stop sharing everything."""
        for key in list(self._shares):
            self._forget(key)

    def _forget(self, key: int) -> bool:
        share = self._shares.pop(key, None)
        self.values.pop(key, None)  # after that, see `_store`
        if share is not None and share.segment is not None and share.value is not None:
            self.ledger.discard(share.segment)  # which lives on while it is in flight
        return share is not None

    def store_pending(self) -> None:
        """Store what has been shared since the last time; blocks, so call it in a thread."""
        if self._outer is not None:
            self._outer.store_pending()
        if not self._pending:
            return
        with self._lock:
            while self._pending:
                try:
                    self._store(self._pending[0])
                finally:
                    self._pending.pop(0)

    def _store(self, share: _Share) -> None:
        value = share.value
        if value is None or self._shares.get(id(value)) is not share:
            return
        packer = Packer()
        try:
            packer.add(value)
        except BaseException:  # whoever sends it will hear why; a SystemExit too is its own affair
            return
        keeps = [span.raw for span in packer.spans if share.owner is None or not _belongs_to(span.raw.obj, value)]
        try:
            segment = self._keep(packer, keeps)
        except PayloadTooLarge:  # likewise
            return
        if segment is None:
            return
        share.segment = segment
        self.ledger.add(segment, packer.spans, share.owner)
        if not _is_array(value):
            self.values[id(value)] = segment
            if self._shares.get(id(value)) is not share:  # released meanwhile: something else may get its id
                self.values.pop(id(value), None)


def _belongs_to(exporter: Any, value: object) -> bool:
    """Whether a buffer's exporter is the object itself, or a view of it, so that to keep it would keep the object."""
    while exporter is not None:
        if exporter is value:
            return True
        exporter = getattr(exporter, "base", None)
    return False


def _is_array(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_frozen(raw: memoryview) -> bool:
    """Whether nobody can write to a buffer, as far as can be seen: it and all that it is a view of are read-only."""
    exporter: Any = raw.obj
    if not raw.readonly:
        return False
    while type(exporter).__module__.partition(".")[0] == "numpy":
        if exporter.flags.writeable:
            return False
        exporter = exporter.base
    if exporter is None or type(exporter) is bytes:
        return True
    return getattr(exporter, "is_mutable", True) is False  # as pyarrow has it
