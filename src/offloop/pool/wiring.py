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
from contextlib import ExitStack
from time import monotonic

from ..wire import status_page
from ..wire.storage import Storage, fill, memory_file
from ..worker.wiring import LANE, LIFELINE, Dialled, Inherited, Wiring

_TOKEN_BYTES = 32
_PROVE_S = 5.0  # how long a connection may take to say who it is
_MAX_CALLERS = 32  # that have not said so yet; the one that came first goes when another comes
_LOOK_MS = 20  # how often to look whether the process has died


class Ends:
    """The parent's ends.

    Attributes:
        lane: The near end of the lane; before `complete` it may be what listens for it.
        lifeline: The near end of the lifeline.
        memory: The status page, and the text behind it.
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
        return True

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
        with ExitStack() as on_failure:
            self.lane, self._far_lane = map(on_failure.enter_context, socket.socketpair())
            self.lifeline, self._far_lifeline = map(on_failure.enter_context, socket.socketpair())
            self._page = memory_file("offloop-status", status_page.SIZE + status_page.TEXT)
            on_failure.callback(os.close, self._page)
            self.memory = mmap.mmap(self._page, status_page.SIZE + status_page.TEXT)
            on_failure.pop_all()
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


class _Calls(Ends):
    """Connections that the process makes over the loopback interface."""

    def __init__(self, storage: Storage) -> None:
        assert storage.folder is not None
        with ExitStack() as on_failure:
            self._listener = on_failure.enter_context(socket.create_server(("127.0.0.1", 0), backlog=_MAX_CALLERS))
            self.lane = self.lifeline = self._listener
            self._listener.setblocking(False)
            self._token = secrets.token_bytes(_TOKEN_BYTES)
            self._path = f"{storage.folder}/page-{secrets.token_hex(8)}"
            page = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            on_failure.callback(self.answered)
            fill(page, status_page.SIZE + status_page.TEXT)
            try:
                self.memory = mmap.mmap(page, status_page.SIZE + status_page.TEXT)
            finally:
                os.close(page)
            on_failure.pop_all()
        self.far = Dialled(self._listener.getsockname()[1], self._token, self._path)

    def complete(self, is_dead: Callable[[], bool]) -> bool:
        callers: list[_Caller] = []
        proven: dict[bytes, socket.socket] = {}
        try:
            while len(proven) < 2:
                for caller in self._that_spoke(callers):
                    purpose = caller.purpose(self._token)
                    if purpose is not None:
                        callers.remove(caller)
                        if purpose in (LANE, LIFELINE) and purpose not in proven:
                            proven[purpose] = caller.connection
                        else:
                            caller.connection.close()
                if is_dead():
                    return False
        except (OSError, ValueError):  # closed, by `kill`
            return False
        finally:
            self._listener.close()
            rest = [caller.connection for caller in callers]
            for connection in rest if len(proven) == 2 else (*rest, *proven.values()):
                connection.close()
        for connection in proven.values():
            connection.setblocking(True)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lane, self.lifeline = proven[LANE], proven[LIFELINE]
        return True

    def answered(self) -> None:
        try:
            os.unlink(self._path)
        except OSError:  # it is gone
            pass

    def _that_spoke(self, callers: list[_Caller]) -> list[_Caller]:
        """Wait a moment for callers, new ones too, and return those to be heard: any may be an intruder that says nothing."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        for caller in callers:
            poll.register(caller.connection, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(_LOOK_MS)}
        if self._listener.fileno() in ready:
            try:
                callers.append(_Caller(self._listener.accept()[0]))
            except (BlockingIOError, ConnectionError):  # it has hung up already
                pass
        now = monotonic()
        is_full = len(callers) > _MAX_CALLERS
        return [
            caller
            for place, caller in enumerate(callers)
            if caller.connection.fileno() in ready or caller.until < now or (is_full and place == 0)
        ]


class _Caller:
    """A connection that may be the worker's, while it says whether it is.

    Attributes:
        connection: The connection.
        until: When it is too late, by the monotonic clock.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection, self.until = connection, monotonic() + _PROVE_S
        self._said = b""

    def purpose(self, token: bytes) -> bytes | None:
        """Return what it is for: empty if it didn't prove that it is the worker's, None if it has not said yet."""
        try:
            more = self.connection.recv(_TOKEN_BYTES + 1 - len(self._said))
        except OSError:  # it said nothing in time, or has hung up
            return b""
        self._said += more
        if more and len(self._said) <= _TOKEN_BYTES and monotonic() < self.until:
            return None
        said, purpose = self._said[:_TOKEN_BYTES], self._said[_TOKEN_BYTES:]
        return purpose if hmac.compare_digest(said, token) else b""
