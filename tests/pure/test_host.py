"""sensing/host.py: what this machine lets this process use."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from offloop.model import Host
from offloop.sensing import host as host_module
from offloop.sensing.host import sense_host, worker_environment


def sense(environ: dict[str, str]) -> Host:
    """Sense the host in this environment."""
    return sense_host(environ, is_worker=False, is_off=False, lifts_ci=False)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, float | None], None]:
    """Return what makes a machine of so many cores with such a quota."""

    def make(cores: int, quota: float | None) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
        monkeypatch.setattr(host_module, "_cgroup_quota", lambda: quota)

    return make


@pytest.mark.parametrize(
    ("affinity", "quota", "limit", "cores"),
    [
        (8, None, None, 8),
        (8, 3.0, None, 3),
        (8, 2.5, None, 2),
        (8, 0.5, None, 1),  # a fraction of a core is still one to work on
        (2, 16.0, None, 2),
        (8, None, "3", 3),
        (8, 4.0, "3", 3),
        (2, None, "16", 2),
        (8, None, "0", 8),
        (8, None, "-1", 8),
        (8, None, "many", 8),
        (8, None, "", 8),
    ],
)
def test_cores_are_the_least_of_all_limits(
    machine: Callable[[int, float | None], None], affinity: int, quota: float | None, limit: str | None, cores: int
) -> None:
    """Usable cores are the least of affinity, quota and LOKY_MAX_CPU_COUNT, and never none."""
    machine(affinity, quota)
    assert sense({} if limit is None else {"LOKY_MAX_CPU_COUNT": limit}).cores == cores


@pytest.mark.parametrize(
    ("text", "quota"),
    [("max 100000\n", None), ("150000 100000\n", 1.5), ("400000 100000\n", 4.0), ("", None), ("odd", None)],
)
def test_the_quota_is_read_as_the_kernel_writes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, text: str, quota: float | None
) -> None:
    """The quota of cgroup v2 is time over period; `max`, and what can't be read, is no limit."""
    file = tmp_path / "cpu.max"
    file.write_text(text, encoding="utf-8")
    monkeypatch.setattr("builtins.open", lambda path, *rest, real=open: real(file, *rest))
    assert host_module._cgroup_quota() == quota


def test_a_machine_without_affinity_counts_its_cores(
    machine: Callable[[int, float | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where affinity isn't known, the count of cores is taken; where that isn't known either, one."""
    machine(1, None)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert sense({}).cores == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert sense({}).cores == 1


@pytest.mark.parametrize(
    ("environ", "is_ci"),
    [
        ({}, False),
        ({"CI": "true"}, True),
        ({"CI": "1"}, True),
        ({"CI": "false"}, False),
        ({"CI": "0"}, False),
        ({"CI": ""}, False),
        ({"CI": "No"}, False),
        ({"GITHUB_ACTIONS": "true"}, True),
        ({"JENKINS_URL": "https://ci"}, True),
        ({"TF_BUILD": "True"}, True),
        ({"CIRCUS": "true"}, False),
    ],
)
def test_ci_is_recognised(environ: dict[str, str], is_ci: bool) -> None:
    """A CI system is recognised by the variables that it sets, unless they say no."""
    assert sense(environ).is_ci is is_ci


def test_what_the_caller_knows_is_passed_on() -> None:
    """Whether this is a worker, and what the operator wants, stand in the host as given."""
    host = sense_host({}, is_worker=True, is_off=True, lifts_ci=True)
    assert (host.is_worker, host.is_off, host.lifts_ci) == (True, True, True)


@pytest.mark.parametrize(("cores", "workers", "threads"), [(8, 2, "4"), (8, 3, "2"), (2, 4, "1"), (1, 1, "1")])
def test_workers_share_the_cores(cores: int, workers: int, threads: str) -> None:
    """Every library with threads of its own gets cores ÷ workers of them, and at least one."""
    environ = worker_environment(cores, workers)
    assert set(environ.values()) == {threads}
    libraries = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "RAYON")
    assert {f"{name}_NUM_THREADS" for name in libraries} < set(environ)
    assert {"BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "POLARS_MAX_THREADS", "LOKY_MAX_CPU_COUNT"} < set(environ)
