"""outbox.py: the results that wait for a stream's consumer, and how many more may be made meanwhile."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from types import coroutine
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop import outbox
from offloop.model import Strategy
from offloop.options import CallOptions, OnError
from offloop.outbox import MOST_ITEMS, WINDOW_CHUNKS, Outbox
from offloop.strategies.base import Outcomes

FREE = 1 << 40


@pytest.fixture(autouse=True, scope="module")
def no_turns() -> Iterator[None]:
    """Without an event loop there is nobody to give way to, however slow the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "_TURN_S", math.inf)
        yield


class Idle:
    """In place of `Changes`, where there is no event loop."""

    def notify(self) -> None:
        """Wake nobody."""

    @coroutine
    def wait(self) -> Iterator[None]:
        """Wait for ever."""
        while True:
            yield


class Stand:
    """An outbox, what it has stopped its run with, and a consumer that never waits."""

    def __init__(
        self,
        *,
        ordered: bool = True,
        window: int | None = None,
        on_error: OnError = "raise",
        limit_bytes: int = FREE,
        payload_bytes: float = 0.0,
        has_loop: bool = False,
    ) -> None:
        options = CallOptions(strategy=Strategy.AUTO, ordered=ordered, window=window, on_error=on_error)
        self.stopped: list[Exception] = []
        self.n_taken = 0
        self.outbox = Outbox(options, lambda _: limit_bytes, lambda: payload_bytes, self.stopped.append)
        if not has_loop:
            self.outbox._news = Idle()  # type: ignore[assignment]

    def take(self, n_lanes: int, size: int) -> int:
        """Take as many items as there is room for, as a run does, and return how many these are."""
        room = self.outbox.room(self.n_taken, n_lanes, size)
        self.n_taken += room
        return room

    def ask(self) -> list[Any]:
        """Return the next result in a list, or nothing where it would have to be waited for."""
        if next_one := list(_first(self.outbox)):
            return next_one
        waiting = self.outbox.has_more()
        try:
            waiting.send(None)
        except StopIteration as end:
            return list(_first(self.outbox)) if end.value else []
        waiting.close()
        return []

    def all_there_are(self) -> list[Any]:
        """Return all results that need not be waited for."""
        found: list[Any] = []
        while next_one := self.ask():
            found += next_one
        return found


def _first(outbox: Outbox) -> Any:
    for result in outbox.batch:
        yield result
        return


def chunk(start: int, size: int, *failing: int) -> Outcomes:
    """Return the outcomes of so many items, each its own index, of which some have failed."""
    return Outcomes(start, list(range(start, start + size)), {index: ValueError(index) for index in failing})


# --- order -----------------------------------------------------------------------------------------------------------


def test_results_go_out_in_the_order_of_items() -> None:
    """What comes too early waits for what is before it."""
    stand = Stand()
    stand.outbox.take_in(chunk(4, 2))
    stand.outbox.take_in(chunk(2, 2))
    assert stand.all_there_are() == []
    stand.outbox.take_in(chunk(0, 2))
    assert stand.all_there_are() == [0, 1, 2, 3, 4, 5]


def test_without_an_order_results_go_out_as_they_come() -> None:
    """Nothing waits for what is before it."""
    stand = Stand(ordered=False)
    for start in (4, 0, 2):
        stand.outbox.take_in(chunk(start, 2))
    assert stand.all_there_are() == [4, 5, 0, 1, 2, 3]


def test_each_result_has_its_index() -> None:
    """The index of the last one that was taken is known at every moment."""
    stand = Stand(ordered=False)
    for start in (4, 0):
        stand.outbox.take_in(chunk(start, 2))
    assert [(*stand.ask(), stand.outbox.last_index) for _ in range(4)] == [(4, 4), (5, 5), (0, 0), (1, 1)]


def test_nothing_is_nothing() -> None:
    """Outcomes of no items change nothing."""
    stand = Stand()
    stand.outbox.take_in(chunk(0, 0))
    assert (stand.all_there_are(), stand.outbox.n_handed) == ([], 0)


# --- failures and ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
def test_a_failure_is_raised_in_its_place(ordered: bool) -> None:
    """The results before it go out, then it is raised once, then the stream is over; the run is told."""
    stand = Stand(ordered=ordered)
    stand.outbox.take_in(chunk(0, 2))
    stand.outbox.take_in(chunk(2, 4, 4, 5))
    stand.outbox.take_in(chunk(6, 2))
    assert [stand.ask() for _ in range(4)] == [[0], [1], [2], [3]]
    with pytest.raises(ValueError, match="4"):
        stand.ask()
    assert stand.ask() == stand.ask() == []
    assert [error.args for error in stand.stopped] == [(4,)]


def test_a_failure_waits_for_what_is_before_it() -> None:
    """While that is missing nobody is told, what was taken goes on, and nothing more is taken."""
    stand = Stand(window=8)
    assert stand.take(2, 1) == 8
    stand.outbox.take_in(chunk(2, 1, 2))
    assert (stand.ask(), stand.stopped, stand.take(2, 1)) == ([], [], 0)
    stand.outbox.take_in(chunk(0, 2))
    assert (stand.ask(), stand.ask(), len(stand.stopped)) == ([0], [1], 1)
    with pytest.raises(ValueError):
        stand.ask()


@pytest.mark.parametrize("ordered", [True, False])
def test_failures_may_go_out_like_results(ordered: bool) -> None:
    """Then they stand in their places, and the run goes on."""
    stand = Stand(ordered=ordered, on_error="collect")
    stand.outbox.take_in(chunk(0, 4, 0, 3))
    found = stand.all_there_are()
    assert [repr(one) for one in found] == ["ValueError(0)", "1", "2", "ValueError(3)"]
    assert (stand.stopped, stand.outbox.room(4, 2, 1) > 0) == ([], True)


@pytest.mark.parametrize("error", [None, OSError("the source is broken")])
def test_the_end_comes_after_what_is_ready(error: Exception | None) -> None:
    """What there is goes out first; what comes after the end, or was behind something missing, doesn't."""
    stand = Stand()
    stand.outbox.take_in(chunk(0, 2))
    stand.outbox.take_in(chunk(3, 1))
    stand.outbox.finish(error)
    stand.outbox.finish(KeyError("not the first"))
    stand.outbox.take_in(chunk(2, 1))
    assert (stand.ask(), stand.ask(), stand.take(2, 1)) == ([0], [1], 0)
    if error is not None:
        with pytest.raises(OSError, match="the source is broken"):
            stand.ask()
    assert stand.ask() == []


# --- room ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "n_lanes", "size", "rooms"),
    [(1, 4, 9, [1, 0]), (10, 2, 1, [8, 2, 0]), (100, 2, 5, [40, 60, 0]), (None, 3, 5, [WINDOW_CHUNKS * 15, 0])],
)
def test_the_window_is_the_most_that_is_in_flight(window: int | None, n_lanes: int, size: int, rooms: list[int]) -> None:
    """An explicit one as it is, else a few chunks for each lane; the first items, of which nothing is known, are no more than that."""
    stand = Stand(window=window)
    assert [stand.take(n_lanes, size) for _ in rooms] == rooms


def test_a_window_of_chunks_has_an_end() -> None:
    """Of items that take no time a chunk may be large, but not so large that a window of them is a burden."""
    stand = Stand()
    assert stand.take(2, 10**6) == WINDOW_CHUNKS * 2 * MOST_ITEMS
    assert stand.outbox.most_at_once(2) == MOST_ITEMS


def test_each_lane_gets_some_of_a_window() -> None:
    """A chunk is no larger than half of a lane's share, and no smaller than an item."""
    assert [Stand(window=window).outbox.most_at_once(2) for window in (1, 4, 80)] == [1, 1, 20]


def test_what_the_consumer_has_is_in_flight_until_it_asks_for_more() -> None:
    """It is done with a result when it asks for the next one, also where that has to be waited for."""
    stand = Stand(window=2)
    stand.take(1, 1)
    stand.outbox.take_in(chunk(0, 1))
    stand.outbox.take_in(chunk(1, 1))
    assert (stand.outbox.n_handed, stand.outbox.n_given) == (0, 0)
    assert (stand.ask(), stand.outbox.n_handed, stand.outbox.n_given) == ([0], 1, 0)
    assert (stand.ask(), stand.outbox.n_handed, stand.outbox.n_given) == ([1], 2, 1)
    assert (stand.ask(), stand.outbox.n_handed, stand.outbox.n_given) == ([], 2, 2)


def test_room_is_made_in_pieces_that_are_worth_it() -> None:
    """A source isn't asked for an item each time that one goes out, but for a chunk or a quarter of the window."""
    stand = Stand(window=16)
    assert stand.take(1, 8) == 16
    stand.outbox.take_in(chunk(0, 16))
    rooms = []
    for _ in range(6):
        stand.ask()
        rooms.append(stand.outbox.room(stand.n_taken, 1, 8))
    assert rooms == [0, 0, 0, 0, 4, 5]  # the last that was given out is still with the consumer


def test_asking_makes_room() -> None:
    """Whoever waits for room is told when a consumer has to wait, or begins another batch."""
    stand, told = Stand(window=2), []
    stand.outbox.room_made = lambda: told.append(stand.take(1, 1))
    stand.ask()
    stand.outbox.take_in(chunk(0, 2))
    assert (stand.ask(), stand.ask(), stand.ask()) == ([0], [1], [])
    assert told == [2, 0, 2]


def test_large_items_leave_room_for_few() -> None:
    """Bytes count like items; where nothing is in flight, one is always let in."""
    stand = Stand(window=100, limit_bytes=1000, payload_bytes=300.0)
    assert [stand.take(2, 1) for _ in range(3)] == [3, 0, 0]
    stand.outbox.take_in(chunk(0, 3))
    assert (len(stand.all_there_are()), stand.take(2, 1)) == (3, 3)
    huge = Stand(window=100, limit_bytes=1000, payload_bytes=5000.0)
    assert [huge.take(2, 1) for _ in range(2)] == [1, 0]


def test_large_results_leave_room_for_few() -> None:
    """What results have is learned from those that come."""
    stand = Stand(window=100, limit_bytes=10_000)
    assert stand.take(2, 1) + stand.take(2, 1) == 100
    for index in range(100):
        stand.outbox.take_in(Outcomes(index, [bytes(4000)], {}))
    assert len(stand.all_there_are()) == 100
    assert [stand.take(2, 1) for _ in range(2)] == [2, 0]


# --- whatever happens ------------------------------------------------------------------------------------------------


@given(
    ordered=st.booleans(),
    window=st.none() | st.integers(1, 30),
    size=st.integers(1, 12),
    n_lanes=st.integers(1, 4),
    n_items=st.integers(0, 120),
    failing=st.none() | st.integers(0, 119),
    limit_bytes=st.sampled_from([FREE, 1000, 90]),
    seed=st.integers(0, 1 << 32),
)
def test_in_whatever_order_outcomes_come(
    ordered: bool, window: int | None, size: int, n_lanes: int, n_items: int, failing: int | None, limit_bytes: int, seed: int
) -> None:
    """Each result goes out once, in order where that is kept, none behind a failure, and never is more in flight than allowed."""
    stand, dice = Stand(ordered=ordered, window=window, limit_bytes=limit_bytes, payload_bytes=30.0), random.Random(seed)
    outbox, most = stand.outbox, window or WINDOW_CHUNKS * n_lanes * size
    under_way: list[Outcomes] = []
    found: list[Any] = []
    raised: list[Exception] = []
    n_rounds = 0
    while (stand.n_taken < n_items or under_way) and not stand.stopped:
        took = min(outbox.room(stand.n_taken, n_lanes, size), n_items - stand.n_taken)
        starts = range(stand.n_taken, stand.n_taken + took, min(size, outbox.most_at_once(n_lanes)))
        for start in starts:
            end = min(start + starts.step, stand.n_taken + took)
            under_way.append(chunk(start, end - start, *([failing] if failing in range(start, end) else [])))
        stand.n_taken += took
        assert stand.n_taken - outbox.n_given <= most
        assert limit_bytes == FREE or stand.n_taken - outbox.n_given <= max(1, limit_bytes // 30)
        for _ in range(dice.randrange(3)):
            if under_way:
                outbox.take_in(under_way.pop(dice.randrange(len(under_way))))
        n_rounds += 1
        assert n_rounds < 100 * (n_items + 1), "it goes on no more"
        for _ in range(dice.randrange(20)):
            try:
                found += stand.ask()
            except ValueError as error:
                raised.append(error)
                break
    outbox.finish()
    try:
        while next_one := stand.ask():
            found += next_one
    except ValueError as error:
        raised.append(error)
    has_failed = failing is not None and failing < n_items
    assert (raised, len(raised)) == (stand.stopped, has_failed)
    if not has_failed:
        assert (found if ordered else sorted(found)) == list(range(n_items))
    elif ordered:
        assert found == list(range(failing or 0))
    else:
        assert len(found) == len(set(found))
        assert failing not in found


# --- waiting ---------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("error", [None, OSError("gone")])
async def test_a_consumer_waits_for_results_and_for_the_end(anyio_backend: object, error: Exception | None) -> None:
    """It is woken by each of them."""
    stand, found = Stand(has_loop=True), []

    async def consume() -> None:
        try:
            while await stand.outbox.has_more():
                found.extend(stand.outbox.batch)
            found.append("end")
        except OSError:
            found.append("error")

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            await anyio.wait_all_tasks_blocked()
            stand.outbox.take_in(chunk(0, 2))
            await anyio.wait_all_tasks_blocked()
            assert found == [0, 1]
            stand.outbox.finish(error)
    assert found == [0, 1, "end" if error is None else "error"]


@pytest.mark.anyio
async def test_a_consumer_that_gives_up_loses_nothing(anyio_backend: object) -> None:
    """It may be cancelled as it waits, and gets what comes meanwhile when it asks again."""
    stand = Stand(has_loop=True)
    with anyio.move_on_after(0) as scope:
        await stand.outbox.has_more()
    assert scope.cancelled_caught
    stand.outbox.take_in(chunk(0, 2))
    assert stand.all_there_are() == [0, 1]
