"""events.py and telemetry.py: telling sinks what happens."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from offloop import events
from offloop.events import Event, ItemRetried, RunFellBack, RunFinished, WorkersCapped
from offloop.telemetry import emit, is_heard

QUIET = RunFinished(
    fn="app.fn",
    tasks_submitted=3,
    tasks_completed=2,
    tasks_failed=1,
    tasks_cancelled=0,
    tasks_retried=0,
    wall_s=0.5,
    busy_s=0.4,
    worker_utilisation_pct=80.0,
    label=None,
)
LOUD = ItemRetried(fn="app.fn", item=3, deaths=1)


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    """Leave structlog as an application has it that doesn't use it."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


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
    """No two events share a name."""
    names = [kind.event for kind in all_events()]
    assert len(names) > 5
    assert sorted(set(names)) == sorted(names)


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


@pytest.mark.parametrize("failure", [ValueError("sink"), KeyError(), MemoryError()])
def test_a_failing_sink_harms_nobody(caplog: pytest.LogCaptureFixture, failure: Exception) -> None:
    """A sink that raises never changes a result: the failure is logged with the event's name and goes no further."""

    def fail(logger: Any, method: str, record: Any) -> Any:
        raise failure

    structlog.configure(processors=[fail])
    emit(QUIET)
    assert [record.getMessage() for record in caplog.records] == ["a log sink failed on parallel.finished"]
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
    """A capped session says what it means; a fallback needs no error to be told."""
    assert "usable cores" in WorkersCapped(workers_asked=9, usable_cores=2).advice
    fallback = RunFellBack(from_strategy="threads", to_strategy="serial", reason="threads_need_consent", fn="f")
    assert fallback.error is None
