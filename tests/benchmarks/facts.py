"""The machine and the versions that a result belongs to."""

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

LIBRARIES = (
    "offloop",
    "anyio",
    "cloudpickle",
    "joblib",
    "loky",
    "mpire",
    "numpy",
    "pebble",
    "starlette",
    "trio",
    "trio-parallel",
    "uvicorn",
    "uvloop",
)


def host() -> dict[str, str | int | float]:
    """What distinguishes this machine, and nothing that names it."""
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _first(Path("/proc/cpuinfo"), "model name"),
        "usable_cores": len(os.sched_getaffinity(0)),
        "cgroup_cpu_max": _read(Path("/sys/fs/cgroup/cpu.max")),
        "memory": _first(Path("/proc/meminfo"), "MemTotal"),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_1_min": load_1_min(),
    }


def load_1_min() -> float:
    """How busy the machine has been, ourselves included."""
    return round(os.getloadavg()[0], 2)


def versions() -> dict[str, str]:
    """The version of every library that may enter; absent ones are left out."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def _first(path: Path, key: str) -> str:
    lines = (line.partition(":") for line in _read(path).splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "unknown")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "unknown"
