"""Results for which there is no memory, in the worker or here: they fail alone and say so, and nobody dies of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import scripts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PROGRAM = """
import sys, anyio, hostile as h, offloop, workloads as w

MIB = 1 << 20
where, backend, transport, kind = sys.argv[1:]
make = {"bytes": h.bytes_of, "array": h.ones_of}[kind]

def check(failure):
    assert isinstance(failure, (MemoryError, OSError, offloop.UnpicklableResult, offloop.ItemError)), repr(failure)
    text = f"{type(failure).__name__} {failure} {failure.__cause__!r}"
    assert "MemoryError" in text or "memory" in text.lower(), text

async def main():
    async with offloop.ParallelSession(strategy="processes", workers=1, transport=transport) as session:
        assert len((await session.run_parallel(make, [10, MIB, 10]))[1]) == MIB
        await session.run(h.limit_memory, 64 * MIB) if where == "worker" else h.limit_memory(64 * MIB)
        pids = session.statistics().workers
        with anyio.fail_after(60):
            results = await session.run_parallel(make, [10, 160 * MIB, MIB], on_error="collect", chunk_size=3)
            assert [len(results[0]), len(results[2])] == [10, MIB]
            check(results[1])
            try:
                await session.run(make, 160 * MIB)
            except Exception as error:
                check(error)
            else:
                raise AssertionError("there was room")
            assert len(await session.run(make, MIB)) == MIB
        assert session.statistics().workers == pids
    print("all is well")

anyio.run(main, backend=backend)
"""


@pytest.mark.fault(24, 25)
@pytest.mark.parametrize("kind", ["bytes", "array"])
@pytest.mark.one_loop
@pytest.mark.parametrize(("backend", "transport"), [("asyncio", "memory"), ("trio", "memory"), ("asyncio", "file"), ("asyncio", "portable")])
@pytest.mark.parametrize("where", ["worker", "here"])
def test_no_memory_for_a_result(tmp_path: Path, where: str, backend: str, transport: str, kind: str) -> None:
    """A result of 160 MiB where 64 are left is an error about memory; those beside it, and the worker, are as ever."""
    done = scripts.run(PROGRAM, where, backend, transport, kind, cwd=tmp_path, timeout_s=90)
    assert (done.stdout, done.returncode) == ("all is well\n", 0), done.stderr
