"""Workers and user code that do to memory what they should not: nobody else sees it, and no SIGBUS in the parent."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import AsyncIterator
from typing import Any

import anyio
import numpy as np
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

MIB = 1 << 20


@pytest.fixture(scope="module", params=["memory", "file", "portable"])
async def session(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy="processes", workers=2, transport=request.param) as session:
        await w.start_all(session, "processes")
        yield session


_kept: list[Any] = []


def write_all_over(array: Any) -> int:
    """Write to what is mapped, and keep it."""
    sums = [int(kept.sum()) for kept in _kept]
    if array.min() != 1 or any(total != 7 * MIB for total in sums):
        raise ValueError((array.min(), sums))
    array[:] = 7
    _kept.append(array[: MIB])
    try:
        array.resize(10)
    except ValueError:  # it doesn't own its memory
        pass
    return len(_kept)


async def test_what_is_written_is_seen_by_nobody(session: offloop.ParallelSession) -> None:
    """What an item writes to its array, and keeps, no other item sees, nor the next call, nor this process."""
    array = np.ones(4 * MIB, np.uint8)
    shared = session.share(np.ones(4 * MIB, np.uint8))
    frozen = np.ones(4 * MIB, np.uint8)
    for _ in range(3):
        await session.run_parallel(write_all_over, [array] * 4, chunk_size=2)
        await session.run_parallel(write_all_over, [shared] * 4, chunk_size=2)
        await session.run_parallel(write_all_over, (frozen for _ in range(4)))
        await session.run(write_all_over, shared)
    assert [int(kept.sum()) for kept in (array, shared, frozen)] == [4 * MIB] * 3


def same_twice(array: Any) -> Any:
    array += 1
    return array, array[MIB:]


async def test_results_are_ones_own(session: offloop.ParallelSession) -> None:
    """What comes back may be written to; results that share memory in the worker don't here, across items."""
    results = await session.run_parallel(same_twice, [np.zeros(4 * MIB, np.uint8)] * 4)
    for k, (whole, part) in enumerate(results):
        assert (whole == 1).all()
        whole[:] = k + 10
        part[:] = k + 10
    assert [int(whole[0]) for whole, _ in results] == [10, 11, 12, 13]


def harm_own_files() -> list[str]:
    """Truncate, grow and overwrite every memory file that this worker still has open; say how that went."""
    found = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            place = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if "memfd:offloop" in place and "status" not in place:
            for act in (lambda fd=fd: os.ftruncate(fd, 0), lambda fd=fd: os.pwrite(fd, b"x", 0)):
                try:
                    act()
                    found.append("harmed")
                except OSError as error:
                    found.append(errno.errorcode[error.errno])
    return found


def with_harmful_thread(_: Any) -> Any:
    """Return an array, while a thread goes on trying to harm the file that it travels in."""
    import threading

    def go_on() -> None:
        for _ in range(300):
            _outcomes.update(harm_own_files())

    threading.Thread(target=go_on, daemon=True).start()
    return np.ones(4 * MIB, np.uint8)


_outcomes: set[str] = set()


async def test_a_worker_that_truncates_what_it_sends(session: offloop.ParallelSession) -> None:
    """A file that is truncated as it is written and sent is an item's failure, or whole; this process lives on."""
    results = await session.run_parallel(with_harmful_thread, range(12), chunk_size=1, on_error="collect")
    for result in results:
        if isinstance(result, np.ndarray):
            assert len(result) == 4 * MIB
            assert int(result.sum()) >= 0
    assert await session.run(w.double, 21) == 42


def send_unsealed() -> None:
    """Be the worker_init of workers that don't seal, and cut what they have sent to half its length a moment later."""
    import offloop.wire.memory as memory
    from offloop.worker.channel import Channel

    memory._SEALS = 0
    really = Channel.write

    def write(self: Any, header: Any, pieces: Any, file: Any = None) -> None:
        really(self, header, pieces, file)
        if file is not None:
            for fd in file.fds:
                os.ftruncate(fd, file.size // 2)

    Channel.write = write  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", ["memory", "file", "portable"])
async def test_a_worker_that_sends_what_it_then_cuts(anyio_backend: object, kind: str) -> None:
    """What isn't sealed is copied out: whole if that was quick enough, else the item fails; never a SIGBUS."""
    async with offloop.ParallelSession(
        strategy="processes", workers=2, transport=kind, worker_init=send_unsealed
    ) as session:
        with anyio.fail_after(40):
            results = await session.run_parallel(np.ones, [MIB] * 20, chunk_size=1, on_error="collect")
            for result in results:
                assert isinstance(result, offloop.UnpicklableResult) or (result == 1).all()
            assert await session.run(w.double, 21) == 42


def lie_about_length() -> None:
    """Be the worker_init of workers whose messages refer to more than is in their files."""
    import offloop.wire.buffers as buffers

    really = buffers.Packer._append

    def append(self: Any, raw: Any) -> Any:
        return really(self, raw)._replace(n_bytes=raw.nbytes + 100 * mmap.PAGESIZE)

    buffers.Packer._append = append  # type: ignore[method-assign]


async def test_a_worker_that_lies_about_lengths(anyio_backend: object) -> None:
    """References beyond the end of a file fail their item; they are never mapped."""
    async with offloop.ParallelSession(strategy="processes", workers=1, worker_init=lie_about_length) as session:
        with pytest.raises(offloop.UnpicklableResult):
            await session.run(np.ones, MIB)
        assert await session.run(w.double, 21) == 42
