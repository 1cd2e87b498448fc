"""Sensing memory: how much is left to take, and what a process holds of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .cgroups import Group, groups
from .system import System

# Version 1 writes "no limit" as the greatest number of whole pages; no machine has an exbibyte.
_NO_LIMIT = 1 << 60


class _Files(NamedTuple):
    """What the files of a control group are called, and the fields of memory.stat with its whole inactive cache."""

    limit: str
    usage: str
    inactive: tuple[str, ...]


_FILES = {
    1: _Files("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "inactive_file")),
    2: _Files("memory.max", "memory.current", ("inactive_file",)),
}
_PRIVATE = ("Private_Clean", "Private_Dirty", "Private_Hugetlb", "Swap")


def memory_headroom(system: System) -> int | None:
    """Return the bytes that processes may still take, or None where nothing tells.

    The least of what the machine has available and of what each control group around this process leaves. Files that a
    group has cached and nobody uses count as left: the kernel drops them before it runs out.
    """
    if system.platform != "linux":
        return system.available_bytes()
    known = [*_machine(system), *(left for group in groups(system, "memory") for left in _left(system, group))]
    return max(0, min(known)) if known else None


def _machine(system: System) -> Iterator[int]:
    available = _fields(system.read("/proc/meminfo")).get("MemAvailable")
    if available is not None:
        yield available * 1024


def _left(system: System, group: Group) -> Iterator[int]:
    """Yield what a control group leaves, if it has a limit."""
    names = _FILES[group.version]
    limit = _number(system.read(f"{group.folder}/{names.limit}"))
    if limit is None or limit >= _NO_LIMIT:
        return
    usage = _number(system.read(f"{group.folder}/{names.usage}")) or 0
    statistics = _fields(system.read(f"{group.folder}/memory.stat"))
    inactive = next((statistics[name] for name in names.inactive if name in statistics), 0)
    yield limit - max(0, usage - inactive)


def private_bytes(system: System, pid: int) -> int | None:
    """Return the bytes that a process holds of its own; None if it is gone or belongs to somebody else.

    Pages that it shares with another process, such as the buffers of messages, don't count, and those that were
    swapped out do: this is what ending the process would give back. The kernel walks the process's page tables for it:
    measured 0.1 ms for a bare interpreter and 8 ms for each GB it holds, so it is nothing for the event loop to do often.
    """
    if system.platform != "linux":
        return system.unique_bytes(pid)
    text = system.read(f"/proc/{pid}/smaps_rollup") or system.read(f"/proc/{pid}/smaps")  # Linux 4.14; before
    if not text:  # a process that has ended and isn't reaped has a file, and nothing in it
        return None
    return 1024 * sum(value for name, value in _rows(text) if name in _PRIVATE)


def memory_limit(host_memory_bytes: int | None, worker_bytes: int, live_workers: int) -> int | None:
    """Return the most workers that memory has room for: those that live, and as many as fit into what is left.

    Args:
        host_memory_bytes: What may still be taken, so without what the live workers hold; None where not known.
        worker_bytes: What a worker takes.
        live_workers: How many are up.

    Returns:
        At least 1; None where there is no limit to be known.
    """
    if host_memory_bytes is None:
        return None
    return max(1, live_workers + host_memory_bytes // max(1, worker_bytes))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None


def _fields(text: str | None) -> dict[str, int]:
    return dict(_rows(text or ""))


def _rows(text: str) -> Iterator[tuple[str, int]]:
    """Yield name and number of each line that has both: ``name: number kB`` or ``name number``."""
    for line in text.splitlines():
        name, *rest = line.split()[:2] or [""]
        if rest and rest[0].isdecimal():
            yield name.rstrip(":"), int(rest[0])
