"""Who works on a run: how many lanes of which backend, and what they are on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from .strategies.base import Backend, Lane


def _count(items: Sequence[Any], count: int) -> int:
    return count


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

    def under_way(
        self, weigh: Callable[[Sequence[Any], int], int] = _count
    ) -> tuple[int, int, float, float | None]:
        """Return what the chunks under way have come to.

        Args:
            weigh: Returns how much the first so many of some items come to.

        Returns:
            How much is finished, how much is being executed, for how many seconds, and how the GIL is held.
        """
        finished, n_under_way, seconds = 0, 0, 0.0
        held: float | None = None
        now = monotonic()
        for lane in self.on_duty:
            if lane.in_flight and lane.in_flight[0].sent_at:
                chunk = lane.in_flight[0]
                done = max(chunk.done, lane.n_finished)
                up_to_here = weigh(chunk.items, done)
                finished += up_to_here - weigh(chunk.items, chunk.done)
                n_under_way += weigh(chunk.items, done + 1) - up_to_here
                seconds += now - chunk.sent_at
                held = lane.gil_held if chunk.is_watched and held is None else held
        return finished, n_under_way, seconds, held

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
        finished, n_under_way, seconds, held = self.under_way(weigh)
        finished, seconds = finished + executed, seconds + busy_s
        finished_before, seconds_before = self._seen
        n_new, new_s = finished - finished_before, seconds - seconds_before
        if n_new > 0:
            self._seen = finished, seconds  # else the time since then goes on counting for what is under way
        n_items = n_new + n_under_way
        return finished, new_s / n_items if n_items > 0 and new_s > 0 else None, held
