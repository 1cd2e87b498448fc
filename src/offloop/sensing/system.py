"""The machine and the process as the senses see them: one view, which tests replace by a made one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any


class System:
    """This machine and this process.

    All that a sense reads, it reads through here. psutil is imported only on platforms whose kernel doesn't write what
    is asked for into files.

    Attributes:
        environ: The variables of the environment.
        platform: As `sys.platform` has it.
        has_gil: Whether the interpreter has a global lock that is on.
        modules: What this process has imported, by name.
    """

    def __init__(self) -> None:
        self.environ: Mapping[str, str] = os.environ
        self.platform: str = sys.platform
        self.has_gil: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
        self.modules: Mapping[str, Any] = sys.modules

    def read(self, path: str) -> str | None:
        """Return the text of a file; None if it can't be read."""
        try:
            with open(path, "rb", buffering=0) as file:
                return file.read().decode(errors="replace")
        except OSError:
            return None

    def affinity(self) -> frozenset[int] | None:
        """Return the numbers of the logical cores that this process may use; None where the platform doesn't say."""
        return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None

    def cpu_count(self) -> int:
        """Return how many logical cores the machine has; 1 where that isn't known."""
        return os.cpu_count() or 1

    def physical_count(self) -> int | None:
        """Return how many cores the machine has that aren't a second thread of another; None where not known."""
        import psutil

        count: int | None = psutil.cpu_count(logical=False)
        return count

    def available_bytes(self) -> int | None:
        """Return the memory that processes can have without swapping, as the platform counts it."""
        import psutil

        return int(psutil.virtual_memory().available)

    def unique_bytes(self, pid: int) -> int | None:
        """Return the memory that would be free if this process ended; None if it is gone or out of reach."""
        import psutil

        try:
            return int(psutil.Process(pid).memory_full_info().uss)
        except psutil.Error:
            return None


def this_system() -> System:
    """Return the machine and the process that this code runs on, or what a test has put in their place."""
    return views[-1]()


views: list[Callable[[], System]] = [System]  # the last one holds
