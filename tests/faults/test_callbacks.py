"""Sinks that raise while everything goes wrong: it is logged, and nothing else is different."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import hostile as h
import offloop
import workloads as w

pytestmark = [pytest.mark.anyio, pytest.mark.one_loop]


class Fatal(Exception):
    """What a sink raises."""


@pytest.fixture(params=[Fatal, SystemExit], ids=lambda kind: kind.__name__)
def told(request: pytest.FixtureRequest) -> Iterator[set[str]]:
    """The names of events on which a sink has raised, wherever it was called."""
    names: set[str] = set()

    def fail(event: offloop.Event) -> None:
        names.add(event.event)
        raise request.param("a sink failed")

    remove = offloop.add_sink(fail)
    yield names
    remove()


async def go_wrong(session: offloop.ParallelSession, path: str) -> None:
    """Have a crash that is retried, one that isn't, a failure, a fallback, an item out of time and a worker killed."""
    with anyio.fail_after(60):
        assert await session.run_parallel(partial(w.die_once, path), range(10)) == [2 * x for x in range(10)]
        results = await session.run_parallel(partial(w.die_on_5, "exit", path), range(10), on_error="collect")
        assert isinstance(results.pop(5), offloop.WorkerCrashed)
        assert results == [2 * x for x in range(10) if x != 5]
        with pytest.raises(w.OwnError):
            await session.run_parallel(w.fail_on_3, range(10))
        with pytest.raises(offloop.ItemTimeout):
            await session.run(h.act, "hang deaf", f"{path}.late", "worker", timeout_s=0.1, grace_s=0.1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(session.run, h.act, "hang deaf", f"{path}.deaf", "worker", grace_s=0.1))
            await w.appears(f"{path}.deaf.began")
            tasks.cancel_scope.cancel()
        assert await session.run_parallel(w.double, range(50)) == list(range(0, 100, 2))


@pytest.mark.fault(40)
async def test_sinks_that_raise_on_everything(
    anyio_backend: object, tmp_path: Path, told: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    """On the loop, in threads that start and end workers, in the midst of a recovery: the first on each event is logged."""
    with caplog.at_level(logging.ERROR, logger="offloop"):
        async with offloop.ParallelSession(strategy="processes", workers=2) as session:
            await go_wrong(session, f"{tmp_path}/run")
    expected = {"worker.started", "worker.crashed", "worker.killed", "item.retried", "item.timed_out"}
    assert told >= {*expected, "parallel.decision", "parallel.finished"}
    logged = [record.getMessage() for record in caplog.records if "a sink failed on" in record.getMessage()]
    assert sorted(text.split()[4].rstrip(";") for text in logged) == sorted(told)


def raising_filter(record: logging.LogRecord) -> bool:
    raise Fatal("a filter failed")


class RaisingHandler(logging.Handler):
    """A handler that lets its failures through."""

    def emit(self, record: logging.LogRecord) -> None:
        raise Fatal("a handler failed")


def with_filter(logger: logging.Logger) -> Callable[[], None]:
    logger.addFilter(raising_filter)
    return lambda: logger.removeFilter(raising_filter)


def with_handler(logger: logging.Logger) -> Callable[[], None]:
    handler = RaisingHandler()
    logger.addHandler(handler)
    return lambda: logger.removeHandler(handler)


def with_processor(logger: logging.Logger) -> Callable[[], None]:
    import structlog

    def fail(*_: Any) -> Any:
        raise Fatal("a processor failed")

    structlog.configure(processors=[fail])
    return structlog.reset_defaults


@pytest.mark.fault(40)
@pytest.mark.parametrize("plug_in", [with_filter, with_handler, with_processor])
async def test_logs_that_raise(
    anyio_backend: object, tmp_path: Path, plug_in: Callable[[logging.Logger], Callable[[], None]]
) -> None:
    """A filter, a handler or a processor of the application's that fails on every record changes no outcome."""
    take_out = plug_in(logging.getLogger("offloop"))
    try:
        async with offloop.ParallelSession(strategy="processes", workers=2) as session:
            await go_wrong(session, f"{tmp_path}/run")
    finally:
        take_out()
