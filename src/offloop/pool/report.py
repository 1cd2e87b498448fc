"""What a worker tells of a chunk, as it came over its lane."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from ..errors import UnpicklableFunction, UnpicklableResult
from ..strategies.base import Chunk, Measured, Outcomes, Refused
from ..wire.buffers import Received, Unreadable
from ..wire.failures import PackedFailure, safe_text, type_name, unpack_failure
from ..wire.frames import NOT_WATCHED, Flag, Frame, Kind, Refusal
from ..wire.memory import MemoryFile
from ..wire.pickling import INLINE_BYTES, loads
from ..wire.storage import Storage


class Unopened:
    """What came of a message whose memory file has a name, until that is opened; dropped before, it is removed.

    Args:
        payload: Of the frame; the name is in there.
        storage: Opens it, and removes the name.
    """

    def __init__(self, payload: bytes | memoryview, storage: Storage) -> None:
        self._payload: bytes | memoryview | None = payload
        self._storage, self._owner = storage, os.getpid()

    def open(self, path: str) -> MemoryFile:
        """Open the file; once."""
        self._payload = None
        return self._storage.opened(path)

    def __del__(self) -> None:
        if self._payload is None or os.getpid() != self._owner:  # opened, or in a process forked meanwhile
            return
        try:
            Received(self._payload, lambda path: self._storage.opened(path) if path is not None else None)
        except OSError:  # its folder is gone, or no descriptor is left; its name is gone too
            return


class WorkerReport(NamedTuple):
    """A frame of outcomes.

    Attributes:
        frame: The frame.
        chunk: What it tells of.
        name: Of the function.
        came: The memory file that came with it, or why it could not be received.
        storage: Opens one that came by its path.
    """

    frame: Frame
    chunk: Chunk
    name: str
    came: MemoryFile | Unopened | OSError | None
    storage: Storage

    @property
    def is_last(self) -> bool:
        """Whether this is the last news of the chunk."""
        return bool(self.frame.header.flags & Flag.LAST)

    @property
    def is_inline(self) -> bool:
        """Whether unpacking is quick and runs nobody's code."""
        header = self.frame.header
        return header.kind == Kind.VALUES and header.flags & Flag.PLAIN != 0 and header.length <= INLINE_BYTES

    @property
    def elapsed_s(self) -> float:
        """Seconds that the chunk has run so far."""
        return self.frame.header.duration_ns / 1e9

    @property
    def n_items(self) -> int:
        """How many items have their outcome in here."""
        return self.frame.header.n_items

    @property
    def measured(self) -> Measured:
        """What was measured of the chunk; told with the last report."""
        header = self.frame.header
        held = None if header.gil_held_pct == NOT_WATCHED else header.gil_held_pct / 100
        in_file = self.came.size if isinstance(self.came, MemoryFile) else 0
        return Measured(header.longest_ns / 1e9, held, header.stall_ns / 1e9, header.length + in_file, in_file)

    @property
    def refused(self) -> Refused | None:
        """Why the chunk was not executed, if so."""
        header, payload = self.frame
        if header.kind != Kind.REFUSED:
            return None
        why = payload[0]
        if why == Refusal.STALE:
            return Refused(by_value=True, retire=True)
        if why == Refusal.UNREADABLE:
            return Refused(one_by_one=True)
        packed = PackedFailure(*loads(payload[1:]))
        cause = f"unpickling in the worker raised {packed.type_name}: {packed.message}"
        return Refused(error=UnpicklableFunction("the function", "fn", cause, self.name))

    def outcomes(self) -> Outcomes:
        """Unpack what became of the items; once."""
        header, payload = self.frame
        if header.kind == Kind.FAILURE:
            error = unpack_failure(PackedFailure(*loads(payload)), header.start, self.name)
            return Outcomes(header.start, [None], {header.start: error})
        if header.flags & Flag.PARTS:
            return self._rebuilt(header.start)
        return Outcomes(header.start, loads(payload) if header.length else [], {})

    def _rebuilt(self, start: int) -> Outcomes:
        """Rebuild values one by one: one that can't be fails its own item alone."""
        values: list[Any] = []
        failures: dict[int, Exception] = {}
        indices = range(start, start + self.frame.header.n_items)
        try:
            rebuilt = iter(Received(self.frame.payload, self._open_file))
        except Exception as error:  # no descriptor was left for its memory file, say
            return Outcomes(start, [None] * len(indices), {index: self._unreceived(index, error) for index in indices})
        for index in indices:
            try:
                values.append(next(rebuilt))
            except Unreadable as unreadable:
                failures[index] = self._unreadable(index, unreadable.__cause__ or unreadable)
                values.append(None)
        if isinstance(self.came, MemoryFile):
            self.came.close()  # now, whoever still holds the report: what was mapped stays
        return Outcomes(start, values, failures)

    def _unreceived(self, index: int, cause: Exception) -> Exception:
        where = f"receiving raised {type_name(cause)}: {safe_text(cause)}"
        error = UnpicklableResult(f"results[{index}]", f"results[{index}]", where, self.name)
        error.__cause__ = cause
        return error

    def _unreadable(self, index: int, cause: BaseException) -> Exception:
        where = f"unpickling raised {type_name(cause)}"
        error = UnpicklableResult(f"results[{index}]", f"results[{index}]", where, self.name)
        error.__cause__ = cause
        return error

    def _open_file(self, path: str | None) -> MemoryFile | None:
        if isinstance(self.came, OSError):
            raise self.came
        if isinstance(self.came, Unopened):
            return self.came.open(path) if path is not None else None
        return self.came
