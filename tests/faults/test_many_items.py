"""A million items: as much memory as for a thousand, but for the results."""

from __future__ import annotations

from pathlib import Path

import pytest

import scripts

PROGRAM = """
import sys, anyio, offloop, hostile as h
from offloop.sensing.memory import private_bytes
from offloop.sensing.system import this_system

COUNT = 1_000_000

def counted(n):
    for number in range(n):
        yield number

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))

async def main():
    options = {"strategy": sys.argv[1]} if sys.argv[1] != "auto" else {"item_cost_s": 2e-6}
    async with offloop.ParallelSession(workers=2) as session:
        await session.run_parallel(h.none_of, counted(20_000), **options)
        before = peak()
        held = [private_bytes(this_system(), pid) for pid in session.statistics().workers]
        results = await session.run_parallel(h.none_of, counted(COUNT), **options)
        grown = peak() - before - sys.getsizeof(results)
        assert len(results) == COUNT and set(results) == {None}
        there = [private_bytes(this_system(), pid) - first for pid, first in zip(session.statistics().workers, held)]
        assert grown <= 20 << 20, f"{grown:,} bytes here"
        assert max(there, default=0) <= 20 << 20, f"{there} bytes there"
    print("all is well")

anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.fault(70)
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("strategy", "backend"), [("processes", "asyncio"), ("processes", "trio"), ("auto", "asyncio")])
def test_memory_stays_flat(tmp_path: Path, strategy: str, backend: str) -> None:
    """From the 20,000th to the millionth item this process and its workers grow by no more than 20 MiB beside the results."""
    done = scripts.run(PROGRAM, strategy, backend, cwd=tmp_path, timeout_s=200)
    assert (done.stdout, done.returncode) == ("all is well\n", 0), done.stderr
