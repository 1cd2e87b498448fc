"""Where the trials of a study execute, by what a map of them would be decided: a session that only says what it was asked."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import offloop
import workloads as w
from offloop import Decision, Reason, Strategy
from offloop.adapters.optuna.venue import Venue

AUTO, SERIAL, THREADS, PROCESSES = Strategy.AUTO, Strategy.SERIAL, Strategy.THREADS, Strategy.PROCESSES
UNKNOWN = Decision(strategy=SERIAL, reason=Reason.MEASURING, workers=1)


class Session:
    """Decides as it is told to, and notes what it is asked."""

    def __init__(self, *decisions: Decision, failing: Exception | None = None) -> None:
        self._decisions, self._failing = list(decisions), failing
        self.decided: list[tuple[int, dict[str, Any]]] = []
        self.executed: list[Any] = []

    async def decide(self, fn: Any, items: list[Any], **options: Any) -> Decision:
        self.decided.append((len(items), options))
        return self._decisions.pop(0) if len(self._decisions) > 1 else self._decisions[0]

    async def run(self, fn: Any, *args: Any, answer: Any, **options: Any) -> Any:
        self.executed.append(options.get("strategy"))
        if self._failing is not None and options.get("strategy") == PROCESSES:
            raise self._failing
        return fn(*args)


def venue_of(session: Any, **options: Any) -> Venue:
    return Venue(session, w.double, options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("decision", "room", "strategy"),
    [
        (Decision(strategy=THREADS, reason=Reason.FASTER, workers=2), 2, THREADS),
        (Decision(strategy=PROCESSES, reason=Reason.FASTER, workers=3), 3, PROCESSES),
        (Decision(strategy=PROCESSES, reason=Reason.PROTECTS_LOOP, workers=1), 1, PROCESSES),
        (Decision(strategy=SERIAL, reason=Reason.TOO_SMALL, workers=1), 1, None),
        (Decision(strategy=SERIAL, reason=Reason.CI, workers=1), 1, None),
        (Decision(strategy=SERIAL, reason=Reason.INNER_PARALLELISM, workers=1), 1, None),
    ],
    ids=lambda value: value.reason if isinstance(value, Decision) else str(value),
)
def test_trials_execute_where_a_map_of_them_would(decision: Decision, room: int, strategy: Strategy | None) -> None:
    """`auto` decides once for all trials, and each call says what was decided; what stays is left to the call."""

    async def main() -> None:
        session = Session(decision)
        venue = venue_of(session, workers=4, item_timeout_s=None)
        assert await venue.room(1, 30, 0) == room
        assert await venue.execute(21, None) == 42
        assert session.executed == [strategy]
        [(n_items, options)] = session.decided
        assert n_items == 30
        assert options == {"priority": "batch", "workers": 4, "item_timeout_s": None}

    anyio.run(main)


def test_what_was_asked_for_is_not_decided() -> None:
    """A strategy that was named stays as it was."""

    async def main() -> None:
        session = Session(Decision(strategy=PROCESSES, reason=Reason.EXPLICIT, workers=2, requested=PROCESSES))
        venue = venue_of(session, strategy="processes")
        assert await venue.room(1, 30, 0) == 2
        await venue.execute(1, None)
        assert session.executed == ["processes"]

    anyio.run(main)


def test_unknown_trials_are_measured_side_by_side() -> None:
    """As many trials as there are workers begin while none has ended, each where its call has it; then it is decided, once."""

    async def main() -> None:
        everywhere = Decision(strategy=PROCESSES, reason=Reason.EXPLICIT, workers=4, requested=PROCESSES)
        found = Decision(strategy=THREADS, reason=Reason.FASTER, workers=2)
        session = Session(UNKNOWN, everywhere, found)
        venue = venue_of(session)
        assert [await venue.room(1, 30, 0), await venue.room(1, 30, 0)] == [4, 4]
        await venue.execute(1, None)
        assert await venue.room(1, 29, 1) == 2
        await venue.execute(1, None)
        assert session.executed == [None, THREADS]
        for n_ended in range(2, 20):
            await venue.room(1, 30 - n_ended, n_ended)
        assert [n_items for n_items, _ in session.decided] == [30, 30, 29]

    anyio.run(main)


def test_unknown_trials_that_may_run_in_threads_are_measured_there() -> None:
    """With `thread_safe` no worker is started for what is not known yet; a strategy that was named holds."""

    async def main() -> None:
        for asked, used in ((AUTO, THREADS), (SERIAL, SERIAL)):
            session = Session(Decision(strategy=SERIAL, reason=Reason.MEASURING, workers=1, requested=asked))
            venue = venue_of(session, thread_safe=True, strategy=asked)
            await venue.room(1, 30, 0)
            await venue.execute(1, None)
            assert session.executed == [used]

    anyio.run(main)


def test_serial_trials_are_decided_anew() -> None:
    """Work that turns out dear is not left where it began: the decision is looked at again each time as many have ended."""

    async def main() -> None:
        session = Session(Decision(strategy=SERIAL, reason=Reason.TOO_SMALL, workers=1))
        venue = venue_of(session)
        for n_ended in range(20):
            await venue.room(1, 30 - n_ended, n_ended)
        assert [n_items for n_items, _ in session.decided] == [30, 29, 27, 23, 15]  # 0, 1, 3, 7, 15 have ended

    anyio.run(main)


@pytest.mark.parametrize(
    "error",
    [offloop.UnpicklableFunction("fn", "fn.lock", "lock", "fn"), offloop.WorkerStartError("no"), offloop.PayloadTooLarge(2, 1)],
    ids=lambda error: type(error).__name__,
)
def test_what_workers_cant_take_goes_where_its_calls_have_it(error: Exception) -> None:
    """What can't travel, or workers that don't start, leave it to each call from then on, as `auto` falls back by itself."""

    async def main() -> None:
        session = Session(Decision(strategy=PROCESSES, reason=Reason.FASTER, workers=2), failing=error)
        venue = venue_of(session)
        await venue.room(1, 30, 0)
        assert await venue.execute(21, None) == 42
        await venue.room(1, 30, 1)
        await venue.execute(21, None)
        assert session.executed == [PROCESSES, None, None]

    anyio.run(main)


def test_a_study_without_an_end_is_many_trials() -> None:
    """Where nobody knows how many trials there will be, it is decided for a thousand."""

    async def main() -> None:
        session = Session(UNKNOWN)
        await venue_of(session).room(1, float("inf"), 0)
        assert session.decided[0][0] == 1000

    anyio.run(main)
