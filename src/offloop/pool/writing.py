"""Writing to a lane without blocking."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

from ..wire.descriptors import send_with
from ..wire.memory import MemoryFile

# How long a large message is moved before the loop gets its turn. A socket buffer holds about 200 kB, so that on a busy
# loop, with one buffer a round, 50 MB would take 250 rounds.
BURST_S = 0.001
# The kernel has no room for more just now: of descriptors that are on their way a user may have only so many.
_BUSY = frozenset({errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM})

_JOIN = 1 << 16  # up to here header and payload are joined for one write


class Writer:
    """Frames on their way into a socket.

    Args:
        lane: The near end of the lane.
        broken: Called when nothing can be written to it any more.

    Attributes:
        left: What is not written yet, with the memory files that go along.
    """

    __slots__ = ("_broken", "_lane", "left")

    def __init__(self, lane: socket.socket, broken: Callable[[], object]) -> None:
        self.left: deque[tuple[memoryview, MemoryFile | None]] = deque()
        self._lane, self._broken = lane, broken

    def add(self, header: bytes, pieces: Sequence[bytes | memoryview], file: MemoryFile | None = None) -> None:
        """Take in a packed header and its payload; `flush` writes it."""
        if file is not None and file.path is not None:
            file = None  # it goes by its path
        if sum(map(len, pieces)) < _JOIN:
            self.left.append((memoryview(b"".join((header, *pieces))), file))
            return
        self.left.append((memoryview(header), file))
        self.left.extend((memoryview(piece), None) for piece in pieces)

    def flush(self) -> None:
        """Write what the socket takes; the rest waits for the next time."""
        left = self.left
        deadline = 0.0
        while left:
            view, file = left[0]
            try:
                sent = self._lane.send(view) if file is None else send_with(self._lane, view, file.fds)
            except BlockingIOError:
                if monotonic() >= deadline:
                    return
                os.sched_yield()  # the worker is reading: it empties the socket in less than the loop's next round
                continue
            except OSError as error:
                if error.errno not in _BUSY:  # the worker is gone, or can't be reached; `receive` tells
                    left.clear()
                    self._broken()
                return
            if sent == len(view):
                left.popleft()
            else:
                left[0] = view[sent:], None
            if left and not deadline:
                deadline = monotonic() + BURST_S
