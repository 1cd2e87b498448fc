"""Descriptors that travel with frames: a few at most, attached to the first byte; see unix(7), SCM_RIGHTS."""

from __future__ import annotations

import os
import socket
from array import array
from collections import deque
from collections.abc import Sequence

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
