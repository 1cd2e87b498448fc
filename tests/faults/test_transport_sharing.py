"""Shared objects that are dropped, released, changed, sent from anywhere, or outlived by what uses them."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest

import leftovers
import offloop
import shortages
import workloads as w
from offloop.wire import buffers

pytestmark = pytest.mark.anyio

MIB = 1 << 20


@pytest.fixture(params=["memory", "file", "portable"])
async def session(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    before = set(buffers.alive)
    async with offloop.ParallelSession(strategy="processes", workers=2, transport=request.param) as session:
        await session.warm()
        yield session
    with anyio.fail_after(10):
        while buffers.alive - before:
            gc.collect()
            await anyio.sleep(0.005)


def data(seed: int = 0) -> Any:
    return np.arange(seed, seed + MIB)


def held(path: str, array: Any) -> int:
    """Say that an item runs, wait until the file ``path.go`` is there, and only then read the array."""
    w.append(path, os.getpid())
    end = time.monotonic() + 30
    while not os.path.exists(f"{path}.go") and time.monotonic() < end:
        offloop.checkpoint()
        time.sleep(0.001)
    return int(array.sum())


async def test_dropped_and_released_while_in_use(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """An object that is released, or dropped, while a run uses it is there until the run is over."""
    path, sums = str(tmp_path / "run"), []
    total = int(data().sum())
    shared = [session.share(data()), session.share(data())]

    async def use(items: list[Any]) -> None:
        sums.extend(await session.run_parallel(partial(held, path), items, chunk_size=1))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(use, [shared[0], shared[1], shared[0], shared[1]])
            await w.appears(path, 2)
            assert session.release(shared[0])
            assert not session.release(shared[0])
            shared.clear()
            gc.collect()
            Path(f"{path}.go").touch()
    assert sums == [total] * 4


async def test_views_and_changes(session: offloop.ParallelSession) -> None:
    """Views of a shared array arrive as what they are; after it is released, changes reach workers for certain."""
    shared = session.share(data())
    for view in (shared[10:], shared[::2], shared[::-1], shared.reshape(1024, 1024).T, shared.view(np.uint8)[5:-3]):
        assert (await session.run(w.echo, view) == view).all()
    assert await session.run(int.__add__, int(shared[5]), 0) == 5
    assert session.release(shared)
    shared[:] = 3
    assert (await session.run(w.echo, shared) == 3).all()
    session.share(shared)
    assert (await session.run(w.echo, shared) == 3).all()


async def test_a_worker_that_dies(session: offloop.ParallelSession) -> None:
    """The next worker gets what the one before it had."""
    shared = session.share(data())
    for _ in range(3):
        assert await session.run_parallel(np.sum, [shared, shared[1:]] * 2, chunk_size=1) == [shared.sum()] * 4
        for pid in session.statistics().workers:
            os.kill(pid, signal.SIGKILL)


async def test_shared_from_many_threads(session: offloop.ParallelSession) -> None:
    """Several threads share and release objects, one and the same too, while runs go on."""
    together = data()
    errors: list[BaseException] = []

    def go_on(seed: int) -> None:
        try:
            for step in range(30):
                mine = session.share(data(seed + step))
                session.share(together)
                assert session.release(mine)
                session.release(together)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=go_on, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    with anyio.fail_after(60):
        for _ in range(10):
            assert await session.run_parallel(np.sum, [together] * 3) == [together.sum()] * 3
        for thread in threads:
            await anyio.to_thread.run_sync(thread.join)
    assert not errors


async def test_two_sessions_share_one_object(session: offloop.ParallelSession) -> None:
    """Each has its own copy, and the end of one is nothing to the other."""
    shared = session.share(data())
    async with offloop.ParallelSession(strategy="processes", workers=1, transport=session.config.transport) as other:
        other.share(shared)
        assert await other.run(np.sum, shared) == await session.run(np.sum, shared) == shared.sum()
        assert other.release(shared)
        assert await other.run(np.sum, shared) == await session.run(np.sum, shared) == shared.sum()
        other.share(shared)
    assert await session.run(np.sum, shared) == shared.sum()


ODD: list[Any] = [None, 0, 1 << 100, "", b"", (), [], {}, "text", [None], np.zeros(0), np.array(3), len, int]


async def test_small_and_odd_things(session: offloop.ParallelSession) -> None:
    """Whatever is shared, once or twice, is itself and arrives as itself."""
    for thing in ODD:
        assert session.share(thing) is thing
        assert session.share(thing) is thing
        came = await session.run(w.echo, thing)
        assert type(came) is type(thing)
        assert np.array_equal(came, thing) if isinstance(thing, np.ndarray) else came == thing
    for thing in ODD:
        session.release(thing)
        assert not session.release(thing)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, RecursionError, MemoryError])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_what_cannot_be_pickled(session: offloop.ParallelSession, error: type[BaseException]) -> None:
    """Sharing it does no harm to anybody else, whatever its pickling raises; sending it tells why it can't be sent."""
    bad = session.share(w.FailsToPickle(error))
    good = session.share(data())
    with anyio.fail_after(30):
        assert await session.run(np.sum, good) == good.sum()
        assert await session.run(w.double, 21) == 42
        with pytest.raises(offloop.UnpicklableItem):
            await session.run(w.echo, bad)
        assert await session.run(np.sum, [good, good]) == 2 * good.sum()
    session.release(bad)


class Waits:
    """Something that takes its time to be pickled."""

    def __init__(self) -> None:
        self.array = data()
        self.came, self.may_go = threading.Event(), threading.Event()

    def __reduce__(self) -> Any:
        self.came.set()
        self.may_go.wait(20)
        return w.echo, (self.array,)


@pytest.mark.parametrize("kind", ["memory", "portable"])
async def test_closed_while_something_is_being_stored(anyio_backend: object, kind: str) -> None:
    """A session that is closed while a copy is made ends once that is over, and nothing of it is left."""
    before = leftovers.take()
    session = offloop.ParallelSession(strategy="processes", workers=1, transport=kind)
    slow = Waits()
    with anyio.fail_after(30):
        async with session:
            await session.warm()
            session.share(slow)
            await anyio.to_thread.run_sync(slow.came.wait)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.aclose)
                await anyio.wait_all_tasks_blocked()
                slow.may_go.set()
    with pytest.raises(offloop.SessionClosedError):
        session.share(slow)
    assert not await anyio.to_thread.run_sync(leftovers.found_since, before)


async def test_closed_with_shares(anyio_backend: object) -> None:
    """A session that is closed lets go of what it shares, and of all copies, though the objects live on."""
    before = leftovers.take()
    objects = [data(seed) for seed in range(5)]
    texts = {str(k): str(k) * 10 for k in range(50_000)}
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        for thing in (*objects, texts):
            session.share(thing)
        assert await session.run_parallel(np.sum, objects) == [thing.sum() for thing in objects]
        assert await session.run(len, texts) == 50_000
    assert not await anyio.to_thread.run_sync(leftovers.found_since, before)
    assert (objects[4] == data(4)).all()


async def test_a_fork_after_sharing(session: offloop.ParallelSession) -> None:
    """A child forked from here drops its copies of shared objects, and this process and its workers don't notice."""
    shared = session.share(data())
    assert await session.run(np.sum, shared) == shared.sum()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            session.release(shared)
            del shared
            gc.collect()
            status = 0
        finally:
            os._exit(status)
    _, status = await anyio.to_thread.run_sync(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert await session.run_parallel(np.sum, [shared] * 4, chunk_size=1) == [shared.sum()] * 4
    assert await session.run(np.sum, session.share(data(5))) == data(5).sum()


async def test_many_messages_leave_nothing_open(session: offloop.ParallelSession) -> None:
    """After 500 messages with files both ways neither side has one more descriptor, mapping or file than before."""
    array = np.ones(40_000)
    items = [array + k for k in range(100)]
    await session.run_parallel(w.double, items[:10], chunk_size=1)
    here = shortages.open_descriptors()
    there = [len(os.listdir(f"/proc/{pid}/fd")) for pid in session.statistics().workers]
    for _ in range(5):
        results = await session.run_parallel(w.double, items, chunk_size=1)
        assert [result[0] for result in results] == [2.0 + 2 * k for k in range(100)]
    del results
    with anyio.fail_after(10):
        while shortages.open_descriptors() > here:
            gc.collect()
            await anyio.sleep(0.005)
        for pid, count in zip(session.statistics().workers, there, strict=True):
            while len(os.listdir(f"/proc/{pid}/fd")) > count:
                await anyio.sleep(0.005)
