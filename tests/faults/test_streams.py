"""Streams whose consumer or whose source is at fault: bounded, in order, closed once, and the session lives."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

WORKERS = 2


@pytest.fixture(scope="module", params=["processes", "serial"])
async def session(anyio_backend: object, request: pytest.FixtureRequest) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy=request.param, workers=WORKERS, idle_timeout_s=600) as session:
        await w.start_all(session, request.param)
        yield session


class Source:
    """Numbers, counted as they are taken; it raises at the one that it is told to."""

    def __init__(self, raises_at: int | None = None) -> None:
        self.taken, self.closed, self.raises_at = 0, 0, raises_at

    def _next(self) -> int:
        if self.taken == self.raises_at:
            raise w.OwnError("the source is broken")
        self.taken += 1
        return self.taken - 1

    def plain(self) -> Iterator[int]:
        try:
            while True:
                yield self._next()
        finally:
            self.closed += 1

    async def waiting(self) -> AsyncIterator[int]:
        try:
            while True:
                await anyio.lowlevel.checkpoint()
                yield self._next()
        finally:
            self.closed += 1


Read = Callable[[Source], Any]
READS: dict[str, Read] = {"plain": Source.plain, "async": Source.waiting}
each_kind = pytest.mark.parametrize("read", READS.values(), ids=READS)


def log_and_loop_from_2(path: str, x: int) -> int:
    """Note the execution of an item; from the third on they never end by themselves."""
    w.append(f"{path}.all", x)
    if x >= 2:
        w.loop_until_cancelled(path)
    return x


async def works(session: offloop.ParallelSession) -> bool:
    """Whether a session serves calls, maps and streams."""
    async with session.stream(w.double, iter(range(10))) as results:
        streamed = [result async for result in results]
    return streamed == await session.run_parallel(w.double, range(10)) and await session.run(w.double, 1) == 2


@pytest.mark.fault(32)
@each_kind
async def test_a_consumer_that_raises(session: offloop.ParallelSession, tmp_path: Path, read: Read) -> None:
    """Its error comes out as itself; by then what ran has stopped, the source was closed once, and nothing more is begun."""
    source, path, error = Source(), f"{tmp_path}/run", w.OwnError("the consumer is broken")
    with anyio.fail_after(30):
        with pytest.raises(w.OwnError) as caught:
            async with session.stream(partial(log_and_loop_from_2, path), read(source), chunk_size=1) as results:
                assert [await anext(results) for _ in range(2)] == [0, 1]
                await w.appears(f"{path}.began")
                raise error
        assert caught.value is error
        assert source.closed == 1
        assert len(w.lines(Path(f"{path}.began"))) == len(w.lines(Path(f"{path}.stopped"))) <= WORKERS
        executed, taken = w.lines(Path(f"{path}.all")), source.taken
        assert await works(session)
        assert (w.lines(Path(f"{path}.all")), source.taken) == (executed, taken)
        assert len(executed) == len(set(executed)) <= taken


@pytest.mark.fault(33, 34)
@pytest.mark.parametrize("window", [None, 5])
@each_kind
async def test_a_consumer_that_pauses(session: offloop.ParallelSession, read: Read, window: int | None) -> None:
    """Of an endless source no more is read than the window ahead of it, however long it takes over a result."""
    source, chunk_size = Source(), 3
    ahead = window or 4 * WORKERS * chunk_size
    with anyio.fail_after(30):
        async with session.stream(w.double, read(source), window=window, chunk_size=chunk_size) as results:
            for done in range(30):
                assert await anext(results) == 2 * done
                if done % 10 == 0:  # all that can go on without it does
                    await session.run_parallel(w.double, range(50))
                    await anyio.wait_all_tasks_blocked()
                assert source.taken <= done + ahead
    assert source.closed == 1


@pytest.mark.fault(35)
@each_kind
async def test_a_source_that_raises(session: offloop.ParallelSession, tmp_path: Path, read: Read) -> None:
    """All items before that are executed, once each, and their results come first; then what it raised, as itself."""
    source, path, found = Source(raises_at=40), tmp_path / "log", []
    with anyio.fail_after(30):
        async with session.stream(partial(w.log_and_return, str(path)), read(source), chunk_size=3) as results:
            with pytest.raises(w.OwnError, match="the source is broken"):
                async for result in results:
                    found.append(result)
            assert [result async for result in results] == []
        assert found == list(range(40))
        assert sorted(map(int, w.lines(path))) == found
        assert source.closed == 1
        assert await works(session)


@pytest.mark.fault(36)
async def test_a_stream_that_is_never_left(session: offloop.ParallelSession) -> None:
    """Dropping it warns, stops what runs and closes its source; who iterates still is told, and the session lives."""
    source = Source()
    stream = session.stream(w.double, source.waiting(), window=5)
    results, beside = await stream.__aenter__(), stream._beside
    assert await anext(results) == 0
    with pytest.warns(ResourceWarning, match=r"double was never left"):
        del stream
        gc.collect()
    with anyio.fail_after(30):
        with pytest.raises(RuntimeError, match="async with"):
            async for _ in results:
                pass
        while not source.closed:
            await anyio.sleep(0.001)
    await beside.__aexit__(None, None, None)  # what an event loop holds for it
    assert (source.closed, session.statistics().pending) == (1, 0)
    assert source.taken <= 10
    assert await works(session)


@pytest.mark.fault(36)
async def test_a_session_that_ends_before_its_stream(anyio_backend: object) -> None:
    """Nothing of the stream outlives it: its iteration says that the session is closed."""
    source = Source()
    with anyio.fail_after(30):
        session = offloop.ParallelSession(strategy="processes", workers=1).open()
        async with session.stream(w.double, source.waiting(), window=3) as results:
            assert await anext(results) == 0
            await session.aclose()
            assert source.closed == 1
            with pytest.raises(offloop.SessionClosedError):
                async for _ in results:
                    pass
