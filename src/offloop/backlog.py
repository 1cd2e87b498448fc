"""What a run counts for in the backlog of the backend that it waits for, so that others can go elsewhere."""

from __future__ import annotations

from .strategies.base import Backend


class Share:
    """A run's share of a backlog; on one backend at a time.

    Args:
        is_interactive: Whether it goes before what isn't.
    """

    __slots__ = ("_backend", "_is_interactive", "_seconds")

    def __init__(self, is_interactive: bool = False) -> None:
        self._backend: Backend | None = None
        self._seconds = 0.0
        self._is_interactive = is_interactive

    @property
    def own(self) -> dict[Backend, float]:
        """Seconds that it counts for, by backend."""
        return {self._backend: self._seconds} if self._backend is not None else {}

    def move(self, backend: Backend | None, seconds: float = 0.0) -> None:
        """Let others know that this backend has so much more to do, instead of the one before."""
        if self._backend is not None:
            self._backend.backlog_s -= self._seconds
            self._backend.interactive_s -= self._seconds * self._is_interactive
            self._backend.n_shares -= 1
            if not self._backend.n_shares:  # what is left then is what floats have lost
                self._backend.backlog_s = self._backend.interactive_s = 0.0
        self._backend, self._seconds = backend, seconds
        if backend is not None:
            backend.backlog_s += seconds
            backend.interactive_s += seconds * self._is_interactive
            backend.n_shares += 1
