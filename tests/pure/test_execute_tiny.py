"""worker/execute.py: items that take next to no time, which execute with next to nothing between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.deciding.seeding import Seeded
from offloop.errors import AsyncFunctionError, TaskCancelled
from offloop.wire.frames import Flag
from offloop.wire.status_page import CANCEL, DONE, ITEM, OVER, SIZE, last_begun, new_page
from offloop.worker import execute as module
from offloop.worker.execute import execute
from offloop.worker.interrupt import Guard
from offloop.worker.task import Task

from .test_execute import Outcomes

EPOCH = 5
START = 10
N = 400


class Clock:
    """A clock that goes on by as much each time that it is read."""

    def __init__(self, step_ns: int) -> None:
        self.step_ns, self.now = step_ns, 0

    def __call__(self) -> int:
        self.now += self.step_ns
        return self.now


class Batches(list[int]):
    """How many items went through the short way at a time, with the numbers of the last ones."""

    def __init__(self) -> None:
        self.last: list[int] = []


@contextmanager
def tiny_items(step_ns: int = 1000) -> Iterator[Batches]:
    """Have items appear to take a microsecond; gives how many went through the short way at a time."""
    batches = Batches()
    plain = module._execute_tiny

    def counted(fn: Any, calls: Any, values: list[Any], *rest: Any) -> None:
        before = len(values)
        try:
            plain(fn, calls, values, *rest)
        finally:
            batches.append(len(values) - before)
            batches.last.append(len(values) - 1)  # as long as none fails

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "monotonic_ns", Clock(step_ns))
        patch.setattr(module, "_execute_tiny", counted)
        yield batches


def run(
    fn: Callable[[Any], Any],
    items: Any = range(N),
    *,
    in_worker: bool = False,
    words: memoryview | None = None,
    flags: int = 0,
    budget_ns: int = 0,
) -> list[tuple[int, Any]]:
    """Execute items from index 10 on and return their outcomes."""
    page = new_page(bytearray(SIZE)) if words is None else words
    outcomes = Outcomes()
    task = Task(page, EPOCH, None, in_worker, Guard())
    rest = execute(fn, items, start=START, flags=flags, budget_ns=budget_ns, task=task, emit=outcomes)
    assert last_begun(page[ITEM], EPOCH) == OVER
    found = outcomes.all(rest)
    assert page[DONE] == len(found)
    return found


@pytest.mark.parametrize("in_worker", [False, True])
@pytest.mark.parametrize("n", [1, 8, 50, 99, 100, 101, 500, 5000])
def test_values_come_in_order(in_worker: bool, n: int) -> None:
    """However many items there are, each has its value under its index, and long runs of them go the short way."""
    with tiny_items() as batches:
        found = run(lambda number: number * 3, range(n), in_worker=in_worker)
    assert found == [(START + i, 3 * i) for i in range(n)]
    assert (sum(batches) > n / 2) == (n >= 500)


RAISED = [ValueError, StopIteration, GeneratorExit, KeyboardInterrupt, SystemExit, RecursionError]


@given(
    st.dictionaries(st.integers(0, N - 1), st.sampled_from(RAISED), max_size=12),
    st.booleans(),
    st.sampled_from([100, 1000, 5000]),
)
def test_failures_are_those_of_their_items(failing: dict[int, type[BaseException]], in_worker: bool, step_ns: int) -> None:
    """Wherever items fail, with whatever exception, each has its own outcome and no other is lost, moved or repeated."""
    calls: list[int] = []

    def work(number: int) -> int:
        calls.append(number)
        if number in failing:
            raise failing[number]
        return number

    with tiny_items(step_ns):
        found = run(work, in_worker=in_worker)
    assert found == [(START + i, failing.get(i, i)) for i in range(N)]
    assert calls == list(range(N))


@given(st.integers(0, N - 1), st.sets(st.integers(0, N - 1), max_size=5), st.booleans())
def test_a_cancelled_item_ends_the_chunk(cancelled: int, failing: set[int], in_worker: bool) -> None:
    """Where an item is interrupted it has no outcome, those before keep theirs, and none is begun after it."""
    calls: list[int] = []
    page = new_page(bytearray(SIZE))

    def work(number: int) -> int:
        calls.append(number)
        if number == cancelled:
            page[CANCEL] = EPOCH
            raise TaskCancelled
        if number in failing:
            raise ValueError
        return number

    with tiny_items():
        found = run(work, in_worker=in_worker, words=page)
    assert found == [(START + i, ValueError if i in failing else i) for i in range(cancelled)]
    assert calls == list(range(cancelled + 1))


@given(st.sets(st.integers(0, N - 1), max_size=12), st.booleans())
def test_a_cancellation_of_the_users_own_is_a_failure(failing: set[int], in_worker: bool) -> None:
    """Where nothing is to stop, items that raise TaskCancelled have failed, and all others have their values."""

    def work(number: int) -> int:
        if number in failing:
            raise TaskCancelled
        return number

    with tiny_items():
        found = run(work, in_worker=in_worker)
    assert found == [(START + i, TaskCancelled if i in failing else i) for i in range(N)]


@pytest.mark.parametrize("in_worker", [False, True])
def test_items_with_a_limit_take_the_long_way(in_worker: bool) -> None:
    """Items that have a time limit are noted one by one, however quick they are."""
    with tiny_items() as batches:
        assert run(abs, in_worker=in_worker, flags=Flag.TIMED) == [(START + i, i) for i in range(N)]
    assert not batches


@given(st.sets(st.integers(0, N - 1), max_size=12))
def test_the_page_names_each_item_in_a_worker(failing: set[int]) -> None:
    """In a worker the status page names exactly the item that executes, so that a crash is pinned to it."""
    page = new_page(bytearray(SIZE))
    seen: list[int | None] = []

    def work(number: int) -> int:
        seen.append(last_begun(page[ITEM], EPOCH))
        if number in failing:
            raise ValueError
        return number

    with tiny_items() as batches:
        run(work, in_worker=True, words=page)
    assert seen == list(range(START, START + N))
    assert batches


@pytest.mark.parametrize("in_worker", [False, True])
def test_a_coroutine_is_refused_where_it_is_looked_for(in_worker: bool) -> None:
    """A coroutine among the first items, or at the end of a run of quick ones, is closed and is that item's failure.

    To look at each result would cost a quarter of an item of 0.1 µs; a function that is async shows at its first item.
    """

    async def forgotten() -> None:
        """Never be awaited."""

    with tiny_items() as batches:
        run(lambda number: number, in_worker=in_worker)
    assert len(batches) > 1
    for index in (*range(module._TINY_LOOK + 1), *batches.last):
        made = forgotten()
        with tiny_items():
            found = run(lambda number, index=index, made=made: made if number == index else number, in_worker=in_worker)
        made.close()
        assert found == [(START + i, AsyncFunctionError if i == index else i) for i in range(N)]
        assert made.cr_frame is None


@given(st.integers(0, N - 1), st.booleans())
def test_a_cancellation_is_noticed(index: int, in_worker: bool) -> None:
    """A chunk that is cancelled begins no more items than take a fraction of a millisecond, and keeps what it has."""
    page = new_page(bytearray(SIZE))

    def work(number: int) -> int:
        if number == index:
            page[CANCEL] = EPOCH
        return number

    with tiny_items() as batches:
        found = run(work, range(100_000), in_worker=in_worker, words=page)
    assert found == [(START + i, i) for i in range(len(found))]
    looked_after = module._LOOK_NS // 1000  # items of a microsecond
    assert index < len(found) <= index + 2 * max(batches, default=0) + looked_after + 10


@pytest.mark.parametrize("in_worker", [False, True])
@pytest.mark.parametrize("first", [5000, 5033, 5063, 5064, 7777])
def test_items_that_turn_dear_are_noticed(first: int, in_worker: bool) -> None:
    """After thousands of quick items, no more dear ones than fit in a batch begin before a cancellation is seen."""
    page = new_page(bytearray(SIZE))
    begun_after = 0
    clock = Clock(1)
    with tiny_items() as batches, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "monotonic_ns", clock)

        def work(number: int) -> int:
            nonlocal begun_after
            begun_after += page[CANCEL] == EPOCH
            if number == first:
                page[CANCEL] = EPOCH
            clock.now += 30 if number < first else 1_000_000_000
            return number

        found = run(work, range(100_000), in_worker=in_worker, words=page)
    assert max(batches) > 2 * module._TINY_BATCH  # so that the end of a batch is no accident
    assert begun_after <= module._TINY_BATCH
    assert found == [(START + i, i) for i in range(first + 1 + begun_after)]


@pytest.mark.parametrize("in_worker", [False, True])
def test_the_budget_is_kept(in_worker: bool) -> None:
    """Quick items too hand the rest back once they have had their time."""
    clock = Clock(1000)
    with tiny_items() as batches, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "monotonic_ns", clock)

        def work(number: int) -> int:
            clock.now += 1000
            return number

        found = run(work, range(100_000), in_worker=in_worker, budget_ns=2_000_000)
    assert batches
    assert found == [(START + i, i) for i in range(len(found))]
    assert 900 < len(found) < 2000 + 1000


@pytest.mark.parametrize("in_worker", [False, True])
def test_items_that_turn_long_are_not_run_to_the_end(in_worker: bool) -> None:
    """Where quick items turn long, the budget is overrun by what seemed a fraction of a millisecond, not by all of them."""
    clock = Clock(100)
    with tiny_items(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "monotonic_ns", clock)

        def work(number: int) -> int:
            clock.now += 200 if number < 300 else 10_000_000
            return number

        found = run(work, range(5000), in_worker=in_worker, budget_ns=45_000_000)
    assert 300 < len(found) <= 300 + module._TINY_BATCH + 5


def test_arguments_and_random_numbers_take_the_long_way() -> None:
    """Items that are spread over arguments, or come with their index, never take the short way."""
    with tiny_items() as batches:
        assert run(pow, [(2, 3)] * N, flags=Flag.STAR) == [(START + i, 8) for i in range(N)]
        drawn = run(Seeded(lambda item, rng: item, 7), range(50), flags=Flag.SEEDED)
        assert [value for _, value in drawn] == list(range(50))
    assert not batches


def test_outcomes_of_quick_items_leave_early() -> None:
    """Outcomes of a long chunk of quick items don't wait for its end."""
    outcomes = Outcomes()
    early: list[int] = []
    task = Task(new_page(bytearray(SIZE)), EPOCH, None, True, Guard())
    with tiny_items(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FLUSH_NS", 50_000)

        def work(number: int) -> int:
            early.append(len(outcomes.seen))
            return number

        rest = execute(work, range(5000), start=0, flags=0, budget_ns=0, task=task, emit=outcomes)
    assert outcomes.all(rest) == [(i, i) for i in range(5000)]
    assert 0 < early[-1] < 5000


@pytest.mark.parametrize("words", [None, new_page(bytearray(SIZE))])
def test_a_thread_that_has_its_turn_late_goes_on(words: memoryview | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where time is over before the first item, since the thread was not scheduled, one batch is executed all the same."""
    clock = iter([0, *[10**9] * 10])
    monkeypatch.setattr(module, "monotonic_ns", lambda: next(clock))
    values: list[int] = []
    module._execute_tiny(abs, iter(range(300)), values, words, 0, 300)
    assert values == list(range(128))
