"""The parent is killed: its workers are gone at once, whatever they were doing, and leave no name behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import scripts

GONE_S = 1.0  # measured 0.7 to 3 ms; the promise is 0.5 s, the rest is for busy cores

SCRIPT = """
import sys, anyio, offloop, workloads as w

async def main(backend, doing, path):
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        await session.warm()
        print(*session.statistics().workers, sep="\\n", file=open(path + ".pids", "w"), flush=True)
        if doing == "idle":
            w.append(path + ".began", "idle")
            w.append(path + ".began", "idle")
            await anyio.sleep(60)
        fn = {"loop": w.loop_deaf, "gil": w.hold_the_gil, "fork": w.fork_and_loop}[doing]
        await session.run_parallel(fn, [path] * len(session.statistics().workers), chunk_size=1)

backend, doing, path = sys.argv[1:]
options = {"use_uvloop": True} if backend == "uvloop" else {}
anyio.run(main, backend, doing, path, backend="trio" if backend == "trio" else "asyncio", backend_options=options)
"""


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("doing", ["idle", "loop", "gil", "fork"])
def test_workers_end_with_their_parent(tmp_path: Path, backend: str, doing: str) -> None:
    """Idle, in a Python loop, in C code that holds the GIL, with a child of their own: gone, and no name remains."""
    path = tmp_path / "run"
    with scripts.started(SCRIPT, backend, doing, str(path), cwd=tmp_path) as process:
        pids = [int(line) for line in scripts.wait_for_lines(tmp_path / "run.pids")]
        scripts.wait_for_lines(tmp_path / "run.began", len(pids))
        if doing == "fork":
            pids += [int(line) for line in scripts.wait_for_lines(tmp_path / "run.child", len(pids))]
        assert scripts.alive(pids) == pids
        os.kill(process.pid, signal.SIGKILL)
        assert scripts.gone(pids, GONE_S)
        assert scripts.semaphore_names(process.pid) == []


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGHUP"])
def test_workers_end_with_a_terminated_parent(tmp_path: Path, signal_name: str) -> None:
    """The default action of a signal ends workers too, with no handler of ours in its way."""
    path = tmp_path / "run"
    with scripts.started(SCRIPT, "asyncio", "loop", str(path), cwd=tmp_path) as process:
        pids = [int(line) for line in scripts.wait_for_lines(tmp_path / "run.pids")]
        scripts.wait_for_lines(tmp_path / "run.began", len(pids))
        number = getattr(signal, signal_name)
        os.kill(process.pid, number)
        assert process.wait(timeout=10) == -number
        assert scripts.gone(pids, GONE_S)
        assert scripts.semaphore_names(process.pid) == []
