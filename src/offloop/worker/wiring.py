"""How a new worker gets hold of what ties it to its parent: its ends of the lane and the lifeline, and its status page."""

from __future__ import annotations

import mmap
import os
import socket
from typing import NamedTuple, Protocol

from ..wire import status_page

LANE, LIFELINE = b"L", b"F"  # what a connection is for, behind the token


class Wiring(Protocol):
    """The worker's side; it is pickled for the new process."""

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """Return the worker's ends of lane and lifeline."""
        ...

    def open_page(self, lane: socket.socket) -> tuple[memoryview, int]:
        """Map the status page; return its words, and a descriptor of the file, which has place for text behind it."""
        ...


class Inherited(NamedTuple):
    """Descriptors that the process was started with.

    Attributes:
        lane: The worker's end of the lane.
        lifeline: The far end of the lifeline.
        descriptors: As which these were inherited; loky's reducers duplicate them.
    """

    lane: socket.socket
    lifeline: socket.socket
    descriptors: tuple[int, ...]

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """Close the descriptors that were duplicated."""
        for fd in self.descriptors:
            os.close(fd)
        return self.lane, self.lifeline

    def open_page(self, lane: socket.socket) -> tuple[memoryview, int]:
        """Map the page whose descriptor is the first thing that the parent sends."""
        _, (fd,), _, _ = socket.recv_fds(lane, 1, 1)
        os.set_inheritable(fd, False)
        return status_page.open_page(mmap.mmap(fd, status_page.SIZE)), fd


class Dialled(NamedTuple):
    """Connections that the process makes by itself, to a parent that listens for just these.

    Attributes:
        port: Where on the loopback interface.
        token: Proves that it is the worker.
        page: Path of the status page.
    """

    port: int
    token: bytes
    page: str

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """Connect lane and lifeline."""
        return self._dial(LANE), self._dial(LIFELINE)

    def _dial(self, purpose: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(self.token + purpose)
        connection.setblocking(True)
        return connection

    def open_page(self, lane: socket.socket) -> tuple[memoryview, int]:
        """Map the page by its path."""
        fd = os.open(self.page, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        return status_page.open_page(mmap.mmap(fd, status_page.SIZE)), fd
