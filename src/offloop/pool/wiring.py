"""How a parent ties a worker to itself: by descriptors that the process inherits, or by connections that it makes.

Descriptors are the better way: nothing listens, nothing has a name. Where they can't be passed, the parent listens on the
loopback interface while the process starts, for two connections that begin with a token that nobody can guess; then
nobody listens any more.
"""

from __future__ import annotations

import hmac
import mmap
import os
import secrets
import select
import socket
from collections.abc import Callable

from ..wire import status_page
from ..wire.memory import Storage, memory_file
from ..worker.wiring import LANE, LIFELINE, Dialled, Inherited, Wiring

_TOKEN_BYTES = 32
_PROVE_S = 5.0  # how long a connection may take to say who it is


class Ends:
    """The parent's ends.

    Attributes:
        lane: The near end of the lane; before `complete` it may be what listens for it.
        lifeline: The near end of the lifeline.
        memory: The status page.
        far: The worker's side.
    """

    lane: socket.socket
    lifeline: socket.socket
    memory: mmap.mmap
    far: Wiring

    def spawned(self) -> None:
        """Go on once the process was started, or could not be."""

    def complete(self, is_dead: Callable[[], bool]) -> bool:
        """Wait until both ends are connected; False if the process has died before that.

        Args:
            is_dead: Says whether it has.
        """
        raise NotImplementedError

    def answered(self) -> None:
        """Give up what the process needed only to get this far."""

    def close(self) -> None:
        """Close the near ends."""
        self.answered()
        self.forget()

    def forget(self) -> None:
        """Close this process's copies of them, in a forked child that has nothing to do with the worker."""
        self.lane.close()
        self.lifeline.close()


def wire(storage: Storage) -> Ends:
    """Return the near ends for a worker that is about to start."""
    return _Calls(storage) if storage.kind == "portable" else _Pairs()


class _Pairs(Ends):
    """Socket pairs whose far ends the process inherits."""

    def __init__(self) -> None:
        self.lane, self._far_lane = socket.socketpair()
        self.lifeline, self._far_lifeline = socket.socketpair()
        self._page = memory_file("offloop-status", status_page.SIZE)
        self.memory = mmap.mmap(self._page, status_page.SIZE)
        fds = self._far_lane.fileno(), self._far_lifeline.fileno()
        self.far = Inherited(self._far_lane, self._far_lifeline, fds)

    def spawned(self) -> None:
        try:
            socket.send_fds(self.lane, [b"\0"], [self._page])
        except OSError:  # closed: the start has failed
            pass
        finally:
            os.close(self._page)
            self._far_lane.close()
            self._far_lifeline.close()

    def complete(self, is_dead: Callable[[], bool]) -> bool:
        return True


class _Calls(Ends):
    """Connections that the process makes over the loopback interface."""

    def __init__(self, storage: Storage) -> None:
        assert storage.folder is not None
        self._listener = self.lane = self.lifeline = socket.create_server(("127.0.0.1", 0), backlog=4)
        self._token = secrets.token_bytes(_TOKEN_BYTES)
        self._path = f"{storage.folder}/page-{secrets.token_hex(8)}"
        page = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.truncate(page, status_page.SIZE)
            self.memory = mmap.mmap(page, status_page.SIZE)
        finally:
            os.close(page)
        self.far = Dialled(self._listener.getsockname()[1], self._token, self._path)

    def complete(self, is_dead: Callable[[], bool]) -> bool:
        connected: dict[bytes, socket.socket] = {}
        try:
            while len(connected) < 2:
                if not self._is_called():
                    if is_dead():
                        return False
                    continue
                connection, _ = self._listener.accept()
                purpose = self._purpose(connection)
                if purpose is None or purpose in connected:
                    connection.close()
                else:
                    connected[purpose] = connection
        except (OSError, ValueError):  # closed, by `kill`
            for connection in connected.values():
                connection.close()
            return False
        finally:
            self._listener.close()
        self.lane, self.lifeline = connected[LANE], connected[LIFELINE]
        return True

    def answered(self) -> None:
        try:
            os.unlink(self._path)
        except OSError:  # it is gone
            pass

    def _is_called(self) -> bool:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        return bool(poll.poll(20))

    def _purpose(self, connection: socket.socket) -> bytes | None:
        """Return what a connection is for; None if it doesn't prove that it is the worker's."""
        connection.settimeout(_PROVE_S)
        said = b""
        try:
            while len(said) <= _TOKEN_BYTES and (more := connection.recv(_TOKEN_BYTES + 1 - len(said))):
                said += more
        except OSError:
            return None
        connection.setblocking(True)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        token, purpose = said[:_TOKEN_BYTES], said[_TOKEN_BYTES:]
        return purpose if hmac.compare_digest(token, self._token) and purpose in (LANE, LIFELINE) else None
