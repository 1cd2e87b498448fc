"""Messages: values as they travel, with their large buffers apart from the pickles.

    value ──pickle──► part: pickle, and a reference for each buffer ──► the frame's payload
              └─────► buffers of 64 KiB and more ──► one memory file a message, passed with the frame
                                                └──► not at all, where they lie in a segment that the far side keeps

A message holds its values either all in one pickle or each in a part of its own. Parts are rebuilt one by one, each with
memory of its own: what one item writes into its array no other item sees, though both came from the same one.

What crosses messages is a `Segment`: stored once, kept by each worker that was told of it, until nothing refers to it here.
"""

from __future__ import annotations

import itertools
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from .memory import MemoryFile, fresh_memory
from .pickling import dumps_apart, dumps_plain, loads, loads_persisted
from .storage import Storage

BUFFER_BYTES = 1 << 16  # what is smaller is copied into the pickle
FILE_BYTES = 1 << 17  # less goes with the payload: a file costs 60 µs, as much as to copy 128 kB twice through a socket

_ALIGNMENT = 64  # of a buffer: a cache line, and the widest vector register
_LENGTH = struct.Struct("<I")

OWN = 0  # in a reference, in place of a segment's number: the message's own buffers


class Ref(NamedTuple):
    """Where a buffer is.

    Attributes:
        segment: Number of the segment; OWN for the message's own buffers.
        offset: Where it begins there.
        n_bytes: How long it is.
    """

    segment: int
    offset: int
    n_bytes: int


class Part(NamedTuple):
    """One value as it travels.

    Attributes:
        data: Its pickle, or where that is.
        refs: Its buffers, in the order in which the pickle asks for them.
        persists: Whether segments stand in it in the place of objects.
    """

    data: bytes | Ref
    refs: tuple[Ref, ...] = ()
    persists: bool = False

    @property
    def is_large(self) -> bool:
        """Whether rebuilding it takes long: its pickle is large, and not only its buffers."""
        return not isinstance(self.data, bytes)

    def within(self, segment: Segment) -> Part:
        """Return the same with its own buffers in a segment."""

        def moved(ref: Ref) -> Ref:
            return ref._replace(segment=segment.number) if ref.segment == OWN else ref

        data = self.data if isinstance(self.data, bytes) else moved(self.data)
        return self._replace(data=data, refs=tuple(map(moved, self.refs)))

    def plain(self) -> tuple[Any, ...]:
        """Return the same in exact built-in types."""
        data = self.data if isinstance(self.data, bytes) else tuple(self.data)
        return data, tuple([tuple(ref) for ref in self.refs]), self.persists


class Segment:
    """Memory that outlives a message; workers are told to drop it once nothing refers to it here.

    Args:
        file: Its bytes.
        part: The value in it, for one that is a value as a whole; None if messages refer to its bytes only.
        keeps: What must live as long, so that the addresses that lead to it stay what they are.
        ended: Called when nothing refers to it any more, in whatever thread that is.

    Attributes:
        number: Its number, unique in this process.
    """

    __slots__ = ("__weakref__", "_ended", "file", "keeps", "number", "part")

    def __init__(
        self,
        file: MemoryFile,
        part: Part | None = None,
        keeps: Sequence[Any] = (),
        ended: Callable[[], object] | None = None,
    ) -> None:
        self.number = next(_numbers)
        self.file, self.part, self.keeps, self._ended = file, part, keeps, ended
        alive.add(self.number)

    def introduction(self) -> bytes:
        """Return what tells a worker of it; its file's descriptor, if it has no path, goes with that."""
        return dumps_plain((self.number, self.file.path, self.part and self.part.plain()))

    def __del__(self) -> None:
        alive.discard(self.number)
        if self._ended is not None:
            self._ended()


_numbers = itertools.count(1)
alive: set[int] = set()  # numbers of the segments that something refers to


class Message(NamedTuple):
    """Values ready to travel.

    Attributes:
        data: All in one pickle; empty where they are in parts.
        parts: Each by itself; None where they are in one pickle.
        file: The buffers of the parts; None if there are none, or they travel in the payload.
        buffers: Those that travel in the payload, with their offsets.
        segments: What the parts refer to besides.
        n_bytes: Bytes of its own buffers.
        load: What counts them as in flight for as long as the message lives.
    """

    data: bytes
    parts: tuple[Part, ...] | None = None
    file: MemoryFile | None = None
    buffers: tuple[tuple[int, memoryview], ...] = ()
    segments: tuple[Segment, ...] = ()
    n_bytes: int = 0
    load: object = None

    def part(self, start: int, stop: int) -> Message | None:
        """Return some of the values as a message of their own, if each is in a part by itself."""
        return None if self.parts is None else self._replace(parts=self.parts[start:stop])

    @property
    def size(self) -> int:
        """About how many bytes travel."""
        if self.parts is None:
            return len(self.data)
        return self.n_bytes + sum(len(part.data) for part in self.parts if isinstance(part.data, bytes))

    @property
    def inline_bytes(self) -> int:
        """About how many of them travel in the frame."""
        return self.size - (self.n_bytes if self.file is not None else 0)

    def payload(self) -> list[bytes | memoryview]:
        """Return what goes into the frame, in pieces."""
        if self.parts is None:
            return [self.data]
        path = self.file.path if self.file is not None else None
        head = dumps_plain((path, [part.plain() for part in self.parts]))
        pieces: list[bytes | memoryview] = [_LENGTH.pack(len(head)) + head]
        end = 0
        for offset, buffer in self.buffers:
            if offset > end:
                pieces.append(bytes(offset - end))
            pieces.append(buffer)
            end = offset + len(buffer)
        return pieces


Find = Callable[[int, int], "tuple[Segment, int] | None"]


class Span(NamedTuple):
    """Memory of this process that is to be stored.

    Attributes:
        start: Its address.
        n_bytes: Its length.
        offset: Where it is stored.
        raw: It itself.
    """

    start: int
    n_bytes: int
    offset: int
    raw: memoryview


class Packer:
    """Pickles values into one message, each in a part of its own; large buffers stay where they are until `store`.

    A buffer that stands in it twice is stored once.

    Args:
        find: Returns the segment, and the offset there, in which so many bytes from an address are already.
        values: Segments that are values as a whole, by the id of the object.

    Attributes:
        parts: The values so far.
        n_bytes: Bytes to be stored.
        segments: What the values refer to besides, by number.
    """

    def __init__(self, find: Find | None = None, values: Mapping[int, Segment] | None = None) -> None:
        self.parts: list[Part] = []
        self.n_bytes = 0
        self.segments: dict[int, Segment] = {}
        self._find, self._values = find, values
        self._own: list[tuple[int, memoryview]] = []
        self._spans: dict[tuple[int, int], Span] = {}

    def add(self, value: object, *, by_value: bool = False) -> None:
        """Pickle a value; raises what pickling raises, and then nothing of the value is in the message."""
        met: dict[int, Segment] = {}

        def persist(part: object) -> int | None:
            segment = values.get(id(part))
            if segment is None:
                return None
            met[segment.number] = segment
            return segment.number

        values = self._values or {}
        data, buffers = dumps_apart(value, BUFFER_BYTES, persist if values else None, by_value=by_value)
        self.segments |= met
        refs = tuple([self._ref(raw) for raw in buffers])
        where = data if len(data) < BUFFER_BYTES else self._append(memoryview(data))
        self.parts.append(Part(where, refs, bool(met)))

    def _ref(self, raw: memoryview) -> Ref:
        start, size = address(raw), raw.nbytes
        if start is None:
            return self._append(raw)
        found = self._find(start, size) if self._find is not None else None
        if found is not None:
            segment, offset = found
            self.segments[segment.number] = segment
            return Ref(segment.number, offset, size)
        span = self._spans.get((start, size))
        if span is not None:
            return Ref(OWN, span.offset, size)
        ref = self._append(raw)
        self._spans[start, size] = Span(start, size, ref.offset, raw)
        return ref

    def _append(self, raw: memoryview) -> Ref:
        offset = -(-self.n_bytes // _ALIGNMENT) * _ALIGNMENT
        self._own.append((offset, raw))
        self.n_bytes = offset + raw.nbytes
        return Ref(OWN, offset, raw.nbytes)

    @property
    def spans(self) -> Iterable[Span]:
        """The memory of values that is to be stored."""
        return self._spans.values()

    @property
    def has_buffers(self) -> bool:
        """Whether there is more to it than pickles."""
        return bool(self._own or self.segments)

    def store(self, storage: Storage) -> MemoryFile | None:
        """Write the buffers to a memory file; None if there are none, or no room for one."""
        return storage.store(self._own, self.n_bytes) if self._own else None


    def message(self, file: MemoryFile | None) -> Message:
        """Return the message, with its buffers in this file, or else in its payload."""
        buffers = () if file is not None else tuple(self._own)
        return Message(b"", tuple(self.parts), file, buffers, tuple(self.segments.values()), self.n_bytes)


def address(raw: memoryview) -> int | None:
    """Return where a buffer lies in memory; None where that can't be told."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    start: int = numpy.frombuffer(raw, numpy.uint8).__array_interface__["data"][0]
    return start


# --- the far side ----------------------------------------------------------------------------------------------------


class Kept(NamedTuple):
    """A segment as the far side keeps it.

    Attributes:
        file: Its bytes.
        part: The value that it is as a whole, if it is one.
    """

    file: MemoryFile
    part: Part | None


kept: dict[int, Kept] = {}  # by number; what the parent has told this process of
_values: dict[int, Any] = {}  # values of segments that take long to rebuild


def keep(introduction: bytes | memoryview, open_file: Callable[[str | None], MemoryFile | None]) -> None:
    """Take in what `Segment.introduction` told."""
    number, path, part = loads(introduction)
    file = open_file(path)
    assert file is not None
    kept[number] = Kept(file, None if part is None else Part(*part))


def forget(number: int) -> None:
    """Let go of a segment; what was rebuilt from it stays what it is."""
    kept.pop(number, None)
    _values.pop(number, None)


def load_segment(number: int) -> Any:
    """Return the value that a segment is.

    It is rebuilt at each call, with memory of its own, unless its pickle is large: then there is one for this process.
    """
    if number in _values:
        return _values[number]
    file, part = kept[number]
    assert part is not None
    value = rebuild(part, file.view)
    if part.is_large:
        _values[number] = value
    return value


View = Callable[[int, int], memoryview]


def rebuild(part: Part, own: View) -> Any:
    """Return the value of a part; raises whatever its classes raise.

    Args:
        part: The value as it came.
        own: Returns bytes of the message's own buffers.
    """

    def memory(segment: int, offset: int, n_bytes: int) -> memoryview:
        return own(offset, n_bytes) if segment == OWN else kept[segment].file.view(offset, n_bytes)

    data, refs, persists = part
    buffers = [memory(*ref) for ref in refs]
    pickled = data if isinstance(data, bytes) else memory(*data)
    if not persists:
        return loads(pickled, buffers=buffers)
    return loads_persisted(pickled, buffers, cache(load_segment))  # what stands in it twice is one object here too


def no_buffers(offset: int, n_bytes: int) -> memoryview:
    """Refuse: what is rebuilt has no buffers of its own."""
    raise LookupError


class Unreadable(Exception):
    """A value could not be rebuilt; what its classes raised is the ``__cause__``."""


class Received:
    """The values of a message that has arrived, rebuilt one by one as they are asked for.

    Args:
        payload: What followed the frame's header.
        open_file: Returns the message's memory file, from its path or, without one, from the descriptor that came with
            it; None if it has none.
    """

    def __init__(self, payload: bytes | memoryview, open_file: Callable[[str | None], MemoryFile | None]) -> None:
        view = memoryview(payload)
        (length,) = _LENGTH.unpack_from(view)
        begin = _LENGTH.size + length
        path, self._parts = loads(view[_LENGTH.size : begin])
        file = open_file(path)
        self._inline = view[begin:]
        self._view: View | None = None if file is None else file.view

    def _copied(self, offset: int, n_bytes: int) -> memoryview:
        memory = fresh_memory(n_bytes)
        memory[:] = self._inline[offset : offset + n_bytes]
        return memory

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Any]:
        """Rebuild one after another; goes on behind one that is `Unreadable`."""
        return map(self._value, self._parts)

    def _value(self, part: tuple[Any, ...]) -> Any:
        try:
            return rebuild(Part(*part), self._view or self._copied)
        except BaseException as error:
            raise Unreadable from error
