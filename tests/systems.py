"""A machine made of files, for the senses to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offloop.sensing.system import System

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


class MadeSystem(System):
    """A machine with these cores and these files, and nothing else; what it isn't given it doesn't know."""

    def __init__(
        self,
        files: Mapping[str, str] | None = None,
        *,
        cores: int = 8,
        cpus: frozenset[int] | None = None,
        platform: str = "linux",
        environ: Mapping[str, str] | None = None,
        modules: Mapping[str, Any] | None = None,
        has_gil: bool = True,
        physical: int | None = None,
        available: int | None = None,
        unique: Mapping[int, int] | None = None,
    ) -> None:
        self.files, self.cores, self.cpus, self.platform = files or {}, cores, cpus, platform
        self.environ, self.modules, self.has_gil = environ or {}, modules or {}, has_gil
        self.physical, self.available, self.unique = physical, available, unique or {}
        self.has_read: list[str] = []

    def read(self, path: str) -> str | None:
        self.has_read.append(path)
        return self.files.get(path)

    def affinity(self) -> frozenset[int] | None:
        return self.cpus

    def cpu_count(self) -> int:
        return self.cores

    def physical_count(self) -> int | None:
        return self.physical

    def available_bytes(self) -> int | None:
        return self.available

    def unique_bytes(self, pid: int) -> int | None:
        return self.unique.get(pid)


def v2(own: str, files: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a machine with cgroup v2, whose process is in the group `own`; `files` are below the mount."""
    return {
        "/proc/self/mountinfo": V2,
        "/proc/self/cgroup": f"0::{own}\n",
        **{f"/sys/fs/cgroup/{name}": text for name, text in files.items()},
    }


def v1(controllers: str, own: str, files: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a machine with cgroup v1, whose controllers are mounted together, as `v2` does."""
    point = f"/sys/fs/cgroup/{controllers}"
    return {
        "/proc/self/mountinfo": f"33 31 0:30 / {point} rw,relatime shared:9 - cgroup cgroup rw,{controllers}\n",
        "/proc/self/cgroup": f"4:{controllers}:{own}\n",
        **{f"{point}/{name}": text for name, text in files.items()},
    }
