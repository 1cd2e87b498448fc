"""A call is cancelled at every step of a large message: afterwards nothing of it is left, and the next one works."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest

import leftovers
import offloop
import workloads as w
from offloop.wire.memory import MemoryFile

pytestmark = pytest.mark.anyio

MIB = 1 << 20
LIMIT = 512 * MIB


@pytest.fixture(scope="module", params=["memory", "file", "portable"])
async def session(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    kind = request.param
    async with offloop.ParallelSession(
        strategy="processes", workers=2, transport=kind, max_in_flight_bytes=LIMIT
    ) as session:
        await w.start_all(session, "processes")
        await session.run_parallel(w.double, [np.zeros(MIB)] * 4, chunk_size=1)
        yield session


def names(session: offloop.ParallelSession) -> list[str]:
    """Return what is in the session's folder, if it has one."""
    folder = session._folder
    return [] if folder is None else [name for name in os.listdir(folder.path) if not name.startswith(".")]


@pytest.fixture
async def untouched(session: offloop.ParallelSession) -> AsyncIterator[None]:
    """Fail where a test leaves something in flight, stored, mapped or open, or a session that doesn't work."""
    workers, before = session.statistics().workers, leftovers.take()
    yield
    with anyio.fail_after(30):
        array = np.arange(MIB)
        assert (await session.run(w.double, array) == 2 * array).all()
        if session.statistics().workers == workers:  # else there are others, and nothing to compare with
            found = await anyio.to_thread.run_sync(leftovers.found_since, before)
            assert not found
        while session._outgoing.bytes_in_flight or names(session):
            gc.collect()
            await anyio.sleep(0.005)


class Gate:
    """Something passes here in a thread: it says that it has come, and goes on when it is let."""

    def __init__(self) -> None:
        self._came, self._may_go = threading.Event(), threading.Event()

    def stop_here(self) -> None:
        self._came.set()
        self._may_go.wait(30)

    def open(self) -> None:
        self._may_go.set()

    async def comes(self) -> None:
        with anyio.fail_after(20):
            while not self._came.is_set():
                await anyio.sleep(0.001)


gate = Gate()


@pytest.fixture(autouse=True)
def fresh_gate() -> Iterator[None]:
    global gate
    gate = Gate()
    yield
    gate.open()


async def cancelled(call: Awaitable[Any], then: Callable[[], Awaitable[Any]]) -> None:
    """Cancel a call as soon as it has come to the gate."""
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:

            async def go() -> None:
                await call

            tasks.start_soon(go)
            await then()
            tasks.cancel_scope.cancel()


class StopsInPickling:
    """An item that stops at the gate while it is pickled."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __reduce__(self) -> Any:
        gate.stop_here()
        return w.echo, (self.array,)


def both(session: offloop.ParallelSession, is_map: bool, fn: Callable[[Any], Any], item: Any) -> Awaitable[Any]:
    """Return a call, or a map over several of the same item."""
    return session.run_parallel(fn, [item] * 3, chunk_size=1, grace_s=10) if is_map else session.run(fn, item, grace_s=10)


@pytest.fixture(params=[False, True], ids=["call", "map"])
def is_map(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_while_pickling(session: offloop.ParallelSession, untouched: None, is_map: bool) -> None:
    """While an item's own __reduce__ takes its time."""
    await cancelled(both(session, is_map, len, StopsInPickling(np.zeros(MIB))), gate.comes)
    gate.open()


async def test_while_storing(
    session: offloop.ParallelSession, untouched: None, is_map: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its 64 MB are written."""
    really = MemoryFile.write

    def write(*args: Any) -> None:
        gate.stop_here()
        really(*args)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFile, "write", write)
        await cancelled(both(session, is_map, len, np.ones(64 * MIB, np.uint8)), gate.comes)
    gate.open()


async def test_while_waiting_for_its_turn(
    session: offloop.ParallelSession, untouched: None, is_map: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others have as much in flight as may be."""
    with monkeypatch.context() as patch:
        patch.setattr(session._outgoing, "_limit_bytes", MIB)
        load = await session._outgoing.admit(MIB)
        waits, really = anyio.Event(), session._outgoing.admit

        async def admit(n_bytes: int) -> object:
            waits.set()
            return await really(n_bytes)

        patch.setattr(session._outgoing, "admit", admit)

        async def it_waits() -> None:
            await waits.wait()

        await cancelled(both(session, is_map, len, np.ones(2 * MIB, np.uint8)), it_waits)
        assert session._outgoing.bytes_in_flight == MIB
        del load


def hold(path: str, array: Any) -> int:
    """Say that an item runs, with an array, and go on until cancelled."""
    if array[-1] != 1:
        raise ValueError(array)
    w.append(f"{path}.running", os.getpid())
    end = time.monotonic() + 30
    while time.monotonic() < end:
        offloop.checkpoint()
        time.sleep(0.001)
    return len(array)


async def test_while_it_runs(session: offloop.ParallelSession, untouched: None, is_map: bool, tmp_path: Path) -> None:
    """While it runs with what was mapped for it."""
    path = str(tmp_path / "item")
    call = both(session, is_map, partial(hold, path), np.ones(8 * MIB, np.uint8))
    await cancelled(call, lambda: w.appears(f"{path}.running"))


async def test_while_a_result_is_taken_in(
    session: offloop.ParallelSession, untouched: None, is_map: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its result is being mapped."""
    really = MemoryFile.read if session.config.transport != "memory" else MemoryFile.view
    name = really.__name__

    def stops(*args: Any) -> memoryview:
        gate.stop_here()
        return really(*args)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFile, name, stops)
        await cancelled(both(session, is_map, np.ones, 2 * MIB), gate.comes)
        gate.open()


async def test_at_any_moment(session: offloop.ParallelSession, untouched: None, is_map: bool) -> None:
    """Whenever it is, with arrays on their way in both directions."""
    array = np.ones(4 * MIB, np.uint8)
    with anyio.fail_after(60):
        for step in range(25):
            with anyio.move_on_after(0.001 * step):
                await both(session, is_map, w.double, array)
            assert await session.run(w.double, step) == 2 * step
