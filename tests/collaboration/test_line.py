"""Those who wait for a lane are served by their shares and never beyond their time, whatever event loop they are on."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from offloop.errors import SessionClosedError
from offloop.pool import waiting
from offloop.pool.lease import PooledBackend
from offloop.pool.line import Line
from offloop.pool.pool import Pool
from offloop.pool.waiting import STALL_S, Waiter
from offloop.strategies.base import ORDINARY, Place, TooLate

BATCH = Place("map", 0.05, False)
LOOPS: list[dict[str, Any]] = [
    {"backend": "asyncio"},
    {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    {"backend": "trio"},
]


class FakeLoop:
    """An event loop that takes in what it is to call, or is closed."""

    def __init__(self) -> None:
        self.posted: list[Callable[..., object]] = []
        self.is_closed = False

    def call_soon_threadsafe(self, call: Callable[..., object]) -> None:
        if self.is_closed:
            raise RuntimeError("closed")
        self.posted.append(call)


class FakeLane:
    """A lane that does nothing, and sees whether two hold it."""

    def __init__(self) -> None:
        self.loop: Any = None
        self.in_flight: deque[Any] = deque()
        self.is_usable = self.is_empty = True
        self.lock = threading.Lock()

    def tidy(self) -> None: ...

    def kill(self) -> None:
        self.is_usable = False

    def close(self) -> None: ...


def served(line: Line, loop: Any) -> list[Any]:
    """Serve all who may be on this event loop; return their flows."""
    flows = []
    while (waiter := line.serve_first(loop)) is not None:
        flows.append(waiter.place.flow)
    return flows


def join(line: Line, loop: Any, *places: Place) -> list[Waiter]:
    """Line up at these places."""
    return [line.join(loop, None, place) for place in places]


def late(flow: Any) -> Place:
    """Return a place whose time has passed."""
    return Place(flow, until=time.monotonic() - 1.0)


@pytest.fixture
def line() -> Iterator[Line]:
    """A line that must be empty, and know it, when all have left."""
    line = Line()
    yield line
    assert (bool(line), len(line), line.n_interactive) == (False, 0, 0)


def test_only_the_next_of_all_loops_is_served(line: Line) -> None:
    """A lane isn't handed over on an event loop while somebody on another one is before all who wait there."""
    here, there = FakeLoop(), FakeLoop()
    join(line, here, Place("a"), Place("b"))
    (other,) = join(line, there, Place("c"))
    join(line, here, Place("d"))
    assert served(line, here) == ["a", "b"]
    assert line.serve_first(here) is None
    assert line.serve_first(there) is other
    assert served(line, here) == ["d"]


def test_a_flow_is_one_over_all_loops(line: Line) -> None:
    """What a label was served on one event loop counts on the others."""
    here, there = FakeLoop(), FakeLoop()
    join(line, here, *[Place("a")] * 4)
    for _ in range(3):
        assert line.serve_first(here) is not None
    join(line, there, Place("a"), Place("b"))
    assert served(line, here) == []
    assert served(line, there) == ["b"]
    assert (served(line, here), served(line, there)) == (["a"], ["a"])


def test_who_is_late_is_never_served(line: Line) -> None:
    """Whoever's time has passed is passed over and told, though their own event loop has not noticed."""
    here, there = FakeLoop(), FakeLoop()
    join(line, there, late("late there"))
    join(line, here, late("late"), Place("in time"), late("late too"))
    assert served(line, here) == ["in time"]
    assert [len(loop.posted) for loop in (here, there)] == [2, 1]


def test_who_is_late_has_no_turn(line: Line) -> None:
    """Whoever's time has passed may not claim an idle lane, and holds nobody up who may."""
    loop = FakeLoop()
    tardy, prompt = join(line, loop, late("a"), Place("b"))
    assert line.turn_in(tardy, True) is None
    assert line.turn_in(prompt, True) == 0
    line.leave(tardy)
    line.serve(prompt)


def test_who_cannot_be_done_in_time_goes_behind_all_others(line: Line) -> None:
    """A lane goes to those who can make use of it; to the others, in their order, when nobody else waits."""
    here, there = FakeLoop(), FakeLoop()
    past = time.monotonic() - 1.0
    join(line, here, Place("a", latest=past), Place("b"), Place("c", latest=past), Place("d", is_interactive=False))
    (other,) = join(line, there, Place("e", latest=past))
    gone = line.join(here, None, Place("f", latest=past))
    assert served(line, here) == ["b", "d", "a", "c"]
    line.leave(gone)
    assert line.serve_first(there) is other


def test_leaving_twice_is_leaving_once(line: Line) -> None:
    """Whoever was served, or has left, leaves nothing more behind by leaving, and takes nobody's place."""
    loop = FakeLoop()
    first, second, third = join(line, loop, ORDINARY, BATCH, ORDINARY)
    line.serve(first)
    for waiter in (first, second, second, first):
        line.leave(waiter)
    assert (len(line), line.n_interactive) == (1, 1)
    line.leave(third)


def test_a_stalled_loop_is_passed_over(line: Line) -> None:
    """The first of an event loop may claim at once what it is first for, else after those before it had their time."""
    here, there = FakeLoop(), FakeLoop()
    (before,) = join(line, there, Place("a"))
    (mine,) = join(line, here, Place("b"))
    assert line.turn_in(mine, True)  # not now, but soon
    assert len(there.posted) == 1
    assert before.woken_at is not None
    before.woken_at -= 2 * STALL_S
    assert line.turn_in(mine, True) == 0
    assert line.turn_in(before, True) == 0
    assert line.turn_in(before, False) is None
    line.leave(before)
    line.leave(mine)


def test_a_closed_loop_is_forgotten(line: Line) -> None:
    """All who wait on an event loop that is closed are out of the line as soon as one of them would be told."""
    here, there = FakeLoop(), FakeLoop()
    join(line, there, Place("a"), Place("b"), BATCH)
    (mine,) = join(line, here, Place("c"))
    there.is_closed = True
    assert line.turn_in(mine, True) == 0
    assert len(line) == 1
    line.leave(mine)
    join(line, there, Place("a"), Place("b"), BATCH)
    line.wake_first(here)


def test_who_is_first_by_now_is_told(line: Line) -> None:
    """Whoever was told of a lane but is not first any more tells the one who is."""
    here, there = FakeLoop(), FakeLoop()
    told, untold = join(line, here, Place("a"), Place("b"))
    line.wake_first(None)
    for other in join(line, there, Place("a"), Place("a")):
        line.serve(other)  # now a has had its turns
    assert (told.woken_at is None, untold.woken_at is None) == (False, True)
    assert line.turn_in(told, True) is None
    assert untold.woken_at is not None
    assert line.turn_in(untold, True) == 0
    line.leave(told)
    line.leave(untold)


@pytest.fixture
def may_start() -> threading.Event:
    """Whether lanes start, or hang."""
    event = threading.Event()
    event.set()
    return event


@pytest.fixture
async def backend(anyio_backend: object, may_start: threading.Event) -> AsyncIterator[PooledBackend[Any]]:
    """A backend of one fake lane."""

    def start(breakable: Callable[[Callable[[], object]], None]) -> FakeLane:
        may_start.wait()
        return FakeLane()

    backend = PooledBackend(Pool[Any](start, lambda lane: None, 1, "start-fake"), is_remote=True)
    with anyio.fail_after(30):
        try:
            yield backend
        finally:
            may_start.set()
            await backend.aclose()
    assert not backend.has_waiters


async def wait_for(backend: PooledBackend[Any], count: int) -> None:
    """Wait until so many wait."""
    while len(backend.pool._line) != count:
        await anyio.lowlevel.checkpoint()


async def turns(backend: PooledBackend[Any], places: list[Place], *, kills: bool = False) -> list[Any]:
    """Have all of these wait for the one lane, and kill it or not; return their flows in the order of their turns."""
    flows: list[Any] = []

    async def turn(place: Place) -> None:
        async with backend.lease(1.0, place=place) as lane:
            flows.append(place.flow)
            if kills:
                lane.kill()

    async with anyio.create_task_group() as tasks:
        async with backend.lease(1.0):
            for number, place in enumerate(places):
                tasks.start_soon(turn, place)
                await wait_for(backend, number + 1)
    return flows


@pytest.mark.anyio
@pytest.mark.parametrize("kills", [False, True], ids=["handed over", "claimed"])
async def test_labels_share_a_lane_equally(backend: PooledBackend[Any], kills: bool) -> None:
    """One label's 40 callers, who came first, have every other turn while another's five want them."""
    flows = await turns(backend, [*[Place("a")] * 40, *[Place("b")] * 5], kills=kills)
    assert [Counter(flows[:n]) for n in (4, 10)] == [{"a": 2, "b": 2}, {"a": 5, "b": 5}]


@pytest.mark.anyio
async def test_a_map_does_not_hold_up_calls(backend: PooledBackend[Any]) -> None:
    """Single calls that come behind many turns of a map are served before all but one of them."""
    flows = await turns(backend, [*[BATCH] * 20, *[ORDINARY] * 5])
    assert Counter(flows[:6]) == {None: 5, "map": 1}


@pytest.mark.anyio
async def test_one_flow_is_served_in_order(backend: PooledBackend[Any]) -> None:
    """Callers of one flow are served in the order in which they came."""
    numbers: list[int] = []

    async def turn(number: int) -> None:
        async with backend.lease(1.0):
            numbers.append(number)

    async with anyio.create_task_group() as tasks:
        async with backend.lease(1.0):
            for number in range(20):
                tasks.start_soon(turn, number)
                await wait_for(backend, number + 1)
    assert numbers == [*range(20)]


@pytest.mark.anyio
async def test_a_holder_sees_who_waits(backend: PooledBackend[Any]) -> None:
    """Whoever holds a lane can tell whether somebody waits, and whether somebody interactive does."""
    seen = []

    async def turn(place: Place) -> None:
        async with backend.lease(1.0, place=place):
            pass

    async with anyio.create_task_group() as tasks:
        async with backend.lease(1.0):
            seen.append((backend.has_waiters, backend.has_interactive_waiters))
            for number, place in enumerate([BATCH, ORDINARY]):
                tasks.start_soon(turn, place)
                await wait_for(backend, number + 1)
                seen.append((backend.has_waiters, backend.has_interactive_waiters))
    assert seen == [(False, False), (True, False), (True, True)]


@pytest.mark.anyio
async def test_who_waits_too_long_is_told(backend: PooledBackend[Any]) -> None:
    """Whoever's time passes in the line is told then, while the lane is held on, and is out of the line."""
    async with backend.lease(1.0):
        with pytest.raises(TooLate):
            async with backend.lease(1.0, place=Place(until=time.monotonic() + 0.02)):
                pass
        assert not backend.has_waiters
    async with backend.lease(1.0):
        pass


@pytest.mark.anyio
async def test_a_lane_that_is_free_is_not_waited_for(backend: PooledBackend[Any]) -> None:
    """Whoever must not wait at all gets a lane that is idle."""
    async with backend.lease(1.0):
        pass
    async with backend.lease(1.0, place=Place(until=time.monotonic())):
        pass


@pytest.mark.anyio
async def test_no_lane_comes_too_late(backend: PooledBackend[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane released on a loop that was too busy to run a waiter's timer goes to the next, not to that waiter."""
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(waiting, "time", clock)
    ends: list[str] = []

    async def turn(name: str, until: float) -> None:
        try:
            async with backend.lease(1.0, place=Place(until=until)):
                ends.append(name)
        except TooLate:
            ends.append(f"{name} too late")

    async with anyio.create_task_group() as tasks:
        lane = await backend.pool.acquire(None, 1.0)
        for number, (name, until) in enumerate([("first", 1000.0), ("second", float("inf"))]):
            tasks.start_soon(turn, name, until)
            await wait_for(backend, number + 1)
        clock.monotonic = lambda: 1000.0  # as if the loop were held until then
        backend.pool.release(lane)
    assert sorted(ends) == ["first too late", "second"]


@pytest.mark.anyio
async def test_a_lane_that_starts_too_slowly(backend: PooledBackend[Any], may_start: threading.Event) -> None:
    """Whoever waits in vain for the first lane to start is told in time; the lane is there for the next."""
    may_start.clear()
    with pytest.raises(TooLate):
        async with backend.lease(1.0, place=Place(until=time.monotonic() + 0.02)):
            pass
    may_start.set()
    async with backend.lease(1.0):
        assert len(backend.pool.lanes) == 1


@pytest.mark.anyio
async def test_a_storm_of_cancels(backend: PooledBackend[Any]) -> None:
    """A thousand that give up at once leave an empty line, and the lane to whoever stayed."""
    stayed: list[bool] = []

    async def turn() -> None:
        async with backend.lease(1.0):
            stayed.append(True)

    async with anyio.create_task_group() as outer:
        async with backend.lease(1.0):
            async with anyio.create_task_group() as inner:
                for number in range(1000):
                    (outer if number == 500 else inner).start_soon(turn)
                await wait_for(backend, 1000)
                inner.cancel_scope.cancel()
            await wait_for(backend, 1)
            assert stayed == []
    assert stayed == [True]


@pytest.mark.anyio
async def test_a_closed_pool_tells_all(backend: PooledBackend[Any]) -> None:
    """Whoever waits when the pool is closed is told that, whatever their place."""
    told: list[Any] = []

    async def turn(place: Place) -> None:
        try:
            async with backend.lease(1.0, place=place):
                pass
        except SessionClosedError:
            told.append(place.flow)

    async with anyio.create_task_group() as tasks:
        async with backend.lease(1.0):
            for number, place in enumerate([ORDINARY, BATCH, Place("a", until=time.monotonic() + 1000)]):
                tasks.start_soon(turn, place)
                await wait_for(backend, number + 1)
            backend.pool.refuse()
    assert set(told) == {None, "map", "a"}


class Crowd:
    """Callers on one event loop, of several flows, some of which are late or cancelled."""

    def __init__(self, pool: Pool[Any], seed: int) -> None:
        self.pool, self.chance = pool, random.Random(seed)
        self.n_turns: Counter[int] = Counter()
        self.errors: list[BaseException] = []

    def run(self, options: dict[str, Any]) -> None:
        try:
            anyio.run(self.all, **options)
        except BaseException as error:
            self.errors.append(error)

    async def all(self) -> None:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in range(8):
                    tasks.start_soon(self.one, number)

    async def one(self, number: int) -> None:
        chance = self.chance
        while self.n_turns[number] < 40:
            limit_s = chance.random() * 0.002 if chance.random() < 0.2 else None
            until = time.monotonic() + chance.random() * 0.002 if chance.random() < 0.2 else float("inf")
            place = Place(chance.choice("abc"), chance.random() * 0.1, chance.random() < 0.5, until)
            with anyio.move_on_after(limit_s):
                try:
                    lane = await self.pool.acquire(None, 1.0, place)
                except TooLate:
                    continue
                assert lane.lock.acquire(blocking=False), "two hold one lane"
                try:
                    await anyio.lowlevel.checkpoint()
                    self.n_turns[number] += 1
                finally:
                    lane.lock.release()
                    self.pool.release(lane)


def test_crowds_on_three_loops_all_get_on() -> None:
    """Callers of all places on three loops, late and cancelled at random: each gets its turns, no lane is lost or shared."""
    pool: Pool[Any] = Pool(lambda breakable: FakeLane(), lambda lane: None, 2, "start-fake")
    crowds = [Crowd(pool, seed) for seed in range(len(LOOPS))]
    threads = [
        threading.Thread(target=crowd.run, args=(options,)) for crowd, options in zip(crowds, LOOPS, strict=True)
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [error for crowd in crowds for error in crowd.errors] == []
        assert all(crowd.n_turns == dict.fromkeys(range(8), 40) for crowd in crowds)
        assert not pool.has_waiters
        assert not pool.has_interactive_waiters
        assert pool.n_idle == len(pool.lanes) <= 2
    finally:
        pool.close()
