"""What a pool needs of its lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ..deciding.starting import TRIES
from ..strategies.base import Lane


class PooledLane(Lane, Protocol):
    """A lane as the pool sees it.

    Attributes:
        loop: The event loop of whoever leased it last.
    """

    loop: Any

    def tidy(self) -> None:
        """Let go of what is of no more use, before it becomes idle and while it is."""
        ...

    def close(self) -> None:
        """Free this process's descriptors of it; nobody may be waiting on it any more. Idempotent."""
        ...


L = TypeVar("L", bound=PooledLane)

Start = Callable[[Callable[[Callable[[], object]], None]], L]


class StartAgain(Exception):
    """A lane could not be started just now, for want of something that may be there later, or has died before it was up.

    Attributes:
        told: Makes the error for those who wait, of how often this has happened in a row.
        tries: How often in a row it is worth trying.
    """

    def __init__(self, told: Callable[[int], Exception], tries: int = TRIES) -> None:
        super().__init__(told, tries)
        self.told, self.tries = told, tries
