"""Log context goes to wherever items execute; what is logged, warned and printed there comes back."""

from __future__ import annotations

import io
import itertools
import logging
import os
import re
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from structlog.contextvars import bound_contextvars

import offloop
import talkative
import workloads as w

pytestmark = pytest.mark.anyio

numbers = itertools.count()  # for texts of warnings: a worker shows the same one only once


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Leave structlog as an application has it that doesn't use it."""
    yield
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


@pytest.fixture
async def own(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """A session with one worker, which begins with the test."""
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        yield session


@pytest.fixture
def events() -> list[dict[str, Any]]:
    """What this process's structlog is told."""
    kept: list[dict[str, Any]] = []

    def keep(logger: Any, method: str, event: Any) -> Any:
        kept.append({"method": method, **event})
        raise structlog.DropEvent

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, keep])
    return kept


# --- there --------------------------------------------------------------------------------------------------------------


async def test_context_is_bound_where_items_execute(session: offloop.ParallelSession) -> None:
    """What the caller has bound is bound around every item, and nothing is where the caller has bound nothing."""
    assert await session.run(talkative.context_of) == {}
    with bound_contextvars(request_id="r-1", attempt=2, ratio=0.5, is_admin=False, user=None):
        expected = structlog.contextvars.get_contextvars()
        assert await session.run(talkative.context_of) == expected
        assert await session.run_parallel(talkative.context_of, range(5)) == [expected] * 5
    assert await session.run_parallel(talkative.context_of, range(5)) == [{}] * 5


async def test_context_is_text_and_bounded(session: offloop.ParallelSession) -> None:
    """Values that aren't plain arrive as the text that a log shows, and what is too long or too much is cut."""
    with bound_contextvars(path=Path("x"), long="x" * 5000):
        bound = await session.run(talkative.context_of)
    assert bound["path"] == repr(Path("x"))
    assert len(bound["long"]) < 1100
    with bound_contextvars(**{f"key_{number}": number for number in range(100)}):
        bound = await session.run(talkative.context_of)
    assert len(bound) == 64
    assert all(name == f"key_{number}" for name, number in bound.items())


async def test_context_of_an_item_is_its_own(session: offloop.ParallelSession) -> None:
    """What an item binds or clears is gone when the next call comes."""
    with bound_contextvars(request_id="r-1"):
        await session.run(talkative.rebind)
        assert await session.run(talkative.context_of) == {"request_id": "r-1"}
        await session.run(talkative.rebind)
    assert await session.run(talkative.context_of) == {}
    await session.run(talkative.rebind)
    assert await session.run_parallel(talkative.context_of, range(5)) == [{}] * 5


async def test_callers_have_their_own_context(session: offloop.ParallelSession) -> None:
    """Side by side on the same workers, every call has its own caller's context."""

    async def call(number: int) -> None:
        with bound_contextvars(request_id=number):
            assert await session.run(talkative.context_of) == {"request_id": number}
            many = await session.run_parallel(talkative.context_of, range(20), chunk_size=1)
            assert many == [{"request_id": number}] * 20

    await w.gather(*(call(number) for number in range(8)))


# --- and back -----------------------------------------------------------------------------------------------------------


@pytest.mark.on_workers
async def test_log_records_come_back(workers: offloop.ParallelSession, caplog: pytest.LogCaptureFixture) -> None:
    """A record reaches this process's logger of its name, with the worker's pid, the item and its own fields."""
    pids = await workers.run_parallel(talkative.log, range(3))
    records = sorted((r for r in caplog.records if r.name == "talkative.log"), key=lambda record: record.item)
    assert [(r.item, r.worker_pid, r.process, r.getMessage()) for r in records] == [
        (i, pid, pid, f"item {i} is <class 'object'>") for i, pid in enumerate(pids)
    ]
    assert [(r.levelname, r.shelf, r.thing, r.funcName, r.filename) for r in records] == [
        ("WARNING", 3, "{1, 2}", "log", "talkative.py")
    ] * 3


@pytest.mark.on_workers
async def test_records_are_handled_in_the_callers_context(workers: offloop.ParallelSession) -> None:
    """A handler that looks at structlog's context finds the caller's, also with several callers side by side."""
    found: list[tuple[Any, ...]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append((record.getMessage(), structlog.contextvars.get_contextvars()))

    async def call(number: int) -> None:
        with bound_contextvars(request_id=number):
            await workers.run(talkative.log, number)

    handler = Handler()
    logging.getLogger("talkative.log").addHandler(handler)
    try:
        await w.gather(*(call(number) for number in range(6)))
    finally:
        logging.getLogger("talkative.log").removeHandler(handler)
    assert sorted(found, key=str) == [(f"item {n} is <class 'object'>", {"request_id": n}) for n in range(6)]


@pytest.mark.on_workers
async def test_a_traceback_comes_as_text(workers: offloop.ParallelSession, caplog: pytest.LogCaptureFixture) -> None:
    """An exception that is logged needs not be one that can travel."""
    await workers.run(talkative.log_failure, 7)
    (record,) = [r for r in caplog.records if r.name == "talkative"]
    assert record.exc_info is None
    assert "raise w.OwnError(x)" in logging.Formatter().format(record)


@pytest.mark.on_workers
async def test_structlog_events_come_back(workers: offloop.ParallelSession, events: list[dict[str, Any]]) -> None:
    """An event reaches this process's structlog, with what was bound there and here, and the worker's pid and item."""
    with bound_contextvars(request_id="r-1"):
        pid = await workers.run(talkative.log_event, 5)
    (event,) = [event for event in events if event["event"] == "checked"]
    assert event.pop("method") == "warning"
    assert event == {
        "event": "checked", "number": 5, "thing": "(1, 2)", "level_": "high",
        "step": "second", "request_id": "r-1", "worker_pid": pid, "item": 0,
    }


@pytest.mark.on_workers
async def test_warnings_come_back(workers: offloop.ParallelSession) -> None:
    """A warning goes through this process's filters as what it was, and tells its worker and its item."""
    text = f"careful {next(numbers)}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pid = await workers.run(talkative.warn, text)
        await workers.run(talkative.warn_of_own, text)
        warnings.simplefilter("ignore")
        await workers.run(talkative.warn, f"not {text}")
    first, second = caught
    assert (first.category, str(first.message), Path(first.filename).name) == (RuntimeWarning, text, "talkative.py")
    assert (first.message.worker_pid, first.message.item) == (pid, 0)  # type: ignore[union-attr]
    assert second.category is talkative.OwnWarning


@pytest.mark.on_workers
async def test_a_warning_that_would_be_an_error_is_logged(
    workers: offloop.ParallelSession, caplog: pytest.LogCaptureFixture
) -> None:
    """A filter that makes errors of warnings fails no run that has succeeded."""
    text = f"dangerous {next(numbers)}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pid = await workers.run(talkative.warn, text)
    (record,) = [r for r in caplog.records if r.name == "py.warnings"]
    assert "talkative.py" in record.getMessage()
    assert record.getMessage().endswith(f"RuntimeWarning: {text}")
    assert record.worker_pid == pid


@pytest.mark.on_workers
async def test_lines_are_printed_here(workers: offloop.ParallelSession, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed in a worker is printed here, behind a tag, by whatever is this process's stream then."""
    pid = await workers.run(talkative.speak, 7)
    printed = capsys.readouterr()
    assert printed.out == f"[worker {pid} item 0] line 7\n[worker {pid} item 0] rest 7\n"
    assert printed.err == f"[worker {pid} item 0] line 7 on stderr\n"


@pytest.mark.on_workers
async def test_lines_are_events(workers: offloop.ParallelSession) -> None:
    """Sinks get every line with the item that has begun it."""
    with w.heard("worker.output") as told:
        pids = await workers.run_parallel(talkative.speak, range(2), chunk_size=1)
        await workers.run_parallel(talkative.begin_lines, range(3), chunk_size=3)
    lines = [(event.pid, event.item, event.stream, event.text) for event in told]
    for item, pid in enumerate(pids):
        assert [line for line in lines if line[:2] == (pid, item)][:3] == [
            (pid, item, "stdout", f"line {item}"),
            (pid, item, "stderr", f"line {item} on stderr"),
            (pid, item, "stdout", f"rest {item}"),
        ]
    assert [line[1::2] for line in lines if "begun" in line[3]] == [
        (0, "begun by 0 ended by 1"),
        (1, "begun by 1 ended by 2"),
        (2, "begun by 2"),
    ]


@pytest.mark.on_workers
async def test_lines_are_logged_by_structlog(workers: offloop.ParallelSession, events: list[dict[str, Any]]) -> None:
    """Where structlog is configured it gets the lines, in the context of the caller."""
    with bound_contextvars(request_id="r-1"):
        pid = await workers.run(talkative.speak, 7)
    lines = [event for event in events if event["event"] == "worker.output"]
    assert {(line["pid"], line["item"], line["request_id"]) for line in lines} == {(pid, 0, "r-1")}
    assert [line["text"] for line in lines] == ["line 7", "line 7 on stderr", "rest 7"]


@pytest.mark.on_workers
async def test_a_line_is_seen_while_its_item_executes(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """What a long item prints comes at once: here it goes on only after its line was heard."""
    path = str(tmp_path / "heard")

    def hear(event: offloop.Event) -> None:
        if event.event == "worker.output" and event.as_dict()["text"] == path:
            Path(f"{path}.go").touch()

    remove = offloop.add_sink(hear)
    try:
        with anyio.fail_after(20):
            await workers.run(talkative.speak_and_wait, path)
    finally:
        remove()


@pytest.mark.on_workers
async def test_the_last_words_of_a_worker_arrive(own: offloop.ParallelSession) -> None:
    """What an item has said before its worker died is told before its error is raised."""
    with w.heard("worker.output") as told, pytest.raises(offloop.WorkerCrashed):
        await own.run(talkative.speak_and_die, retries=0)
    assert [event.text for event in told] == ["first words", "last words"]


@pytest.mark.on_workers
async def test_too_much_is_dropped_and_counted(workers: offloop.ParallelSession) -> None:
    """Of what another thread says while no frame leaves, the last thousand records come, and the others are counted."""
    with w.heard() as told:
        await workers.run(talkative.speak_in_background, 3000)
    numbers = [int(event.text.split()[1]) for event in told if event.event == "worker.output"]
    n_dropped = sum(event.n_dropped for event in told if event.event == "worker.output_dropped")
    assert n_dropped == 2000
    assert numbers == list(range(2000, 3000))


@pytest.mark.on_workers
async def test_what_handlers_raise_changes_nothing(
    workers: offloop.ParallelSession, caplog: pytest.LogCaptureFixture
) -> None:
    """A filter or a sink that raises, SystemExit included, costs its record and nothing else."""

    def refuse(_: Any) -> bool:
        raise SystemExit("no logs today")

    logger = logging.getLogger("talkative.log")
    logger.addFilter(refuse)
    remove = offloop.add_sink(refuse)
    try:
        assert len(await workers.run_parallel(talkative.log, range(3))) == 3
        assert len(await workers.run_parallel(talkative.speak, range(3))) == 3
    finally:
        remove()
        logger.removeFilter(refuse)
    assert "could not be handed on" in caplog.text
    assert "a sink failed on worker.output" in caplog.text


@pytest.mark.on_workers
async def test_a_loop_that_prints_is_interrupted(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """It stops long before grace is over, what it prints last arrives, and the same worker serves the next call."""
    path, before = f"{tmp_path}/run", workers.statistics()
    with w.heard("worker.output") as told:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(workers.run, talkative.speak_for_ever, path, grace_s=20.0))
            await w.appears(f"{path}.began")
            tasks.cancel_scope.cancel()
    assert w.lines(Path(f"{path}.stopped")) == w.lines(Path(f"{path}.began"))
    assert told[-1].text.endswith("once more")  # perhaps of a line that was begun before
    assert await workers.run(w.double, 21) == 42
    assert sorted(workers.statistics().workers) == sorted(before.workers)


@pytest.mark.on_workers
async def test_an_item_that_prints_has_a_time_limit(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """However much comes from it, its time is watched."""
    with pytest.raises(offloop.ItemTimeout):
        await workers.run(talkative.speak_for_ever, f"{tmp_path}/run", timeout_s=0.05, grace_s=20.0)


# --- besides ------------------------------------------------------------------------------------------------------------


@pytest.mark.on_workers
@pytest.mark.one_loop
async def test_a_worker_logs_what_somebody_asks_for(anyio_backend: object, caplog: pytest.LogCaptureFixture) -> None:
    """A worker has the levels that this process's loggers had when it was started."""
    caplog.set_level(logging.INFO, "talkative.asked")
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        await session.run(talkative.log_below_warning)
        assert [r.getMessage() for r in caplog.records if r.name.startswith("talkative")] == ["by talkative.asked"]
        caplog.set_level(logging.WARNING, "talkative.asked")
        caplog.clear()
        await session.run(talkative.log_below_warning)
        assert not [r for r in caplog.records if r.name.startswith("talkative")]


@pytest.mark.on_workers
@pytest.mark.one_loop
async def test_worker_init_is_heard(
    anyio_backend: object, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """What worker_init says comes back too, of no item; also if it fails."""
    for init in (talkative.init_aloud, talkative.fail_aloud):
        async with offloop.ParallelSession(strategy="processes", workers=1, worker_init=init) as session:
            if init is talkative.init_aloud:
                pid = await session.run(w.pid_of)
                continue
            with pytest.raises(offloop.WorkerInitError):
                await session.run(w.pid_of)
    (record,) = [r for r in caplog.records if r.name == "talkative"]
    assert (record.getMessage(), record.worker_pid, record.item) == ("nearly ready", pid, None)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"[worker {pid}] getting ready"
    assert printed[1].endswith("] can't get ready")


@pytest.mark.on_workers
@pytest.mark.one_loop
async def test_the_users_own_structlog_is_left_alone(
    anyio_backend: object, events: list[dict[str, Any]]
) -> None:
    """Where worker_init configures structlog, its events go where that says, and what it prints comes back."""
    async with offloop.ParallelSession(
        strategy="processes", workers=1, worker_init=talkative.print_by_own_structlog
    ) as session:
        await session.run(talkative.log_event, 5)
    assert [event["event"] for event in events if event["event"] == "checked"] == []
    (line,) = [event["text"] for event in events if event["event"] == "worker.output"]
    assert line == "number=5 thing=(1, 2) level='high' event='checked'"


@pytest.mark.on_workers
@pytest.mark.one_loop
async def test_what_is_said_between_calls_goes_to_the_workers_own_streams(
    anyio_backend: object, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A thread that fn has left behind may say something when nobody listens: it is written where it went without us."""
    path = f"{tmp_path}/late"
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        await session.run(talkative.speak_later, path)
        Path(f"{path}.go").touch()
        await w.appears(f"{path}.said")
        assert await session.run(w.double, 21) == 42
    printed = capfd.readouterr()
    assert printed.out == "late line\n"
    assert re.fullmatch(r"\[worker \d+\] WARNING talkative: late record\n", printed.err)


@pytest.mark.on_workers
@pytest.mark.one_loop
async def test_forked_processes_write_for_themselves(anyio_backend: object, capfd: pytest.CaptureFixture[str]) -> None:
    """A process that fn forks writes to the streams that it has inherited; the lane is its parent's alone."""
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        with w.heard("worker.output") as told:
            await session.run(talkative.fork_and_speak, 1)
        assert [event.text for event in told] == ["begun before, ended after"]
        assert await session.run(w.double, 21) == 42
    printed = capfd.readouterr()
    assert [line for line in printed.out.splitlines() if not line.startswith("[")] == ["child's line"]
    assert printed.err.endswith("WARNING talkative: child's record\n")


@pytest.mark.on_workers
@pytest.mark.one_loop
async def test_streams_are_still_streams(anyio_backend: object, capfd: pytest.CaptureFixture[str]) -> None:
    """They have their descriptor, and what goes to that or to their buffer goes where it went without us."""
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        with w.heard("worker.output") as told:
            described = await session.run(talkative.describe_streams)
    assert described == [1, 2, os.isatty(1), True, described[-1]]
    assert io.TextIOWrapper(io.BytesIO(), encoding=described[-1]).writable()
    assert [event.text for event in told] == ["two", "lines"]
    out = [line for line in capfd.readouterr().out.splitlines() if not line.startswith("[")]
    assert sorted(out) == ["by descriptor", "raw bytes"]


async def test_this_processes_streams_are_its_own(session: offloop.ParallelSession) -> None:
    """Whatever executes where, this process's streams and loggers stay what they were."""
    before = sys.stdout, sys.stderr, logging.getLogger().handlers[:], warnings.showwarning
    await session.run(w.double, 1)
    assert (sys.stdout, sys.stderr, logging.getLogger().handlers, warnings.showwarning) == before
