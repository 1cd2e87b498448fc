"""Frames: what parent and worker say to each other over a lane.

A frame is a header of fixed size and a payload of any length, zero included. `FrameReader` cuts a stream of bytes
into frames without doing any I/O itself:

    view = reader.writable()        # where the next bytes belong
    reader.received(sock.recv_into(view))
    while (frame := reader.next_frame()) is not None: ...

Rules: one side speaks one version only; a frame of another version, or of an unknown kind, ends the lane. Integers
are little-endian; times are nanoseconds of the monotonic clock.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final, NamedTuple

VERSION = 1


class Kind:
    """What a frame means. Plain integers, here and below: an enum's cost twenty times as much in the hot path."""

    HELLO: Final = 1  # worker: the process is up
    READY: Final = 2  # worker: worker_init has returned
    INIT_FAILED: Final = 3  # worker: worker_init has raised; the payload is a failure
    FUNCTION: Final = 4  # parent: keep this function under its digest
    FORGET: Final = 5  # parent: drop the function with this digest
    TASK: Final = 6  # parent: execute these items
    VALUES: Final = 7  # worker: what consecutive items returned
    FAILURE: Final = 8  # worker: what one item raised
    REFUSED: Final = 9  # worker: this chunk can't be executed as sent; the payload begins with a Refusal
    CALL: Final = 10  # worker: a question of the item that it is on, which waits for the answer; see worker/asking.py
    REPLY: Final = 11  # parent: the answer to it, of the same number; the payload begins with a Reply
    LOG: Final = 12  # worker: what was said in it; see worker/output.py
    KEEP: Final = 13  # parent: keep this segment; see wire/buffers.py
    DROP: Final = 14  # parent: drop the segment with this number, and the functions that refer to it
    CONTEXT: Final = 15  # parent: the log context of the tasks to come; nothing as payload: none


class Flag:
    """What else a frame says of its payload."""

    PLAIN: Final = 1  # the payload holds exact built-in types only, so unpickling it runs nobody's code
    LAST: Final = 2  # this chunk is over: no more frames for it
    STAR: Final = 4  # each item is a tuple of arguments
    SEEDED: Final = 8  # the function takes (index, item)
    WATCH: Final = 16  # tell how the GIL was held meanwhile
    ALONE: Final = 32  # the libraries that it uses may take all cores
    PARTS: Final = 64  # the payload is a message in parts; see wire/buffers.py
    INLINE: Final = 128  # send no memory files back
    TIMED: Final = 256  # items have a time limit: note when each begins
    ANSWERED: Final = 512  # the parent answers questions
    HELD: Final = 1024  # this question is asked where nothing is interrupted: answer it, though its item is to stop


class Said:
    """What a record of a worker's output is."""

    PRINTED: Final = 1  # stream, text
    LOGGED: Final = 2  # fields of a LogRecord, fields from its ``extra=``
    EVENT: Final = 3  # of structlog: level, name of the logger, event, fields
    WARNED: Final = 4  # category, message, file, line


class Reply:
    """What the answer to a question is."""

    VALUE: Final = 1  # what the caller's handler has returned follows in the payload
    RAISED: Final = 2  # what it has raised does
    STOPPED: Final = 3  # nothing: the item is to stop


class Refusal:
    """Why a chunk can't be executed as sent."""

    STALE: Final = 1  # the function of this name in the worker is not the one that the parent has
    UNREADABLE: Final = 2  # the items can't be unpickled together; send them one by one
    NO_FUNCTION: Final = 3  # the function can't be rebuilt in the worker; a failure follows in the payload


_HEADER = struct.Struct("<BBHIQQQQQQ16s8sQQBQ")
HEADER_SIZE = _HEADER.size


class Header(NamedTuple):
    """The fixed part of a frame.

    `n_files` descriptors, of the stripes of one memory file, come with the frame's first byte. `epoch` numbers the chunks of a lane, `start` and `n_items` are the items concerned; of a
    question and its answer `start` is the number. `duration_ns` says of a TASK
    how long it may run before the rest is handed back (0: no limit), of outcomes how long the chunk has run so far.
    The last outcomes of a chunk also tell how long its longest item took, and, if that was asked for (`Flag.WATCH`), for
    how much of the time the GIL was held (`NOT_WATCHED` if that isn't known) and for how long at most.
    """

    version: int
    kind: int
    flags: int
    n_files: int
    run: int
    epoch: int
    start: int
    n_items: int
    duration_ns: int
    deadline_ns: int
    trace_id: bytes
    span_id: bytes
    longest_ns: int
    stall_ns: int
    gil_held_pct: int
    length: int


NOT_WATCHED = 255


class Frame(NamedTuple):
    """A header and its payload."""

    header: Header
    payload: bytes | memoryview


_NO_TRACE = bytes(16)
_NO_SPAN = bytes(8)


def pack_header(
    kind: int,
    length: int,
    flags: int = 0,
    run: int = 0,
    epoch: int = 0,
    start: int = 0,
    n_items: int = 0,
    duration_ns: int = 0,
    deadline_ns: int = 0,
    trace_id: bytes = _NO_TRACE,
    span_id: bytes = _NO_SPAN,
    longest_ns: int = 0,
    stall_ns: int = 0,
    gil_held_pct: int = NOT_WATCHED,
    n_files: int = 0,
) -> bytes:
    """Return the bytes of a header for a payload of `length` bytes."""
    return _HEADER.pack(
        VERSION,
        kind,
        flags,
        n_files,
        run,
        epoch,
        start,
        n_items,
        duration_ns,
        deadline_ns,
        trace_id,
        span_id,
        longest_ns,
        stall_ns,
        gil_held_pct,
        length,
    )


class ProtocolError(Exception):
    """The other side sent bytes that are no frame of this version."""


_SMALL = 1 << 16
_PAGED = 1 << 20


def _storage(length: int) -> memoryview:
    """Return memory for a payload; from 1 MiB up its pages are made as they fill, not zeroed at once."""
    return memoryview(bytearray(length) if length < _PAGED else mmap.mmap(-1, length))


class FrameReader:
    """Cuts received bytes into frames; payloads that don't fit the buffer are received in place, without a copy."""

    __slots__ = ("_buffer", "_end", "_filled", "_header", "_payload", "_start", "_view")

    def __init__(self, capacity: int = _SMALL) -> None:
        self._buffer = bytearray(max(capacity, HEADER_SIZE))
        self._view = memoryview(self._buffer)
        self._start = self._end = 0  # the bytes in the buffer that are not yet cut
        self._header: Header | None = None  # of a frame whose payload is still arriving
        self._payload = memoryview(b"")
        self._filled = 0

    @property
    def is_empty(self) -> bool:
        """Whether no part of a frame is waiting here."""
        return self._start == self._end and self._header is None

    def writable(self) -> memoryview:
        """Return where the next received bytes belong; never empty."""
        if self._header is not None:
            return self._payload[self._filled :]
        return self._view[self._end :]

    def received(self, count: int) -> None:
        """Note that `count` bytes were written to what `writable` returned."""
        if self._header is not None:
            self._filled += count
        else:
            self._end += count

    def next_frame(self) -> Frame | None:
        """Return the next whole frame, or None if more bytes are needed.

        Raises:
            ProtocolError: The bytes are no frame of this version.
        """
        if self._header is None:
            if self._end - self._start < HEADER_SIZE:
                self._compact()
                return None
            self._header = header = self._cut_header()
            available = self._end - self._start
            if available >= header.length:
                return self._finish(self._cut(header.length))
            self._payload = _storage(header.length)
            self._payload[:available] = self._view[self._start : self._end]
            self._filled = available
            self._start = self._end = 0
        if self._filled < self._header.length:
            return None
        return self._finish(self._payload)

    def _cut_header(self) -> Header:
        header = Header._make(_HEADER.unpack_from(self._buffer, self._start))
        if header.version != VERSION:
            raise ProtocolError(f"version {header.version}, not {VERSION}")
        self._start += HEADER_SIZE
        return header

    def _cut(self, length: int) -> bytes:
        payload = bytes(self._view[self._start : self._start + length])
        self._start += length
        if self._start == self._end:
            self._start = self._end = 0
        return payload

    def _finish(self, payload: bytes | memoryview) -> Frame:
        header = self._header
        assert header is not None
        self._header, self._payload, self._filled = None, memoryview(b""), 0
        return Frame(header, payload)

    def _compact(self) -> None:
        """Move the beginning of a header to the front, so that there is room for the rest."""
        rest = self._end - self._start
        if self._start:
            self._view[:rest] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, rest
