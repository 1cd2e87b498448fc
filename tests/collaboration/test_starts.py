"""A pool whose lanes won't start, or die as soon as they are leased: it pauses, gives up, and leaves nothing behind."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from offloop.deciding import starting
from offloop.deciding.starting import FIRST_S, FREE_LOSSES, TRIES
from offloop.errors import SessionClosedError, WorkerStartError
from offloop.pool.lease import PooledBackend
from offloop.pool.pool import Pool
from offloop.pool.pooled import StartAgain

pytestmark = pytest.mark.anyio


class FakeLane:
    """A lane that does nothing."""

    def __init__(self) -> None:
        self.loop: Any = None
        self.in_flight: deque[Any] = deque()
        self.is_usable = self.is_empty = True
        self.has_served: bool | None = None

    def tidy(self) -> None: ...

    def kill(self) -> None:
        self.is_usable = False

    def close(self) -> None: ...


class Starter:
    """Starts fake lanes, or fails in the way that is next in line."""

    def __init__(self) -> None:
        self.failures: deque[Exception] = deque()
        self.begun: list[float] = []
        self.failed = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self, breakable: Callable[[Callable[[], object]], None]) -> FakeLane:
        self.begun.append(time.monotonic())
        self.may_end.wait()
        if self.failures:
            self.failed.set()
            raise self.failures.popleft()
        return FakeLane()

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.begun)]


def short() -> StartAgain:
    return StartAgain(lambda tries: WorkerStartError(f"no room, {tries} times"))


def refuse(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.fixture
def starter() -> Starter:
    return Starter()


@pytest.fixture
async def backend(starter: Starter, anyio_backend: object) -> AsyncIterator[PooledBackend[Any]]:
    pool: Pool[Any] = Pool(starter, lambda lane: None, 3, "start-fake", lambda lane: lane.has_served)
    backend = PooledBackend(pool, is_remote=True)
    with anyio.fail_after(30):
        try:
            yield backend
        finally:
            starter.may_end.set()
            await backend.aclose()


async def lease(backend: PooledBackend[Any], served: bool | None = True) -> FakeLane:
    """Lease a lane and give it back after it was of use, or has died without that."""
    async with backend.lease(1.0) as lane:
        lane.has_served = served
        lane.is_usable = served is not False
    return lane


async def test_a_start_is_tried_again(backend: PooledBackend[Any], starter: Starter) -> None:
    """Two failures are nobody's business but take their pauses; the third try serves who waits."""
    starter.failures.extend([short(), short()])
    assert (await lease(backend)).is_usable
    assert [gap >= pause for gap, pause in zip(starter.gaps, (FIRST_S, 2 * FIRST_S), strict=True)] == [True, True]


async def test_three_failures_are_told(backend: PooledBackend[Any], starter: Starter) -> None:
    """With no lane at all, who waits is told after three tries, and how many these were."""
    starter.failures.extend([short() for _ in range(TRIES)])
    with pytest.raises(WorkerStartError, match="no room, 3 times"):
        await lease(backend)
    assert len(starter.begun) == TRIES
    await lease(backend)  # begins anew, and there is room now


async def test_all_who_wait_are_told(backend: PooledBackend[Any], starter: Starter) -> None:
    """Several callers make one row of tries, not one each, and each is told; none waits for ever."""
    starter.failures.extend([short() for _ in range(50)])
    starter.may_end.clear()
    told = []

    async def call() -> None:
        try:
            await lease(backend)
        except WorkerStartError as error:
            told.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(call)
        while len(starter.begun) < 3 or len(backend.pool._line) < 10:
            await anyio.lowlevel.checkpoint()
        starter.may_end.set()
    assert len(told) == 10
    assert len(starter.begun) == 3 + (TRIES - 1)  # three at the same time, before anything was known; then one at a time


async def test_calls_in_a_loop_do_not_spin(backend: PooledBackend[Any], starter: Starter) -> None:
    """However often somebody asks a pool that can't start lanes, the pauses between the tries go on growing."""
    starter.failures.extend([short() for _ in range(5)])
    for _ in range(2):
        try:
            await lease(backend)
        except WorkerStartError:
            continue
    pauses = [FIRST_S * 2**k for k in range(5)]
    assert [gap >= pause for gap, pause in zip(starter.gaps, pauses, strict=True)] == [True] * 5


async def test_what_is_final_is_told_at_once(backend: PooledBackend[Any], starter: Starter) -> None:
    """An error that trying again can't help is told after the first try, as it is; the next call pauses before its own."""
    starter.failures.extend([ValueError("wrong"), ValueError("wrong again")])
    for text in ("wrong$", "wrong again"):
        with pytest.raises(ValueError, match=text):
            await lease(backend)
    assert len(starter.begun) == 2
    assert starter.gaps[0] >= FIRST_S


async def test_fewer_lanes_are_fine(backend: PooledBackend[Any], starter: Starter) -> None:
    """Where one lane is up, others that can't be started are told to nobody: it serves all who wait."""
    async with backend.lease(1.0) as lane:
        lane.has_served = True
        starter.failures.extend([short() for _ in range(50)])
        served = []

        async def call() -> None:
            served.append(await lease(backend))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(call)
            await anyio.to_thread.run_sync(starter.failed.wait)
            await backend.pool.give_back(lane, None, 1.0)
    assert served == [lane] * 5


async def test_an_order_for_more_is_told(backend: PooledBackend[Any], starter: Starter) -> None:
    """Whoever asked for lanes to be up is told if they can't be, though one is."""
    await lease(backend)
    starter.failures.extend([short() for _ in range(TRIES)])
    with pytest.raises(WorkerStartError, match="3 times"):
        await backend.pool.grow_to(2)
    await backend.pool.grow_to(3)
    assert len(backend.pool.lanes) == 3


async def test_closing_does_not_wait_for_a_pause(
    backend: PooledBackend[Any], starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool that is closed while it pauses ends the pause, and who waits is told that it is closed."""
    monkeypatch.setattr(starting, "FIRST_S", 1000.0)
    monkeypatch.setattr(starting, "MOST_S", 1000.0)
    starter.failures.append(short())

    async def call() -> None:
        with pytest.raises(SessionClosedError):
            await lease(backend)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.to_thread.run_sync(starter.failed.wait)
        await backend.aclose()
    assert len(starter.begun) == 1


async def test_nobody_starts_for_those_who_left(backend: PooledBackend[Any], starter: Starter) -> None:
    """A caller that is cancelled during a pause leaves no start behind that is still to come."""
    starter.failures.append(short())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lease, backend)
        await anyio.to_thread.run_sync(starter.failed.wait)
        tasks.cancel_scope.cancel()
    for thread in backend.pool._starts.threads:
        await anyio.to_thread.run_sync(thread.join)
    assert len(starter.begun) == 1
    assert not backend.pool.lanes
    await lease(backend)


async def test_no_room_for_a_thread(
    backend: PooledBackend[Any], starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started to start a lane in, who waits is told; later it works."""
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(WorkerStartError, match="can't start new thread"):
            await lease(backend)
    assert starter.begun == []
    await lease(backend)


async def test_no_room_for_a_thread_to_end_a_lane_in(
    starter: Starter, monkeypatch: pytest.MonkeyPatch, anyio_backend: object
) -> None:
    """A lane for whose end no thread can be had is waited for when the pool is closed."""
    ended: list[FakeLane] = []
    pool: Pool[Any] = Pool(starter, ended.append, 1, "start-fake")
    lane = await pool.acquire(None, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        pool.discard(lane)
    assert ended == []
    pool.close()
    assert ended == [lane]


async def test_lanes_that_die_at_once_do_not_spin(backend: PooledBackend[Any], starter: Starter) -> None:
    """Lanes that die before they have served are replaced at once a few times, then after pauses; one that serves ends that."""
    for _ in range(FREE_LOSSES + 3):
        await lease(backend, served=False)
    await lease(backend, served=True)
    gaps = starter.gaps[FREE_LOSSES:]
    assert [gap >= pause for gap, pause in zip(gaps, (FIRST_S, 2 * FIRST_S, 4 * FIRST_S), strict=True)] == [True] * 3
    assert backend.pool._trouble is starting.CALM


async def test_lanes_that_were_ended_on_purpose_are_no_trouble(backend: PooledBackend[Any], starter: Starter) -> None:
    """A lane that was killed before it served, for a cancel say, is replaced at once, however often."""
    for _ in range(3 * FREE_LOSSES):
        async with backend.lease(1.0) as lane:
            lane.kill()
    assert backend.pool._trouble is starting.CALM
