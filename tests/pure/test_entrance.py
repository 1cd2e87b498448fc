"""entrance.py: who comes with many others lets the event loop have its turns."""

from __future__ import annotations

import anyio
import pytest

from offloop import entrance as module
from offloop.entrance import Entrance

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the entrance sees, to be changed."""
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def test_calls_that_leave_turns_between_them_just_come_in(clock: list[float]) -> None:
    """However many they are, and however soon the next one comes when nobody was there for a while."""
    entrance = Entrance()
    for _call in range(1000):
        clock[0] += 0.001
        assert not entrance.is_crowded()
        assert not entrance.is_crowded()


def test_those_behind_a_stretch_of_calls_are_to_wait(clock: list[float]) -> None:
    """Where calls have followed upon each other for 3 ms the next one waits."""
    entrance = Entrance()
    crowded = []
    for _call in range(60):
        clock[0] += 0.0001
        crowded.append(entrance.is_crowded())
    assert crowded.index(True) in range(30, 33)
    assert all(crowded[33:])


async def entered(entrance: Entrance, order: list[int], number: int) -> None:
    await entrance.wait()
    order.append(number)


async def test_they_come_in_by_portions_in_their_order(anyio_backend_name: str) -> None:
    """All come in, in the order in which they came as far as the loop itself keeps one, and not in one turn of it."""
    entrance = Entrance()
    order: list[int] = []
    seen: list[int] = []
    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(entered, entrance, order, number)
        while len(order) < 200:
            await anyio.lowlevel.checkpoint()
            seen.append(len(order))
    assert (sorted(order) if anyio_backend_name == "trio" else order) == list(range(200))
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) <= 70  # two portions: turns may coincide
    assert not entrance.is_crowded()


@pytest.mark.parametrize("first", [0, 1, 40])
async def test_who_is_cancelled_leaves_the_others_their_way(first: int) -> None:
    """Whoever is cancelled while they wait, the first one included, the others come in."""
    entrance = Entrance()
    order: list[int] = []
    scopes = [anyio.CancelScope() for _ in range(100)]

    async def call(number: int) -> None:
        with scopes[number]:
            await entered(entrance, order, number)

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(call, number)
        await anyio.lowlevel.checkpoint()
        for scope in scopes[first::2]:
            scope.cancel()
    kept = [number for number, scope in enumerate(scopes) if not scope.cancelled_caught]
    assert sorted(order) == kept
    assert len(kept) >= 50
