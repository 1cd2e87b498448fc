"""pool/watchdog.py: watching how long items execute, and stopping those that take too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.deciding.stopping import HEAD_START_S
from offloop.pool import watchdog as module
from offloop.pool.watchdog import LOAD_S, MOVE_S, Watchdog
from offloop.strategies.base import Chunk, Expired, TimeLimit
from offloop.wire.status_page import (
    CANCEL,
    ITEM,
    LATE,
    LOADING,
    OVER,
    PACKED,
    SINCE,
    SIZE,
    UNPACKING,
    is_to_stop,
    item_base,
    new_page,
)

EPOCH = 5
LIMIT_S, GRACE_S = 2.0, 1.0
SOON_S = 1e-6


class Watched:
    """A lane with a chunk in flight, on which time passes as it is told.

    Attributes:
        chunk: The chunk, with items 10 to 14.
        words: The status page.
        interrupts: When an interrupt was sent.
    """

    def __init__(self, limit_s: float = LIMIT_S, grace_s: float = GRACE_S) -> None:
        self.now_s = 1000.0
        self.words = new_page(bytearray(SIZE))
        self.interrupts: list[float] = []
        self.watchdog = Watchdog(self.words, lambda: self.interrupts.append(self.now_s))
        self.limit = TimeLimit(limit_s, grace_s)
        self.chunk = self.next_chunk(EPOCH)

    def next_chunk(self, epoch: int) -> Chunk:
        """Return another chunk."""
        chunk = Chunk(10, list(range(5)))
        chunk.epoch, chunk.limit = epoch, self.limit
        return chunk

    def begin(self, begun: int) -> None:
        """Note on the page what the worker does from now on."""
        self.words[SINCE] = round(self.now_s * 1e9)
        self.words[ITEM] = item_base(self.chunk.epoch) + begun

    def look(self, later_s: float = 0.0) -> float | None:
        """Look, so much later."""
        self.now_s += later_s
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "monotonic", lambda: self.now_s)
            return self.watchdog.look(self.chunk)

    @property
    def is_to_stop(self) -> bool:
        """Whether the chunk is to stop."""
        return is_to_stop(self.words, self.chunk.epoch)


@pytest.mark.parametrize("begun", [10, 14, UNPACKING])
def test_what_takes_too_long_is_stopped_step_by_step(begun: int) -> None:
    """An item, and what rebuilds the items, has its time; then it is asked, interrupted, given up."""
    lane = Watched()
    lane.begin(begun)
    assert lane.look() == pytest.approx(LIMIT_S)
    assert lane.look(LIMIT_S - 0.5) == pytest.approx(0.5)
    assert not lane.is_to_stop
    assert lane.look(0.5 + SOON_S) == pytest.approx(HEAD_START_S)
    assert lane.is_to_stop
    assert lane.chunk.expired == Expired(begun, pytest.approx(LIMIT_S + SOON_S))
    assert lane.interrupts == []
    wait_s = lane.look(HEAD_START_S + SOON_S)
    assert wait_s
    assert len(lane.interrupts) == 1
    lane.look(wait_s + SOON_S)
    assert len(lane.interrupts) == 2
    assert lane.look(GRACE_S) is None
    assert lane.chunk.expired == Expired(begun, pytest.approx(LIMIT_S + SOON_S))  # as it was first seen


def test_each_item_has_its_time() -> None:
    """A chunk may take as long as all its items together."""
    lane = Watched()
    for index in range(10, 15):
        lane.begin(index)
        assert lane.look() == pytest.approx(LIMIT_S)
        lane.look(LIMIT_S - 0.01)
    assert lane.chunk.expired is None


def test_it_looks_again_before_the_next_item_is_too_old() -> None:
    """Whatever is executed now, it looks again within the limit: the next item may begin right now."""
    lane = Watched()
    lane.begin(LOADING)
    assert lane.look() == pytest.approx(LIMIT_S)


def test_loading_the_function_may_take_longer() -> None:
    """Importing what the function needs is no item's fault, and may take half a minute besides."""
    lane = Watched()
    lane.begin(LOADING)
    assert lane.look(LIMIT_S + LOAD_S - 0.5) == pytest.approx(0.5)
    assert lane.look(0.5 + SOON_S) == pytest.approx(HEAD_START_S)
    assert lane.chunk.expired == Expired(LOADING, pytest.approx(LIMIT_S + LOAD_S + SOON_S))


@pytest.mark.parametrize("begun", [10 | PACKED, 15 | PACKED, OVER])
def test_outcomes_on_their_way_may_take_longer(begun: int) -> None:
    """Packing and sending large results is no item's fault, and may take ten seconds besides."""
    lane = Watched()
    lane.begin(begun)
    assert lane.look(LIMIT_S + MOVE_S - 0.5) == pytest.approx(0.5)
    assert lane.chunk.expired is None
    assert lane.look(0.5 + SOON_S) == pytest.approx(HEAD_START_S)
    assert lane.chunk.expired == Expired(begun, pytest.approx(LIMIT_S + MOVE_S + SOON_S))


def test_a_chunk_that_is_not_begun_is_given_up_at_once() -> None:
    """A worker that does not even begin a chunk, since it was stopped from outside, has nothing to be asked or interrupted."""
    lane = Watched()
    assert lane.look() == pytest.approx(LIMIT_S)
    assert lane.look(LIMIT_S + MOVE_S - 0.5) == pytest.approx(0.5)
    assert lane.look(0.5 + SOON_S) is None
    assert lane.chunk.expired == Expired(None, pytest.approx(LIMIT_S + MOVE_S + SOON_S))
    assert (lane.interrupts, lane.is_to_stop) == ([], False)


def test_a_chunk_waits_from_when_it_is_first_in_line() -> None:
    """The time that a chunk has waited behind another one is no sign that its worker is stuck."""
    lane = Watched()
    lane.begin(10)
    lane.look()
    lane.now_s += 100.0
    lane.chunk = lane.next_chunk(EPOCH + 1)
    assert lane.look() == pytest.approx(LIMIT_S)
    assert lane.look(LIMIT_S + MOVE_S - 0.5) == pytest.approx(0.5)


def test_the_next_chunk_is_watched_anew() -> None:
    """A chunk that was stopped leaves nothing behind for the one that comes after it."""
    lane = Watched()
    lane.begin(10)
    assert lane.look(LIMIT_S + 1) == pytest.approx(HEAD_START_S)
    lane.chunk = lane.next_chunk(EPOCH + 1)
    lane.begin(10)
    assert lane.look() == pytest.approx(LIMIT_S)
    assert (lane.chunk.expired, lane.is_to_stop) == (None, False)
    assert lane.look(LIMIT_S + 1) == pytest.approx(HEAD_START_S)
    assert lane.is_to_stop


@pytest.mark.parametrize("late", [10, UNPACKING])
def test_what_comes_after_it_is_left_alone(late: int) -> None:
    """Where what took too long comes to an end after all, the item behind it is not stopped for that, and has its own time."""
    lane = Watched()
    lane.begin(late)
    assert lane.look(LIMIT_S + SOON_S) == pytest.approx(HEAD_START_S)
    assert lane.is_to_stop
    assert lane.words[CANCEL] < EPOCH
    lane.begin(11)
    assert not lane.is_to_stop
    assert lane.look(LIMIT_S - 0.5) == pytest.approx(0.5)
    assert (lane.chunk.expired, lane.interrupts) == (None, [])
    assert lane.look(0.5 + SOON_S) == pytest.approx(HEAD_START_S)
    assert lane.chunk.expired == Expired(11, pytest.approx(LIMIT_S + SOON_S))
    assert lane.words[LATE] == lane.words[ITEM]


def test_a_chunk_that_has_stopped_is_stopped_to_its_end() -> None:
    """Once an item has been interrupted, what its chunk still has to tell is waited for no longer than the grace."""
    lane = Watched()
    lane.begin(12)
    lane.look(LIMIT_S + SOON_S)
    lane.begin(OVER)
    assert lane.look(GRACE_S / 2)
    assert lane.chunk.expired == Expired(12, pytest.approx(LIMIT_S + SOON_S))
    assert lane.look(GRACE_S) is None


def test_no_grace_is_none() -> None:
    """With grace_s=0 what takes too long is given up at once."""
    lane = Watched(grace_s=0.0)
    lane.begin(10)
    assert lane.look(LIMIT_S + SOON_S) is None
    assert lane.chunk.expired == Expired(10, pytest.approx(LIMIT_S + SOON_S))
    assert lane.interrupts == []


@given(
    st.floats(0.001, 10),
    st.floats(0, 3),
    st.lists(st.tuples(st.sampled_from([LOADING, UNPACKING, 10, 11, 11 | PACKED, OVER]), st.floats(0, 45)), max_size=20),
)
def test_nothing_is_stopped_before_its_time(
    limit_s: float, grace_s: float, steps: list[tuple[int, float]]
) -> None:
    """However a worker gets on, only what has taken its time is stopped, and nothing is given up before its grace."""
    lane = Watched(limit_s, grace_s)
    expired_at: float | None = None
    for begun, seconds in steps:
        if expired_at is None:
            lane.begin(begun)
        wait_s = lane.look(seconds)
        if expired_at is None:
            is_moving = begun == OVER or (begun & PACKED and begun not in (LOADING, UNPACKING))
            most_s = limit_s + LOAD_S * (begun == LOADING) + MOVE_S * bool(is_moving)
            assert (lane.chunk.expired is not None) == (seconds >= most_s - 1e-6) or abs(seconds - most_s) < 1e-6
            assert lane.is_to_stop == (lane.chunk.expired is not None)
            if lane.chunk.expired is None:
                assert wait_s is not None
                assert 0 < wait_s <= limit_s + 1e-6
            else:
                expired_at = lane.now_s
        if expired_at is not None:
            assert lane.chunk.expired is not None
            assert (wait_s is None) == (lane.now_s - expired_at >= grace_s)
            if wait_s is None:
                return
    assert all(at >= (expired_at or 0.0) + HEAD_START_S for at in lane.interrupts)
