"""The worker's end of a lane: blocking frames, with the memory files that come and go with them."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Sequence

from ..wire.descriptors import Descriptors, LostDescriptor, send_with
from ..wire.frames import Frame, FrameReader, Header, pack_header
from ..wire.memory import MemoryFile
from ..wire.storage import Storage

_JOIN = 1 << 16  # up to here header and payload are joined for one write


class Channel:
    """Blocking frames over the lane.

    Args:
        lane: The worker's end.
        storage: Takes in the files that come with them.
    """

    def __init__(self, lane: socket.socket, storage: Storage) -> None:
        self._lane, self._storage = lane, storage
        self._reader = FrameReader()
        self._descriptors = Descriptors()
        self._came: list[int] | OSError | None = None  # what came with the last frame, until it is asked for
        self._is_writing = False
        self._room = select.poll()
        self._room.register(lane, select.POLLOUT)

    def limit_idleness(self, seconds: float) -> None:
        """Let `receive` give up after so long without a byte."""
        whole, fraction = divmod(min(seconds, 1e8), 1)
        limit = struct.pack("ll", int(whole), int(fraction * 1e6) or (0 if whole else 1))
        self._lane.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def receive(self) -> Frame | None:
        """Return the next frame; None at the end of the lane, or after idleness."""
        reader = self._reader
        while True:
            frame = reader.next_frame()
            if frame is not None:
                self._let_come(frame.header)
                return frame
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

    def _let_come(self, header: Header) -> None:
        if isinstance(self._came, list):
            for fd in self._came:
                os.close(fd)
        self._came = None
        if header.n_files:
            try:
                self._came = self._descriptors.take()
            except LostDescriptor as error:
                self._came = error

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
        return not self._is_writing and any(news == select.POLLOUT for _, news in self._room.poll(0))

    def send(self, kind: int, payload: bytes = b"", flags: int = 0) -> None:
        """Write one frame that belongs to no chunk."""
        self.write(pack_header(kind, len(payload), flags), [payload])

    def write(self, header: bytes, pieces: Sequence[bytes | memoryview], file: MemoryFile | None = None) -> None:
        """Write a packed header and its payload, with a memory file."""
        self._is_writing = True
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
            self._is_writing = False
