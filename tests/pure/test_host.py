"""sensing/host.py and sensing/cgroups.py: what this machine lets this process use."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from offloop.inner_threads import ALL_CORES, USER_THREADS
from offloop.model import Host
from offloop.sensing.cgroups import Group, groups
from offloop.sensing.host import sense_host, worker_environment
from offloop.sensing.system import System, this_system
from systems import V2, MadeSystem, v1, v2


def sense(system: System) -> Host:
    """Sense the host that such a machine is."""
    return sense_host(system, is_worker=False, is_off=False, lifts_ci=False)


def cores(files: dict[str, str], **facts: Any) -> int:
    """Return the usable cores of a machine made of these files."""
    return sense(MadeSystem(files, **facts)).cores


# --- cores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("affinity", "quota", "limit", "usable"),
    [
        (8, None, None, 8),
        (8, "300000 100000", None, 3),
        (8, "250000 100000", None, 2),
        (8, "50000 100000", None, 1),  # a fraction of a core is still one to work on
        (2, "1600000 100000", None, 2),
        (1, "50000 100000", None, 1),
        (8, None, "3", 3),
        (8, "400000 100000", "3", 3),
        (2, None, "16", 2),
        (8, None, " 4 ", 4),
        (8, None, "0", 8),
        (8, None, "-1", 8),
        (8, None, "many", 8),
        (8, None, "", 8),
    ],
)
@pytest.mark.fault(57)
def test_cores_are_the_least_of_all_limits(affinity: int, quota: str | None, limit: str | None, usable: int) -> None:
    """Usable cores are the least of affinity, quota and LOKY_MAX_CPU_COUNT, and never none."""
    files = {} if quota is None else v2("/", {"cpu.max": quota})
    environ = {} if limit is None else {"LOKY_MAX_CPU_COUNT": limit}
    assert cores(files, cores=64, cpus=frozenset(range(affinity)), environ=environ) == usable


@pytest.mark.parametrize(
    ("text", "usable"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("50000 100000\n", 1),
        ("150000 50000\n", 3),
        ("-1 100000\n", 8),
        ("200000 0\n", 8),
        ("200000\n", 8),
        ("odd\n", 8),
        ("", 8),
    ],
)
def test_a_quota_is_read_as_the_kernel_writes_it(text: str, usable: int) -> None:
    """The quota of cgroup v2 is time over period; `max`, and what makes no sense, is no limit."""
    assert cores(v2("/", {"cpu.max": text})) == usable


@pytest.mark.parametrize(
    ("quota", "period", "usable"),
    [
        ("-1\n", "100000\n", 8),
        ("200000\n", "100000\n", 2),
        ("50000\n", "100000\n", 1),
        ("0\n", "100000\n", 8),
        ("", "", 8),
        ("x", "y", 8),
    ],
)
@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_a_quota_of_version_1_is_read(controllers: str, quota: str, period: str, usable: int) -> None:
    """The quota of cgroup v1 counts wherever its controller is mounted; -1 is no limit."""
    files = v1(controllers, "/", {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": period})
    assert cores(files) == usable


@pytest.mark.parametrize(
    ("quotas", "usable"),
    [
        ({"a/b/cpu.max": "200000 100000"}, 2),
        ({"a/cpu.max": "300000 100000"}, 3),
        ({"cpu.max": "400000 100000"}, 4),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ({"a/b/cpu.max": "500000 100000", "a/cpu.max": "200000 100000", "cpu.max": "300000 100000"}, 2),
        ({"a/b/cpu.max": "600000 100000", "a/cpu.max": "700000 100000"}, 6),
        ({"a/b/c/cpu.max": "100000 100000", "other/cpu.max": "100000 100000"}, 8),
    ],
)
@pytest.mark.fault(57)
def test_nested_groups_are_walked_up(quotas: dict[str, str], usable: int) -> None:
    """The least quota of this process's group and all around it holds; groups beside or below don't matter."""
    assert cores(v2("/a/b", quotas)) == usable


def test_nothing_readable_is_no_limit() -> None:
    """Where no file can be read, affinity alone counts."""
    assert cores({}, cpus=frozenset({3, 5, 6})) == 3
    assert cores({"/proc/self/cgroup": "0::/a\n", "/proc/self/mountinfo": ""}) == 8


@pytest.mark.parametrize("affinity", [None, frozenset[int]()])
def test_a_machine_without_affinity_counts_its_cores(affinity: frozenset[int] | None) -> None:
    """Where affinity isn't known, the count of cores is taken."""
    assert cores({}, cores=6, cpus=affinity) == 6
    assert cores({}, cores=1, cpus=affinity) == 1


# --- where groups are ------------------------------------------------------------------------------------------------


def folders(files: dict[str, str], controller: str = "cpu") -> list[str]:
    """Return where the groups of a machine made of these files are."""
    return [group.folder for group in groups(MadeSystem(files), controller)]


@pytest.mark.parametrize(
    ("root", "own", "found"),
    [
        ("/", "/", ["/cg"]),
        ("/", "/a/b", ["/cg/a/b", "/cg/a", "/cg"]),
        ("/docker/x", "/docker/x", ["/cg"]),  # a container that sees its own group as the outermost
        ("/docker/x", "/docker/x/y", ["/cg/y", "/cg"]),
        ("/docker/x", "/docker/xy", ["/cg"]),
        ("/docker/x", "/system.slice", ["/cg"]),
        ("/../..", "/../../pod", ["/cg/pod", "/cg"]),
        ("/", "/../other", ["/cg"]),  # outside of the namespace: its path would lead out of the mount
    ],
)
def test_a_container_sees_its_part_of_the_hierarchy(root: str, own: str, found: list[str]) -> None:
    """The way up starts at this process's group and ends at the root of the mount, wherever in the hierarchy that is."""
    mountinfo = f"30 23 0:26 {root} /cg rw - cgroup2 cgroup2 rw\n"
    assert folders({"/proc/self/mountinfo": mountinfo, "/proc/self/cgroup": f"0::{own}\n"}) == found


def test_a_mount_point_may_have_spaces() -> None:
    """What mountinfo writes in octal is read as what it stands for."""
    mountinfo = "30 23 0:26 / /odd\\040place\\134x rw - cgroup2 cgroup2 rw\n"
    assert folders({"/proc/self/mountinfo": mountinfo}) == ["/odd place\\x"]


def test_both_versions_count_where_both_are_mounted() -> None:
    """On a hybrid hierarchy a controller of version 1 is found by its name, and version 2 beside it."""
    mountinfo = (
        "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
        "32 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "33 31 0:30 / /sys/fs/cgroup/systemd rw shared:1 - cgroup cgroup rw,xattr,name=systemd\n"
        "34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:2 master:3 - cgroup cgroup rw,cpu,cpuacct\n"
        "35 31 0:32 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
        "36 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    )
    cgroup = "12:cpuset:/set\n4:memory:/m\n3:cpu,cpuacct:/c\n1:name=systemd:/user.slice\n0::/u\n"
    system = MadeSystem({"/proc/self/mountinfo": mountinfo, "/proc/self/cgroup": cgroup})
    unified = [Group("/sys/fs/cgroup/unified/u", 2), Group("/sys/fs/cgroup/unified", 2)]
    cpu, memory = "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"
    assert groups(system, "cpu") == [Group(f"{cpu}/c", 1), Group(cpu, 1), *unified]
    assert groups(system, "memory") == [Group(f"{memory}/m", 1), Group(memory, 1), *unified]


def test_of_two_mounts_the_one_that_shows_more_is_taken() -> None:
    """A hierarchy that is mounted twice is walked where it reaches further up."""
    inner = "40 23 0:26 /a/b /inner rw - cgroup2 cgroup2 rw\n"
    assert folders({"/proc/self/mountinfo": inner + V2, "/proc/self/cgroup": "0::/a/b\n"}) == [
        "/sys/fs/cgroup/a/b",
        "/sys/fs/cgroup/a",
        "/sys/fs/cgroup",
    ]


def test_without_mountinfo_the_usual_places_are_tried() -> None:
    """Where mountinfo can't be read, quotas are looked for where systems mount them."""
    cgroup = {"/proc/self/cgroup": "4:cpu,cpuacct:/a\n0::/a\n"}
    assert cores(cgroup | {"/sys/fs/cgroup/a/cpu.max": "300000 100000"}) == 3
    for place in ("cpu", "cpu,cpuacct", "cpuacct,cpu"):
        folder = f"/sys/fs/cgroup/{place}/a"
        assert cores(cgroup | {f"{folder}/cpu.cfs_quota_us": "200000", f"{folder}/cpu.cfs_period_us": "100000"}) == 2
    assert cores({"/sys/fs/cgroup/cpu.max": "300000 100000"}) == 3


# --- physical cores --------------------------------------------------------------------------------------------------


def topology(*siblings: str) -> dict[str, str]:
    """Return the files that say which logical cores share a physical one."""
    return {
        f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{text}\n" for cpu, text in enumerate(siblings)
    }


@pytest.mark.parametrize(
    ("siblings", "affinity", "physical"),
    [
        (("0", "1", "2", "3"), {0, 1, 2, 3}, 4),
        (("0-1", "0-1", "2-3", "2-3"), {0, 1, 2, 3}, 2),
        (("0,2", "1,3", "0,2", "1,3"), {0, 1, 2, 3}, 2),
        (("0,2", "1,3", "0,2", "1,3"), {0, 2}, 1),
        (("0,2", "1,3", "0,2", "1,3"), {0, 1}, 2),
        (("0", "1"), {0, 1, 2}, None),
        ((), {0}, None),
    ],
)
def test_second_threads_of_a_core_are_no_cores(siblings: tuple[str, ...], affinity: set[int], physical: int | None) -> None:
    """Usable logical cores count once per physical core; where the kernel doesn't say, nothing is claimed."""
    assert sense(MadeSystem(topology(*siblings), cpus=frozenset(affinity))).physical == physical


def test_physical_cores_are_no_more_than_usable_ones() -> None:
    """A quota, or LOKY_MAX_CPU_COUNT, caps the physical cores too."""
    system = MadeSystem(topology("0", "1", "2", "3"), cpus=frozenset(range(4)), environ={"LOKY_MAX_CPU_COUNT": "3"})
    assert (sense(system).cores, sense(system).physical) == (3, 3)


@pytest.mark.parametrize("platform", ["win32", "darwin"])
@pytest.mark.parametrize(("physical", "sensed"), [(4, 4), (16, 8), (None, None)])
def test_elsewhere_the_platform_counts_its_cores(platform: str, physical: int | None, sensed: int | None) -> None:
    """Without the files of Linux, the platform's own counts of cores and memory are taken."""
    host = sense(MadeSystem(platform=platform, cores=8, physical=physical, available=5_000_000_000))
    assert (host.platform, host.cores, host.physical, host.memory_bytes) == (platform, 8, sensed, 5_000_000_000)


# --- the rest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "is_ci"),
    [
        ({}, False),
        ({"CI": "true"}, True),
        ({"CI": "1"}, True),
        ({"CI": "false"}, False),
        ({"CI": "0"}, False),
        ({"CI": ""}, False),
        ({"CI": " "}, False),
        ({"CI": "No"}, False),
        ({"CI": "off"}, False),
        ({"GITHUB_ACTIONS": "true"}, True),
        ({"GITHUB_ACTIONS": "false"}, False),
        ({"JENKINS_URL": "https://ci"}, True),
        ({"TF_BUILD": "True"}, True),
        ({"CI": "false", "GITHUB_ACTIONS": "true"}, False),  # said on purpose
        ({"CIRCUS": "true"}, False),
    ],
)
def test_ci_is_recognised(environ: dict[str, str], is_ci: bool) -> None:
    """A CI system is recognised by the variables that it sets; CI itself, where it is set, has the last word."""
    assert sense(MadeSystem(environ=environ)).is_ci is is_ci


def test_what_the_caller_knows_is_passed_on() -> None:
    """Whether this is a worker, and what the operator wants, stand in the host as given."""
    host = sense_host(MadeSystem(), is_worker=True, is_off=True, lifts_ci=True)
    assert (host.is_worker, host.is_off, host.lifts_ci) == (True, True, True)


def test_a_host_says_what_the_interpreter_and_memory_are() -> None:
    """Whether there is a GIL, the platform, and what memory is left stand in the host."""
    host = sense(MadeSystem({"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 3 kB\n"}, has_gil=False))
    assert (host.has_gil, host.platform, host.memory_bytes) == (False, "linux", 3072)


SENSING = """
import sys
from offloop.sensing.host import sense_host
from offloop.sensing.system import this_system
host = sense_host(this_system(), is_worker=False, is_off=False, lifts_ci=False)
assert host.cores >= 1 and host.has_gil is getattr(sys, "_is_gil_enabled", lambda: True)()
print(host.foreign_pool, [name for name in ("psutil", "loky", "multiprocessing", "numpy") if name in sys.modules])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil counts")
def test_sensing_imports_nothing_heavy() -> None:
    """Sensing a Linux host reads files and imports none of what is heavy."""
    done = subprocess.run([sys.executable, "-c", SENSING], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split(maxsplit=1) == ["None", "[]\n"]


def test_the_real_machine_is_sensed() -> None:
    """This machine has at least a core and no more than it says; a file that isn't there is no error."""
    host = sense(this_system())
    assert 1 <= host.cores <= this_system().cpu_count()
    assert host.physical is None or 1 <= host.physical <= host.cores
    assert this_system().read("/nowhere/at/all") is None


@pytest.mark.parametrize(("cores", "workers", "threads"), [(8, 2, "4"), (8, 3, "2"), (2, 4, "1"), (1, 1, "1")])
def test_workers_share_the_cores(cores: int, workers: int, threads: str) -> None:
    """Every library with threads of its own gets cores ÷ workers of them, and at least one."""
    environ = worker_environment(cores, workers, {})
    assert environ.pop(ALL_CORES) == str(cores)
    assert environ.pop(USER_THREADS) == ""
    assert set(environ.values()) == {threads}
    libraries = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "RAYON")
    assert {f"{name}_NUM_THREADS" for name in libraries} < set(environ)
    assert {"BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "POLARS_MAX_THREADS", "LOKY_MAX_CPU_COUNT"} < set(environ)


@pytest.mark.parametrize(
    ("environ", "variable", "threads"),
    [
        ({"OMP_NUM_THREADS": "1"}, "OMP_NUM_THREADS", "1"),
        ({"OMP_NUM_THREADS": "1"}, "OPENBLAS_NUM_THREADS", "1"),
        ({"OMP_NUM_THREADS": "1"}, "POLARS_MAX_THREADS", "4"),
        ({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "3"}, "MKL_NUM_THREADS", "3"),
        ({"OMP_NUM_THREADS": "3,2"}, "OMP_NUM_THREADS", "3"),
        ({"OMP_NUM_THREADS": "64"}, "OMP_NUM_THREADS", "4"),
        ({"OMP_NUM_THREADS": "many"}, "OMP_NUM_THREADS", "4"),
        ({"OMP_NUM_THREADS": "0"}, "OMP_NUM_THREADS", "4"),
        ({"OMP_NUM_THREADS": "1"}, "PYTHON_CPU_COUNT", "4"),
        ({"PYTHON_CPU_COUNT": "3"}, "PYTHON_CPU_COUNT", "3"),
        ({"PYTHON_CPU_COUNT": "default"}, "PYTHON_CPU_COUNT", "4"),
    ],
)
def test_fewer_threads_of_the_users_own_hold(environ: dict[str, str], variable: str, threads: str) -> None:
    """Where the user has set fewer threads than a worker's share, that holds, also for libraries that go by OpenMP's."""
    made = worker_environment(8, 2, environ)
    assert made[variable] == threads
    assert made["LOKY_MAX_CPU_COUNT"] == "4"
    assert all(f"{name}={value}" in made[USER_THREADS].split() for name, value in environ.items() if value[0] in "136")
