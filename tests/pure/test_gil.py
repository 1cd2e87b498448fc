"""worker/gil.py: how the GIL is held, as another thread feels it.

The limits are far apart, since other processes may want the same cores.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import pytest

from offloop.errors import TaskCancelled
from offloop.worker.gil import GilWatch
from offloop.worker.interrupt import _raise_in

pytestmark = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="this interpreter has no GIL"
)

DATA = os.urandom(1 << 21)
NUMBERS = [hash((number, "x")) for number in range(200_000)]


def count(seconds: float = 0.06) -> None:
    """Hold the GIL as Python code does."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(1000):
            pass


def watched(work: Callable[[], object]) -> tuple[float, float]:
    """Return how the GIL is held by this work, and the longest stall: the middle one of five times."""
    found = []
    for _ in range(5):
        watch = GilWatch()
        work()
        held = watch.stop()
        assert held is not None
        found.append((held, watch.stall_s))
    return median(held for held, _ in found), median(stall_s for _, stall_s in found)


@pytest.mark.parametrize("work", [count, lambda: sorted(NUMBERS)], ids=["loop", "sorted"])
def test_held(work: Callable[[], object]) -> None:
    """Python code, and C code that never lets go, hold the GIL for most of the time and another thread up."""
    held, stall_s = watched(work)
    assert held > 0.6
    assert stall_s > 0.002


@pytest.mark.parametrize(
    "work",
    [
        lambda: time.sleep(0.05),
        lambda: [hashlib.sha256(DATA).digest() for _ in range(10)],
        lambda: zlib.compress(DATA, 1),
    ],
    ids=["sleep", "hash", "zlib"],
)
def test_free(work: Callable[[], object]) -> None:
    """What waits, and C code that lets go, leave the GIL to others."""
    held, _ = watched(work)
    assert held < 0.45


@pytest.mark.parametrize("seconds", [0.005, 0.03])
def test_one_long_hold_is_seen_among_free_time(seconds: float) -> None:
    """A single C call that holds the GIL for most of an item counts, though the rest of the item lets it go."""

    def work() -> None:
        sorted(NUMBERS)
        time.sleep(seconds)

    held, _ = watched(work)
    assert held > 0.3


def test_a_stall_is_as_long_as_the_call_that_holds() -> None:
    """A C call that never lets go stalls other threads for as long as it takes."""
    begun = time.perf_counter()
    sorted(NUMBERS)
    usual_s = time.perf_counter() - begun
    _, stall_s = watched(lambda: sorted(NUMBERS))
    assert stall_s > usual_s / 4


@pytest.mark.parametrize(("seconds", "tells"), [(0.0, False), (0.0005, False), (0.0009, False), (0.0011, True)])
def test_too_short_to_tell(seconds: float, tells: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In less than a millisecond nothing can be told."""
    now = time.monotonic()
    watch = GilWatch()
    monkeypatch.setattr("offloop.worker.gil.time", FakeTime(max(now, watch._begun) + seconds))
    assert (watch.stop() is not None) is tells


@pytest.mark.parametrize(
    ("late_s", "stall_s", "n_prompt", "held"),
    [
        (0.019, 0.019, 5, 0.0),  # one wait among prompt ones is the machine's
        (0.030, 0.019, 5, 0.11),
        (0.020, 0.020, 5, 0.2),  # but for so long no machine waits
        (0.060, 0.060, 500, 0.6),
        (0.019, 0.019, 4, 0.19),  # too few to tell it from the others
        (0.500, 0.060, 500, 1.0),
    ],
)
def test_a_single_wait_is_left_out_unless_it_is_long(
    late_s: float, stall_s: float, n_prompt: int, held: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among five prompt ticks the longest wait is taken to be the machine's; from 20 ms on it never is."""
    watch = object.__new__(GilWatch)
    watch._begun, watch._due, watch._is_over = 0.0, 0.1, False
    watch._late_s, watch.stall_s, watch._n_prompt = late_s, stall_s, n_prompt
    monkeypatch.setattr("offloop.worker.gil.time", FakeTime(0.1))
    assert watch.held == pytest.approx(held)


class FakeTime:
    """A clock that stands still."""

    sleep = staticmethod(time.sleep)

    def __init__(self, now: float) -> None:
        self.monotonic = lambda: now


def test_what_is_under_way_can_be_seen() -> None:
    """How the GIL is held so far can be asked for meanwhile, and is a share."""
    watch = GilWatch()
    seen = []
    for _ in range(6):
        count(0.01)
        seen.append(watch.held)
    last = watch.stop()
    assert all(held is not None and 0 <= held <= 1 for held in (*seen, last))


def test_its_thread_ends() -> None:
    """No thread is left soon after the end, and what it has found stays as it was."""
    import _thread

    before = _thread._count()
    watches = [GilWatch() for _ in range(5)]
    count(0.01)
    for watch in watches:
        watch.stop()
    end = time.monotonic() + 30
    while _thread._count() > before and time.monotonic() < end:
        time.sleep(0.001)
    assert _thread._count() <= before
    stalls = [[watch.stall_s for watch in watches] for _ in range(2)]
    assert all(one == other for one, other in pairwise(stalls))


def test_an_item_that_starts_it_gets_its_own_interrupts() -> None:
    """What is meant for the thread of an item is raised there, though a watch has just been started there."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1.0)  # so that the new thread runs late, unless it is waited for
    try:
        for _ in range(20):
            watch = GilWatch(in_item=True)
            with pytest.raises(TaskCancelled):
                _raise_in(threading.get_ident())
                count(0.001)
            watch.stop()
    finally:
        sys.setswitchinterval(before)


def test_without_room_for_a_thread_it_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, what is to be watched goes on, and nothing is said of it."""

    def no_room(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("offloop.worker.gil._thread.start_new_thread", no_room)
    watch = GilWatch(in_item=True)
    count(0.01)
    assert watch.held is None
    assert (watch.stop(), watch.stall_s) == (None, 0.0)
