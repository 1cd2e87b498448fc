"""The machine, the versions and the settings that figures belong to."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from enum import Enum
from importlib import metadata
from typing import Any

from .. import ParallelSession
from ..cli.doctor.subject import Subject

_LIBRARIES = ("offloop", "anyio", "cloudpickle", "loky", "numpy", "structlog")


def describe_host(subject: Subject) -> dict[str, Any]:
    """Return what distinguishes this machine, and nothing that names it; sizes in bytes, the time in UTC."""
    host = subject.host
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(subject),
        "usable_cores": host.cores,
        "physical_cores": host.physical,
        "cores_of_machine": os.cpu_count(),
        "memory_headroom_bytes": host.memory_bytes,
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "has_gil": host.has_gil,
        "is_ci": host.is_ci,
        "load_1_min": _load(),
        "versions": _versions(),
    }


def describe_settings(session: ParallelSession) -> dict[str, dict[str, Any]]:
    """Return the settings of a session with their sources, in values that JSON has; of code the name of its type."""
    return {
        name: {"value": _plain(getattr(session.config, name)), "source": source.value}
        for name, source in session.sources.items()
        if name != "worker_init_args"
    }


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    return value if value is None or isinstance(value, bool | int | float | str) else type(value).__name__


def _cpu(subject: Subject) -> str:
    for line in (subject.system.read("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _load() -> float | None:
    """Return how many processes have wanted a core over the last minute, ours included; None where that isn't known."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found
