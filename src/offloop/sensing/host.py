"""Sensing the host: what this machine lets this process use."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..model import Host

# Variables that CI systems set; CI itself is set by nearly all of them.
_CI_VARIABLES = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "JENKINS_URL", "TEAMCITY_VERSION", "TF_BUILD")
_FALSE = frozenset({"", "0", "false", "no", "off"})

# Thread counts of libraries that bring threads of their own; each is read once, when the library is loaded.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)


def sense_host(environ: Mapping[str, str], *, is_worker: bool, is_off: bool, lifts_ci: bool) -> Host:
    """Return what this process may use."""
    return Host(
        cores=_cores(environ), is_ci=_is_ci(environ), is_worker=is_worker, is_off=is_off, lifts_ci=lifts_ci
    )


def _cores(environ: Mapping[str, str]) -> int:
    """Return usable cores: the least of affinity, cgroup quota and LOKY_MAX_CPU_COUNT."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    if quota is not None:
        cores = min(cores, max(1, int(quota)))
    limit = environ.get("LOKY_MAX_CPU_COUNT", "")
    if limit.isdecimal() and int(limit) > 0:
        cores = min(cores, int(limit))
    return cores


def _cgroup_quota() -> float | None:
    """Return the cores that the root of the mounted cgroup v2 grants, as a container sees it; None for no limit."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        return None
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _is_ci(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name, "").lower() not in _FALSE for name in _CI_VARIABLES)


def worker_environment(cores: int, workers: int) -> dict[str, str]:
    """Return variables that keep workers × their libraries' threads within the cores."""
    threads = str(max(1, cores // workers))
    return {**dict.fromkeys(_THREAD_VARIABLES, threads), "LOKY_MAX_CPU_COUNT": threads}
