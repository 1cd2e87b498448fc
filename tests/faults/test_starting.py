"""Workers that won't start: tried again after pauses, given up with a reason, done without where others serve."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from loky.backend import fork_exec

import offloop
import scripts
import workloads as w

pytestmark = pytest.mark.anyio


def die_first(path: str, how: str, times: int) -> None:
    """Note a start and end this process, the first so many times."""
    w.append(path, os.getpid())
    if len(w.lines(Path(path))) <= times:
        w.die(how)


async def session_of(init: Callable[..., Any], *args: Any) -> offloop.ParallelSession:
    return offloop.ParallelSession(strategy="processes", workers=1, worker_init=init, worker_init_args=args)


@pytest.mark.one_loop
@pytest.mark.fault(11)
@pytest.mark.parametrize(("how", "told"), [("exit", "exit code 5"), ("SIGABRT", "killed by SIGABRT")])
async def test_an_initializer_that_always_dies(anyio_backend: object, tmp_path: Path, how: str, told: str) -> None:
    """It is tried three times, then the caller is told how it ended and how often; the next call begins anew."""
    log = tmp_path / "log"
    async with await session_of(die_first, str(log), how, 1000) as session:
        for n_tries in (3, 6):
            with anyio.fail_after(40), pytest.raises(offloop.WorkerInitError, match=told) as failed:
                await session.run(w.double, 2)
            assert "3 times in a row" in str(failed.value)
            assert len(w.lines(log)) == n_tries
            notes = "".join(getattr(failed.value, "__notes__", []))
            assert ("in die_first" in notes) == (how == "SIGABRT")


@pytest.mark.fault(11)
async def test_an_initializer_that_dies_twice(anyio_backend: object, tmp_path: Path) -> None:
    """Two deaths are nobody's business: the third try serves the call."""
    log = tmp_path / "log"
    async with await session_of(die_first, str(log), "exit", 2) as session:
        with anyio.fail_after(40):
            assert await session.run(w.double, 2) == 4
    assert len(w.lines(log)) == 3


DYING_IMPORT = """
import os
import sys

if os.environ["PARENT"] != str(os.getpid()):
    os.write(2, b"no licence\\n")
    os._exit(9)

def init():
    pass
"""

IMPORTING = """
import os
os.environ["PARENT"] = str(os.getpid())
import anyio
import deadly
import offloop

async def main():
    async with offloop.ParallelSession(strategy="processes", workers=1, worker_init=deadly.init) as session:
        try:
            await session.run(len, "two")
        except offloop.WorkerInitError as error:
            print(error)

if __name__ == "__main__":
    anyio.run(main)
"""


@pytest.mark.fault(11)
def test_an_import_that_always_dies(tmp_path: Path) -> None:
    """What it wrote to stderr is seen, three times, and the error tells its exit code."""
    (tmp_path / "deadly.py").write_text(DYING_IMPORT)
    done = scripts.run(IMPORTING, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no licence") == 3
    assert "(3 times in a row): exit code 9" in done.stdout


@contextmanager
def refused(number: int, times: int) -> Iterator[list[int]]:
    """Have the system refuse to start processes, so many times."""
    really = fork_exec.fork_exec
    refusals: list[int] = []

    def refuse(*args: Any, **kwargs: Any) -> Any:
        if len(refusals) < times:
            refusals.append(number)
            raise OSError(number, os.strerror(number))
        return really(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fork_exec, "fork_exec", refuse)
        yield refusals


@pytest.fixture
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        yield session


@pytest.mark.one_loop
@pytest.mark.fault(12)
@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE])
async def test_a_start_that_is_refused_for_good(session: offloop.ParallelSession, number: int) -> None:
    """After three tries the caller gets the system's reason; when there is room again the next call works."""
    with anyio.fail_after(40), refused(number, 1000) as refusals:
        with pytest.raises(offloop.WorkerStartError) as failed:
            await session.run(w.double, 2)
        assert len(refusals) == 3
    assert os.strerror(number) in str(failed.value)
    assert "3 times in a row" in str(failed.value)
    with anyio.fail_after(40):
        assert await session.run(w.double, 2) == 4


@pytest.mark.fault(12)
async def test_a_start_that_is_refused_twice(session: offloop.ParallelSession) -> None:
    """A shortage that passes is waited out, and no call fails for it."""
    with anyio.fail_after(40), refused(errno.EAGAIN, 2) as refusals:
        assert await session.run(w.double, 2) == 4
    assert len(refusals) == 2


@pytest.mark.fault(12)
async def test_fewer_workers_do(session: offloop.ParallelSession) -> None:
    """Where one worker is up and another can't be had, the one does all of the work."""
    await session.warm(1)
    with anyio.fail_after(40), refused(errno.EAGAIN, 1000):
        results = await session.run_parallel(partial(w.sleep_and_tell), [0.005] * 40, chunk_size=1)
    assert len(results) == 40
    assert len({pid for pid, _ in results}) == 1


HOARDING = """
import anyio
import offloop
import shortages
import workloads as w

async def main():
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        await session.run(w.double, 1)
        await session.warm(1)
        shortages.hoard_descriptors(spare=6)
        assert await session.run_parallel(w.double, range(200), chunk_size=10) == list(range(0, 400, 2))
        try:
            await session.warm(2)
        except offloop.WorkerStartError as error:
            print(error)
        shortages.free_descriptors()
        await session.warm(2)
        print(len(session.statistics().workers))

if __name__ == "__main__":
    anyio.run(main)
"""


@pytest.mark.fault(12)
def test_no_descriptors_are_left(tmp_path: Path) -> None:
    """Under RLIMIT_NOFILE what is up goes on, an order for more says why it fails, and works once there are some again."""
    done = scripts.run(HOARDING, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Too many open files" in done.stdout
    assert done.stdout.splitlines()[-1] == "2"


SHORT = """
import leftovers
import shortages
from offloop.pool.pooled import StartAgain
from offloop.pool.worker import Worker
from offloop.sensing.oom import OomKills
from offloop.sensing.system import this_system
from offloop.wire.storage import Storage
from offloop.worker.recycling import Recycling

def start():
    worker = Worker.start(
        None, env={}, nice=0, idle_timeout_s=60, recycling=Recycling(), storage=Storage("memory"),
        kills=OomKills(this_system()), breakable=lambda end: None,
    )
    worker.kill()
    worker.close()
    worker.join()

if __name__ == "__main__":
    start()
    shortages.hoard_descriptors()  # as they are later
    shortages.free_descriptors()
    before = leftovers.take()
    n_short = 0
    for spare in range(30):
        shortages.hoard_descriptors(spare=spare)
        try:
            start()
        except StartAgain as again:
            assert "Too many open files" in str(again.told(1)), again.told(1)
            n_short += 1
        shortages.free_descriptors()
        assert not (left := leftovers.found_since(before)), (spare, left)
    print(0 < n_short < 30)
"""


@pytest.mark.fault(12)
def test_wherever_descriptors_run_out_none_is_lost(tmp_path: Path) -> None:
    """A start may run out of descriptors at any step: it says so, can be tried again, and leaves none open."""
    done = scripts.run(SHORT, cwd=tmp_path, timeout_s=90)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True"
