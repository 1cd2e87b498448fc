"""Porters: tasks of a run that pickle and unpickle in threads, so that its lanes need not wait for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

from anyio.abc import TaskGroup

from .accounts import Accounts
from .changes import Changes
from .encoding import Encoder, encode_inline, in_thread
from .strategies.base import Chunk, Report

_PORTERS = 2


class Porters:
    """Keeps encoded chunks ready, one for each lane, and unpacks what has arrived.

    Args:
        encoder: The run's.
        accounts: Where outcomes go.
        changes: Is notified of what is ready.
        take: Returns a chunk that lanes to workers will want, if one is missing.

    Attributes:
        ready: Encoded chunks.
        is_needed: Whether items must be pickled in threads.
    """

    def __init__(
        self, encoder: Encoder, accounts: Accounts, changes: Changes, take: Callable[[], Chunk | None]
    ) -> None:
        self.ready: deque[Chunk] = deque()
        self.is_needed = False
        self._encoder, self._accounts, self._changes, self._take = encoder, accounts, changes, take
        self._are_there = False

    def start(self, tasks: TaskGroup) -> None:
        """Start them where there is work for them, unless they are there."""
        if not self._are_there and (self.is_needed or self._accounts.arrived):
            self._are_there = True
            for _ in range(_PORTERS):
                tasks.start_soon(self._carry)

    async def encode(self, chunk: Chunk) -> None:
        """Pickle items in a thread; those that can't be stay here or fail."""
        bad = await self._encoder.encode(chunk)
        if bad:
            self._accounts.refuse_items(chunk, bad)
        elif chunk.message is None:
            self._accounts.split(chunk)

    async def unpack_arrived(self) -> None:
        """Unpack all that has arrived."""
        while self._accounts.arrived:
            await self._unpack(*self._accounts.arrived.popleft())

    async def _unpack(self, chunk: Chunk, report: Report) -> None:
        begun = monotonic()
        outcomes = await in_thread(report.outcomes)
        self._accounts.take_in(chunk, report, outcomes, monotonic() - begun)

    async def _carry(self) -> None:
        while not self._accounts.is_over:
            if self._accounts.arrived:
                await self._unpack(*self._accounts.arrived.popleft())
                self._changes.notify()
            elif self.is_needed and (chunk := self._take()) is not None:
                if not encode_inline(chunk):
                    await self.encode(chunk)
                if chunk.message is not None:
                    self.ready.append(chunk)
                self._changes.notify()
            else:
                await self._changes.wait()
