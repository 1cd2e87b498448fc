"""Descriptors that travel with frames: a few at most, attached to the first byte; see unix(7), SCM_RIGHTS."""

from __future__ import annotations

import os
import socket
import sys
from array import array
from collections import deque
from collections.abc import Sequence

_STDERR = 2
_WIDTH = array("i").itemsize
_ROOM = socket.CMSG_SPACE(8 * _WIDTH) if hasattr(socket, "CMSG_SPACE") else 0
_CLOSE_ON_EXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class LostDescriptor(OSError):
    """A descriptor came, and this process had none left to take it in."""

    def __str__(self) -> str:
        return "a buffer could not be received: this process has no file descriptor left (ulimit -n)"


class Descriptors:
    """The descriptors that have come over a socket and that nobody has taken yet, in order."""

    def __init__(self) -> None:
        self._come: deque[list[int] | None] = deque()  # by frame; None for those that were lost

    def receive_into(self, lane: socket.socket, view: memoryview) -> int:
        """Receive bytes, and whatever descriptors come with them; return how many bytes."""
        count, ancillary, flags, _ = lane.recvmsg_into([view], _ROOM, _CLOSE_ON_EXEC)
        if ancillary or flags:
            come: list[int] = []
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    come.extend(array("i", data[: len(data) - len(data) % _WIDTH]))
            if flags & socket.MSG_CTRUNC:
                _close(come)
                self._come.append(None)
            elif come:
                self._come.append(come)
        return count

    def take(self) -> list[int]:
        """Return the descriptors that came with the next frame that brought any, the caller's own from now on.

        Raises:
            LostDescriptor: They could not be received.
        """
        come = self._come.popleft() if self._come else None
        if come is None:
            raise LostDescriptor
        return come

    def close(self) -> None:
        """Close those that nobody has taken."""
        while self._come:
            _close(self._come.popleft() or [])


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def send_with(lane: socket.socket, view: memoryview, fds: Sequence[int]) -> int:
    """Send bytes, with descriptors attached to the first of them; return how many bytes were sent."""
    return lane.sendmsg([view], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))])


def complete_standard_streams() -> None:
    """Open on nothing what this process lacks of descriptors 0 to 2: a daemon may have closed them.

    Else ends of lanes would get these numbers, to which C code writes; and loky flushes `sys.stdout`, whatever that is. Where
    Python has no stream the number may be anybody's by now, an event loop's for example, so that is not written to.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(fd, True)
    os.close(fd)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def above_standard_streams(end: socket.socket) -> socket.socket:
    """Return a socket whose number is no standard stream's, in place of one that has got such a number."""
    low: list[int] = []
    number = end.fileno()
    while number <= _STDERR:
        low.append(number)
        number = os.dup(number)
    for other in low[1:]:
        os.close(other)
    if not low:
        return end
    end.close()
    return socket.socket(fileno=number)
