"""Messages of any size, in both directions, whatever else the loop does."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator

import anyio
import psutil
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

GIB = 1 << 30


@pytest.fixture
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        yield session


@pytest.mark.parametrize("size", [0, 1, 99_999, 100_001, 1 << 16, (1 << 20) - 1, 1 << 20, 50_000_000])
@pytest.mark.fault(24)
async def test_bytes_of_any_size_return_as_they_were(session: offloop.ParallelSession, size: int) -> None:
    """From nothing to 50 MB, there and back."""
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    with anyio.fail_after(30):
        assert await session.run(w.echo, data) == data


async def test_large_messages_under_a_busy_loop(session: offloop.ParallelSession) -> None:
    """50 MB in and out arrive also where other tasks leave the loop little time."""
    is_done = False

    async def busy() -> None:
        while not is_done:
            # Longer than CPython's switch interval of 5 ms: a loop that lets go of the GIL more often than that, but
            # each time only for microseconds, starves every other thread of the process for good.
            end = time.perf_counter() + 0.02
            while time.perf_counter() < end:
                pass
            await anyio.sleep(0)

    data = [bytes([i]) * 50_000_000 for i in range(2)]
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(busy)
            results = await session.run_parallel(w.echo, data)
            is_done = True
    assert [hashlib.sha256(r).digest() for r in results] == [hashlib.sha256(d).digest() for d in data]


async def test_cancelling_in_mid_message_leaves_the_lane_clean(session: offloop.ParallelSession) -> None:
    """Whenever a large message is broken off, later calls get their own answers."""
    data = bytes(30_000_000)
    with anyio.fail_after(60):
        for step in range(12):
            with anyio.move_on_after(0.005 * step):
                await session.run(w.echo, data, grace_s=0.5)
            assert await session.run(w.echo, step) == step


@pytest.mark.big
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.fault(24)
async def test_more_than_two_gibibytes(session: offloop.ParallelSession) -> None:
    """A single item beyond 2**31 bytes travels."""
    available = psutil.virtual_memory().available
    if available < 14 * GIB:
        pytest.skip(f"needs 14 GiB of memory, {available / GIB:.1f} GiB are available")
    size = 2**31 + 10
    with anyio.fail_after(100):
        assert await session.run(len, bytes(size)) == size
