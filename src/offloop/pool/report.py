"""What a worker tells of a chunk, as it came over its lane."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import UnpicklableFunction, UnpicklableResult
from ..strategies.base import Chunk, Measured, Outcomes, Refused
from ..wire.buffers import Received, Unreadable
from ..wire.failures import PackedFailure, type_name, unpack_failure
from ..wire.frames import NOT_WATCHED, Flag, Frame, Kind, Refusal
from ..wire.memory import MemoryFile, Storage
from ..wire.pickling import INLINE_BYTES, loads


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
    came: MemoryFile | OSError | None
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
        rebuilt = iter(Received(self.frame.payload, self._open_file))
        for index in range(start, start + self.frame.header.n_items):
            try:
                values.append(next(rebuilt))
            except Unreadable as unreadable:
                failures[index] = self._unreadable(index, unreadable.__cause__ or unreadable)
                values.append(None)
        if isinstance(self.came, MemoryFile):
            self.came.close()  # now, whoever still holds the report: what was mapped stays
        return Outcomes(start, values, failures)

    def _unreadable(self, index: int, cause: BaseException) -> Exception:
        where = f"unpickling raised {type_name(cause)}"
        error = UnpicklableResult(f"results[{index}]", f"results[{index}]", where, self.name)
        error.__cause__ = cause
        return error

    def _open_file(self, path: str | None) -> MemoryFile | None:
        if path is not None:
            return self.storage.opened(path)
        if isinstance(self.came, OSError):
            raise self.came
        return self.came
