"""The parent is killed: its workers are gone at once, whatever they were doing, and leave no name behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import scripts

GONE_S = 1.0  # measured 0.7 to 3 ms; the promise is 0.5 s, the rest is for busy cores

SCRIPT = """
import sys, anyio, failpoints, numpy as np, offloop, workloads as w

def hold_arrays(path, shared, array):
    w.append(path + ".began", shared[0] + array[0])
    return w.loop_deaf(path + ".loop"), array

async def main(doing, path):
    init = dict(worker_init=failpoints.slow_init, worker_init_args=(path,)) if doing == "starting" else {}
    async with offloop.ParallelSession(strategy="processes", workers=2, **init) as session:
        await session.warm()
        if doing == "idle":
            await session.run(w.append, path + ".began", "idle")
            await session.run(w.append, path + ".began", "idle")
            await anyio.sleep(60)
        n_workers = len(session.statistics().workers)
        if doing == "arrays":
            shared = session.share(np.ones(1 << 20))
            calls = [session.run(hold_arrays, path, shared, np.ones(1 << 20)) for _ in range(n_workers)]
            await w.gather(*calls)
        fn = {"loop": w.loop_deaf, "gil": failpoints.hold_the_gil_for_good, "fork": w.fork_and_loop}[doing]
        await session.run_parallel(fn, [path] * n_workers, chunk_size=1)

backend, doing, path = sys.argv[1:]
options = {"use_uvloop": True} if backend == "uvloop" else {}
anyio.run(main, doing, path, backend="trio" if backend == "trio" else "asyncio", backend_options=options)
"""
DOINGS = ["starting", "idle", "loop", "gil", "fork", "arrays"]


def descendants(process_id: int) -> list[int]:
    """Return all processes that come from this one, loky's trackers left out: they end once they have tidied up."""
    found = []
    for child in psutil.Process(process_id).children(recursive=True):
        if not any("resource_tracker" in part for part in child.cmdline()):
            found.append(child.pid)
    return found


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a program a temporary folder of its own; fail where something is left in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert not list(folder.iterdir())


def end(tmp_path: Path, backend: str, doing: str, kill: Callable[[int], None]) -> int:
    """Start a program, have it killed while it does something, and return how it ended; fail where something is left."""
    with scripts.started(SCRIPT, backend, doing, str(tmp_path / "run"), cwd=tmp_path) as process:
        scripts.wait_for_lines(tmp_path / "run.began", 2)
        if doing == "fork":
            scripts.wait_for_lines(tmp_path / "run.child", 2)
        pids = descendants(process.pid)
        assert len(pids) >= 2
        begun = time.monotonic()
        kill(process.pid)
        assert scripts.gone(pids, GONE_S)
        print(f"gone after {time.monotonic() - begun:.4f} s")
        exit_code = process.wait(10)
    assert scripts.semaphore_names(process.pid) == []
    return exit_code


@pytest.mark.fault(44)
@pytest.mark.parametrize(("doing", "backend"), [(doing, "asyncio") for doing in DOINGS] + [("loop", "uvloop"), ("loop", "trio")])
def test_workers_end_with_their_parent(tmp_path: Path, doing: str, backend: str) -> None:
    """Starting, idle, in a Python loop, in C code that holds the GIL, with a child of their own, with arrays: all are gone."""
    assert end(tmp_path, backend, doing, lambda pid: os.kill(pid, signal.SIGKILL)) == -signal.SIGKILL


@pytest.mark.fault(45)
@pytest.mark.parametrize("doing", DOINGS)
def test_workers_end_with_their_parents_group(tmp_path: Path, doing: str) -> None:
    """Where the whole process group is killed, in which workers are not, nothing is left either."""
    assert end(tmp_path, "asyncio", doing, lambda pid: os.killpg(pid, signal.SIGKILL)) == -signal.SIGKILL


@pytest.mark.fault(46)
@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGHUP"])
def test_workers_end_with_a_terminated_parent(tmp_path: Path, signal_name: str) -> None:
    """The default action of a signal ends workers too, with no handler of ours in its way."""
    number = signal.Signals[signal_name]
    assert end(tmp_path, "asyncio", "loop", lambda pid: os.kill(pid, number)) == -number
