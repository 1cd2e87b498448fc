"""The worker's end of a lane: blocking frames, with the memory files that come and go with them."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..wire.descriptors import Descriptors, LostDescriptor, send_with
from ..wire.frames import Frame, FrameReader, Header, Kind, pack_header
from ..wire.memory import MemoryFile
from ..wire.storage import Storage

_JOIN = 1 << 16  # up to here header and payload are joined for one write

Came = list[int] | OSError | None  # descriptors, or why they could not be received


@contextmanager
def no_signals() -> Iterator[None]:
    """Handle no signals meanwhile: what a handler of the user's raises would tear a frame apart."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Channel:
    """Blocking frames over the lane.

    Args:
        lane: The worker's end.
        storage: Takes in the files that come with them.

    Attributes:
        is_writing: Whether a frame is being written.
    """

    def __init__(self, lane: socket.socket, storage: Storage) -> None:
        self._lane, self._storage = lane, storage
        self._reader = FrameReader()
        self._descriptors = Descriptors()
        self._came: Came = None  # what came with the last frame, until it is asked for
        self._kept: deque[tuple[Frame, Came]] = deque()  # frames that came while an answer was waited for
        self._replies: deque[Frame] = deque()
        self.is_writing = False
        self._room, self._news = select.poll(), select.poll()
        self._room.register(lane, select.POLLOUT)
        self._news.register(lane, select.POLLIN)

    def limit_idleness(self, seconds: float) -> None:
        """Let `receive` give up after so long without a byte."""
        whole, fraction = divmod(min(seconds, 1e8), 1)
        limit = struct.pack("ll", int(whole), int(fraction * 1e6) or (0 if whole else 1))
        self._lane.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def receive(self) -> Frame | None:
        """Return the next frame; None at the end of the lane, or after idleness."""
        self._let_go()
        if self._kept:
            frame, self._came = self._kept.popleft()
            return frame
        reader = self._reader
        while True:
            following = reader.next_frame()
            if following is not None:
                self._came = self._come_with(following.header)
                return following
            try:
                count = self._descriptors.receive_into(self._lane, reader.writable())
            except BlockingIOError:  # SO_RCVTIMEO has passed
                if not reader.is_empty:
                    continue
                return None
            except ConnectionResetError:
                return None
            if count == 0:
                return None
            reader.received(count)

    def receive_reply(self) -> Frame | None:
        """Return the next answer to a question, and keep what comes before it for `receive`; None at the end of the lane.

        It waits for as long as it takes. What a signal handler of the user's raises meanwhile tears nothing apart.
        """
        while not self._replies:
            if not self._set_aside():
                self._news.poll()
                if not self._read():
                    return None
        return self._replies.popleft()

    def _set_aside(self) -> bool:
        """Take in a frame that has been read; False if there is none."""
        with no_signals():
            frame = self._reader.next_frame()
            if frame is None:
                return False
            if frame.header.kind == Kind.REPLY:
                self._replies.append(frame)
            else:
                self._kept.append((frame, self._come_with(frame.header)))
            return True

    def _read(self) -> bool:
        """Read what there is; False at the end of the lane."""
        with no_signals():
            try:
                count = self._descriptors.receive_into(self._lane, self._reader.writable())
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
            self._reader.received(count)
            return count > 0

    def _let_go(self) -> None:
        """Close what came with the last frame and was not asked for."""
        if isinstance(self._came, list):
            for fd in self._came:
                os.close(fd)
        self._came = None

    def _come_with(self, header: Header) -> Came:
        if not header.n_files:
            return None
        try:
            return self._descriptors.take()
        except LostDescriptor as error:
            return error

    def open_file(self, path: str | None) -> MemoryFile | None:
        """Return the memory file of the last frame, once; None if it has none.

        Args:
            path: Where it is, if the frame says so; else it is what came with the frame.

        Raises:
            OSError: It could not be received.
        """
        if path is not None:
            return self._storage.opened(path)
        came, self._came = self._came, None
        if isinstance(came, OSError):
            raise came
        return None if came is None else self._storage.received(came)

    @property
    def has_room(self) -> bool:
        """Whether a small frame can be written at once, and tears no other apart that is being written.

        That may be so of what a signal handler or a finalizer does.
        """
        return not self.is_writing and any(news == select.POLLOUT for _, news in self._room.poll(0))

    def send(self, kind: int, payload: bytes = b"", flags: int = 0) -> None:
        """Write one frame that belongs to no chunk."""
        self.write(pack_header(kind, len(payload), flags), [payload])

    def write(self, header: bytes, pieces: Sequence[bytes | memoryview], file: MemoryFile | None = None) -> None:
        """Write a packed header and its payload, with a memory file."""
        self.is_writing = True
        try:
            if sum(map(len, pieces)) < _JOIN:
                header, pieces = b"".join((header, *pieces)), ()
            if file is not None and file.path is None:
                sent = send_with(self._lane, memoryview(header), file.fds)
                header = header[sent:]
            elif file is not None:
                file.give_away()
            for piece in (header, *pieces):
                self._lane.sendall(piece)
        finally:
            self.is_writing = False
