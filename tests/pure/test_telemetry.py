"""events.py and telemetry.py: telling sinks what happens."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import structlog

from offloop import events, telemetry
from offloop.errors import SettingTypeError
from offloop.events import Event, ItemRetried, RunFinished, WorkerOutput, WorkersCapped
from offloop.telemetry import (
    add_sink,
    emit,
    is_heard,
    tell_item_abandoned,
    tell_worker_killed,
    tell_worker_retired,
    tell_worker_started,
    use_default_sink,
)

QUIET = RunFinished(
    fn="app.fn",
    strategy="processes",
    tasks_submitted=3,
    tasks_completed=2,
    tasks_failed=1,
    tasks_cancelled=0,
    tasks_retried=0,
    wall_s=0.5,
    wait_s=0.1,
    busy_s=0.4,
    worker_utilisation_pct=40.0,
    estimated_s=0.45,
    speedup_estimate=0.8,
    peak_in_flight=2,
    label=None,
)
LOUD = ItemRetried(fn="app.fn", item=3, deaths=1)


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Leave structlog as an application has it that doesn't use it, and the sinks as they are at first."""
    structlog.reset_defaults()
    sinks = telemetry._sinks
    yield
    structlog.reset_defaults()
    telemetry._DEFAULT.failed_on.clear()
    telemetry._sinks = sinks


@pytest.fixture
def heard() -> list[Event]:
    """Plug in a sink and return the events that it gets."""
    kept: list[Event] = []
    add_sink(kept.append)
    return kept


@pytest.fixture
def records() -> list[dict[str, Any]]:
    """Configure structlog and return what it is given."""
    kept: list[dict[str, Any]] = []

    def keep(logger: Any, method: str, record: Any) -> Any:
        kept.append({"method": method, **record})
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    return kept


def all_events() -> list[type[Event]]:
    """Return every event class."""
    return [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event]


@pytest.mark.parametrize("kind", all_events(), ids=lambda kind: kind.__name__)
def test_events_are_frozen_values(kind: type[Event]) -> None:
    """An event is a frozen dataclass with a dotted name, a level and a docstring, its fields given by name."""
    assert kind.event.count(".") == 1
    assert kind.level in (logging.INFO, logging.WARNING)
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")
    names = [field.name for field in dataclasses.fields(kind)]
    event = kind(**dict.fromkeys(names))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, names[0], "x")
    assert all(field.kw_only for field in dataclasses.fields(kind))


def test_event_names_are_distinct() -> None:
    """No two events share a name, unless one is a special case of the other."""
    names = [kind.event for kind in all_events() if Event in kind.__bases__]
    assert len(names) > 8
    assert sorted(set(names)) == sorted(names)
    assert {kind.event for kind in all_events()} == set(names)


def test_what_is_worth_a_warning_reaches_logging(caplog: pytest.LogCaptureFixture) -> None:
    """Without structlog a warning goes to the standard logger of offloop, with all its fields."""
    emit(LOUD)
    assert [(r.name, r.levelno, r.getMessage()) for r in caplog.records] == [
        ("offloop", logging.WARNING, "item.retried fn='app.fn' item=3 deaths=1")
    ]


def test_what_is_not_stays_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Without structlog nothing below a warning is said, so it needn't even be made."""
    caplog.set_level(logging.DEBUG)
    emit(QUIET)
    assert caplog.records == []
    assert not is_heard(logging.INFO)
    assert is_heard(logging.WARNING)


@pytest.mark.parametrize(("event", "method"), [(QUIET, "info"), (LOUD, "warning")])
def test_structlog_gets_everything(
    records: list[dict[str, Any]], caplog: pytest.LogCaptureFixture, event: Event, method: str
) -> None:
    """Where the application has configured structlog, every event goes there and nowhere else, fields as they are."""
    assert is_heard(logging.INFO)
    emit(event)
    assert records == [{"method": method, "event": event.event, **dataclasses.asdict(event)}]
    assert caplog.records == []


def test_structlog_without_a_log_method(records: list[dict[str, Any]]) -> None:
    """Loggers of structlog's plain class, which have methods named for levels alone, get everything as well."""
    structlog.configure(wrapper_class=structlog.BoundLogger)
    for event in (QUIET, LOUD):
        emit(event)
    assert [(record["method"], record["event"]) for record in records] == [("info", QUIET.event), ("warning", LOUD.event)]


class AwaitedLogger(structlog.BoundLogger):
    """Looks like any other, until it is called."""

    def __getattr__(self, name: str) -> Any:
        async def log(event: str, **fields: Any) -> None: ...

        return log


@pytest.mark.parametrize("kind", [structlog.stdlib.AsyncBoundLogger, AwaitedLogger])
def test_async_structlog_is_not_waited_for(
    kind: Any, records: list[dict[str, Any]], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where its loggers are async, whose coroutines nobody could await, all is logged and printed as without structlog."""
    structlog.configure(wrapper_class=kind, logger_factory=structlog.stdlib.LoggerFactory())
    for event in (QUIET, LOUD, WorkerOutput(pid=7, item=3, stream="stdout", text="a line")):
        emit(event)
    assert [record.getMessage() for record in caplog.records] == ["item.retried fn='app.fn' item=3 deaths=1"]
    assert capsys.readouterr().out == "[worker 7 item 3] a line\n"
    assert records == []


@pytest.mark.parametrize("failure", [ValueError("sink"), KeyError(), MemoryError(), SystemExit(3)])
@pytest.mark.fault(40)
def test_a_failing_log_harms_nobody(caplog: pytest.LogCaptureFixture, failure: BaseException) -> None:
    """A log that raises never changes a result: the failure is logged with the event's name and goes no further."""

    def fail(logger: Any, method: str, record: Any) -> Any:
        raise failure

    structlog.configure(processors=[fail])
    emit(QUIET)
    assert [record.getMessage() for record in caplog.records] == [
        "a sink failed on parallel.finished; further failures on it are not logged"
    ]
    assert caplog.records[0].exc_info is not None


def test_structlog_is_not_imported_for_nothing() -> None:
    """A program that doesn't use structlog doesn't get it imported by an event."""
    code = (
        "import sys, logging; from offloop.telemetry import emit; from offloop.events import ItemRetried\n"
        "emit(ItemRetried(fn='f', item=1, deaths=1)); print('structlog' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
    assert "item.retried" in done.stderr


def test_advice_comes_with_the_event() -> None:
    """A capped session says what it means, with both numbers and louder than other guidance."""
    capped = WorkersCapped(workers_asked=9, usable_cores=2)
    assert "usable cores" in capped.advice
    assert capped.as_dict() == {
        "topic": "workers",
        "advice": capped.advice,
        "fn": None,
        "workers_asked": 9,
        "usable_cores": 2,
    }
    assert (capped.event, capped.level) == ("parallel.guidance", logging.WARNING)
    assert events.Guidance.level == logging.INFO


# --- sinks -------------------------------------------------------------------------------------------------------------


def test_sinks_get_the_objects_themselves(heard: list[Event], records: list[dict[str, Any]]) -> None:
    """Every sink gets every event as the one frozen object, whatever its level, beside the log."""
    more: list[Event] = []
    add_sink(more.append)
    emit(QUIET)
    emit(LOUD)
    assert [id(event) for event in heard] == [id(event) for event in more] == [id(QUIET), id(LOUD)]
    assert [record["event"] for record in records] == ["parallel.finished", "item.retried"]


def test_a_sink_makes_every_level_worth_telling() -> None:
    """While a sink is plugged in, events are made that no log would take."""
    remove = add_sink(print)
    assert is_heard(logging.INFO)
    remove()
    assert not is_heard(logging.INFO)


def test_removing_takes_one_registration() -> None:
    """What add_sink returns removes that registration alone, and does no harm the second time."""
    kept: list[Event] = []
    sink = kept.append
    remove_first, remove_second = add_sink(sink), add_sink(sink)
    emit(QUIET)
    remove_first()
    remove_first()
    emit(QUIET)
    assert len(kept) == 3
    remove_second()
    emit(QUIET)
    assert len(kept) == 3


def test_the_default_sink_can_be_switched_off(heard: list[Event], caplog: pytest.LogCaptureFixture) -> None:
    """Switched off, nothing is logged and other sinks go on; switched on again, each event is logged once."""
    use_default_sink(False)
    emit(LOUD)
    assert (heard, caplog.records) == ([LOUD], [])
    use_default_sink(True)
    use_default_sink(True)
    emit(LOUD)
    assert len(caplog.records) == 1


def test_without_any_sink_nothing_is_heard() -> None:
    """With the default sink off and no other, not even a warning is worth making."""
    use_default_sink(False)
    assert not is_heard(logging.CRITICAL)


@pytest.mark.parametrize("failure", [ValueError("sink"), StopIteration(), SystemExit(3)])
@pytest.mark.fault(40)
def test_a_failing_sink_harms_nobody(
    heard: list[Event], caplog: pytest.LogCaptureFixture, failure: BaseException
) -> None:
    """A sink that raises, or wants to end the program, keeps no event from the sinks beside it."""

    def fail(event: Event) -> None:
        raise failure

    after: list[Event] = []
    use_default_sink(False)
    add_sink(fail)
    add_sink(after.append)
    emit(QUIET)
    assert heard == after == [QUIET]
    assert "parallel.finished" in caplog.text


def test_failures_don_t_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Of a sink that fails again and again, the first failure on each kind of event is logged."""

    def fail(event: Event) -> None:
        raise ValueError

    use_default_sink(False)
    add_sink(fail)
    for event in (QUIET, LOUD, QUIET, LOUD, QUIET):
        emit(event)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "parallel.finished" in messages[0]
    assert "item.retried" in messages[1]


def test_an_interrupt_passes() -> None:
    """A KeyboardInterrupt that arrives while a sink runs is meant for the program, and reaches it."""

    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt

    add_sink(interrupted)
    with pytest.raises(KeyboardInterrupt):
        emit(QUIET)


@pytest.mark.fault(40)
def test_a_logger_that_raises_harms_nobody(heard: list[Event]) -> None:
    """Where even logging a failure fails, the other sinks still get the event."""

    def fail(_: object) -> bool:
        raise ValueError

    logger = logging.getLogger("offloop")
    logger.addFilter(fail)
    try:
        emit(LOUD)
    finally:
        logger.removeFilter(fail)
    assert heard == [LOUD]


class AsyncSink:
    async def __call__(self, event: Event) -> None: ...


async def async_sink(event: Event) -> None: ...


@pytest.mark.parametrize("sink", [async_sink, AsyncSink(), partial(async_sink), None, "structlog"], ids=("function", "object", "partial", "None", "word"))
def test_what_can_t_be_a_sink_is_refused(sink: Any) -> None:
    """An async function, whose coroutine nobody would await, and what can't be called are refused at once."""
    with pytest.raises(SettingTypeError, match="plain function"):
        add_sink(sink)


def test_a_sink_may_change_the_sinks() -> None:
    """A sink may remove itself or add another while it is called; that counts from the next event on."""
    told: list[str] = []

    def once(event: Event) -> None:
        told.append("once")
        remove()
        add_sink(lambda _: told.append("later"))

    remove = add_sink(once)
    emit(QUIET)
    assert told == ["once"]
    emit(QUIET)
    assert told == ["once", "later"]


def in_threads(work: Callable[[], object], count: int = 8) -> None:
    """Run this in several threads that begin together."""
    barrier = threading.Barrier(count)

    def begin() -> None:
        barrier.wait()
        work()

    threads = [threading.Thread(target=begin) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_sinks_come_and_go_in_threads(heard: list[Event]) -> None:
    """Threads that add, remove and emit at once lose no event of a sink that stays, and leave no sink behind."""
    use_default_sink(False)
    before = telemetry._sinks

    def come_and_go() -> None:
        for _ in range(200):
            remove = add_sink(id)
            emit(QUIET)
            remove()

    in_threads(come_and_go)
    assert telemetry._sinks == before
    assert len(heard) == 8 * 200


def test_workers_are_told_of(heard: list[Event]) -> None:
    """A worker's start and its two planned ends are events with its pid, and only being killed is a warning."""
    tell_worker_started(7, 0.15)
    tell_worker_killed(7, "did not stop within grace_s")
    tell_worker_retired(8, "fn changed")
    assert [(event.event, event.level, *event.as_dict().values()) for event in heard] == [
        ("worker.started", logging.INFO, 7, 0.15),
        ("worker.killed", logging.WARNING, 7, "did not stop within grace_s"),
        ("worker.retired", logging.INFO, 8, "fn changed"),
    ]


def test_items_that_are_left_are_told_of(heard: list[Event]) -> None:
    """An item that goes on in its thread though it was to stop is a warning, with how long it was given."""
    tell_item_abandoned("app.fn", 3, 0.5)
    tell_item_abandoned("app.fn", None, 0.0)
    assert [(event.event, event.level, *event.as_dict().values()) for event in heard] == [
        ("item.abandoned", logging.WARNING, "app.fn", 3, 0.5),
        ("item.abandoned", logging.WARNING, "app.fn", None, 0.0),
    ]
