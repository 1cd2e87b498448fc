"""A worker dies, or parent and workers do, while large messages are on their way: nothing is lost, nothing stays."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

import offloop
import scripts
import workloads as w
from offloop.pool.folder import PrivateFolder

pytestmark = pytest.mark.anyio

MIB = 1 << 20
IS_LONG = bool(os.environ.get("FAULTS_LONG"))
KINDS = ["memory", "file", "portable"]


@pytest.fixture(params=KINDS)
async def session(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy="processes", workers=2, transport=request.param) as session:
        await session.warm()
        yield session
    assert not session._outgoing.bytes_in_flight


def ones(path: str, n_bytes: int) -> Any:
    """Return an array after noting which process made it."""
    w.append(path, os.getpid())
    return np.ones(n_bytes, np.uint8)


def is_writing(pid: int, n_bytes: int) -> bool:
    """Whether a process has a memory file open in which there are so many bytes."""
    folder = f"/proc/{pid}/fd"
    for fd in os.listdir(folder):
        try:
            place = os.readlink(f"{folder}/{fd}")
            is_ours = place.endswith("(deleted)") or "/offloop-" in place
            if is_ours and os.stat(f"{folder}/{fd}").st_size >= n_bytes:
                return True
        except OSError:
            continue
    return False


async def test_death_while_a_result_is_written(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """A worker killed in the middle of a result of 300 MB is replaced, and its item run again; nobody waits for it."""
    path = str(tmp_path / "ran")
    results: list[Any] = []

    async def go() -> None:
        results.append(await session.run(ones, path, 300 * MIB))

    with anyio.fail_after(40):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(go)
            (pid,) = await w.appears(path)
            try:
                while len(w.lines(Path(path))) == 1 and not results and not is_writing(int(pid), MIB):
                    await anyio.sleep(0)
                os.kill(int(pid), signal.SIGKILL)
            except (ProcessLookupError, FileNotFoundError):
                pass
        assert (results[0] == 1).all()
        assert len(results[0]) == 300 * MIB
        assert await session.run(w.double, 21) == 42


async def test_death_while_an_item_is_sent(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Workers that have stopped reading and are killed then lose nothing of what was sent to them."""
    stopped = session.statistics().workers
    data = [np.full(8 * MIB, k, np.uint8) for k in range(6)]
    small = [[bytes([k]) * 50_000 for _ in range(100)] for k in range(6)]  # 5 MB that go through the lane itself
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    results: list[Any] = []

    async def go(items: list[Any]) -> None:
        results.append(await session.run_parallel(w.echo, items, retries=3))

    with anyio.fail_after(40):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(go, data)
            tasks.start_soon(go, small)
            while not session._outgoing.bytes_in_flight:
                await anyio.sleep(0.001)
            await anyio.wait_all_tasks_blocked()
            for pid in stopped:
                os.kill(pid, signal.SIGKILL)
    arrays, lists = sorted(results, key=lambda result: isinstance(result[0], list))
    assert all((result == item).all() for result, item in zip(arrays, data, strict=True))
    assert lists == small


def die_after_sending(path: str) -> None:
    """Be the worker_init of workers of which the first dies as soon as it has sent a result with a memory file."""
    from offloop.worker.channel import Channel

    really = Channel.write

    def write(self: Any, header: Any, pieces: Any, file: Any = None) -> None:
        really(self, header, pieces, file)
        if file is not None and not os.path.exists(path):
            w.append(path, os.getpid())
            os.kill(os.getpid(), signal.SIGKILL)

    Channel.write = write  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", KINDS)
async def test_death_right_after_a_result(anyio_backend: object, kind: str, tmp_path: Path) -> None:
    """A result that was sent before its worker died is accepted, once, and its item is not run again."""
    ran, died = str(tmp_path / "ran"), str(tmp_path / "died")
    async with offloop.ParallelSession(
        strategy="processes", workers=1, transport=kind, worker_init=die_after_sending, worker_init_args=(died,)
    ) as session:
        with anyio.fail_after(40):
            for n_bytes in (8 * MIB, 9 * MIB):
                result = await session.run(ones, ran, n_bytes)
                assert (result == 1).all()
                assert len(result) == n_bytes
    assert len(w.lines(Path(died))) == 1
    assert len(w.lines(Path(ran))) == 2


PROGRAM = """
import sys, anyio, numpy as np, offloop, workloads as w

async def main(kind):
    async with offloop.ParallelSession(strategy="processes", workers=2, transport=kind) as session:
        await session.warm()
        print(*session.statistics().workers, sep="\\n", file=open("ready", "w"), flush=True)
        shared = session.share(np.ones(4 << 20))
        while True:
            items = ([np.full(1 << 20, k), shared[k:]] for k in range(40))
            await session.run_parallel(sum_of, items)

def sum_of(pair):
    return pair[0] + pair[1][: len(pair[0])]

anyio.run(main, sys.argv[1])
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_death_of_all_at_any_moment(
    anyio_backend: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parent and workers killed at random moments, with arrays under way both ways, leave no process and no file."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    moments = random.Random(7)
    before = named()
    for _ in range(10 if IS_LONG else 4):
        (tmp_path / "ready").unlink(missing_ok=True)
        with scripts.started(PROGRAM, kind, cwd=tmp_path) as process:
            pids = [int(line) for line in scripts.wait_for_lines(tmp_path / "ready", 2)]
            wait_for_files(process.pid)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(moments.random() * 0.2)
            for pid in moments.sample([process.pid, *pids], moments.choice([1, 3])):
                kill(pid)
            kill(process.pid)
            process.wait()
            assert scripts.gone(pids, 2.0)
            assert scripts.semaphore_names(process.pid) == []
    PrivateFolder().close()
    assert not list(temporary.iterdir())
    assert named() <= before


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_for_files(pid: int) -> None:
    """Wait until a process has sent or received something large."""
    while not is_writing(pid, MIB):
        pass


def named() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if not name.startswith("sem.")}


