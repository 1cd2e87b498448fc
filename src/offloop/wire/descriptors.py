"""Descriptors that travel with frames: at most one with each, attached to its first byte; see unix(7), SCM_RIGHTS."""

from __future__ import annotations

import os
import socket
from array import array
from collections import deque

_WIDTH = array("i").itemsize
_ROOM = socket.CMSG_SPACE(4 * _WIDTH) if hasattr(socket, "CMSG_SPACE") else 0
_CLOSE_ON_EXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class LostDescriptor(OSError):
    """A descriptor came, and this process had none left to take it in."""

    def __str__(self) -> str:
        return "a buffer could not be received: this process has no file descriptor left (ulimit -n)"


class Descriptors:
    """The descriptors that have come over a socket and that nobody has taken yet, in order."""

    def __init__(self) -> None:
        self._come: deque[int | None] = deque()  # None for one that was lost

    def receive_into(self, lane: socket.socket, view: memoryview) -> int:
        """Receive bytes, and whatever descriptors come with them; return how many bytes."""
        count, ancillary, flags, _ = lane.recvmsg_into([view], _ROOM, _CLOSE_ON_EXEC)
        if ancillary or flags:
            n_come = len(self._come)
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    self._come.extend(array("i", data[: len(data) - len(data) % _WIDTH]))
            if flags & socket.MSG_CTRUNC and len(self._come) == n_come:
                self._come.append(None)
        return count

    def take(self) -> int:
        """Return the next descriptor, the caller's own from now on.

        Raises:
            LostDescriptor: It could not be received.
        """
        fd = self._come.popleft()
        if fd is None:
            raise LostDescriptor
        return fd

    def close(self) -> None:
        """Close those that nobody has taken."""
        while self._come:
            fd = self._come.popleft()
            if fd is not None:
                os.close(fd)


def send_with(lane: socket.socket, view: memoryview, fd: int) -> int:
    """Send bytes, with a descriptor attached to the first of them; return how many bytes were sent."""
    return lane.sendmsg([view], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fd]))])
