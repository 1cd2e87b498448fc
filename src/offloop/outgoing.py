"""What a session sends to its workers: where that is stored, what is shared, how much may be in flight."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from copy import copy
from typing import Any

import anyio

from .errors import PayloadTooLarge
from .events import Guidance
from .sensing.memory import memory_headroom
from .sensing.system import System
from .sharing import Shares
from .telemetry import emit
from .wire.buffers import FILE_BYTES, Packer, Segment
from .wire.memory import MemoryFile
from .wire.storage import Storage

_SHARE_OF_MEMORY = 4  # by default a quarter of what is free may be in flight: a guess, the user's own data is there too
_LEAST_BYTES = 64 << 20  # so much may always be in flight, and is stored without a look at what is free (0.1 ms)
_PAUSE_S = 0.005


class _Load:
    """Bytes in flight; counted until nothing refers to this."""

    __slots__ = ("__weakref__", "n_bytes")

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes


class Outgoing:
    """The way out of a session; any thread and any event loop may use it.

    Args:
        storage: Where large buffers go.
        system: Where memory is looked up.
        limit_bytes: The most that may be in flight; None: by what memory is free.
        ended: Called when workers may drop something.

    Attributes:
        storage: Likewise.
        shares: What the user shares.
    """

    def __init__(
        self, storage: Storage, system: System, limit_bytes: int | None, ended: Callable[[], object]
    ) -> None:
        self.storage = storage
        self.shares = Shares(lambda packer, keeps: self._kept(packer, keeps, is_value=True))
        self._system, self._limit_bytes, self._ended = system, limit_bytes, ended
        self._loads: weakref.WeakSet[_Load] = weakref.WeakSet()
        self._is_told = False
        self._threads: list[threading.Thread] = []  # that store what is shared

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of messages that are being sent, executed or read; what is shared doesn't count."""
        return sum(load.n_bytes for load in list(self._loads))

    async def admit(self, n_bytes: int) -> object:
        """Wait until so much may be in flight, and return what counts as that for as long as it lives.

        A message that is larger than the limit waits until nothing else is in flight. Whose load ends isn't known to be
        on any event loop, so this looks every 5 ms.
        """
        limit: int | None = None
        while n_bytes and (others := self.bytes_in_flight):
            limit = self.most(others + n_bytes) if limit is None else limit
            if others + n_bytes <= limit:
                break
            await anyio.sleep(_PAUSE_S)
        load = _Load(n_bytes)
        self._loads.add(load)
        return load

    def is_beyond_limit(self, n_bytes: int) -> bool:
        """Whether so much may be in flight only when nothing else is."""
        return n_bytes > self.most(n_bytes)

    def most(self, wanted: int) -> int:
        """Return how much may be in flight; where that isn't set, memory is looked at only if it matters."""
        if self._limit_bytes is not None:
            return self._limit_bytes
        free = memory_headroom(self._system) if wanted > _LEAST_BYTES else None
        return _LEAST_BYTES if free is None else max(_LEAST_BYTES, free // _SHARE_OF_MEMORY)

    def store(self, packer: Packer) -> MemoryFile | None:
        """Write the buffers of a message to a memory file; None if they go with the message. Blocks.

        Raises:
            PayloadTooLarge: Memory has no room for them.
        """
        if packer.n_bytes < FILE_BYTES:
            return None
        self._check_room(packer.n_bytes)
        file = packer.store(self.storage)
        if file is None and not self._is_told:
            self._is_told = True
            advice = (
                f"no memory file could be had for {packer.n_bytes:,} bytes, so they are copied through the lane; "
                "look at the limits of descriptors (ulimit -n), of file sizes (ulimit -f) and of /dev/shm"
            )
            emit(Guidance(topic="transport", advice=advice))
        return file

    def keep(self, packer: Packer) -> Segment | None:
        """Write the buffers of something that several messages refer to; None if they go with each. Blocks.

        Raises:
            PayloadTooLarge: Memory has no room for them.
        """
        return self._kept(packer, [span.raw for span in packer.spans], is_value=False)

    def _kept(self, packer: Packer, keeps: list[Any], *, is_value: bool) -> Segment | None:
        file = self.store(packer)
        return None if file is None else Segment(file, packer.parts[0] if is_value else None, keeps, self._ended)

    def segment(self, file: MemoryFile, keeps: list[Any]) -> Segment:
        """Return a segment of what was sent with a message, so that others can refer to it."""
        return Segment(file, None, keeps, self._ended)

    def share(self, value: object, *, at_once: bool) -> None:
        """Share an object: store it in a thread from now on, or not before something is sent."""
        self.shares.add(value)
        if at_once:
            thread = threading.Thread(target=self.shares.store_pending, name="offloop-share", daemon=True)
            self._threads.append(thread)
            thread.start()
            self._threads = [thread for thread in self._threads if thread.is_alive()]

    def for_a_run(self) -> Outgoing:
        """Return the same way out for one run, which may share objects of its own: what is sent beside it is as it is then."""
        own = copy(self)
        own.shares = Shares(lambda packer, keeps: self._kept(packer, keeps, is_value=True), self.shares)
        return own

    def close(self) -> None:
        """Free everything, once no worker is left; blocks while something is being stored."""
        self.shares.clear()
        for thread in self._threads:
            thread.join()
        self.storage.close()

    def _check_room(self, n_bytes: int) -> None:
        if n_bytes >= _LEAST_BYTES:
            free = memory_headroom(self._system)
            if free is not None and n_bytes > free:
                raise PayloadTooLarge(n_bytes, free)
