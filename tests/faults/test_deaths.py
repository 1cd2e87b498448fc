"""Why a worker died: the signal, where its Python code was, and whether memory had run out."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

import offloop
import scripts
import workloads as w
from offloop.sensing.cgroups import groups
from offloop.sensing.system import System, this_system

pytestmark = [pytest.mark.anyio, pytest.mark.one_loop]


def culprit(how: str) -> None:
    """End this process by a signal that faulthandler hears of; only ever to be called in a worker."""
    assert offloop.in_worker()
    match how:
        case "SIGSEGV":
            ctypes.string_at(0)
        case "SIGABRT":
            os.abort()
        case "SIGBUS":
            page = os.memfd_create("offloop-test")
            os.ftruncate(page, 4096)
            memory = mmap.mmap(page, 4096)
            os.ftruncate(page, 0)
            memory[0]
        case "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)


def leave_children(how: str) -> None:
    """Have a forked child die by a signal, then exit without one."""
    child = os.fork()
    if child == 0:
        culprit(how)
        os._exit(0)
    os.waitpid(child, 0)
    os._exit(3)


def write_dumps_to(path: str) -> int:
    """Tell faulthandler where to write."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    faulthandler.enable(fd)
    return fd


@pytest.fixture(params=["memory", "portable"])
async def session(anyio_backend: object, request: pytest.FixtureRequest) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy="processes", workers=1, transport=request.param) as session:
        yield session


async def crash_of(session: offloop.ParallelSession, fn: Any, *args: Any) -> offloop.WorkerCrashed:
    with anyio.fail_after(30), pytest.raises(offloop.WorkerCrashed) as crash:
        await session.run(fn, *args, retries=0)
    return crash.value


@pytest.mark.fault(3)
@pytest.mark.parametrize("how", ["SIGSEGV", "SIGABRT", "SIGBUS"])
async def test_a_crash_tells_signal_and_stack(session: offloop.ParallelSession, how: str) -> None:
    """The signal is named, faulthandler's text says where the Python code was, and the next call works."""
    crash = await crash_of(session, culprit, how)
    assert crash.signal == how
    assert how in str(crash)
    assert "Fatal Python error" in crash.dump
    assert "in culprit" in crash.dump
    assert "Current thread" in crash.dump
    assert await session.run(w.double, 2) == 4


async def test_each_crash_has_its_own_text(session: offloop.ParallelSession) -> None:
    """What one worker wrote is not told of the next."""
    assert (await crash_of(session, culprit, "SIGSEGV")).dump
    assert not (await crash_of(session, culprit, "SIGKILL")).dump
    assert not (await crash_of(session, w.die, "exit")).dump


async def test_a_childs_text_is_not_the_workers(session: offloop.ParallelSession, capfd: pytest.CaptureFixture[str]) -> None:
    """A process that fn forked writes to stderr as it dies, and nothing of it is told of the worker."""
    crash = await crash_of(session, leave_children, "SIGSEGV")
    assert (crash.exit_code, crash.dump) == (3, "")
    assert "Segmentation fault" in capfd.readouterr().err


async def test_the_users_own_place_is_kept(anyio_backend: object, tmp_path: Path) -> None:
    """Where worker_init tells faulthandler to write, it writes."""
    path = tmp_path / "dumps"
    async with offloop.ParallelSession(
        strategy="processes", workers=1, worker_init=write_dumps_to, worker_init_args=(str(path),)
    ) as session:
        crash = await crash_of(session, culprit, "SIGSEGV")
    assert crash.dump == ""
    assert "in culprit" in path.read_text()


class Counting(System):
    """This machine, with a counter of kills for want of memory of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.kills = 0

    def read(self, path: str) -> str | None:
        if path == "/proc/vmstat":
            return f"oom_kill {self.kills}\n"
        return None if path.startswith(("/sys/fs/cgroup", "/proc/self/cgroup")) else super().read(path)


@pytest.mark.fault(5)
async def test_a_kill_for_want_of_memory_is_told(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SIGKILL while the kernel's counter rose was for want of memory; one while it stood still was somebody's."""
    system = Counting()
    monkeypatch.setattr("offloop.lifetime.this_system", lambda: system)
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        assert (await crash_of(session, culprit, "SIGKILL")).cause == ""
        await session.warm()
        system.kills += 1
        crash = await crash_of(session, culprit, "SIGKILL")
        assert crash.cause.startswith("out of memory")
        assert "out of memory" in str(crash)
        assert (await crash_of(session, culprit, "SIGKILL")).cause == ""
        await session.warm()
        system.kills += 1
        assert (await crash_of(session, culprit, "SIGSEGV")).cause == ""


@contextmanager
def limited_group(n_bytes: int) -> Iterator[Path]:
    """Make a control group with this limit of memory inside our own."""
    own = next((group for group in groups(this_system(), "memory") if os.access(group.folder, os.W_OK)), None)
    if own is None:
        pytest.skip("no control group for memory can be made")
    folder = Path(own.folder) / f"offloop-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / ("memory.max" if own.version == 2 else "memory.limit_in_bytes")).write_text(str(n_bytes))
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no control group for memory can be made: {error}")
    try:
        yield folder
    finally:
        pids = [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
        assert scripts.gone(pids, 10)
        folder.rmdir()


EATING = """
import os, sys
import anyio
import offloop

def eat(mb):
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    return len([bytearray(b"x" * (1 << 20)) for _ in range(mb)])

async def main():
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        try:
            await session.run(eat, 4000, retries=0)
        except offloop.WorkerCrashed as crash:
            print(crash.signal, "|", crash.cause)
        print(await session.run(eat, 1) > 0)

with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
if __name__ == "__main__":
    anyio.run(main)
"""


@pytest.mark.fault(5)
def test_a_worker_that_the_kernel_kills_for_memory(tmp_path: Path) -> None:
    """In a control group with too little memory the item that took it is told so, and the next call works."""
    with limited_group(256 << 20) as group:
        done: subprocess.CompletedProcess[str] = scripts.run(EATING, str(group / "cgroup.procs"), cwd=tmp_path, timeout_s=60)
    assert done.returncode == 0, done.stderr
    told, again = done.stdout.splitlines()
    assert told.startswith("SIGKILL | out of memory")
    assert again == "True"


@pytest.mark.fault(10)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
async def test_an_idle_death_is_nobodys(session: offloop.ParallelSession, how: signal.Signals) -> None:
    """A worker that is killed while it is idle is replaced, and no call fails or runs twice for it."""
    for _ in range(3):
        await session.warm()
        for pid in session.statistics().workers:
            os.kill(pid, how)
            await anyio.to_thread.run_sync(scripts.gone, [pid], 10)
        with anyio.fail_after(30):
            assert await session.run(w.double, 2, retries=0) == 4
    assert session.statistics().retried == 0
