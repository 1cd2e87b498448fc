"""sensing/memory.py: how much is left to take, and what a process holds of its own."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.sensing.memory import memory_headroom, memory_limit, private_bytes
from offloop.sensing.system import this_system
from systems import MadeSystem, v1, v2

MB = 1_000_000
MACHINE = {"/proc/meminfo": "MemTotal:       24684096 kB\nMemFree:          400000 kB\nMemAvailable:    1000000 kB\n"}
MACHINE_BYTES = 1_000_000 * 1024
UNLIMITED = str((1 << 63) - 4096)


# --- what is left ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, MACHINE_BYTES),
        ({"a/memory.max": "max\n", "a/memory.current": "7\n"}, MACHINE_BYTES),
        ({"a/memory.max": "9000\n", "a/memory.current": "4000\n"}, 5000),
        ({"a/memory.max": "9000\n", "a/memory.current": "4000\n", "a/memory.stat": "anon 1\ninactive_file 1500\n"}, 6500),
        ({"a/memory.max": "9000\n", "a/memory.current": "4000\n", "a/memory.stat": "inactive_file 5000\n"}, 9000),
        ({"a/memory.max": "9000\n", "a/memory.current": "9500\n"}, 0),
        ({"a/memory.max": "9000\n"}, 9000),
        ({"memory.max": "9000\n", "memory.current": "4000\n"}, 5000),
        (
            {"a/memory.max": "9000\n", "a/memory.current": "1000\n", "memory.max": "20000\n", "memory.current": "19000\n"},
            1000,  # a neighbour has taken the most of what both may have
        ),
        ({"a/memory.max": "9" * 15 + "\n", "a/memory.current": "0\n"}, MACHINE_BYTES),
        ({"a/memory.max": "odd\n"}, MACHINE_BYTES),
        ({"other/memory.max": "1\n"}, MACHINE_BYTES),
    ],
)
def test_headroom_is_the_least_that_is_left(files: dict[str, str], left: int) -> None:
    """What may still be taken is the least of what the machine has and each group around this process leaves."""
    assert memory_headroom(MadeSystem(MACHINE | v2("/a", files))) == left


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"a/memory.limit_in_bytes": UNLIMITED, "a/memory.usage_in_bytes": "4000\n"}, None),
        ({"a/memory.limit_in_bytes": "9000\n", "a/memory.usage_in_bytes": "4000\n"}, 5000),
        ({"memory.limit_in_bytes": "9000\n", "memory.usage_in_bytes": "4000\n", "a/memory.limit_in_bytes": UNLIMITED}, 5000),
        (
            {
                "a/memory.limit_in_bytes": "9000\n",
                "a/memory.usage_in_bytes": "4000\n",
                "a/memory.stat": "inactive_file 10\ntotal_cache 9\ntotal_inactive_file 500\n",
            },
            5500,
        ),
    ],
)
def test_headroom_of_version_1(files: dict[str, str], left: int | None) -> None:
    """Version 1 counts alike: its great number is no limit, its cache is that of the groups below as well."""
    assert memory_headroom(MadeSystem(v1("memory", "/a", files))) == left


def test_what_nothing_tells_is_not_known() -> None:
    """Where no file can be read, no number is made up."""
    assert memory_headroom(MadeSystem()) is None


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_headroom_elsewhere(platform: str) -> None:
    """Other platforms say themselves what is available."""
    assert memory_headroom(MadeSystem(MACHINE, platform=platform, available=123)) == 123


def test_this_machine_has_headroom() -> None:
    """The real machine has memory left, and less than an exbibyte."""
    left = memory_headroom(this_system())
    assert left is not None
    assert MB < left < 1 << 60


# --- what a process holds --------------------------------------------------------------------------------------------

ROLLUP = """55d447137000-7ffddad44000 ---p 00000000 00:00 0                          [rollup]
Rss:                1768 kB
Pss:                 482 kB
Shared_Clean:       1580 kB
Shared_Dirty:         16 kB
Private_Clean:        72 kB
Private_Dirty:       100 kB
Anonymous:           116 kB
Shared_Hugetlb:     2048 kB
Private_Hugetlb:    4096 kB
Swap:                  8 kB
SwapPss:               4 kB
"""
SMAPS = """55d447137000-55d447138000 r-xp 00000000 00:00 5   /bin/odd Private_Clean: 99 kB
Private_Clean:        10 kB
Private_Dirty:         1 kB
VmFlags: rd ex mr mw me
7ffddad43000-7ffddad44000 rw-p 00000000 00:00 0
Private_Clean:        20 kB
Private_Dirty:         2 kB
"""


@pytest.mark.parametrize(
    ("files", "held"),
    [
        ({"/proc/7/smaps_rollup": ROLLUP}, (72 + 100 + 4096 + 8) * 1024),
        ({"/proc/7/smaps": SMAPS}, 33 * 1024),
        ({"/proc/7/smaps_rollup": ROLLUP, "/proc/7/smaps": SMAPS}, (72 + 100 + 4096 + 8) * 1024),
        ({"/proc/7/smaps_rollup": "", "/proc/7/smaps": ""}, None),
        ({"/proc/8/smaps_rollup": ROLLUP}, None),
    ],
)
def test_private_bytes_are_read_as_the_kernel_writes_them(files: dict[str, str], held: int | None) -> None:
    """Private and swapped pages count, shared ones don't; a process that is gone holds nothing that is known."""
    assert private_bytes(MadeSystem(files), 7) == held


def test_private_bytes_elsewhere() -> None:
    """Other platforms say themselves what a process holds alone."""
    system = MadeSystem({"/proc/7/smaps_rollup": ROLLUP}, platform="darwin", unique={7: 5000})
    assert (private_bytes(system, 7), private_bytes(system, 8)) == (5000, None)


HOLDER = """
import mmap, sys
own = b"x" * int(sys.argv[1])
if len(sys.argv) > 2:
    with open(sys.argv[2], "r+b") as file:
        shared = mmap.mmap(file.fileno(), 0)
    assert sum(shared[::4096]) == 0
print(len(own), flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(*arguments: str) -> Iterator[int]:
    """Run a process that holds so many bytes of its own, and a file with us; yield its process id."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == f"{arguments[0]}\n"
            yield process.pid
        finally:
            process.stdin.close()
            process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_holds_what_it_has_written() -> None:
    """A process that has 300 MB of its own holds these and what an interpreter takes."""
    with holder(str(300 * MB)) as pid:
        held = private_bytes(this_system(), pid)
    assert held is not None
    assert 300 * MB <= held < 330 * MB  # code of the interpreter that no other process has mapped counts, or doesn't
    assert private_bytes(this_system(), pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_process_shares_does_not_count(tmp_path: Path) -> None:
    """A buffer that two processes map belongs to neither of them."""
    buffer = tmp_path / "buffer"
    buffer.write_bytes(bytes(100 * MB))
    with buffer.open("r+b") as file, mmap.mmap(file.fileno(), 0) as ours:
        assert sum(ours[::4096]) == 0
        with holder(str(20 * MB), str(buffer)) as pid:
            held = private_bytes(this_system(), pid)
    assert held is not None
    assert 20 * MB <= held < 70 * MB


def test_psutil_agrees_on_what_a_process_holds() -> None:
    """The two ways to ask for a process's own memory, of which a platform has one, differ by little."""
    with holder(str(50 * MB)) as pid:
        ours, psutils = private_bytes(this_system(), pid), this_system().unique_bytes(pid)
    assert ours is not None
    assert psutils is not None
    assert abs(ours - psutils) < 5 * MB
    assert this_system().unique_bytes(pid) is None


def test_the_platform_counts_memory_and_cores() -> None:
    """What other platforms are asked for through psutil is there, and plausible."""
    assert MB < (this_system().available_bytes() or 0) < 1 << 60
    assert (this_system().physical_count() or 1) <= (os.cpu_count() or 1)


# --- how many workers fit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "worker", "live", "limit"),
    [
        (None, 25 * MB, 3, None),
        (100 * MB, 25 * MB, 0, 4),
        (99 * MB, 25 * MB, 0, 3),
        (100 * MB, 25 * MB, 2, 6),  # what is left is without what these two hold
        (10 * MB, 25 * MB, 2, 2),
        (0, 25 * MB, 0, 1),
        (5, 0, 0, 5),
    ],
)
def test_memory_limits_workers(left: int | None, worker: int, live: int, limit: int | None) -> None:
    """There is room for the workers that live and for as many as fit into what is left, and always for one."""
    assert memory_limit(left, worker, live) == limit


@given(st.integers(0, 10**12), st.integers(1, 10**10), st.integers(0, 100))
def test_no_more_workers_start_than_fit(left: int, worker: int, live: int) -> None:
    """Starting up to the limit takes no more than is left, unless there is no worker at all; no live one is sent away."""
    limit = memory_limit(left, worker, live)
    assert limit is not None
    assert limit >= max(1, live)
    assert (limit - live) * worker <= left or (live == 0 and limit == 1)
    assert (limit + 1 - live) * worker > left


def test_what_a_worker_holds_is_not_taken_twice() -> None:
    """While workers start and take what was expected, the limit stays where it was."""
    for live in range(5):
        assert memory_limit(100 * MB - live * 25 * MB, 25 * MB, live) == 4
