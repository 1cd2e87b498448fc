"""What `progress=` tells of a run, on every strategy."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import numpy as np
import pytest

import offloop
import workloads as w
from offloop import ProgressEvent
from offloop.events import RunFinished

pytestmark = pytest.mark.anyio


class Told:
    """Keeps what it is told, and lets items go on that wait for a file once something is so.

    Args:
        path: That file's name, without its end.
        is_so: What they wait for.
    """

    def __init__(self, path: Path, is_so: Callable[[ProgressEvent], object]) -> None:
        self.events: list[ProgressEvent] = []
        self.seen: ProgressEvent | None = None
        self._path, self._is_so = path, is_so

    def __call__(self, event: ProgressEvent) -> None:
        self.events.append(event)
        if not event.is_last and self.seen is None and self._is_so(event):
            self.seen = event
            self._path.with_name(f"{self._path.name}.go").touch()


async def test_items_are_counted_within_a_chunk(session: offloop.ParallelSession, strategy: str, tmp_path: Path) -> None:
    """Of ten items in one chunk, seven are done while the eighth executes, before the chunk has told of any."""
    told = Told(tmp_path / "it", lambda event: event.n_done == 7)
    results = await session.run_parallel(
        partial(w.wait_at, str(tmp_path / "it"), 7), range(10), chunk_size=10, progress=told, label="ten"
    )
    assert results == list(range(10))
    seen, last = told.seen, told.events[-1]
    assert seen is not None
    assert (seen.strategy, seen.n_items, seen.n_failed, seen.fraction, seen.label) == (strategy, 10, 0, 0.7, "ten")
    assert "wait_at" in seen.fn
    assert (last.n_done, last.fraction, last.eta_s, last.is_last) == (10, 1.0, 0.0, True)
    assert [event.is_last for event in told.events].count(True) == 1
    counts = [event.n_done for event in told.events]
    assert counts == sorted(counts)
    assert all(0 <= event.utilisation_pct <= 100 for event in told.events)


@pytest.mark.one_loop
async def test_tiny_items_are_counted_too(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """The count is exact also where an item that takes long stands among thousands that take no time."""
    path = tmp_path / "it"
    told = Told(path, lambda event: event.n_done == 40_000)
    await session.run_parallel(partial(w.wait_at, str(path), 40_000), range(50_000), chunk_size=50_000, progress=told)
    assert told.seen is not None


async def test_a_call_says_how_far_it_is(session: offloop.ParallelSession, strategy: str, tmp_path: Path) -> None:
    """What a single call says by `report_progress` is its share; the next one's begins at nothing."""
    for fraction in (0.25, 0.125):
        path = tmp_path / f"{fraction}"
        told = Told(path, lambda event, share=fraction: event.fraction == pytest.approx(share, abs=1e-6))
        if strategy == "threads":
            await session.run_parallel(w.report_and_wait, [str(path)], progress=told) if fraction == 0.25 else path.touch()
            continue
        await session.run(w.report_and_wait, str(path), fraction, progress=told)
        assert told.seen is not None
        assert (told.seen.n_items, told.seen.n_done) == (1, 0)
        assert (told.events[-1].n_done, told.events[-1].fraction) == (1, 1.0)


@pytest.mark.one_loop
async def test_failures_count_as_done(session: offloop.ParallelSession) -> None:
    """What has failed is done, and counted apart."""
    events: list[ProgressEvent] = []
    await session.run_parallel(w.fail_on_odd, range(10), on_error="collect", progress=events.append)
    assert (events[-1].n_done, events[-1].n_failed, events[-1].is_last) == (10, 5, True)
    with pytest.raises(w.OwnError):
        await session.run(w.fail_on_3, 3, progress=events.append)
    assert (events[-1].n_done, events[-1].n_failed, events[-1].is_last) == (1, 1, True)


async def test_a_run_that_is_cancelled_has_a_last_event(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Who is told learns of the end also where that is a cancel."""
    path = str(tmp_path / "it")
    events: list[ProgressEvent] = []
    async with anyio.create_task_group() as tasks:
        run = partial(session.run_parallel, w.wait_for_file, [path], progress=events.append)
        tasks.start_soon(run)
        await w.appears(f"{path}.began")
        tasks.cancel_scope.cancel()
    assert (events[-1].n_done, events[-1].is_last) == (0, True)


@pytest.mark.one_loop
async def test_rows_are_counted(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Of a vectorised function rows are counted, not blocks."""
    told = Told(tmp_path / "it", lambda event: event.n_done >= 512)
    X = np.arange(1024)
    await session.run_batches(partial(w.rows_and_wait, str(tmp_path / "it")), X, batch_size=256, progress=told)
    assert told.seen is not None
    assert (told.seen.n_items, told.seen.n_done % 256) == (1024, 0)
    assert (told.events[-1].n_done, told.events[-1].n_items) == (1024, 1024)


@pytest.mark.one_loop
async def test_units_are_counted(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """Of branches units are counted, with what those under way say of themselves; the last event has them all."""
    path = tmp_path / "it"
    told = Told(path, lambda event: event.n_done == 2 and event.fraction == pytest.approx(2.25 / 3, abs=1e-6))
    branches = {"a": offloop.units([offloop.call(w.double, 1), offloop.call(w.double, 2)]), "b": offloop.call(w.report_and_wait, str(path))}
    await workers.run_branches(branches, progress=told)
    assert told.seen is not None
    assert (told.seen.fn, told.seen.n_items) == ("b", 3)
    assert (told.events[-1].n_done, told.events[-1].fraction) == (3, 1.0)


@pytest.mark.one_loop
async def test_a_source_without_an_end_has_no_share(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """While a source has not been read to its end, neither count nor share of the whole is known."""
    path = tmp_path / "it"
    told = Told(path, lambda event: event.n_done == 7)

    async def numbers() -> AsyncIterator[int]:
        for number in range(8):
            yield number
        while told.seen is None:
            await anyio.sleep(0.002)

    async with session.stream(partial(w.wait_at, str(path), 7), numbers(), progress=told) as results:
        assert [result async for result in results] == list(range(8))
    assert told.seen is not None
    assert (told.seen.n_items, told.seen.fraction, told.seen.eta_s) == (None, None, None)
    assert (told.events[-1].n_items, told.events[-1].fraction) == (8, 1.0)


async def test_events_can_be_iterated_over(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """A `ProgressStream` yields events while the run goes on, and ends with the last; another loop gives up at once."""
    path = tmp_path / "it"
    progress = offloop.ProgressStream()
    seen: list[ProgressEvent] = []

    async def watch() -> None:
        async for event in progress:
            seen.append(event)
            path.with_name("it.go").touch()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await session.run_parallel(partial(w.wait_at, str(path), 7), range(10), progress=progress)
    assert len(seen) > 1
    assert [event.is_last for event in seen] == [False] * (len(seen) - 1) + [True]
    assert [event async for event in progress] == []


async def test_who_is_slow_gets_the_latest() -> None:
    """Events that nobody took are replaced by later ones, so that nothing piles up."""
    progress = offloop.ProgressStream()
    one, other = (
        ProgressEvent(
            fn="fn", label=None, strategy="serial", n_items=2, n_done=n, n_failed=0, fraction=n / 2, elapsed_s=1.0,
            rate=None, eta_s=None, utilisation_pct=0.0, is_last=n == 2,
        )
        for n in (1, 2)
    )  # fmt: skip
    progress(one)
    progress(other)
    assert [event async for event in progress] == [other]


@pytest.mark.one_loop
async def test_who_fails_to_be_told_changes_nothing(session: offloop.ParallelSession, caplog: pytest.LogCaptureFixture) -> None:
    """What it raises, SystemExit too, is logged once; the run goes on and it is told no more."""
    calls: list[ProgressEvent] = []

    def fail(event: ProgressEvent) -> None:
        calls.append(event)
        raise SystemExit(1)

    with caplog.at_level(logging.ERROR, logger="offloop"):
        assert await session.run_parallel(w.sleep, [0.02] * 20, progress=fail) == [0.02] * 20
    assert len(calls) == 1
    assert len(caplog.records) == 1


@pytest.mark.one_loop
@pytest.mark.parametrize("progress", [True, "text", False, None])
async def test_without_a_terminal_it_is_quiet(
    session: offloop.ParallelSession, progress: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where nobody looks, nothing is written."""
    assert await session.run_parallel(w.sleep, [0.02] * 20, progress=progress) == [0.02] * 20
    assert capfd.readouterr() == ("", "")


async def async_teller(event: ProgressEvent) -> None:
    """Be of no use."""


@pytest.mark.one_loop
@pytest.mark.parametrize("progress", [1, "bar", 0.5, [], np.arange(3), async_teller])
async def test_what_cannot_be_told_is_refused(session: offloop.ParallelSession, progress: Any) -> None:
    """Anything but True, "text", a plain function or a ProgressStream is refused before anything is executed."""
    for call in (session.run_parallel(w.double, [1], progress=progress), session.run(w.nothing, progress=progress)):
        with pytest.raises(offloop.SettingTypeError, match="progress"):
            await call


@pytest.mark.one_loop
async def test_nobody_is_remembered(session: offloop.ParallelSession) -> None:
    """What is passed as progress, another one at each call, is let go of, and decisions are remembered without it."""
    told: list[weakref.ref[Any]] = []
    await session.run(w.nothing)
    kept = len(session._plans._plans)
    for _ in range(3):
        tell = partial(list[ProgressEvent].append, [])
        told.append(weakref.ref(tell))
        await session.run(w.nothing, progress=tell)
        await session.run_parallel(w.double, range(10), progress=tell)
        del tell
    gc.collect()
    assert [tell() for tell in told] == [None] * 3
    assert len(session._plans._plans) <= kept + 1


async def test_waiting_is_told(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """What a run waits for others counts as waiting until its first item has a worker."""
    path = str(tmp_path / "it")
    called = monotonic()
    with w.heard("parallel.finished") as told:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(workers.run_parallel, w.wait_for_file, [path, path])
            await w.appears(f"{path}.began", 2)
            began = monotonic()
            tasks.start_soon(workers.run, w.double, 1)
            await anyio.wait_all_tasks_blocked()
            freed = monotonic()
            (tmp_path / "it.go").touch()
        ended = monotonic()
    first, second = sorted((event for event in told if isinstance(event, RunFinished)), key=lambda event: event.fn, reverse=True)
    assert first.fn == "workloads.wait_for_file"
    assert 0 < first.wait_s <= began - called
    assert second.wall_s - (ended - freed) <= second.wait_s <= second.wall_s  # until they were free it had no worker
    assert second.wait_s > 0
