"""worker/execute.py and worker/task.py: executing the items of one chunk, and what user code may ask meanwhile."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

import offloop
from offloop.deciding.seeding import Seeded
from offloop.errors import AsyncFunctionError, TaskCancelled
from offloop.strategies.base import Chunk
from offloop.wire.frames import Flag
from offloop.wire.status_page import (
    BUSY,
    CANCEL,
    DONE,
    ITEM,
    OVER,
    PACKED,
    SINCE,
    SIZE,
    SPENT,
    Spent,
    last_begun,
    new_page,
)
from offloop.worker.execute import Rest, execute
from offloop.worker.interrupt import Guard
from offloop.worker.task import Task

EPOCH = 5


class Outcomes:
    """Keeps what is emitted, in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Any]] = []
        self.gathered: list[tuple[int, list[Any]]] = []

    def gather(self, start: int, values: list[Any]) -> None:
        """Keep where the next outcomes are put."""
        self.gathered.append((start, values))

    def values(self, start: int, values: list[Any], elapsed_ns: int) -> None:
        """Keep values."""
        assert elapsed_ns >= 0
        self.seen.extend(enumerate(values, start))

    def failure(self, index: int, error: BaseException) -> None:
        """Keep a failure."""
        self.seen.append((index, type(error)))

    def all(self, rest: Rest) -> list[tuple[int, Any]]:
        """Return everything, the rest included."""
        return [*self.seen, *enumerate(rest.values, rest.start)]


@pytest.fixture
def words() -> memoryview:
    """A status page."""
    return new_page(bytearray(SIZE))


def run(
    words: memoryview, fn: Any, items: Any, *, flags: int = 0, budget_ns: int = 0, state: Any = None, **more: Any
) -> Any:
    """Execute items from index 10 on and return their outcomes."""
    outcomes = Outcomes()
    task = Task(words, EPOCH, state, False, Guard())
    rest = execute(fn, items, start=10, flags=flags, budget_ns=budget_ns, task=task, emit=outcomes, **more)
    return outcomes.all(rest)


def test_outcomes_come_in_order(words: memoryview) -> None:
    """Every item has one outcome under its index; one that fails doesn't stop the others."""
    found = run(words, lambda number: 6 // number, [1, 0, 3, 0, 0, 6])
    assert found == [(10, 6), (11, ZeroDivisionError), (12, 2), (13, ZeroDivisionError), (14, ZeroDivisionError), (15, 1)]


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), StopIteration(), GeneratorExit()])
def test_no_exception_ends_the_worker(words: memoryview, error: BaseException) -> None:
    """Whatever an item raises is that item's failure alone."""

    def fail(number: int) -> int:
        if number == 2:
            raise error
        return number

    assert run(words, fail, [1, 2, 3]) == [(10, 1), (11, type(error)), (12, 3)]


def test_items_are_passed_as_the_flags_say(words: memoryview) -> None:
    """An item is one argument, or several, or comes with its index for its random numbers."""
    assert run(words, str, [(1, 2)]) == [(10, "(1, 2)")]
    assert run(words, pow, [(2, 3)], flags=Flag.STAR) == [(10, 8)]

    def draw(item: str, rng: np.random.Generator) -> float:
        return float(rng.random())

    expected = np.random.default_rng(np.random.SeedSequence(7).spawn(12)[11]).random()
    assert run(words, Seeded(draw, 7), "ab", flags=Flag.SEEDED)[1] == (11, expected)


def test_a_returned_coroutine_is_a_failure(words: memoryview) -> None:
    """A function that returns a coroutine fails with what to do, and the coroutine is closed."""

    async def work(number: int) -> int:
        return number

    assert run(words, lambda number: work(number), [1]) == [(10, AsyncFunctionError)]


def test_a_cancelled_chunk_begins_no_more_items(words: memoryview, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is looked whether to go on, no item of a cancelled chunk is begun; those before keep their outcome."""
    monkeypatch.setattr("offloop.worker.execute._LOOK_NS", 0)

    def cancel_at(number: int) -> int:
        if number == 2:
            words[CANCEL] = EPOCH
        return number

    assert run(words, cancel_at, [1, 2, 3, 4]) == [(10, 1), (11, 2)]


def test_checkpoint_stops_a_cancelled_item(words: memoryview) -> None:
    """checkpoint() raises in an item whose run is cancelled, past `except Exception`, and that item has no outcome."""
    passed: list[str] = []

    def work(number: int) -> int:
        assert not offloop.is_cancelled()
        offloop.checkpoint()
        words[CANCEL] = EPOCH
        assert offloop.is_cancelled()
        try:
            offloop.checkpoint()
        except Exception:
            passed.append("caught")
        passed.append("went on")
        return number

    assert run(words, work, [1, 2]) == []
    assert passed == []


@pytest.mark.parametrize("epoch", [0, EPOCH - 1])
def test_an_earlier_cancellation_does_not_count(words: memoryview, epoch: int) -> None:
    """A cancellation that was meant for an earlier chunk of the lane leaves this one alone."""
    words[CANCEL] = epoch
    assert run(words, lambda n: (n, offloop.is_cancelled()), [1]) == [(10, (1, False))]


def test_the_page_names_the_item(words: memoryview) -> None:
    """While an item executes the status page names it; afterwards it says that the chunk is over, and what it took."""
    seen = run(words, lambda _: last_begun(words[ITEM], EPOCH), range(3))
    assert seen == [(10, 10), (11, 11), (12, 12)]
    assert last_begun(words[ITEM], EPOCH) == OVER
    assert words[DONE] == 3
    assert words[BUSY] > 0


def test_a_chunk_over_its_budget_hands_back_the_rest(words: memoryview) -> None:
    """A chunk that has run for its budget begins no further item; without a budget it does."""
    assert run(words, lambda n: sum(range(100_000)) and n, range(50), budget_ns=1) == [(10, 0)]
    assert len(run(words, lambda n: n, range(50))) == 50


@pytest.mark.parametrize(("in_worker", "seen"), [(True, [0, 1, 2]), (False, [0, 0, 0])])
def test_outcomes_of_a_long_chunk_leave_early(words: memoryview, in_worker: bool, seen: list[int]) -> None:
    """In a worker outcomes don't wait for the end of a long chunk, so that a crash loses little; here none is to fear."""
    outcomes = Outcomes()
    early: list[int] = []

    def work(number: int) -> int:
        early.append(len(outcomes.seen))
        end = number_of_ns() + 25_000_000
        while number_of_ns() < end:
            pass
        return number

    task = Task(words, EPOCH, None, in_worker, Guard())
    execute(work, range(3), start=0, flags=0, budget_ns=0, task=task, emit=outcomes)
    assert early == seen


def number_of_ns() -> int:
    """Return the time of the clock that the worker reads."""
    from time import monotonic_ns

    return monotonic_ns()


def test_the_state_is_there_for_items_alone(words: memoryview) -> None:
    """worker_state() is what worker_init returned, inside an item; outside there is none, and no cancellation."""
    assert run(words, lambda _: offloop.worker_state(), [0], state="model") == [(10, "model")]
    assert offloop.worker_state() is None
    assert not offloop.is_cancelled()
    offloop.checkpoint()


def test_this_process_is_no_worker(words: memoryview) -> None:
    """in_worker() tells a worker process from this one, even for items that run here."""
    assert run(words, lambda _: offloop.in_worker(), [0]) == [(10, False)]


def test_cancellation_is_no_exception_of_the_user(words: memoryview) -> None:
    """A TaskCancelled ends a chunk that is to stop, instead of failing its item."""

    def work(number: int) -> int:
        words[CANCEL] = EPOCH
        raise TaskCancelled

    assert run(words, work, [1, 2]) == []


def test_a_cancellation_of_the_users_own_is_a_failure(words: memoryview) -> None:
    """A TaskCancelled that user code raises where nothing is to stop fails its item, and the next ones follow."""

    def work(number: int) -> int:
        if number == 2:
            raise TaskCancelled
        return number

    assert run(words, work, [1, 2, 3]) == [(10, 1), (11, TaskCancelled), (12, 3)]


def test_whatever_an_item_makes_of_an_interrupt_it_has_stopped(
    words: memoryview, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An item that is to stop and raises something else has stopped: it has no outcome, and none is begun after it."""
    monkeypatch.setattr("offloop.worker.execute._LOOK_NS", 0)

    def work(number: int) -> int:
        words[CANCEL] = EPOCH
        try:
            offloop.checkpoint()
        except TaskCancelled:
            raise ValueError from None
        return number

    assert run(words, work, [1, 2]) == []


def test_a_spent_worker_begins_no_more_items(words: memoryview, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a worker is to be replaced no item is begun on it; those before keep their outcome."""
    monkeypatch.setattr("offloop.worker.execute._LOOK_NS", 0)

    def work(number: int) -> int:
        if number == 2:
            words[SPENT] = Spent.MEMORY
        return number

    assert run(words, work, [1, 2, 3, 4]) == [(10, 1), (11, 2)]


@pytest.mark.parametrize(("most", "executed"), [(None, 4), (9, 4), (4, 4), (3, 3), (1, 1), (0, 0)])
@pytest.mark.parametrize("flags", [0, Flag.SEEDED])
def test_no_more_items_are_begun_than_may_be(words: memoryview, most: int | None, executed: int, flags: int) -> None:
    """A worker that may execute so many more items hands the others back."""
    fn = Seeded(lambda item, rng: item, 7) if flags else abs
    assert run(words, fn, range(4), flags=flags, most=most) == [(10 + i, i) for i in range(executed)]


def test_where_items_have_a_limit_each_has_its_beginning(words: memoryview) -> None:
    """With a time limit the page says since when its item executes; without one, since when the chunk does."""
    since = {}
    for flags in (0, Flag.TIMED):

        def work(_: int) -> int:
            begun, end = words[SINCE], number_of_ns() + 1_000_000
            while number_of_ns() < end:
                pass
            return begun

        since[flags] = [begun for _, begun in run(words, work, range(3), flags=flags)]
    assert since[0][0] == since[0][1] == since[0][2]
    first, second, third = since[Flag.TIMED]
    assert second - first >= 1_000_000
    assert third - second >= 1_000_000
    assert last_begun(words[ITEM], EPOCH) == OVER
    assert words[SINCE] - third >= 1_000_000


@pytest.mark.parametrize("in_worker", [True, False])
def test_the_page_says_which_items_were_executed(words: memoryview, in_worker: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """While outcomes are made ready the page names no item, but the one behind those that have been executed."""
    monkeypatch.setattr("offloop.worker.execute.FLUSH_NS", 0)
    monkeypatch.setattr("offloop.worker.execute._LOOK_NS", 0)
    noted: list[tuple[str, int, int | None]] = []

    class Noting(Outcomes):
        """Notes what the page says as outcomes are taken."""

        def values(self, start: int, values: list[Any], elapsed_ns: int) -> None:
            """Keep values."""
            noted.append(("values", start + len(values), last_begun(words[ITEM], EPOCH)))
            super().values(start, values, elapsed_ns)

        def failure(self, index: int, error: BaseException) -> None:
            """Keep a failure."""
            noted.append(("failure", index, last_begun(words[ITEM], EPOCH)))
            super().failure(index, error)

    task = Task(words, EPOCH, None, in_worker, Guard())
    rest = execute(lambda n: 6 // n, [1, 2, 0, 3], start=10, flags=0, budget_ns=0, task=task, emit=Noting())
    assert rest.start + len(rest.values) == 14
    one_by_one = [("values", 11, 11 | PACKED), ("values", 12, 12 | PACKED)]
    before_failing = [("values", 12, 13 | PACKED)]  # the item that failed was executed too
    assert noted == [*(one_by_one if in_worker else before_failing), ("failure", 12, 12)]


def test_the_longest_item_is_told(words: memoryview) -> None:
    """The end of a chunk tells how long its longest item took, and how long all of them."""

    def work(number: int) -> None:
        end = number_of_ns() + number * 1_000_000
        while number_of_ns() < end:
            pass

    task = Task(words, EPOCH, None, True, Guard())
    rest = execute(work, [1, 8, 2], start=0, flags=0, budget_ns=0, task=task, emit=Outcomes())
    assert 8_000_000 <= rest.longest_ns <= rest.elapsed_ns - 3_000_000
    assert (rest.gil_held, rest.stall_ns) == (None, 0)


class FakeWatch:
    """Says that the GIL was held for half of the time."""

    stall_s = 0.25
    n_stopped = 0

    def stop(self) -> float:
        """Count the end."""
        self.n_stopped += 1
        return 0.5


@pytest.mark.parametrize("error", [None, ValueError, TaskCancelled])
def test_what_was_watched_is_told(words: memoryview, error: type[BaseException] | None) -> None:
    """The end of a chunk tells how the GIL was held, and the watch is over however the items fared."""

    def work(number: int) -> int:
        if error is not None:
            raise error
        return number

    watch: Any = FakeWatch()
    task = Task(words, EPOCH, None, True, Guard())
    rest = execute(work, [1], start=0, flags=0, budget_ns=0, task=task, emit=Outcomes(), watch=watch)
    assert (rest.gil_held, rest.stall_ns, watch.n_stopped) == (0.5, 250_000_000, 1)


def test_items_that_were_taken_back_are_not_begun(words: memoryview) -> None:
    """Whoever holds the lock of the items behind the first one executes them: here somebody else."""
    lock = threading.Lock()
    with lock:
        assert run(words, lambda number: number, range(5), others=lock) == [(10, 0)]


def test_items_that_were_not_taken_back_follow(words: memoryview) -> None:
    """Otherwise they are executed, and nobody can take them back any more."""
    chunk = Chunk(10, list(range(5)))
    chunk.others = threading.Lock()
    assert run(words, lambda number: number, chunk.items, others=chunk.others) == list(zip(range(10, 15), range(5), strict=True))
    assert chunk.take_others() is None


def test_items_are_taken_back_once() -> None:
    """The run gets all but the first, and the chunk is down to that one."""
    chunk = Chunk(10, [7, 8, 9])
    chunk.others = threading.Lock()
    others = chunk.take_others()
    assert others is not None
    assert (others.start, list(others.items), chunk.items) == (11, [8, 9], [7])
    assert chunk.take_others() is None
    assert Chunk(10, [7, 8]).take_others() is None


def test_a_budget_that_is_used_up_before_lets_nothing_begin(words: memoryview) -> None:
    """A budget may count from when the chunk was sent: behind a long one it comes back as it is."""
    assert run(words, lambda number: number, range(3), budget_ns=1000, sent_ns=time.monotonic_ns() - 2000) == []
