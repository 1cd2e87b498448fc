"""Who works on a run: how many lanes of which backend, and what they are on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, NamedTuple

from .strategies.base import Backend, Lane


def _count(items: Sequence[Any], count: int) -> int:
    return count


class UnderWay(NamedTuple):
    """What the chunks that lanes are on have come to, beyond what lanes have told.

    Attributes:
        n_finished: How much is finished.
        n_begun: How much is being executed.
        partly: How much of that is done, as far as it says so.
        seconds: For how long the chunks have executed, summed.
        gil_held: Share of the time that the GIL has been held; None where nobody looks.
    """

    n_finished: int
    n_begun: int
    partly: float
    seconds: float
    gil_held: float | None


def under_way(lanes: Iterable[Lane], weigh: Callable[[Sequence[Any], int], int] = _count) -> UnderWay:
    """Return what the chunks on some lanes have come to, by their status pages.

    Args:
        lanes: Which.
        weigh: Returns how much the first so many of some items come to.
    """
    n_finished, n_begun, partly, seconds = 0, 0, 0.0, 0.0
    gil_held: float | None = None
    now = monotonic()
    for lane in lanes:
        if lane.in_flight and lane.in_flight[0].sent_at:
            chunk = lane.in_flight[0]
            done = max(chunk.done, lane.n_finished)
            up_to_here = weigh(chunk.items, done)
            executing = weigh(chunk.items, done + 1) - up_to_here
            n_finished += up_to_here - weigh(chunk.items, chunk.done)
            n_begun += executing
            partly += lane.fraction * executing
            seconds += now - chunk.sent_at
            gil_held = lane.gil_held if chunk.is_watched and gil_held is None else gil_held
    return UnderWay(n_finished, n_begun, partly, seconds, gil_held)


class Crew:
    """The lanes that should take part in a run, and those that do.

    Attributes:
        n_lanes: How many should take part.
        on_duty: The lanes that are leased now, with their backends.
    """

    __slots__ = ("_answered", "_bridge", "_seen", "_wanted", "n_lanes", "on_duty")

    def __init__(self) -> None:
        self.n_lanes = 1
        self.on_duty: dict[Lane, Backend] = {}
        self._wanted: dict[Backend, int] = {}
        self._bridge: Backend | None = None
        self._seen = (0, 0.0)  # items finished, and their seconds, when progress was last asked for
        self._answered: set[Lane] = set()  # while there is a bridge: the lanes that it leads to

    def call(self, backend: Backend, lanes: int, bridge: Backend | None) -> None:
        """Want so many lanes of this backend and no others, except one of `bridge` until these have all answered."""
        self._wanted = {backend: lanes}
        self._answered.clear()
        self.n_lanes = lanes
        self._bridge = bridge
        if bridge is not None:
            self._wanted[bridge] = 1

    @property
    def is_alone(self) -> bool:
        """Whether one lane works and no other is on its way, so that its time tells what an item costs."""
        return self._bridge is None and len(self.on_duty) <= 1

    @property
    def is_spawning(self) -> bool:
        """Whether lanes that a bridge leads to keep this process busy with their start."""
        return self._bridge is not None and any(backend.n_spawning for backend in self._wanted)

    @property
    def wanted(self) -> dict[Backend, int]:
        """How many lanes of each backend should take part."""
        return self._wanted

    def wants(self, backend: Backend, ordinal: int) -> bool:
        """Whether this lane of a backend, counted from 0, should take another chunk."""
        return ordinal < self._wanted.get(backend, 0)

    def start(self, lane: Lane, backend: Backend) -> None:
        """Note that a lane is leased."""
        self.on_duty[lane] = backend

    def heard(self, lane: Lane) -> None:
        """Note news of a lane: once all have told something, they are up and know the function."""
        backend = self.on_duty.get(lane)
        if self._bridge is None or backend is None or backend is self._bridge or backend not in self._wanted:
            return
        self._answered.add(lane)
        if len(self._answered) >= self._wanted[backend]:
            self.leave_bridge()

    def end(self, lane: Lane) -> None:
        """Note that a lane has been given back."""
        self.on_duty.pop(lane, None)

    def leave_bridge(self) -> None:
        """Want no lane besides those of the backend that the run is to be on."""
        if self._bridge is not None:
            del self._wanted[self._bridge]
            self._bridge = None

    def n_on_duty(self, backend: Backend) -> int:
        """Return how many lanes of a backend are leased."""
        return sum(other is backend for other in self.on_duty.values())

    @property
    def n_in_flight(self) -> int:
        """Items that are on lanes."""
        return sum(len(chunk.items) for lane in self.on_duty for chunk in lane.in_flight)

    def progress(
        self, executed: int, busy_s: float, weigh: Callable[[Sequence[Any], int], int] = _count
    ) -> tuple[int, float | None, float | None]:
        """Return how many items are finished, seconds for one since the last time, and how the GIL is held.

        An item that is under way counts with the time that it has taken so far, so the mean is a lower bound.

        Args:
            executed: How many were finished by chunks that are over.
            busy_s: Seconds that these took.
            weigh: As for `under_way`.
        """
        now = under_way(self.on_duty, weigh)
        finished, seconds = now.n_finished + executed, now.seconds + busy_s
        finished_before, seconds_before = self._seen
        n_new, new_s = finished - finished_before, seconds - seconds_before
        if n_new > 0:
            self._seen = finished, seconds  # else the time since then goes on counting for what is under way
        n_items = n_new + now.n_begun
        return finished, new_s / n_items if n_items > 0 and new_s > 0 else None, now.gil_held
