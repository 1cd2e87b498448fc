"""accounts.py: what becomes of a run's items."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.accounts import Accounts
from offloop.deciding.costs import Cost
from offloop.errors import (
    AsyncFunctionError,
    ItemTimeout,
    UnpicklableFunction,
    UnpicklableItem,
    UnpicklableResult,
    WorkerCrashed,
    WorkerStartError,
)
from offloop.model import Reason, Strategy
from offloop.options import CallOptions, OnError
from offloop.queueing import Queue
from offloop.sources import source_of
from offloop.strategies.base import Chunk, Expired, LaneLost, Measured, Outcomes, TimeLimit
from offloop.tally import Tally
from offloop.wire.status_page import LOADING, OVER, PACKED, UNPACKING

LIMIT = TimeLimit(2.0, 1.0)


class FakeJob:
    """A function with a name."""

    name = "app.fn"


class Books:
    """The accounts of a run, with a sink that refuses to store an item twice."""

    def __init__(self, n_items: int, *, may_stay: bool = True, retries: int = 1, on_error: OnError = "collect") -> None:
        self.queue = Queue(source_of([*range(n_items)]))
        self.stored: dict[int, Any] = {}
        self.fallbacks: list[tuple[Reason, int | None]] = []
        self.n_changes = self.n_ends = 0
        self.tally = Tally()
        options = CallOptions(strategy=Strategy.AUTO, retries=retries, on_error=on_error)
        job: Any = FakeJob()
        self.accounts = Accounts(
            job,
            options,
            self.queue,
            self.store,
            Cost(),
            self.tally,
            may_stay=may_stay,
            fell_back=lambda reason, _, n_items: self.fallbacks.append((reason, n_items)),
            changed=self.change,
            over=self.end,
        )

    def take(self, size: int) -> Chunk:
        """Take items, as a run does."""
        chunk = self.queue.take(size)
        assert chunk is not None
        chunk.limit = LIMIT
        self.tally.submitted = self.queue.n_taken
        return chunk

    def store(self, outcomes: Outcomes) -> None:
        """Keep outcomes by index."""
        for index, value in enumerate(outcomes.values, outcomes.start):
            assert index not in self.stored
            self.stored[index] = outcomes.failures.get(index, value)
        assert all(outcomes.start <= index < outcomes.start + len(outcomes.values) for index in outcomes.failures)

    def change(self) -> None:
        """Count a change."""
        self.n_changes += 1

    def end(self) -> None:
        """Count an end."""
        self.n_ends += 1

    @property
    def stuck(self) -> list[int]:
        """Indexes of the items that can't leave this process."""
        return [index for chunk in self.queue.stuck for index in range(chunk.start, chunk.end)]

    def back(self) -> list[tuple[int, int, int]]:
        """Return start, end and deaths of what came back, in order; it is then no longer there."""
        found = []
        while self.queue.has_back:
            chunk = self.queue.take_back()
            assert list(chunk.items) == list(range(chunk.start, chunk.end))
            found.append((chunk.start, chunk.end, chunk.deaths))
        return found


def unpicklable(kind: type[Exception]) -> Exception:
    """Return an error of a kind, whatever it is told."""
    return kind("x", "x", "y", "f") if issubclass(kind, UnpicklableItem | UnpicklableResult) else kind()


# --- outcomes --------------------------------------------------------------------------------------------------------

KINDS = st.sampled_from([UnpicklableItem, UnpicklableResult, ValueError])


@given(
    st.integers(0, 5),
    st.integers(1, 12),
    st.dictionaries(st.integers(0, 11), KINDS),
    st.integers(0, 1),
    st.booleans(),
)
def test_every_item_is_stored_or_stuck(
    before: int, n_items: int, failing: dict[int, type[Exception]], retries: int, may_stay: bool
) -> None:
    """Of outcomes that come together each is either stored under its index or executes in this process, exactly once."""
    books = Books(40, retries=retries, may_stay=may_stay)
    if before:
        books.take(before)
    chunk = books.take(n_items)
    failures = {chunk.start + i: unpicklable(kind) for i, kind in sorted(failing.items()) if i < n_items}
    values = [None if index in failures else index * 10 for index in range(chunk.start, chunk.end)]
    report: Any = type("FakeReport", (), {"measured": type("FakeMeasured", (), {"result_bytes": 0, "in_file": 0})})
    books.accounts.take_in(chunk, report, Outcomes(chunk.start, values, dict(failures)), 0.0)

    stuck = [
        index
        for index, error in failures.items()
        if may_stay and (type(error) is UnpicklableItem or (type(error) is UnpicklableResult and retries))
    ]
    assert books.stuck == stuck
    assert books.stored == {
        index: failures.get(index, index * 10) for index in range(chunk.start, chunk.end) if index not in stuck
    }
    assert (books.tally.failed, books.tally.done) == (len(failures) - len(stuck), n_items - len(stuck))
    assert all(list(part.items) == list(range(part.start, part.end)) for part in books.queue.stuck)
    assert books.fallbacks == ([(Reason.UNPICKLABLE, 1)] if stuck else [])


@pytest.mark.parametrize(
    ("on_error", "error", "ends"),
    [
        ("raise", ValueError(), True),
        ("group", ValueError(), False),
        ("collect", ValueError(), False),
        ("collect", AsyncFunctionError("f"), True),  # so would all the others
    ],
)
def test_a_failure_ends_what_it_should(on_error: OnError, error: Exception, ends: bool) -> None:
    """A failure ends the run where it is to be raised, and is kept like a result elsewhere."""
    books = Books(9, on_error=on_error)
    books.take(3)
    books.accounts.store(Outcomes(0, [1, None, 3], {1: error}))
    assert (books.accounts.error is error, books.accounts.is_over) == (ends, ends)
    assert books.stored == {0: 1, 1: error, 2: 3}
    assert (books.tally.completed, books.tally.failed, books.tally.cancelled) == (2, 1, 0)


def test_the_first_failure_is_raised() -> None:
    """Of several failures that come together the one with the lowest index ends the run, and later ones don't replace it."""
    books = Books(9, on_error="raise")
    books.take(3)
    first, second = ValueError(1), ValueError(2)
    books.accounts.store(Outcomes(0, [None, None], {1: second, 0: first}))
    books.accounts.store(Outcomes(2, [None], {2: ValueError(3)}))
    assert books.accounts.error is first


def test_a_run_is_over_with_its_last_outcome() -> None:
    """The end is told when every item of the source has its outcome, and not before."""
    books = Books(3)
    books.take(2)
    books.accounts.store(Outcomes(0, [0, 1], {}))
    assert (books.n_ends, books.accounts.is_over) == (0, False)
    books.take(1)
    books.accounts.store(Outcomes(2, [2], {}))
    assert (books.n_ends, books.accounts.is_over) == (1, True)


# --- what can't travel -----------------------------------------------------------------------------------------------


@given(st.integers(0, 5), st.integers(1, 12), st.sets(st.integers(0, 11)), st.booleans())
def test_bad_items_are_taken_out(before: int, n_items: int, bad: set[int], may_stay: bool) -> None:
    """Items that can't be pickled execute here or fail, and the others go back, each exactly once."""
    books = Books(40, may_stay=may_stay)
    if before:
        books.take(before)
    chunk = books.take(n_items)
    errors = {chunk.start + i: unpicklable(UnpicklableItem) for i in sorted(bad) if i < n_items}
    books.accounts.refuse_items(chunk, dict(errors))
    assert books.stuck == (list(errors) if may_stay else [])
    assert books.stored == ({} if may_stay else errors)
    back = [index for start, end, _ in books.back() for index in range(start, end)]
    assert sorted(back) == [index for index in range(chunk.start, chunk.end) if index not in errors]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (WorkerStartError("it ended"), Reason.START_FAILED),
        (UnpicklableFunction("the function", "fn", "why", "f"), Reason.UNPICKLABLE),
    ],
)
def test_a_run_comes_home_once(error: Exception, reason: Reason) -> None:
    """Where no worker can execute anything the rest stays here, which is told once for a run."""
    books = Books(9)
    books.take(2)
    books.accounts.come_home(error)
    books.accounts.come_home(ValueError())
    assert books.accounts.homeward is error
    assert books.accounts.stick(Chunk(0, [0]), ValueError())
    assert (books.fallbacks, books.tally.fallbacks) == ([(reason, 7)], {reason: 1})
    assert books.accounts.error is None


def test_nothing_comes_home_where_nothing_may_stay() -> None:
    """Where nothing may execute in this process, a run fails that can't leave it, and an item can't be stuck."""
    books = Books(9, may_stay=False)
    error = WorkerStartError("it ended")
    assert not books.accounts.stick(Chunk(0, [0]), ValueError())
    books.accounts.come_home(error)
    assert (books.accounts.error, books.accounts.homeward, books.fallbacks) == (error, None, [])
    assert (books.n_ends, books.stuck) == (1, [])


# --- workers that die ------------------------------------------------------------------------------------------------


def lost(*begun: tuple[Chunk, int | None]) -> LaneLost:
    """Return the loss of a lane with these chunks in flight."""
    return LaneLost([*begun], -9)


def test_what_a_dead_worker_was_on_runs_again_alone() -> None:
    """The item that a worker died on runs again by itself, and what was not begun goes back together."""
    books = Books(20)
    one, two = books.take(5), books.take(5)
    one.done = 1
    books.accounts.recover(lost((one, 3), (two, None)))
    assert sorted(books.back()) == [(1, 3, 0), (3, 4, 1), (4, 5, 0), (5, 10, 0)]
    assert (books.tally.crashes, books.tally.retried, books.stored) == (1, 1, {})
    assert books.n_changes


def test_an_item_that_kills_again_is_lost() -> None:
    """An item that has had its retries fails with how its worker died."""
    books = Books(20)
    books.take(3)
    alone = Chunk(2, [2], deaths=1)
    books.accounts.recover(lost((alone, 2)))
    (error,) = books.stored.values()
    assert isinstance(error, WorkerCrashed)
    assert (error.first, error.last, error.exit_code, error.function) == (2, 2, -9, "app.fn")
    assert (books.back(), books.tally.failed, books.tally.retried) == ([], 1, 0)


@pytest.mark.parametrize(("begun", "may_still"), [(3, False), (UNPACKING, False), (OVER, False), (None, True)])
def test_a_function_that_has_killed_does_not_run_here(begun: int | None, may_still: bool) -> None:
    """After a worker died under the function nothing of the run may execute in this process; an idle death is no sign."""
    books = Books(20)
    chunk = books.take(5)
    books.accounts.recover(lost((chunk, begun)))
    assert books.tally.crashes == (not may_still)
    assert books.accounts.stick(Chunk(9, [9]), ValueError()) is may_still
    books.accounts.come_home(WorkerStartError("it ended"))
    assert (books.accounts.homeward is not None) is may_still
    assert (books.accounts.error is None) is may_still


def test_a_function_that_may_not_run_here_never_may() -> None:
    """A worker that died before it had begun anything is no reason to let items stay that may not."""
    books = Books(20, may_stay=False)
    books.accounts.recover(lost((books.take(5), None)))
    assert not books.accounts.stick(Chunk(9, [9]), ValueError())


@given(
    st.integers(1, 8),
    st.integers(0, 8),
    st.sampled_from([None, UNPACKING, OVER]) | st.integers(0, 7) | st.integers(0, 7).map(lambda index: index | PACKED),
    st.integers(0, 2),
    st.integers(1, 6),
    st.booleans(),
)
def test_no_item_is_lost_with_its_worker(
    n_items: int, n_done: int, begun: int | None, retries: int, n_waiting: int, is_expired: bool
) -> None:
    """Whatever a worker was on, and whether it died or was killed, each item without an outcome goes back or fails, once."""
    books = Books(40, retries=retries)
    one, two = books.take(n_items), books.take(n_waiting)
    one.done = min(n_done, n_items - 1)
    if begun is not None and begun < 8:
        begun = min(max(begun, one.done), n_items - 1)
    if is_expired:
        one.expired = Expired(begun, 2.5)
    books.accounts.recover(lost((one, begun), (two, None)))
    back = books.back()
    indexes = [index for start, end, _ in back for index in range(start, end)]
    assert sorted([*indexes, *books.stored]) == list(range(one.done, two.end))
    assert all(end == start + 1 for start, end, deaths in back if deaths)
    if begun != UNPACKING:  # of which nothing has run yet
        assert retries or not any(deaths for _, _, deaths in back)
    assert books.tally.failed == len(books.stored)
    timed_out = [error for error in books.stored.values() if isinstance(error, ItemTimeout)]
    assert len(timed_out) <= is_expired
    assert books.tally.crashes == (begun is not None and not is_expired)


@pytest.mark.parametrize(("retries", "n_deaths"), [(0, 1), (1, 2), (3, 4)])
def test_a_function_that_kills_its_workers_ends_the_run(retries: int, n_deaths: int) -> None:
    """Workers that die as they load the function count for the run, not for an item; after its retries the run fails."""
    books = Books(20, retries=retries)
    for n_before in range(n_deaths):
        assert (books.accounts.error, books.n_ends) == (None, 0)
        chunk = books.take(5) if n_before == 0 else books.queue.take_back()
        waiting = books.take(2)
        books.accounts.recover(lost((chunk, LOADING), (waiting, None)))
        if n_before < n_deaths - 1:
            assert sorted(books.back())[0] == (0, 5, 0)
            books.queue.put_back(Chunk(0, list(range(5))))
    error = books.accounts.error
    assert isinstance(error, WorkerCrashed)
    assert (error.first, error.last, error.exit_code) == (0, 4, -9)
    assert (books.tally.crashes, books.stored, books.n_ends) == (n_deaths, {}, 1)


def test_a_function_that_is_never_loaded_ends_the_run() -> None:
    """A worker that is stuck as it loads the function has its retries too; then the run times out."""
    books = Books(20)
    for _ in range(2):
        assert books.accounts.error is None
        chunk = books.take(5)
        chunk.expired = Expired(LOADING, 32.5)
        books.accounts.recover(lost((chunk, LOADING)))
    error = books.accounts.error
    assert isinstance(error, ItemTimeout)
    assert (error.limit_s, error.age_s, error.function) == (2.0, 32.5, "app.fn")
    assert books.tally.crashes == 0


# --- chunks that were cut short --------------------------------------------------------------------------------------


class FakeReport:
    """The last news of a chunk: so many more items have a value, ten times their index."""

    is_last = is_inline = True
    refused = None
    elapsed_s = 0.5
    measured = Measured()

    def __init__(self, start: int, n_items: int) -> None:
        self.start, self.n_items = start, n_items

    def outcomes(self) -> Outcomes:
        """Return the values."""
        return Outcomes(self.start, [index * 10 for index in range(self.start, self.start + self.n_items)], {})


class FakeBackend:
    """Worker processes."""

    is_remote = True


def note_end(books: Books, chunk: Chunk, n_items: int) -> None:
    """Take in the last news of a chunk, with the outcomes of so many items."""
    report: Any = FakeReport(chunk.start + chunk.done, n_items)
    backend: Any = FakeBackend()
    books.accounts.note(None, backend, chunk, report, is_alone=True)


@pytest.mark.parametrize("n_done", [0, 1, 4])
def test_what_a_chunk_has_left_goes_back(n_done: int) -> None:
    """Items that were not begun, since the chunk was over its budget or the worker spent, go back together."""
    books = Books(20)
    chunk = books.take(5)
    note_end(books, chunk, n_done)
    assert books.back() == [(n_done, 5, 0)]
    assert books.stored == {index: index * 10 for index in range(n_done)}
    assert books.tally.failed == 0


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize(("n_items", "n_done", "back"), [(5, 0, [(1, 5, 0)]), (5, 2, [(3, 5, 0)]), (5, 4, []), (1, 0, [])])
def test_an_item_whose_time_is_over_fails_alone(
    retries: int, n_items: int, n_done: int, back: list[tuple[int, int, int]]
) -> None:
    """The item that took too long has timed out, those before it keep their outcomes, and those behind it go back."""
    books = Books(20, retries=retries)
    chunk = books.take(n_items)
    chunk.expired = Expired(n_done, 2.25)
    note_end(books, chunk, n_done)
    error = books.stored.pop(n_done)
    assert isinstance(error, ItemTimeout)
    assert (error.index, error.limit_s, error.age_s, error.function) == (n_done, 2.0, 2.25, "app.fn")
    assert books.stored == {index: index * 10 for index in range(n_done)}
    assert books.back() == back
    assert (books.tally.failed, books.tally.retried, books.tally.crashes) == (1, 0, 0)


def test_an_item_that_stopped_by_itself_keeps_its_outcome() -> None:
    """An item whose time was over and that came to an end all the same has its outcome; those behind it go back."""
    books = Books(20)
    chunk = books.take(5)
    chunk.expired = Expired(2, 2.25)
    note_end(books, chunk, 3)
    assert books.stored == {0: 0, 1: 10, 2: 20}
    assert books.back() == [(3, 5, 0)]


def test_the_last_item_may_stop_by_itself() -> None:
    """A chunk that has told of all its items needs nothing, though the time of one was over."""
    books = Books(20)
    chunk = books.take(5)
    chunk.expired = Expired(4, 2.25)
    note_end(books, chunk, 5)
    assert (len(books.stored), books.back(), books.tally.failed) == (5, [], 0)


def test_items_that_can_not_be_rebuilt_in_time_go_back_one_by_one() -> None:
    """Where unpacking the items of a chunk took too long, which of them did shows as each goes alone; then it times out."""
    books = Books(20)
    chunk = books.take(3)
    chunk.expired = Expired(UNPACKING, 2.25)
    note_end(books, chunk, 0)
    assert books.stored == {}
    assert sorted(books.back()) == [(0, 1, 0), (1, 2, 0), (2, 3, 0)]
    alone = books.take(1)
    alone.expired = Expired(UNPACKING, 2.25)
    note_end(books, alone, 0)
    assert isinstance(books.stored[3], ItemTimeout)
    assert books.back() == []


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize(("on_error", "ends"), [("raise", True), ("group", False), ("collect", False)])
def test_a_timeout_is_a_failure_like_others(on_error: OnError, ends: bool, is_killed: bool) -> None:
    """A timeout ends the run where failures are to be raised, and is kept like a result elsewhere."""
    books = Books(9, on_error=on_error)
    chunk = books.take(3)
    chunk.expired = Expired(1, 2.25)
    if is_killed:
        chunk.done = 1
        books.accounts.recover(lost((chunk, 1)))
    else:
        note_end(books, chunk, 1)
    error = books.stored[1]
    assert isinstance(error, ItemTimeout)
    assert books.accounts.error is (error if ends else None)
    assert books.back() == [(2, 3, 0)]
    assert books.tally.crashes == 0


def test_a_kill_for_time_leaves_items_at_home() -> None:
    """A worker that was killed for time is no crash: what can't travel may still execute in this process."""
    books = Books(20)
    chunk = books.take(3)
    chunk.expired = Expired(0, 2.25)
    books.accounts.recover(lost((chunk, 0)))
    assert books.accounts.stick(Chunk(9, [9]), ValueError())


@given(
    st.integers(1, 8),
    st.integers(0, 8),
    st.none() | st.sampled_from([UNPACKING, LOADING, OVER]) | st.integers(0, 8) | st.integers(0, 8).map(lambda i: i | PACKED),
    st.integers(0, 2),
)
def test_no_item_is_lost_with_a_short_chunk(n_items: int, n_done: int, begun: int | None, retries: int) -> None:
    """Whatever had taken too long in a chunk that was cut short, each item has an outcome or goes back, exactly once."""
    books = Books(40, retries=retries)
    chunk = books.take(n_items)
    n_done = min(n_done, n_items)
    chunk.expired = Expired(begun, 2.25)
    note_end(books, chunk, n_done)
    back = [index for start, end, _ in books.back() for index in range(start, end)]
    assert sorted([*back, *books.stored]) == list(range(n_items))
    assert all(books.stored[index] == index * 10 for index in range(n_done))
    assert books.tally.failed == len(books.stored) - n_done <= 1
