"""Sessions beside and within each other, on several loops, and what their workers do to the rest of a process."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import failpoints
import offloop
import scripts
import workloads as w

pytestmark = pytest.mark.anyio


def session_of(workers: int, **settings: Any) -> offloop.ParallelSession:
    return offloop.ParallelSession(strategy="processes", workers=workers, **settings)


@pytest.mark.fault(37)
async def test_closing_from_everywhere_at_once(anyio_backend: object, tmp_path: Path) -> None:
    """Several who close a session, busy as it is, all return once its workers are gone; later calls are refused."""
    session = session_of(2).open()
    path, pids = f"{tmp_path}/run", list[int]()

    async def call() -> None:
        with pytest.raises(offloop.SessionClosedError):
            await session.run(w.loop_deaf, path)

    async def close() -> None:
        await session.aclose()
        assert not scripts.alive(pids)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            pids += [int(pid) for pid in await w.appears(f"{path}.began")]
            for _ in range(3):
                tasks.start_soon(close)
        await session.aclose()
    for refused in (session.run(w.double, 1), session.run_parallel(w.double, [1]), session.warm()):
        with pytest.raises(offloop.SessionClosedError, match="closed"):
            await refused


@pytest.mark.fault(38)
async def test_a_session_dropped_amid_its_work(anyio_backend: object, tmp_path: Path) -> None:
    """One that nobody refers to any more but a cancelled call of its own warns, and its workers end."""
    session = session_of(1).open()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.run, w.loop_until_cancelled, f"{tmp_path}/run")
        pids = [int(pid) for pid in await w.appears(f"{tmp_path}/run.began")]
        tasks.cancel_scope.cancel()
    with pytest.warns(ResourceWarning, match="never closed"):
        del session, tasks
        gc.collect()
    assert await anyio.to_thread.run_sync(scripts.gone, pids, 5.0)


@pytest.mark.fault(39)
def test_a_loop_closed_amid_a_run(tmp_path: Path) -> None:
    """The lane that it held is taken back: the same session serves the next loop, with no more workers than it may have."""
    done = scripts.run(LOOP_CLOSED, str(tmp_path / "run"), cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("all is well\n", 0), done.stderr


LOOP_CLOSED = """
import asyncio, gc, sys, anyio, offloop, workloads as w
path = sys.argv[1]
session = offloop.ParallelSession(strategy="processes", workers=1).open()
loop = asyncio.new_event_loop()
task = loop.create_task(session.run(w.loop_deaf, path))

async def begun():
    await w.appears(path + ".began")

loop.run_until_complete(begun())
first = session.statistics().workers
loop.close()

async def use():
    with anyio.fail_after(20):
        assert await session.run(w.double, 21) == 42
        assert await session.run_parallel(w.double, range(20)) == list(range(0, 40, 2))
        assert len(session.statistics().workers) == 1
        await session.aclose()

for backend in ("asyncio", "trio"):
    if backend == "trio":
        session = offloop.ParallelSession(strategy="processes", workers=1).open()
    anyio.run(use, backend=backend)
print("all is well")
"""


EXIT_AMID_A_RUN = """
import asyncio, sys, anyio, offloop, workloads as w
path, item = sys.argv[1:]
session = offloop.ParallelSession(strategy="processes", workers=1).open()
loop = asyncio.new_event_loop()
if item == "starts":
    loop.create_task(session.run(w.double, 1))
    loop.run_until_complete(asyncio.sleep(0))
else:
    loop.create_task(session.run(w.loop_deaf, path))
    loop.run_until_complete(w.appears(path + ".began"))
"""


@pytest.mark.fault(38, 39)
@pytest.mark.parametrize("item", ["starts", "runs"])
def test_a_program_that_ends_amid_a_run(tmp_path: Path, item: str) -> None:
    """An interpreter that ends with a run under way, its loop not even closed, is not held up, and leaves no worker."""
    with scripts.started(EXIT_AMID_A_RUN, str(tmp_path / "run"), item, cwd=tmp_path) as process:
        assert process.wait(15) == 0
    assert not scripts.alive([int(pid) for pid in w.lines(tmp_path / "run.began")])
    assert scripts.semaphore_names(process.pid) == []


@pytest.mark.fault(39)
def test_one_session_on_two_loops_at_once() -> None:
    """Loops in several threads, of any kind, share a session; what one cancels the other doesn't notice."""
    session = session_of(2).open()
    results: dict[str, Any] = {}

    async def use(name: str) -> None:
        with anyio.fail_after(40):
            for _ in range(10):
                with anyio.move_on_after(0.005):
                    await session.run_parallel(w.nap, [0.01] * 4)
                results[name] = await session.run_parallel(w.double, range(50))

    def on_loop(backend: str) -> None:
        anyio.run(use, backend, backend=backend)

    threads = [threading.Thread(target=on_loop, args=(backend,)) for backend in ("asyncio", "trio")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    anyio.run(session.aclose)
    assert results == {backend: list(range(0, 100, 2)) for backend in ("asyncio", "trio")}


@pytest.mark.fault(41)
async def test_a_cancel_does_not_cross_over(anyio_backend: object, tmp_path: Path) -> None:
    """Beside a run that is cancelled and killed, runs of the same session and of another one go on with their workers."""
    async with session_of(2) as session, session_of(1) as other:
        await session.warm()
        pid = await other.run(w.pid_of)
        results: list[Any] = []

        async def beside(one: offloop.ParallelSession) -> None:
            results.append(await one.run_parallel(w.spin_and_tell, [0.01] * 40))

        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as doomed:
                doomed.start_soon(partial(session.run, failpoints.hold_the_gil_for_good, f"{tmp_path}/run", grace_s=0.1))
                await w.appears(f"{tmp_path}/run.began")
                tasks.start_soon(beside, session)
                tasks.start_soon(beside, other)
                doomed.cancel_scope.cancel()
        killed = int(w.lines(tmp_path / "run.began")[0])
        assert [len(result) for result in results] == [40, 40]
        assert all(killed not in result for result in results)
        assert session.statistics().retried == other.statistics().retried == 0
        assert await other.run(w.pid_of) == pid


@pytest.mark.fault(41)
async def test_nested_sessions(anyio_backend: object) -> None:
    """A session within another has workers of its own; closing it ends those alone."""
    async with session_of(1) as outer:
        pid = await outer.run(w.pid_of)
        async with session_of(1) as inner:
            assert await inner.run(w.pid_of) != pid
            own = inner.statistics().workers
        assert await anyio.to_thread.run_sync(scripts.gone, list(own), 2.0)
        assert await outer.run(w.pid_of) == pid


@pytest.mark.fault(42)
async def test_a_nested_run_stops_with_the_item_around_it(anyio_backend: object, tmp_path: Path) -> None:
    """A run within an item executes in the same process, and a cancel of the outer one stops it there."""
    async with session_of(1) as session:
        pid, inner = await session.run(w.nested_pids)
        assert set(inner) == {pid}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(session.run, nested_loop, f"{tmp_path}/run", grace_s=0.5))
            assert await w.appears(f"{tmp_path}/run.began") == [str(pid)]
            tasks.cancel_scope.cancel()
        assert await session.run(w.double, 21) == 42


def nested_loop(path: str) -> Any:
    return anyio.run(offloop.run_parallel, w.loop_until_cancelled, [path])


# --- what workers start ------------------------------------------------------------------------------------------------


@pytest.mark.fault(48)
async def test_a_grandchild_ends_with_its_worker(anyio_backend: object, tmp_path: Path) -> None:
    """A process that an item forked and left ends when the session is closed, which does not wait for it."""
    async with session_of(1) as session:
        child = await session.run(w.fork_and_stay, f"{tmp_path}/child")
        assert await session.run(w.double, 21) == 42
        assert scripts.alive([child])
        with anyio.fail_after(5):
            await session.aclose()
    assert await anyio.to_thread.run_sync(scripts.gone, [child], 2.0)


@pytest.mark.fault(48)
async def test_a_grandchild_ends_with_a_cancelled_call(anyio_backend: object, tmp_path: Path) -> None:
    """A worker killed after grace takes along what it has forked."""
    path = f"{tmp_path}/run"
    async with session_of(1) as session:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(session.run, fork_and_hold_the_gil, path, grace_s=0.1))
            pids = [int(pid) for pid in (*await w.appears(f"{path}.child"), *await w.appears(f"{path}.began"))]
            tasks.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(scripts.gone, pids, 2.0)
        assert await session.run(w.double, 21) == 42


def fork_and_hold_the_gil(path: str) -> None:
    w.fork_and_stay(f"{path}.child")
    failpoints.hold_the_gil_for_good(path)


@pytest.mark.fault(49)
async def test_threads_that_are_no_daemons_hold_nothing_up(anyio_backend: object) -> None:
    """A worker in which an item left a thread goes on serving, and ends with its session at once."""
    session = session_of(1).open()
    assert await session.run(w.leave_thread, 1) == 1
    assert await session.run(w.double, 21) == 42
    pids = session.statistics().workers
    with anyio.fail_after(5):
        await session.aclose()
    assert not scripts.alive(list(pids))


# --- what is done to a session -----------------------------------------------------------------------------------------


@pytest.mark.fault(51)
async def test_a_session_cant_be_sent(anyio_backend: object) -> None:
    """Pickled, as an argument, an item or bound in fn it is a TypeError that says what to do instead; nothing executes."""
    async with session_of(1) as session:
        for refused in (
            lambda: session.run(w.echo, session),
            lambda: session.run_parallel(w.echo, [1, [session]]),
            lambda: session.run(partial(w.echo, session)),
            lambda: session.run(lambda: session),
        ):
            with pytest.raises(TypeError) as caught:
                await refused()
            assert "call offloop.run_parallel" in f"{caught.value} {caught.value.__cause__}"
        with pytest.raises(TypeError, match=r"run_parallel"):
            pickle.dumps(session)
        assert await session.run(w.double, 21) == 42


TRACKER_KILLED = """
import os, signal, anyio, offloop, psutil, workloads as w

async def main():
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        await session.warm()
        assert await session.run_parallel(w.double, range(20)) == list(range(0, 40, 2))
        for child in psutil.Process().children():
            if any("resource_tracker" in part for part in child.cmdline()):
                os.kill(child.pid, signal.SIGKILL)
                child.wait(5)
        before = session.statistics().workers
        assert await session.run_parallel(w.double, range(20)) == list(range(0, 40, 2))
        os.kill(before[0], signal.SIGKILL)
        with anyio.fail_after(30):
            assert await session.run_parallel(w.double, range(20)) == list(range(0, 40, 2))
            await session.warm()
            assert len(session.statistics().workers) == len(before)
    print("all is well")

anyio.run(main)
"""


@pytest.mark.fault(52)
def test_the_resource_tracker_is_killed(tmp_path: Path) -> None:
    """Workers go on without loky's tracker, and new ones start."""
    done = scripts.run(TRACKER_KILLED, cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("all is well\n", 0), done.stderr
    assert "offloop" not in done.stderr.replace(str(scripts.TESTS), "")


# --- standard streams --------------------------------------------------------------------------------------------------


@pytest.mark.fault(53)
async def test_a_worker_without_standard_streams(anyio_backend: object) -> None:
    """An item that closes its worker's streams, and what C code writes to them, does not touch the lane."""
    async with session_of(1) as session:
        assert await session.run(write_raw, 5000) == 10_000
        assert await session.run(w.close_stdio) == "closed"
        assert await session.run_parallel(w.double, range(5)) == [0, 2, 4, 6, 8]
        assert session.statistics().workers_crashed == 0


def write_raw(count: int) -> int:
    """Write past Python to where the standard streams go."""
    return sum(os.write(fd, b"." * count) for fd in (1, 2))


WITHOUT_STREAMS = """
import os, sys, anyio, offloop, workloads as w

def write_raw(x):
    for fd in (0, 1, 2):
        try:
            os.write(fd, b"not a frame" * 10)
        except OSError:
            pass
    return x

async def main():
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        assert await session.run_parallel(write_raw, range(50), chunk_size=1) == list(range(50))
        assert await session.run_parallel(w.shout, range(5)) == list(range(5))
        write_raw(0)
        assert await session.run_parallel(w.double, range(20)) == list(range(0, 40, 2))
        assert session.statistics().workers_crashed == 0
    w.append(sys.argv[1], "well")

anyio.run(main)
"""


@pytest.mark.fault(53)
def test_a_program_without_standard_streams(tmp_path: Path) -> None:
    """In a process started with its streams closed, what is written to descriptors 0 to 2 reaches no lane."""
    script, told = tmp_path / "script.py", tmp_path / "told"
    script.write_text(WITHOUT_STREAMS)
    command = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', sys.executable, str(script), str(told)]
    done = subprocess.run(command, cwd=tmp_path, env=scripts.environment(), timeout=60, check=False)
    assert (done.returncode, w.lines(told)) == (0, ["well"])
