"""Checks of the machine: cores, memory, platform."""

from __future__ import annotations

import os
import platform as platforms
import sys
from collections.abc import Callable, Iterator

from ...sensing.host import sense_host
from ...sensing.memory import memory_headroom
from ...sensing.system import System
from ..amounts import counted, sized
from .findings import Finding, Verdict
from .subject import Subject

_LITTLE_BYTES = 500_000_000  # a guess: below that a few workers that import numpy have no room for work


class _Limited(System):
    """A machine on which all limits but those that are named are out of sight, so that each can be told by itself."""

    def __init__(self, real: System, *, affinity: bool = False, cgroups: bool = False, variables: bool = False) -> None:
        super().__init__()
        self._real, self._has_cgroups = real, cgroups
        self.platform = real.platform
        self.environ = real.environ if variables else {}
        self.affinity = real.affinity if affinity else lambda: None  # type: ignore[method-assign]
        self.cpu_count = real.cpu_count  # type: ignore[method-assign]

    def read(self, path: str) -> str | None:
        """Return the text of a file, unless it is about a control group that is out of sight."""
        is_of_group = "cgroup" in path or path == "/proc/self/mountinfo"
        return None if is_of_group and not self._has_cgroups else self._real.read(path)


def _cores(system: System) -> int:
    return sense_host(system, is_worker=False, is_off=False, lifts_ci=False).cores


def cores(subject: Subject) -> Iterator[Finding]:
    """Tell how many cores there are to use, and what limits them."""
    system, usable = subject.system, subject.host.cores
    n_machine = system.cpu_count()
    limits = {
        "affinity": _cores(_Limited(system, affinity=True)),
        "cgroup quota": _cores(_Limited(system, cgroups=True)),
        "LOKY_MAX_CPU_COUNT": _cores(_Limited(system, variables=True)),
    }
    binding = [name for name, n in limits.items() if n == usable < n_machine]
    why = f"{usable} of {n_machine} usable, by {' and '.join(binding)}" if binding else f"{usable} usable, all of the machine"
    figures = {"usable": usable, "machine": n_machine, **{name.replace(" ", "_"): n for name, n in limits.items()}}
    verdict, fix = Verdict.OK, None
    if subject.host.is_worker:
        why = f"{usable} usable, inside a worker"
    elif usable == 1:
        verdict = Verdict.WARNING
        fix = _FIXES[binding[0]] if binding else "use a machine with more cores; work still leaves the event loop"
        why += ": nothing gets faster in parallel"
    elif "LOKY_MAX_CPU_COUNT" in binding:
        verdict, fix = Verdict.WARNING, _FIXES["LOKY_MAX_CPU_COUNT"]
    yield Finding(check="cores", verdict=verdict, cause=why, fix=fix, figures=figures)


_FIXES = {
    "affinity": "start it without taskset, or with more cores in its list",
    "cgroup quota": "grant the container more, as by docker run --cpus=2 or the limits of its pod",
    "LOKY_MAX_CPU_COUNT": "unset LOKY_MAX_CPU_COUNT",
}


def memory(subject: Subject) -> Iterator[Finding]:
    """Tell how much memory there is to take, and for how many workers that is enough."""
    host, system = subject.host, subject.system
    if host.memory_bytes is None:
        yield Finding(check="memory", verdict=Verdict.WARNING, cause="the platform doesn't tell how much is free")
        return
    machine = memory_headroom(_Limited(system)) if host.platform == "linux" else host.memory_bytes
    by = "the machine" if machine is not None and machine <= host.memory_bytes * 1.01 else "the cgroup's limit"
    room = max(1, host.memory_bytes // host.worker_bytes)
    cause = f"{sized(host.memory_bytes)} left, by {by}"
    verdict, fix = Verdict.OK, None
    if room < subject.workers or host.memory_bytes < _LITTLE_BYTES:
        verdict, fix = Verdict.WARNING, f"free memory, raise the limit, or set OFFLOOP_WORKERS={max(1, min(room, subject.workers) // 2)}"
        cause += f": room for {counted(room, 'bare worker')}"
    yield Finding(
        check="memory",
        verdict=verdict,
        cause=cause,
        fix=fix,
        figures={"left_bytes": host.memory_bytes, "worker_bytes": host.worker_bytes},
    )


def platform(subject: Subject) -> Iterator[Finding]:
    """Tell of platform and interpreter, and how workers start."""
    host = subject.host
    python = f"{platforms.python_implementation()} {platforms.python_version()}" + ("" if host.has_gil else " without GIL")
    cause = f"{platforms.system()} {platforms.machine()}, {python}; workers start afresh, by loky"
    verdict, fix = Verdict.OK, None
    if host.platform != "linux":
        verdict = Verdict.WARNING
        cause = f"{platforms.system()} {platforms.machine()}, {python}: made and tested for Linux"
        fix = "measure with offloop bench; docs/explanation/platforms.md tells what differs"
    elif not _has(os, "pidfd_open"):
        verdict, cause, fix = Verdict.WARNING, f"{cause}; no pidfd_open", "use Linux 5.3 or later"
    figures = {"system": platforms.system(), "release": platforms.release(), "machine": platforms.machine(), "python": sys.version.split()[0]}
    yield Finding(check="platform", verdict=verdict, cause=cause, fix=fix, figures={**figures, "has_gil": host.has_gil})


def _has(module: object, name: str) -> bool:
    """Whether a system call is there and works for this process."""
    call: Callable[..., int] | None = getattr(module, name, None)
    if call is None:
        return False
    try:
        os.close(call(os.getpid()))
    except OSError:
        return False
    return True
