"""Waiting until there may be something new to do."""

from __future__ import annotations

import anyio


class Changes:
    """Wakes all that wait, each time that something changes; those who wake look for themselves."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def notify(self) -> None:
        """Wake all that wait."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Wait for the next change."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()
