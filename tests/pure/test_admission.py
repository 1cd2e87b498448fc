"""admission.py: who may come in, who is refused, and what is told of that."""

from __future__ import annotations

import math
from collections.abc import Iterator
from threading import Thread
from typing import Any

import anyio
import pytest

import workloads as w
from offloop import admission
from offloop.admission import Admission
from offloop.errors import Overloaded
from offloop.model import Strategy
from offloop.options import CallOptions, Priority
from offloop.settings import ParallelConfig
from offloop.strategies.base import ORDINARY, Place


class FakeBackend:
    """Lanes with so much to do."""

    def __init__(self, backlog_s: float = 0.0, interactive_s: float = 0.0, limit: int = 2) -> None:
        self.backlog_s, self.interactive_s, self.limit = backlog_s, interactive_s, limit


class FakeCaller:
    """A call of a function."""

    name = "app.fn"

    def __init__(self, n_bytes: float = 0.0, label: str | None = None) -> None:
        self.n_bytes, self.label = n_bytes, label


def made(workers: FakeBackend | None = None, **settings: Any) -> Admission:
    """Return the admission of a session."""
    backend: Any = workers or FakeBackend()
    return Admission(ParallelConfig(**settings), backend)


def place(
    backend: FakeBackend,
    *,
    max_wait_s: float | None = None,
    priority: Priority = "interactive",
    flow: object = None,
    cost_s: float = 0.001,
    session: Admission | None = None,
) -> Place:
    """Return the place of a call in line for a backend."""
    options = CallOptions(strategy=Strategy.AUTO, max_wait_s=max_wait_s, priority=priority)
    lanes: Any = backend
    session = session or made(backend)
    return session.place(FakeCaller(), options, flow, cost_s, session.wait_s(lanes, options), 3)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time that admission sees, to be changed."""
    now = [1000.0]
    monkeypatch.setattr(admission, "monotonic", lambda: now[0])
    yield now
    monkeypatch.undo()


@pytest.mark.parametrize("settings", [{"max_pending": 4}, {"max_pending_bytes": 100}], ids=lambda settings: next(iter(settings)))
def test_limits_are_the_settings(settings: dict[str, int]) -> None:
    """By default there are none; a time that calls may wait is not one to their number."""
    assert not made().is_limited
    assert not made(max_wait_s=1.0).is_limited
    session = made(**settings)
    assert session.is_limited
    assert {"max_pending": session.most, "max_pending_bytes": session.most_bytes}.items() >= settings.items()


# --- how long --------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_who_need_not_wait_has_an_ordinary_place(anyio_backend: object) -> None:
    """A cheap single call without a label or a limit has the place of all of them, made once."""
    assert place(FakeBackend()) is place(FakeBackend(1.0, 1.0)) is ORDINARY


@pytest.mark.anyio
async def test_who_has_a_share_of_their_own_has_a_place_of_their_own(anyio_backend: object) -> None:
    """A label, a cost and being one of many make a place differ."""
    assert place(FakeBackend(), flow="label") == Place("label", 0.001, True, math.inf)
    assert place(FakeBackend(), cost_s=0.02) == Place(None, 0.02, True, math.inf)
    assert place(FakeBackend(), priority="batch") == Place(None, 0.001, False, math.inf)


@pytest.mark.anyio
@pytest.mark.parametrize(("backlog_s", "is_refused"), [(0.0, False), (0.79, False), (0.81, True), (50.0, True)])
async def test_who_would_wait_for_too_long_is_refused_at_once(
    anyio_backend: object, clock: list[float], backlog_s: float, is_refused: bool
) -> None:
    """By what is before them, over all lanes, against four fifths of the limit; who comes in has until that."""
    backend = FakeBackend(backlog_s * 2, backlog_s * 2)
    if not is_refused:
        assert place(backend, max_wait_s=1.0).until == 1001.0
        return
    session = made(backend)
    with pytest.raises(Overloaded) as refused:
        place(backend, max_wait_s=1.0, session=session)
    error = refused.value
    assert (error.why, error.pending, error.limit, error.retry_after_s) == ("max_wait_s", 3, 1.0, pytest.approx(backlog_s))
    assert session.refused == 1


@pytest.mark.anyio
async def test_what_goes_behind_does_not_count(anyio_backend: object) -> None:
    """A single call doesn't wait for maps, whose backlog may be hours; a map waits for both."""
    backend = FakeBackend(backlog_s=7200.0, interactive_s=0.1)
    assert place(backend, max_wait_s=1.0).is_interactive
    with pytest.raises(Overloaded, match="max_wait_s=1"):
        place(backend, max_wait_s=1.0, priority="batch")


@pytest.mark.anyio
@pytest.mark.parametrize(("wait_s", "is_refused"), [(19.0, False), (21.0, True)])
async def test_the_deadline_of_the_caller_counts(anyio_backend: object, clock: list[float], wait_s: float, is_refused: bool) -> None:
    """Who would wait for twice the time of their own cancel scope is refused where there are limits; else they wait until then."""
    backend = FakeBackend(wait_s * 2, wait_s * 2)
    with anyio.fail_after(10), anyio.fail_after(1e6):
        assert place(backend).latest == pytest.approx(1010.0, abs=1.0)  # without limits their own scope is enough
        if not is_refused:
            assert place(backend, session=made(max_pending=9)).until == pytest.approx(1010.0, abs=1.0)
            return
        with pytest.raises(Overloaded) as refused:
            place(backend, session=made(max_pending=9))
        with pytest.raises(Overloaded):
            place(backend, max_wait_s=1e6)
    assert (refused.value.why, refused.value.limit) == ("deadline", pytest.approx(10, abs=1.0))


@pytest.mark.anyio
async def test_who_is_cancelled_already_is_not_refused(anyio_backend: object) -> None:
    """They find out as they wait: a refusal would tell them something else."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        assert place(FakeBackend(5.0, 5.0), session=made(max_pending=9)).until == -math.inf
        assert place(FakeBackend()) is ORDINARY


@pytest.mark.anyio
async def test_the_nearest_of_both_limits_holds(anyio_backend: object, clock: list[float]) -> None:
    """A caller's deadline doesn't put off the end of the waiting, nor the other way round."""
    backend = FakeBackend(0.1, 0.1)
    with anyio.fail_after(60):
        assert place(backend, max_wait_s=2.0).until == 1002.0
    with anyio.fail_after(20):
        assert place(backend, max_wait_s=600.0).until == pytest.approx(1020.0, abs=1.0)


@pytest.mark.anyio
async def test_no_lane_is_given_that_would_come_too_late(anyio_backend: object, clock: list[float]) -> None:
    """A call that takes 3 s must begin 3 s before its caller's deadline; one whose cost is thought too high may, by half the time."""
    backend = FakeBackend(1.0, 1.0)
    with anyio.fail_after(60):
        assert place(backend, cost_s=3.0).latest == pytest.approx(1057.0, abs=1.0)
        assert place(backend, cost_s=500.0).latest == pytest.approx(1030.0, abs=1.0)
        assert place(backend, cost_s=3.0, session=made(max_pending=9)).until == pytest.approx(1057.0, abs=1.0)


@pytest.mark.anyio
async def test_who_has_no_limits_is_never_too_late(anyio_backend: object) -> None:
    """A deadline alone puts a call behind others, for it may be moved, and a cost may be wrong; with limits it ends the waiting."""
    with anyio.fail_after(60):
        assert place(FakeBackend(1.0, 1.0)).until == math.inf
        assert place(FakeBackend(1.0, 1.0), session=made(max_pending=9)).until < math.inf
        assert place(FakeBackend(1.0, 1.0), max_wait_s=9.0).until < math.inf


def test_estimates_follow_how_long_calls_have_waited() -> None:
    """Where calls wait twice as long as their costs say, so will the next; a single odd one changes little, and short waits nothing."""
    session = made()
    lanes: Any = FakeBackend(4.0, 4.0)
    options = CallOptions(strategy=Strategy.AUTO, priority="interactive")
    assert session.wait_s(lanes, options) == 2.0
    session.waited(0.001, 5.0)
    assert session.wait_s(lanes, options) == 2.0
    session.waited(2.0, 4.0)
    assert 2.0 < session.wait_s(lanes, options) < 2.2
    for _call in range(200):
        expected_s = session.wait_s(lanes, options)
        session.waited(expected_s, 4.0)
    assert session.wait_s(lanes, options) == pytest.approx(4.0, rel=0.05)


# --- what is told ----------------------------------------------------------------------------------------------------


def test_a_refusal_says_when_to_come_again() -> None:
    """After what calls under way are estimated to take over all workers, and never at once."""
    assert made(FakeBackend(30.0, 1.0, limit=4)).refuse(FakeCaller(), "max_pending", 7, 7).retry_after_s == 7.5
    assert made(FakeBackend()).refuse(FakeCaller(), "max_pending", 7, 7).retry_after_s == 0.1


def test_refusals_are_told_of_at_most_once_a_second(clock: list[float]) -> None:
    """The first at once, others with the next that is told, and none is left out of the count."""
    session = made(FakeBackend(4.0))
    with w.heard("session.overloaded") as told:
        for seconds in (0.0, 0.0, 0.9, 1.1, 1.5, 2.5):
            clock[0] = 1000.0 + seconds
            session.refuse(FakeCaller(label="tenant\n\x1b[31m7"), "max_pending", 5, 5)
    assert [event.n_refused for event in told] == [1, 3, 2]
    assert session.refused == 6
    event = told[0]
    assert (event.fn, event.why, event.pending, event.limit, event.retry_after_s) == ("app.fn", "max_pending", 5, 5, 2.0)
    assert event.label == r"tenant\n\x1b[31m7"


def test_refusals_in_threads_are_all_counted() -> None:
    """Sessions are used from several event loops."""
    session = made()
    threads = [Thread(target=lambda: [session.refuse(FakeCaller(), "max_pending", 1, 1) for _ in range(200)]) for _ in range(4)]
    with w.heard("session.overloaded") as told:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert session.refused == 800
    assert 1 <= sum(event.n_refused for event in told) <= 800
