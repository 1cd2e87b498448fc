"""Functions that do odd things: they get their results, and the session goes on."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import anyio
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio


async def test_a_function_that_prints(session: offloop.ParallelSession, capfd: pytest.CaptureFixture[str]) -> None:
    """Prints harm nothing, and come out."""
    assert await session.run_parallel(w.shout, range(20)) == list(range(20))


async def test_a_function_that_writes_to_descriptor_1(workers: offloop.ParallelSession) -> None:
    """Bytes on fd 1 are no frames: lanes are descriptors of their own."""
    assert await workers.run(os.write, 1, b"") == 0
    assert await workers.run(w.close_stdio) == "closed"
    assert await workers.run_parallel(w.double, range(50)) == list(range(0, 100, 2))


async def test_a_function_that_changes_the_working_directory(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """The session goes on, and this process stays where it is if the function left it so."""
    here = os.getcwd()
    assert await session.run(w.move_away, str(tmp_path)) == str(tmp_path)
    assert os.getcwd() == here
    assert await session.run(w.double, 2) == 4


async def test_a_worker_that_moved_away_for_good_still_works(anyio_backend: object, tmp_path: Path) -> None:
    """A worker's working directory, gone even, is nothing that later work depends on."""
    folder = tmp_path / "gone"
    folder.mkdir()
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        assert await session.run(w.move_away_for_good, str(folder)) == str(folder)
        folder.rmdir()
        assert await session.run_parallel(w.double, range(5)) == [0, 2, 4, 6, 8]
        assert await session.run(lambda x: x + 1, 1) == 2


async def test_a_function_that_starts_threads(session: offloop.ParallelSession) -> None:
    """Threads that fn starts and joins are its own affair."""
    assert await session.run_parallel(w.start_thread, range(20)) == [[x] for x in range(20)]


async def test_a_thread_left_behind_in_a_worker_ends_with_it(anyio_backend: object) -> None:
    """A worker with live threads closes like any other."""
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        assert await session.run(w.leave_daemon, 1) == 1
        assert await session.run(w.leave_thread, 1) == 1
        assert await session.run(w.double, 2) == 4


async def test_recursion_without_end(session: offloop.ParallelSession) -> None:
    """A RecursionError arrives as itself, and the next call works."""
    with anyio.fail_after(20), pytest.raises(RecursionError):
        await session.run(w.recurse, 0)
    with anyio.fail_after(20):
        results = await session.run_parallel(w.recurse, [0, 1], on_error="collect")
    assert [type(result) for result in results] == [RecursionError] * 2
    assert await session.run(w.double, 2) == 4


async def test_a_function_that_leaves_a_child_behind(anyio_backend: object, tmp_path: Path) -> None:
    """Closing the session ends what its workers forked."""
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        await session.run(w.fork_and_stay, str(tmp_path / "child"))
        child = int(w.lines(tmp_path / "child")[0])
        assert await session.run(w.double, 2) == 4
    with anyio.fail_after(5):
        while Path(f"/proc/{child}").exists() and "\nState:\tZ" not in Path(f"/proc/{child}/status").read_text():
            await anyio.sleep(0.005)


async def test_none_and_falsy_results_are_results(session: offloop.ParallelSession) -> None:
    """Nothing is taken for the absence of a result."""
    values = [None, 0, "", [], False, b"", {}, ValueError("a result, not a failure")]
    results = await session.run_parallel(w.echo, values)
    assert results[:-1] == values[:-1]
    assert isinstance(results[-1], ValueError)


async def test_arguments_are_private_to_a_worker(workers: offloop.ParallelSession) -> None:
    """What a worker does to its copy is not seen here."""
    item = [1]
    assert await workers.run(w.grow, item) == [1, "more"]
    assert item == [1]


async def test_items_of_many_types_arrive_equal(session: offloop.ParallelSession) -> None:
    """Numbers beyond 64 bits, text beyond ASCII, nested containers, own classes, arrays."""
    import numpy

    values = [1 << 100, -0.0, "ü\0\U0001f600", {"a": [(1, {2})]}, w.Boxed([1]), complex(1, 2), range(3), ..., print]
    assert await session.run_parallel(w.echo, values) == values
    array = numpy.arange(50_000.0).reshape(100, -1)[::2, ::3]
    assert numpy.array_equal(await session.run(w.echo, array), array)


async def test_fn_runs_outside_of_the_main_threads_event_loop(session: offloop.ParallelSession) -> None:
    """fn may run an event loop of its own."""
    assert await session.run(w.own_loop, 3) == 6
    assert threading.current_thread() is threading.main_thread()
