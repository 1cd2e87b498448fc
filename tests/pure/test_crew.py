"""crew.py: who works on a run."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any

import pytest

from offloop.crew import Crew, under_way
from offloop.strategies.base import Chunk


class FakeBackend:
    """A place to lease lanes from, of which only its identity counts."""

    is_remote = False
    backlog_s = 0.0


class FakeLane:
    """A lane with chunks in flight."""

    def __init__(self, *chunks: Chunk, n_finished: int = 0, fraction: float = 0.0, gil_held: float | None = None) -> None:
        self.in_flight = deque(chunks)
        self.n_finished, self.fraction, self.gil_held = n_finished, fraction, gil_held


def lane(*chunks: Chunk, **standing: Any) -> Any:
    """Return a lane with these chunks in flight."""
    return FakeLane(*chunks, **standing)


def sent(n_items: int, ago_s: float, *, done: int = 0, is_watched: bool = False) -> Chunk:
    """Return a chunk that was sent so long ago."""
    chunk = Chunk(0, range(n_items))
    chunk.sent_at, chunk.done, chunk.is_watched = monotonic() - ago_s, done, is_watched
    return chunk


@pytest.fixture
def backends() -> list[Any]:
    """Return three places to lease lanes from."""
    return [FakeBackend() for _ in range(3)]


def test_before_anyone_is_called_nobody_is_wanted(backends: list[Any]) -> None:
    """A new crew wants no lane, has none, and is alone."""
    crew = Crew()
    assert (crew.n_lanes, crew.on_duty, crew.wanted, crew.is_alone) == (1, {}, {}, True)
    assert not crew.wants(backends[0], 0)
    assert under_way(crew.on_duty) == (0, 0, 0.0, 0.0, None)


def test_so_many_lanes_of_one_backend_are_wanted(backends: list[Any]) -> None:
    """So many lanes are wanted as were called for, and those of the call before no more."""
    crew, (one, other, _) = Crew(), backends
    crew.call(one, 2, None)
    assert [crew.wants(one, ordinal) for ordinal in range(4)] == [True, True, False, False]
    assert not crew.wants(other, 0)
    assert (crew.n_lanes, crew.wanted) == (2, {one: 2})
    crew.call(other, 3, None)
    assert not crew.wants(one, 0)
    assert (crew.n_lanes, crew.wanted) == (3, {other: 3})


def test_a_bridge_goes_on_until_all_have_answered(backends: list[Any]) -> None:
    """One lane of the bridge is wanted until as many lanes as were called for have told something, and none after that."""
    crew, (one, bridge, _) = Crew(), backends
    crew.call(one, 2, bridge)
    assert (crew.n_lanes, crew.wanted, crew.is_alone) == (2, {one: 2, bridge: 1}, False)
    assert [crew.wants(bridge, ordinal) for ordinal in range(2)] == [True, False]
    here, first, second = lane(), lane(), lane()
    for each, backend in ((here, bridge), (first, one), (second, one)):
        crew.start(each, backend)
    for news in (here, first, first, here):
        crew.heard(news)
        assert crew.wants(bridge, 0)  # the second may still import
    crew.heard(second)
    assert not crew.wants(bridge, 0)
    assert crew.wanted == {one: 2}
    assert (crew.n_on_duty(one), crew.n_on_duty(bridge)) == (2, 1)


def test_lanes_that_come_and_go_unheard_do_not_count(backends: list[Any]) -> None:
    """A bridge stays while lanes come and go of which nothing was heard, or only after they were given back."""
    crew, (one, bridge, _) = Crew(), backends
    crew.call(one, 2, bridge)
    for _ in range(3):
        brief = lane()
        crew.start(brief, one)
        crew.end(brief)
        crew.heard(brief)
    assert crew.wants(bridge, 0)


def test_each_call_waits_for_answers_of_its_own(backends: list[Any]) -> None:
    """What was heard before a call says nothing of the lanes that it wants: they must answer once more."""
    crew, (one, bridge, _) = Crew(), backends
    crew.call(one, 1, None)
    first, second = lane(), lane()
    crew.start(first, one)
    crew.heard(first)
    crew.call(one, 2, bridge)
    crew.start(second, one)
    crew.heard(first)
    assert crew.wants(bridge, 0)
    crew.call(one, 2, bridge)
    crew.heard(second)
    assert crew.wants(bridge, 0)
    crew.heard(first)
    assert not crew.wants(bridge, 0)


def test_a_bridge_can_be_left(backends: list[Any]) -> None:
    """A bridge that is left is wanted no more; leaving one that isn't there is nothing."""
    crew, (one, bridge, _) = Crew(), backends
    crew.call(one, 2, bridge)
    crew.leave_bridge()
    crew.leave_bridge()
    assert crew.wanted == {one: 2}


def test_who_was_called_before_may_still_come(backends: list[Any]) -> None:
    """A lane that was leased for the call before, and comes only now, is put up with, and is no reason to leave a bridge."""
    crew, (one, bridge, before) = Crew(), backends
    crew.call(before, 1, None)
    crew.call(one, 2, bridge)
    late = lane()
    crew.start(late, before)
    crew.heard(late)
    assert crew.wants(bridge, 0)
    assert crew.n_on_duty(before) == 1
    crew.end(late)
    assert crew.n_on_duty(before) == 0


def test_alone_is_who_has_no_neighbour(backends: list[Any]) -> None:
    """A single lane is alone unless a bridge says that others are on their way."""
    crew, (one, bridge, _) = Crew(), backends
    first, second = lane(), lane()
    crew.call(one, 2, None)
    crew.start(first, one)
    assert crew.is_alone
    crew.start(second, one)
    assert not crew.is_alone
    crew.end(first)
    assert crew.is_alone
    crew.end(first)  # is nothing
    crew.call(one, 2, bridge)
    assert not crew.is_alone


def test_what_is_in_flight(backends: list[Any]) -> None:
    """Items in flight are those of all chunks on all lanes."""
    crew = Crew()
    crew.start(lane(Chunk(0, range(3)), Chunk(3, range(2))), backends[0])
    crew.start(lane(), backends[0])
    crew.start(lane(Chunk(5, range(4))), backends[1])
    assert crew.n_in_flight == 9


def test_what_is_under_way() -> None:
    """Of each lane's first chunk, what is finished and not yet reported counts, the item that is on it, and its time."""
    lanes = [
        lane(sent(10, 2.0, done=1), sent(10, 9.0), n_finished=4),
        lane(sent(5, 3.0)),
        lane(sent(5, 1.0, done=3), n_finished=2),  # its status page is behind its reports
        lane(Chunk(0, range(5))),  # waits for its chunk to be sent
        lane(),
    ]
    now = under_way(lanes)
    assert (now.n_finished, now.n_begun, now.gil_held) == (3, 3, None)
    assert 6.0 <= now.seconds < 6.0 + 60


@pytest.mark.parametrize(
    ("lanes", "held"),
    [
        ([lane(sent(5, 1.0, is_watched=True), gil_held=0.75)], 0.75),
        ([lane(sent(5, 1.0), gil_held=0.75)], None),
        ([lane(sent(5, 1.0)), lane(sent(5, 1.0, is_watched=True), gil_held=0.25)], 0.25),
        ([lane(sent(5, 1.0, is_watched=True)), lane(sent(5, 1.0, is_watched=True), gil_held=0.25)], 0.25),
        ([lane(sent(5, 1.0, is_watched=True), gil_held=0.0), lane(sent(5, 1.0, is_watched=True), gil_held=1.0)], 0.0),
    ],
)
def test_how_the_gil_is_held_is_told_by_who_watches(lanes: list[Any], held: float | None) -> None:
    """The first watched chunk that can tell says how the GIL is held."""
    assert under_way(lanes).gil_held == held


def test_what_items_say_of_themselves_counts_by_their_weight() -> None:
    """Half of an item that weighs three is as much as one and a half."""
    now = under_way([lane(sent(5, 1.0, done=1), n_finished=2, fraction=0.5)], lambda _, count: 3 * count)
    assert (now.n_finished, now.n_begun, now.partly) == (3, 3, 1.5)
