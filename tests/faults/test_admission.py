"""What is taken in, and when: sources that never end or that raise, and calls whose time is over before their turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

WORKERS = 2


@pytest.fixture
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy="processes", workers=WORKERS) as session:
        yield session


class Source:
    """Numbers, counted as they are taken; it raises at the one that it is told to."""

    def __init__(self, raises_at: int | None = None) -> None:
        self.taken, self.closed, self.raises_at = 0, 0, raises_at

    def plain(self) -> Iterator[int]:
        try:
            while self.taken != self.raises_at:
                self.taken += 1
                yield self.taken - 1
            raise w.OwnError("the source is broken")
        finally:
            self.closed += 1

    async def waiting(self) -> AsyncIterator[int]:
        try:
            while self.taken != self.raises_at:
                await anyio.lowlevel.checkpoint()
                self.taken += 1
                yield self.taken - 1
            raise w.OwnError("the source is broken")
        finally:
            self.closed += 1


Read = Callable[[Source], Any]
READS: dict[str, Read] = {"plain": Source.plain, "async": Source.waiting}


@pytest.mark.fault(34)
@pytest.mark.parametrize("chunk_size", [1, 10])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_an_endless_source(session: offloop.ParallelSession, tmp_path: Path, read: Read, chunk_size: int) -> None:
    """No more of it is read than a few chunks for each worker; cancelled, the run has closed it, and the session lives."""
    source, path = Source(), f"{tmp_path}/log"
    await session.warm()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            run = partial(session.run_parallel, partial(w.log_and_wait, path), read(source), chunk_size=chunk_size)
            tasks.start_soon(run)
            await w.appears(path, WORKERS)
            for _ in range(100):  # nothing moves now, unless it is the source that is read
                await session.run(w.nothing, strategy="threads")
                await anyio.lowlevel.checkpoint()
            assert source.taken <= 4 * WORKERS * chunk_size
            tasks.cancel_scope.cancel()
        assert source.closed == 1
        assert await session.run_parallel(w.double, range(10)) == list(range(0, 20, 2))


@pytest.mark.fault(35)
@pytest.mark.parametrize("on_error", ["raise", "collect"])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_a_source_that_raises(session: offloop.ParallelSession, tmp_path: Path, read: Read, on_error: Any) -> None:
    """What it raises comes out as itself, no item is executed twice, and the session lives."""
    source, path = Source(raises_at=50), tmp_path / "log"
    with anyio.fail_after(30):
        with pytest.raises(w.OwnError, match="the source is broken"):
            await session.run_parallel(partial(w.log_and_return, str(path)), read(source), chunk_size=3, on_error=on_error)
        executed = w.lines(path)
        assert len(executed) == len(set(executed)) <= 50
        assert source.closed == 1
        assert await session.run_parallel(w.double, range(10)) == list(range(0, 20, 2))
        assert w.lines(path) == executed


@pytest.mark.fault(68)
@pytest.mark.parametrize("strategy", ["processes", "serial"])
async def test_a_deadline_that_passes_in_the_queue(anyio_backend: object, tmp_path: Path, strategy: Any) -> None:
    """A call whose time is over before its turn is never started, and who comes after it has its turn."""
    path = f"{tmp_path}/log"
    late = 0

    async def too_late(number: int) -> None:
        nonlocal late
        with anyio.move_on_after(0.02) as scope:
            await session.run(w.log_and_return, path, f"late{number}")
        late += scope.cancelled_caught

    async with offloop.ParallelSession(strategy=strategy, workers=1) as session:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.run, w.log_and_wait, path, 1)
                await w.appears(path)
                async with anyio.create_task_group() as waiting:
                    for number in range(20):
                        waiting.start_soon(too_late, number)
                Path(f"{path}.go").touch()
            assert await session.run(w.log_and_return, path, "last") == "last"
    assert late == 20
    assert w.lines(Path(path)) == ["1", "last"]
