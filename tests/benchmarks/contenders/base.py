"""What a figure asks of every contender."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self, TypeVar, TypeVarTuple

from ..entrants import Entrant

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Contender(Protocol):
    """A pool of workers as an async program would use it; entering starts it, leaving ends it."""

    @property
    def remark(self) -> str:
        """What it decided on the last map; empty for those that have no choice."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...

    async def call(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        """Await one call."""

    async def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Await the results of ``fn`` on every item, in order."""

    def imap(self, fn: Callable[[T], R], source: Iterable[T]) -> Iterator[R]:
        """Return the results as they come, in order; called in a thread, for it blocks."""

    async def stoppable(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        """Await one call whose cancellation stops the work, as far as the library can."""

    def renew(self) -> None:
        """Replace what a crash has broken, where the library leaves that to its user."""

    def rest(self) -> None:
        """Between samples: keep still, so that no other contender's time shows it."""


class Pooled:
    """What most contenders share: their settings, and an entrance that does nothing."""

    def __init__(self, entrant: Entrant, *, workers: int) -> None:
        self.entrant = entrant
        self.workers = workers

    @property
    def remark(self) -> str:
        return ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the pool and wait for its workers."""

    async def call(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        raise NotImplementedError

    def imap(self, fn: Callable[[T], R], source: Iterable[T]) -> Iterator[R]:
        raise NotImplementedError

    async def stoppable(self, fn: Callable[[*Ts], R], *args: *Ts) -> R:
        return await self.call(fn, *args)

    def renew(self) -> None:
        """Nothing to do for a pool that replaces its workers itself."""

    def rest(self) -> None:
        """Nothing to do for a pool that sleeps while it has no work."""
