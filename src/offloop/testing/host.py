"""The host that inline sessions see: the same one everywhere."""

from __future__ import annotations

import os

from ..sensing.system import System

_MEMORY_BYTES = 16 << 30
_DECIDING = ("LOKY_MAX_CPU_COUNT", "WEB_CONCURRENCY", "CI")  # variables that decide what a session does, besides its own


class InlineSystem(System):
    """A Linux machine with nothing but some cores and 16 GiB of free memory, and this process without what decides for it.

    Args:
        cores: How many it has.
        environ: Variables of ours that are set there.
    """

    def __init__(self, cores: int, environ: dict[str, str]) -> None:
        super().__init__()
        own = {name: value for name, value in os.environ.items() if not name.upper().startswith(("OFFLOOP_", *_DECIDING))}
        self.environ = {**own, "CI": "", **environ}
        self.platform, self.has_gil, self.modules = "linux", True, {}
        self._cores = cores

    def read(self, path: str) -> str | None:
        """Return what is known of memory; nothing else can be read."""
        return f"MemAvailable: {_MEMORY_BYTES >> 10} kB" if path == "/proc/meminfo" else None

    def affinity(self) -> frozenset[int]:
        """Return the numbers of its cores."""
        return frozenset(range(self._cores))

    def cpu_count(self) -> int:
        """Return how many cores it has."""
        return self._cores

    def available_bytes(self) -> int:
        """Return the memory that processes can have."""
        return _MEMORY_BYTES
