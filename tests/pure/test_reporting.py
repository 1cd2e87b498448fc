"""reporting.py and tally.py: what is told of runs, and how they are counted."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from offloop import telemetry
from offloop.errors import UnpicklableItem, WorkerStartError
from offloop.events import Event, RunDecided, RunFellBack, RunFinished
from offloop.model import Decision, Reason, Strategy
from offloop.options import CallOptions
from offloop.reporting import (
    forget_guidance,
    is_fallback,
    snapshot,
    tell_death,
    tell_decision,
    tell_end,
    tell_fallback,
    tell_guidance,
    tell_retry,
    tell_timeout,
)
from offloop.tally import Tally
from offloop.telemetry import add_sink, use_default_sink
from offloop.wire.status_page import LOADING, OVER, PACKED, UNPACKING

AUTO = CallOptions(strategy=Strategy.AUTO)


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    """Return the events that are told from now on, which go nowhere else."""
    sinks = telemetry._sinks
    kept: list[Event] = []
    use_default_sink(False)
    add_sink(kept.append)
    forget_guidance()
    yield kept
    forget_guidance()
    telemetry._sinks = sinks


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


def a_decision(**fields: Any) -> Decision:
    """Return a decision for processes with these fields changed."""
    base: dict[str, Any] = {"strategy": Strategy.PROCESSES, "reason": Reason.FASTER, "workers": 2, "fn": "app.fn"}
    return Decision(**base | fields)


def test_a_decision_is_told_with_its_estimates(heard: list[Event]) -> None:
    """The event of a decision carries every field that the decision has under that name, as it is."""
    numbers: dict[str, Any] = {
        "n_items": 500,
        "n_features": 7,
        "chunk_size": 3,
        "item_s": 0.01,
        "gil_held": 0.9,
        "payload_bytes": 8e3,
            "shared_bytes": 400_000_000,
        "result_bytes": 16.0,
        "estimated_serial_s": 5.0,
        "estimated_s": 2.6,
        "start_cost_s": 0.15,
        "platform": "linux",
        "hint": "thread_safe=True",
    }
    tell_decision(a_decision(**numbers), CallOptions(strategy=Strategy.AUTO, label="nightly"))
    (told,) = heard
    assert isinstance(told, RunDecided)
    assert told.as_dict() == numbers | {
        "strategy": "processes",
        "reason": "faster",
        "fn": "app.fn",
        "workers": 2,
        "executor_type": "loky",
        "label": "nightly",
    }


@pytest.mark.parametrize(
    ("strategy", "executor_type"),
    [(Strategy.SERIAL, "thread"), (Strategy.THREADS, "threads"), (Strategy.PROCESSES, "loky")],
)
def test_a_decision_names_what_executes(heard: list[Event], strategy: Strategy, executor_type: str) -> None:
    """Every strategy that can be chosen has its executor in the event."""
    tell_decision(a_decision(strategy=strategy), AUTO)
    assert [getattr(event, "executor_type", None) for event in heard] == [executor_type]


@pytest.mark.parametrize(
    ("requested", "strategy", "reason", "is_one"),
    [
        (Strategy.AUTO, Strategy.SERIAL, Reason.TOO_SMALL, False),
        (Strategy.PROCESSES, Strategy.PROCESSES, Reason.EXPLICIT, False),
        (Strategy.PROCESSES, Strategy.SERIAL, Reason.NO_ITEMS, False),
        (Strategy.PROCESSES, Strategy.SERIAL, Reason.OPERATOR_OFF, True),
        (Strategy.THREADS, Strategy.SERIAL, Reason.THREADS_NEED_CONSENT, True),
    ],
)
def test_a_downgrade_is_told_beside_the_decision(
    heard: list[Event], requested: Strategy, strategy: Strategy, reason: Reason, is_one: bool
) -> None:
    """Where a run executes elsewhere than it was asked to, and has something to do, a fallback is told too."""
    decision = a_decision(requested=requested, strategy=strategy, reason=reason, n_items=4)
    assert is_fallback(decision) is is_one
    tell_decision(decision, AUTO)
    expected = RunFellBack(from_strategy=requested, to_strategy=strategy, reason=reason, fn="app.fn", n_items=4)
    assert heard[1:] == [expected] * is_one


def failed_start() -> WorkerStartError:
    error = WorkerStartError("secret of the system")
    error.__cause__ = OSError("secret too")
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (None, None),
        (ValueError("secret"), "ValueError"),
        (failed_start(), "offloop.WorkerStartError from OSError"),
        (
            UnpicklableItem("items[17]", "items[17].client._lock", "_thread.lock", "app.fn"),
            "offloop.UnpicklableItem at items[17].client._lock (_thread.lock)",
        ),
        (
            UnpicklableItem("items[3]", "items[3].users['secret[0]@x'].lock", "_thread.lock", "app.fn"),
            "offloop.UnpicklableItem at items[3].users[…] (_thread.lock)",
        ),
    ],
    ids=["none", "a type", "its cause", "a path", "a key is data"],
)
def test_a_fallback_names_types_and_paths_only(
    heard: list[Event], error: BaseException | None, text: str | None
) -> None:
    """A fallback tells what kind of error there was and where, and no value of anybody's."""
    tell_fallback("app.fn", Strategy.PROCESSES, Strategy.SERIAL, Reason.UNPICKLABLE, error, 12)
    assert [event.as_dict() for event in heard] == [
        {
            "from_strategy": "processes",
            "to_strategy": "serial",
            "reason": "unpicklable",
            "fn": "app.fn",
            "error": text,
            "n_items": 12,
        }
    ]


def test_guidance_is_given_once(heard: list[Event]) -> None:
    """Each topic is told once in a process, from however many threads, until it is forgotten."""
    in_threads(lambda: tell_guidance("thread_safe", "thread_safe=True would be about 1.8× faster", "app.fn"))
    tell_guidance("min_speedup", "lower it", "app.fn")
    assert [event.as_dict()["topic"] for event in heard] == ["thread_safe", "min_speedup"]
    forget_guidance()
    tell_guidance("thread_safe", "again", "app.fn")
    assert len(heard) == 3


def test_guidance_waits_for_a_listener(heard: list[Event]) -> None:
    """Guidance that nobody could hear is still to be told."""
    sinks, telemetry._sinks = telemetry._sinks, ()
    tell_guidance("thread_safe", "thread_safe=True", "app.fn")
    telemetry._sinks = sinks
    tell_guidance("thread_safe", "thread_safe=True", "app.fn")
    assert len(heard) == 1


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_timeout_is_told_with_its_times(heard: list[Event], is_killed: bool) -> None:
    """A timeout is a warning that names item, age and limit, and whether it has cost a worker."""
    tell_timeout("app.fn", 3, 2.25, 2.0, is_killed=is_killed)
    (event,) = heard
    assert (event.event, event.level) == ("item.timed_out", logging.WARNING)
    assert event.as_dict() == {"fn": "app.fn", "item": 3, "age_s": 2.25, "limit_s": 2.0, "is_killed": is_killed}


@pytest.mark.parametrize(
    ("begun", "item"), [(0, 0), (17, 17), (17 | PACKED, None), (LOADING, None), (UNPACKING, None), (OVER, None)]
)
def test_a_death_names_the_item_if_there_was_one(heard: list[Event], begun: int, item: int | None) -> None:
    """What a worker that died was on is told as an item's index, or as none where no item was executed."""
    tell_death("app.fn", -11, begun, "why")
    tell_retry("app.fn", 17, 1)
    died, retried = (event.as_dict() for event in heard)
    assert died == {"fn": "app.fn", "exit_code": -11, "signal": "SIGSEGV", "item": item, "cause": "why"}
    assert retried == {"fn": "app.fn", "item": 17, "deaths": 1}


def a_tally(**counts: Any) -> Tally:
    """Return a tally with these counts."""
    tally = Tally()
    for name, count in counts.items():
        setattr(tally, name, count)
    return tally


def test_the_end_is_told_in_honest_numbers(heard: list[Event]) -> None:
    """Submitted is completed + failed + cancelled; one busy worker of two is half used; the estimate stands beside."""
    tally = a_tally(submitted=10, completed=6, failed=1, retried=2, busy_s=4.0, capacity_s=8.0, peak_in_flight=5)
    tell_end(a_decision(estimated_s=2.5), CallOptions(strategy=Strategy.AUTO, label="nightly"), tally, 4.0, 0.5)
    (told,) = heard
    assert told == RunFinished(
        fn="app.fn",
        strategy="processes",
        tasks_submitted=10,
        tasks_completed=6,
        tasks_failed=1,
        tasks_cancelled=3,
        tasks_retried=2,
        wall_s=4.0,
        wait_s=0.5,
        busy_s=4.0,
        worker_utilisation_pct=50.0,
        estimated_s=2.5,
        speedup_estimate=1.0,
        peak_in_flight=5,
        label="nightly",
    )


def test_a_run_of_no_time_has_an_end_too(heard: list[Event]) -> None:
    """A clock too coarse to see a run doesn't divide by zero."""
    tell_end(a_decision(), AUTO, Tally(), 0.0, 0.0)
    assert [(event.worker_utilisation_pct, event.speedup_estimate) for event in heard if isinstance(event, RunFinished)] == [
        (0.0, 0.0)
    ]


class NoWorkers:
    lanes = ()
    n_started = 3
    start_failures = 2


def test_runs_add_up_to_a_session() -> None:
    """A session's statistics are the sums of its runs, with decisions by strategy, fallbacks by reason and the queue."""
    first = a_tally(submitted=4, completed=3, failed=1, busy_s=3.0, capacity_s=4.0, peak_in_flight=2)
    first.note_decision(Strategy.PROCESSES)
    first.note_fallback(Reason.UNPICKLABLE)
    first.note_fallback(Reason.UNPICKLABLE)
    second = a_tally(submitted=2, completed=1, retried=1, crashes=1, busy_s=1.0, capacity_s=4.0, peak_in_flight=1)
    second.note_decision(Strategy.PROCESSES)
    second.note_decision(Strategy.SERIAL)
    second.note_fallback(Reason.START_FAILED)
    session = Tally()
    session.add(first)
    session.add(second)
    pool: Any = NoWorkers()
    statistics = snapshot(session, pool, queued=5)
    assert dataclasses.asdict(statistics) == {
        "submitted": 6,
        "completed": 4,
        "failed": 1,
        "cancelled": 1,
        "retried": 1,
        "fallbacks": {Reason.UNPICKLABLE: 2, Reason.START_FAILED: 1},
        "decisions": {Strategy.PROCESSES: 2, Strategy.SERIAL: 1},
        "queued": 5,
        "busy_s": 4.0,
        "utilisation_pct": 50.0,
        "workers": (),
        "workers_started": 3,
        "workers_crashed": 1,
        "state": "open",
        "pending": 0,
        "refused": 0,
        "start_failures": 2,
        "shared_bytes": 0,
    }
    assert session.peak_in_flight == 2


def test_a_snapshot_stays_as_it_is() -> None:
    """What a session does later doesn't change a snapshot taken before, whose counts by kind are its own."""
    session, run = Tally(), Tally()
    run.note_decision(Strategy.SERIAL)
    session.add(run)
    pool: Any = NoWorkers()
    statistics = snapshot(session, pool)
    session.add(run)
    assert statistics.decisions == {Strategy.SERIAL: 1}
    assert snapshot(session, pool).decisions == {Strategy.SERIAL: 2}


def test_a_session_that_did_nothing_used_nothing() -> None:
    """Utilisation is 0 before the first run."""
    assert Tally().utilisation_pct == 0.0


def test_runs_add_up_in_threads() -> None:
    """Runs that end in several threads at once are all counted."""
    session, run = Tally(), a_tally(submitted=1, completed=1)
    run.note_decision(Strategy.THREADS)
    in_threads(lambda: [session.add(run) for _ in range(500)])
    assert (session.submitted, session.completed, session.decisions) == (4000, 4000, {Strategy.THREADS: 4000})
