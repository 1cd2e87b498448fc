"""Callers that block: whatever thread they are in, and however they end."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

import offloop
import scripts
import workloads as w
from offloop import run_parallel_sync, run_sync
from offloop.events import Event, Guidance
from offloop.reporting import forget_guidance

nested_map = partial(run_parallel_sync, w.double)


@pytest.fixture(scope="module")
def session(transport: str, strategy: str) -> Iterator[offloop.SyncSession]:
    """A session that all tests of the module share."""
    with offloop.SyncSession(strategy=strategy, workers=2, idle_timeout_s=600) as session:
        session._session.portal.call(w.start_all, session._session, strategy)
        yield session


@pytest.fixture
def own_session(transport: str, strategy: str) -> Iterator[offloop.SyncSession]:
    """A session of the test's own, with which the local threads below its threads end, and so does the one that items use."""
    with offloop.SyncSession(strategy=strategy, workers=2) as session:
        yield session
    offloop.close_default_session_sync()


@pytest.fixture
def default_session() -> Iterator[None]:
    """The process-wide session, which is closed after the test."""
    yield
    offloop.close_default_session_sync()


@pytest.fixture
def guidance() -> Iterator[list[Event]]:
    """What is told of calls that block."""
    told: list[Event] = []
    remove = offloop.add_sink(lambda event: told.append(event) if isinstance(event, Guidance) and event.topic == "sync" else None)
    forget_guidance()
    yield told
    remove()
    forget_guidance()


def in_thread(fn: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(fn).result()


# --- what it does ------------------------------------------------------------------------------------------------------


def test_functions_of_the_module(default_session: None) -> None:
    """Each function of the module has one that blocks and returns the same."""
    rows = [1.0, 2.0, 3.0]
    assert run_sync(w.add, 1, 2, retries=0) == 3
    assert run_parallel_sync(w.double, range(5), label="doubles") == [0, 2, 4, 6, 8]
    assert run_parallel_sync(w.draws, range(2), seed=1) == asyncio.run(offloop.run_parallel(w.draws, range(2), seed=1))
    assert offloop.run_batches_sync(w.echo, rows) == rows
    assert offloop.run_branches_sync({"a": offloop.call(w.add, 1, 2), "b": offloop.call(w.double, 4)}) == {"a": 3, "b": 8}


def test_a_session_does_what_the_async_one_does(session: offloop.SyncSession) -> None:
    """Calls, maps, rows, branches, decisions, shared data and books work as they do there."""
    before = session.statistics().completed
    assert session.run(w.add, 1, 2) == 3
    assert session.run_parallel(w.double, iter(range(100))) == [2 * x for x in range(100)]
    assert session.run_batches(w.echo, [1, 2, 3], combine="list", batch_size=2) == [[1, 2], [3]]
    assert session.run_branches({"a": offloop.call(w.add, 1, 2)}) == {"a": 3}
    with session.executor() as executor:
        assert list(executor.map(w.double, [1, 2])) == [2, 4]
    assert session.run_joblib(lambda: 3) == 3
    data = session.share([1, 2, 3])
    assert session.run(sum, data) == 6
    assert session.release(data)
    assert session.decide(w.double, [1, 2]).n_items == 2
    assert session.decisions[-1].strategy == session.config.strategy
    assert session.sources["strategy"] is offloop.SettingSource.KEYWORD
    assert session.statistics().completed >= before + 104


async def numbers(n: int) -> AsyncIterator[int]:
    for x in range(n):
        await anyio.sleep(0)
        yield x


def test_items_may_come_from_async_code(session: offloop.SyncSession) -> None:
    """An async iterable of items is read on the session's own event loop."""
    assert session.run_parallel(w.double, numbers(5)) == [0, 2, 4, 6, 8]


def test_errors_are_the_users_own(session: offloop.SyncSession) -> None:
    """What fn raises arrives as itself, and its traceback has one frame of ours before fn's own."""
    with pytest.raises(TypeError) as caught:
        session.run(w.add, 1, "a")
    assert "raised by items[0] of workloads.add" in caught.value.__notes__[0]
    here, ours, *fn = [Path(frame.filename).name for frame in traceback.extract_tb(caught.tb)]
    assert (here, ours) == ("test_sync.py", "sync.py")
    assert set(fn) <= {"workloads.py"}
    with pytest.raises(ExceptionGroup):
        session.run_parallel(w.double, [None, None], on_error="group")
    with pytest.raises(offloop.AsyncFunctionError):
        session.run(numbers, 1)


def test_an_error_that_is_frozen_is_the_users_own() -> None:
    """An exception that refuses to be changed arrives as itself, too."""
    with offloop.SyncSession(strategy="serial") as session, pytest.raises(Frozen):
        session.run(raise_frozen)


@dataclass(frozen=True)
class Frozen(Exception):
    """An exception whose attributes can't be set."""

    why: str


def raise_frozen() -> None:
    raise Frozen("x")


def test_nothing_is_kept() -> None:
    """What a call takes and returns is dropped with it: garbage collection may be long in coming."""
    gc.disable()
    try:
        with offloop.SyncSession(strategy="serial") as session:
            given, got = w.Boxed(1), session.run(w.Boxed, 2)
            assert session.run(bool, given)
            kept = weakref.ref(given), weakref.ref(got)
            del given, got
            session.run(w.nothing)  # the last steps of the calls before are over
            assert [ref() for ref in kept] == [None, None]
    finally:
        gc.enable()


def test_a_session_says_what_it_does() -> None:
    """Methods and functions have the names, the signatures and the summaries of what they stand for."""
    help_of = str(offloop.SyncSession.run_parallel.__doc__)
    assert help_of.startswith("Call ``fn(item)`` for every item")
    assert "`ParallelSession.run_parallel`" in help_of
    assert (offloop.SyncSession.run.__qualname__, run_sync.__qualname__) == ("SyncSession.run", "run_sync")


# --- streams -----------------------------------------------------------------------------------------------------------


def test_a_stream(session: offloop.SyncSession) -> None:
    """Results come in order, with their indexes if asked, no more in flight than the window; leaving closes the source."""
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            x = 0
            while True:
                yield x
                x += 1
        finally:
            closed.set()

    with session.stream(w.double, endless(), window=8) as results:
        assert [next(results) for _ in range(20)] == [2 * x for x in range(20)]
        for index, result in results.indexed():
            assert (result, results.in_flight <= 8) == (2 * index, True)
            if index == 50:
                break
    assert closed.is_set()
    with pytest.raises(RuntimeError, match="was left"):
        list(results)


def test_a_stream_has_an_end(session: offloop.SyncSession) -> None:
    """What an item raises comes in its place and ends the stream; a stream can be entered once."""
    with session.stream(w.double, numbers(3)) as results:
        assert list(results) == [0, 2, 4]
    stream = session.stream(w.add, [1], on_error="collect")
    with stream as failures:
        assert [type(failure) for failure in failures] == [TypeError]
    with pytest.raises(RuntimeError, match="entered once"), stream:
        pass
    seen = []
    with pytest.raises(TypeError), session.stream(w.double, [1, 2, None]) as results:
        seen.extend(results)
    with pytest.raises(ZeroDivisionError), session.stream(w.double, range(9)):
        raise ZeroDivisionError


def test_a_stream_that_is_dropped() -> None:
    """A stream that is never left is stopped and warned of."""
    with offloop.SyncSession(strategy="serial") as session:
        stream = session.stream(w.double, iter(int, 1), window=4)
        results = stream.__enter__()
        assert next(results) == 0
        with pytest.warns(ResourceWarning, match="never left"):
            del stream
        assert session.drain(timeout_s=10)


# --- from where --------------------------------------------------------------------------------------------------------


def test_many_threads(session: offloop.SyncSession) -> None:
    """Any number of threads may call at once."""
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(session.run_parallel, w.double, range(n)) for n in range(16)]
        assert [call.result() for call in calls] == [[2 * x for x in range(n)] for n in range(16)]


def test_in_a_thread_with_the_context_of_a_task(session: offloop.SyncSession) -> None:
    """A thread that has a copy of a task's context, as `asyncio.to_thread` gives it, has no event loop for all that."""

    async def main() -> float:
        return await asyncio.to_thread(session.run, w.spin, 0.02)

    assert anyio.run(main) == 0.02


def test_on_somebodys_event_loop(
    session: offloop.SyncSession, guidance: list[Event], monkeypatch: pytest.MonkeyPatch, anyio_backend: Any
) -> None:
    """A thread that has an event loop may call; that it was held is told once, with what to write, but not where people type."""

    async def main() -> None:
        assert session.run(w.spin, 0.02) == 0.02
        assert session.run(w.spin, 0.02) == 0.02
        assert session.run(w.nothing) is None

    backend, options = anyio_backend if isinstance(anyio_backend, tuple) else (anyio_backend, {})
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    anyio.run(main, backend=backend, backend_options=options)
    assert guidance == []
    monkeypatch.delattr(sys, "ps1")
    anyio.run(main, backend=backend, backend_options=options)
    (told,) = guidance
    assert isinstance(told, Guidance)
    assert told.fn == "workloads.spin"
    assert told.advice.startswith("await session.run(...)")


def test_in_an_item(own_session: offloop.SyncSession) -> None:
    """An item may call, and so may an item of that: neither waits for the other."""
    twice = partial(run_parallel_sync, nested_map)
    assert own_session.run_parallel(nested_map, [[1, 2], [3]]) == [[2, 4], [6]]
    assert own_session.run_parallel(twice, [[[1, 2], [3]], [[4]]]) == [[[2, 4], [6]], [[8]]]


def test_in_an_item_with_an_event_loop(own_session: offloop.SyncSession) -> None:
    """An item that has an event loop of its own may call too."""

    def fn(items: list[int]) -> list[int]:
        async def main() -> list[int]:
            return offloop.run_parallel_sync(w.double, items)

        return asyncio.run(main())

    assert own_session.run_parallel(fn, [[1, 2], [3]]) == [[2, 4], [6]]


def test_an_item_that_waits_stops(own_session: offloop.SyncSession, tmp_path: Path) -> None:
    """Cancelling an item cancels the call that it waits for, so that neither its worker nor its thread is given up."""
    path = str(tmp_path / "run")
    nested = partial(run_sync, w.loop_until_cancelled, path)
    own_session.run(w.nothing)
    before = own_session.statistics().workers
    with own_session.stream(nested, [()], retries=0, grace_s=30):
        scripts.wait_for_lines(tmp_path / "run.began")
    assert w.lines(tmp_path / "run.stopped")
    assert own_session.statistics().workers == before
    assert own_session.run(w.add, 1, 2) == 3


@pytest.mark.parametrize("strategy", ["serial", "threads"])
def test_what_an_item_calls_is_part_of_its_own_call(strategy: str) -> None:
    """Limits and `drain` let in what an item calls, on the session that executes the item too."""
    began, drains = threading.Event(), threading.Event()
    with offloop.SyncSession(strategy=strategy, workers=2, max_pending=1) as session, ThreadPoolExecutor(1) as threads:

        def fn() -> list[int]:
            began.set()
            drains.wait()
            return session.run_parallel(w.double, [1, 2])

        call = threads.submit(session.run, fn)
        began.wait()
        assert not session.drain(timeout_s=0)
        drains.set()
        assert call.result() == [2, 4]
        assert session.drain()


def test_on_the_portal(session: offloop.SyncSession) -> None:
    """Async code on the session's own event loop, which a blocking call would wait for, is told to await."""
    errors: list[RuntimeError] = []

    async def source() -> AsyncIterator[int]:
        for call in (partial(session.run, w.nothing), session.stream(w.double, [1]).__enter__, session.close):
            try:
                call()
            except RuntimeError as error:
                errors.append(error)
        yield 1

    assert session.run_parallel(w.double, source()) == [2]
    assert ["await session.run(...)" in str(errors[0]), "async with" in str(errors[1]), "aclose" in str(errors[2])] == [True] * 3


# --- how it ends -------------------------------------------------------------------------------------------------------


def test_a_session_has_an_end() -> None:
    """A session is closed once and for all; who waits for a call meanwhile gets an error, who calls later too."""
    session = offloop.SyncSession(strategy="serial")
    with pytest.raises(offloop.SessionClosedError, match="not open"):
        session.run(w.nothing)
    session.open()
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        while not go_on.wait(0.001):
            offloop.checkpoint()

    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(session.run, wait)
        begun.wait()
        session.close()
        assert isinstance(call.exception(), offloop.SessionClosedError)
    session.close()
    with pytest.raises(offloop.SessionClosedError, match="closed"):
        session.run(w.nothing)
    with pytest.raises(offloop.SessionClosedError, match="closed"), session:
        pass


def test_the_process_wide_session_begins_anew(default_session: None) -> None:
    """Once closed, from whatever thread, whether it was used or not, the process-wide session begins anew at its next use."""
    offloop.close_default_session_sync()
    assert run_sync(w.double, 1) == 2
    in_thread(offloop.close_default_session_sync)
    assert run_sync(w.double, 2) == 4


def test_a_session_cant_be_sent() -> None:
    """A session can't be pickled; the error says what to write in a worker."""
    with pytest.raises(TypeError, match="run_parallel_sync"):
        pickle.dumps(offloop.SyncSession())


PROGRAM = """
import sys, time, offloop, workloads as w

def deaf(path):
    w.append(path + ".began", "yes")
    while not offloop.is_cancelled():
        time.sleep(0.001)
    w.append(path + ".told", "yes")
    time.sleep(60)

def main(item, path):
    if item == "deaf":
        offloop.run_sync(deaf, path, strategy="processes", grace_s=60)
    with offloop.SyncSession(strategy="processes", workers=1) as session:
        session.run(w.loop_until_cancelled, path)

main(*sys.argv[1:])
"""


@pytest.mark.parametrize("item", ["polite", "deaf"])
def test_ctrl_c(tmp_path: Path, item: str) -> None:
    """Ctrl-C ends a call when its work has stopped, and a second one at once; the program's end takes the workers with it."""
    with scripts.started(PROGRAM, item, str(tmp_path / "run"), cwd=tmp_path) as process:
        scripts.wait_for_lines(tmp_path / "run.began")
        workers = [child.pid for child in psutil.Process(process.pid).children()]
        os.kill(process.pid, signal.SIGINT)
        if item == "deaf":
            scripts.wait_for_lines(tmp_path / "run.told")
            os.kill(process.pid, signal.SIGINT)
        process.wait(20)
        assert scripts.gone(workers, 5)
    stderr = (tmp_path / "stderr").read_text().splitlines()
    assert (stderr[0], stderr[-1]) == ("Traceback (most recent call last):", "KeyboardInterrupt")
    assert (tmp_path / "run.stopped").exists() == (item == "polite")


def test_a_program_that_just_ends(tmp_path: Path) -> None:
    """A program needs neither a main guard nor to close what it has used; nothing is left of it, nor of its forked child."""
    code = """
import os, offloop
print(offloop.run_parallel_sync(lambda x: os.getpid(), range(4), strategy="processes", workers=2))
session = offloop.SyncSession(strategy="processes", workers=1).open()
print(session.run(os.getpid))
if (child := os.fork()) == 0:
    print([offloop.run_sync(lambda: 2 * 3)])
    os._exit(0)
os.waitpid(child, 0)
"""
    done = scripts.run(code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    *pids, in_child = done.stdout.replace("[", "").replace("]", "").replace(",", "").split()
    assert in_child == "6"
    assert scripts.gone([int(pid) for pid in pids], 5)


def test_in_ipython(tmp_path: Path) -> None:
    """A cell of IPython, which has an event loop as a notebook's has, just calls, and is told nothing."""
    code = """
import asyncio
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
cell = '''
import time, offloop
told = []
offloop.add_sink(lambda event: told.append(getattr(event, "topic", event.event)))
print(await asyncio.sleep(0, 1), offloop.run_parallel_sync(lambda x: time.sleep(0.01) or 2 * x, range(4)))
print("parallel.decision" in told, "sync" in told)
'''
shell.user_ns["asyncio"] = asyncio
asyncio.run(shell.run_cell_async(cell, transformed_cell=cell))
"""
    done = scripts.run(code, cwd=tmp_path)
    assert done.stdout.splitlines() == ["1 [0, 2, 4, 6]", "True False"], done.stderr
