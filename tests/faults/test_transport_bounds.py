"""What is too large for memory is refused before anything is sent; what is in flight stays within its limit."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest

import offloop
import shortages
import workloads as w
from offloop import outgoing
from offloop.outgoing import Outgoing

pytestmark = pytest.mark.anyio

MIB = 1 << 20
FREE, TOO_MUCH = 4 * MIB, 8 * MIB
LIMIT = 8 * MIB


def waits_with(path: str, array: Any) -> int:
    """Note which process holds an array, and wait until the file ``path.go`` is there."""
    w.append(path, os.getpid())
    end = time.monotonic() + 30
    while not os.path.exists(f"{path}.go") and time.monotonic() < end:
        offloop.checkpoint()
        time.sleep(0.001)
    return len(array)


def max_slowly(array: Any) -> Any:
    """Take long enough for the next ones to arrive."""
    time.sleep(0.02)
    return array.max()


async def nothing_in_flight(session: offloop.ParallelSession) -> None:
    with anyio.fail_after(10):
        while session._outgoing.bytes_in_flight:
            await anyio.sleep(0.002)
            gc.collect()


# --- too large for memory ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["memory", "portable"])
async def session(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy="processes", workers=2, transport=request.param) as session:
        await w.start_all(session, "processes")
        yield session


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have memory seem to hold 4 MiB more, and no more."""
    monkeypatch.setattr(outgoing, "memory_headroom", lambda _: FREE)
    monkeypatch.setattr(outgoing, "_LEAST_BYTES", MIB)


def too_large() -> Any:
    return np.zeros(TOO_MUCH, np.uint8)


def check(error: BaseException) -> None:
    assert isinstance(error, offloop.PayloadTooLarge)
    assert (error.needed_bytes, error.available_bytes) == (TOO_MUCH, FREE)
    assert f"{TOO_MUCH:,}" in str(error)
    assert f"{FREE:,}" in str(error)


@pytest.mark.fault(24)
async def test_an_item_that_is_too_large(session: offloop.ParallelSession, little_memory: None) -> None:
    """It alone fails, with both numbers; its neighbours, large ones too, have their results."""
    items = [np.full(2 * MIB, 1, np.uint8), too_large(), 7, np.full(3 * MIB, 2, np.uint8)]
    before = shortages.open_descriptors()
    results = await session.run_parallel(np.max, items, on_error="collect")
    check(results.pop(1))
    assert results == [1, 7, 2]
    await nothing_in_flight(session)
    assert shortages.open_descriptors() == before
    assert await session.run(w.double, 21) == 42


async def test_several_that_are_too_large_together(session: offloop.ParallelSession, little_memory: None) -> None:
    """Items for which there is no room at a time go one by one."""
    items = [np.full(3 * MIB, k, np.uint8) for k in range(4)]
    assert await session.run_parallel(np.max, items, chunk_size=4) == [0, 1, 2, 3]


async def test_one_too_large_ends_a_run(session: offloop.ParallelSession, little_memory: None) -> None:
    """Where the first failure ends the run, this one does; the session is as it was."""
    with pytest.raises(offloop.PayloadTooLarge) as caught:
        await session.run_parallel(np.max, [too_large(), 1, 2])
    check(caught.value)
    await nothing_in_flight(session)
    assert await session.run_parallel(w.double, range(20)) == [2 * x for x in range(20)]


@pytest.mark.fault(24)
async def test_an_argument_that_is_too_large(session: offloop.ParallelSession, little_memory: None) -> None:
    """A single call raises the error itself, and the next one goes well."""
    for _ in range(3):
        with pytest.raises(offloop.PayloadTooLarge) as caught:
            await session.run(w.add, 1, too_large())
        check(caught.value)
    await nothing_in_flight(session)
    assert await session.run(w.add, 1, 2) == 3


@pytest.mark.fault(24)
async def test_too_large_in_fn(session: offloop.ParallelSession, little_memory: None) -> None:
    """What is bound in fn is refused as well, before an item was sent."""
    bound = partial(w.add, too_large())
    with pytest.raises(offloop.PayloadTooLarge) as caught:
        await session.run_parallel(bound, range(10))
    check(caught.value)
    with pytest.raises(offloop.PayloadTooLarge):
        await session.run(bound, 1)
    await nothing_in_flight(session)
    assert await session.run(partial(w.add, 1), 2) == 3


async def test_too_large_to_share(
    session: offloop.ParallelSession, little_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sharing what is too large fails where it is used; once there is room it is used like any other object."""
    big = session.share(too_large())
    for _ in range(2):
        with pytest.raises(offloop.PayloadTooLarge):
            await session.run(len, big)
    assert await session.run(w.double, 21) == 42
    monkeypatch.undo()
    assert await session.run(len, big) == TOO_MUCH
    session.release(big)
    await nothing_in_flight(session)


# --- bytes in flight ---------------------------------------------------------------------------------------------------


class Watch:
    """What was admitted: how large it was, and what was in flight with it at that moment."""

    def __init__(self) -> None:
        self.admitted: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def check(self) -> None:
        assert all(total <= max(LIMIT, n_bytes) for n_bytes, total in self.admitted), self.admitted


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """See all that is admitted; bytes in flight grow at no other moment."""
    watch, really = Watch(), Outgoing.admit

    async def admit(self: Outgoing, n_bytes: int) -> object:
        load = await really(self, n_bytes)
        watch.admitted.append((n_bytes, self.bytes_in_flight))
        return load

    monkeypatch.setattr(Outgoing, "admit", admit)
    yield watch
    watch.check()
    assert watch.admitted


@pytest.fixture(scope="module")
async def limited(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy="processes", workers=2, max_in_flight_bytes=LIMIT) as session:
        await w.start_all(session, "processes")
        yield session


def arrays(n_bytes: int, count: int) -> Iterator[Any]:
    return (np.full(n_bytes, k, np.uint8) for k in range(count))


async def test_never_more_in_flight(limited: offloop.ParallelSession, watch: Watch) -> None:
    """However many items there are, those under way are together within the limit."""
    with anyio.fail_after(60):
        assert await limited.run_parallel(np.max, arrays(3 * MIB, 100)) == list(range(100))
    assert max(total for _, total in watch.admitted) <= LIMIT
    await nothing_in_flight(limited)


async def test_larger_than_the_limit(limited: offloop.ParallelSession, watch: Watch) -> None:
    """An item that is larger by itself goes when nothing else is in flight."""
    items = [np.full((12 if k % 4 == 1 else 2) * MIB, k, np.uint8) for k in range(12)]
    with anyio.fail_after(60):
        assert await limited.run_parallel(np.max, items, chunk_size=1) == list(range(12))
    assert [total for n_bytes, total in watch.admitted if n_bytes > LIMIT] == [12 * MIB] * 3
    await nothing_in_flight(limited)


@pytest.mark.parametrize("n_bytes", [5 * MIB, 12 * MIB])
async def test_several_runs_at_a_time(limited: offloop.ParallelSession, watch: Watch, n_bytes: int) -> None:
    """Runs that can only go by turns don't block each other."""
    with anyio.fail_after(60):
        calls = [limited.run_parallel(np.max, arrays(n_bytes, 10)) for _ in range(4)]
        singles = [limited.run(np.max, np.full(n_bytes, k, np.uint8)) for k in range(4)]
        assert await w.gather(*calls, *singles) == [list(range(10))] * 4 + [0, 1, 2, 3]
    await nothing_in_flight(limited)


async def test_a_large_item_has_its_turn(limited: offloop.ParallelSession, watch: Watch) -> None:
    """An item that must go alone gets there though others keep coming."""

    async def others(scope: anyio.CancelScope) -> None:
        with scope:
            await limited.run_parallel(max_slowly, map(np.full, repeat(2 * MIB), repeat(1)), chunk_size=1)

    scope = anyio.CancelScope()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(others, scope)
            while len(watch.admitted) < 4:
                await anyio.sleep(0.001)
            assert await limited.run(np.max, np.full(12 * MIB, 7, np.uint8)) == 7
            scope.cancel()
    await nothing_in_flight(limited)


async def test_cancelled_while_waiting(limited: offloop.ParallelSession, watch: Watch, tmp_path: Path) -> None:
    """Who is cancelled while waiting for its turn leaves the turn to the next."""
    path = str(tmp_path / "held")
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(limited.run, waits_with, path, np.zeros(7 * MIB, np.uint8))
            await w.appears(path)
            for _ in range(20):
                with anyio.move_on_after(0.01):
                    await limited.run(np.max, np.full(6 * MIB, 1, np.uint8))
            assert len(watch.admitted) == 1
            Path(f"{path}.go").touch()
        assert await limited.run(np.max, np.full(6 * MIB, 9, np.uint8)) == 9
    await nothing_in_flight(limited)


async def test_killed_while_others_wait(anyio_backend: object, watch: Watch, tmp_path: Path) -> None:
    """A worker that dies with an item gives way to those who wait, and the item is run again."""
    path = str(tmp_path / "held")
    async with offloop.ParallelSession(strategy="processes", workers=2, max_in_flight_bytes=LIMIT) as limited:
        await killed_while_others_wait(limited, path)


async def killed_while_others_wait(limited: offloop.ParallelSession, path: str) -> None:
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(limited.run, waits_with, path, np.zeros(7 * MIB, np.uint8))
            await w.appears(path)
            calls = [limited.run(np.max, np.full(6 * MIB, k, np.uint8)) for k in range(3)]

            async def kill() -> None:
                pid = int(w.lines(Path(path))[0])
                os.kill(pid, signal.SIGKILL)
                await w.appears(path, 2)
                Path(f"{path}.go").touch()

            tasks.start_soon(kill)
            assert await w.gather(*calls) == [0, 1, 2]
    await nothing_in_flight(limited)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_never_more_in_flight_from_several_threads(anyio_backend: str, watch: Watch) -> None:
    """Event loops in several threads that use one session keep to its limit together."""
    results: list[Any] = []
    async with offloop.ParallelSession(strategy="processes", workers=2, max_in_flight_bytes=LIMIT) as session:

        def use() -> None:
            results.append(anyio.run(partial(session.run_parallel, np.max, list(arrays(3 * MIB, 12)))))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(anyio.to_thread.run_sync, use)
    assert results == [list(range(12))] * 3
