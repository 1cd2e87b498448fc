"""Sensing the host: what this machine lets this process use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..inner_threads import ALL_CORES, FOLLOW_OMP, JOBLIB_CORES, THREAD_VARIABLES, USER_THREADS
from ..model import Host
from .cgroups import Group, groups
from .foreign_pool import foreign_pool
from .memory import memory_headroom
from .system import System

# Variables that CI systems set; CI itself is set by nearly all of them.
_CI_VARIABLES = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "JENKINS_URL", "TEAMCITY_VERSION", "TF_BUILD")
_FALSE = frozenset({"", "0", "false", "no", "off"})



def sense_host(system: System, *, is_worker: bool, is_off: bool, lifts_ci: bool) -> Host:
    """Return what this process may use.

    Takes a few small files on Linux, well under a millisecond.

    Args:
        system: The machine and the process.
        is_worker: Whether this process is itself a worker of offloop.
        is_off: Whether the operator keeps everything in the local thread.
        lifts_ci: Whether the operator lets `auto` choose under CI too.
    """
    cpus = system.affinity() or frozenset(range(system.cpu_count()))
    cores = _cores(system, len(cpus))
    physical = _physical(system, cpus)
    return Host(
        cores=cores,
        physical=None if physical is None else min(physical, cores),
        platform=system.platform,
        has_gil=system.has_gil,
        memory_bytes=memory_headroom(system),
        is_ci=_is_ci(system.environ),
        is_worker=is_worker,
        foreign_pool=None if is_worker else foreign_pool(system.modules),
        is_off=is_off,
        lifts_ci=lifts_ci,
    )


def _cores(system: System, cores: int) -> int:
    """Return usable cores: the least of affinity, the quotas of all cgroups around this one and LOKY_MAX_CPU_COUNT."""
    quotas = [quota for group in groups(system, "cpu") for quota in _quota(system, group)]
    limit = system.environ.get("LOKY_MAX_CPU_COUNT", "").strip()
    limits = [int(limit)] if _is_count(limit) else []
    return max(1, min([cores, *map(int, quotas), *limits]))


def _quota(system: System, group: Group) -> Iterator[float]:
    """Yield how many cores' time a control group grants, if it has a limit; ``max`` and -1 are none."""
    if group.version == 2:
        numbers = (system.read(f"{group.folder}/cpu.max") or "").split()
    else:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        numbers = [(system.read(f"{group.folder}/{name}") or "").strip() for name in names]
    if len(numbers) == 2 and all(number.isdecimal() and int(number) for number in numbers):
        yield int(numbers[0]) / int(numbers[1])


def _physical(system: System, cpus: frozenset[int]) -> int | None:
    """Return how many of these logical cores are cores of their own; where files don't tell, how many there are."""
    if system.platform != "linux":
        return system.physical_count()
    count = 0
    seen: set[int] = set()
    for cpu in sorted(cpus):
        if cpu not in seen:
            siblings = system.read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
            if siblings is None:
                return None
            seen |= _numbers(siblings)
            count += 1
    return count


def _numbers(text: str) -> set[int]:
    """Return the numbers of a list as the kernel writes it: ``0-3,8``."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def _is_ci(environ: Mapping[str, str]) -> bool:
    """Whether a CI system runs this process: as CI says, where it is set, else whether a variable of one of them is."""
    names = ("CI",) if "CI" in environ else _CI_VARIABLES
    return any(environ.get(name, "").strip().lower() not in _FALSE for name in names)


def worker_environment(cores: int, workers: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables that keep workers × their libraries' threads within the cores.

    Where the user has set fewer threads, that holds.

    Args:
        cores: How many cores there are to use.
        workers: How many workers share them.
        environ: The environment of this process, which is the user's.
    """
    share = max(1, cores // workers)
    own = {name: count for name in THREAD_VARIABLES if (count := _first_number(environ.get(name, ""))) is not None}
    omp = own.get("OMP_NUM_THREADS", share)
    counts = {name: min(share, own.get(name, omp if name in FOLLOW_OMP else share)) for name in THREAD_VARIABLES}
    return {
        **{name: str(count) for name, count in counts.items()},
        JOBLIB_CORES: str(share),
        ALL_CORES: str(cores),
        USER_THREADS: " ".join(f"{name}={environ[name].strip()}" for name in own),
    }


def _first_number(text: str) -> int | None:
    """Return the first of the numbers, of which there may be one for each level of nesting."""
    first = text.partition(",")[0].strip()
    return int(first) if _is_count(first) else None


def _is_count(text: str) -> bool:
    """Whether this is a whole number above 0, and one that int() reads."""
    return text.isdecimal() and len(text) <= _MAX_DIGITS and int(text) > 0


_MAX_DIGITS = 18
