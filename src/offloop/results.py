"""Where the outcomes of a run go: the sinks' protocol, and the sink of a map, which returns them all at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .options import CallOptions
from .strategies.base import Outcomes


class Sink(Protocol):
    """Takes in the outcomes of a run, and says how many items it may hold meanwhile.

    Attributes:
        keeps: Whether outcomes are of use though an error follows, so that what was taken is finished before it.
        room_made: What is to be called when there is room again.
    """

    keeps: bool
    room_made: Callable[[], None]

    def take_in(self, outcomes: Outcomes) -> None:
        """Take in what became of consecutive items; in no particular order, each once."""
        ...

    def most_at_once(self, n_lanes: int) -> int:
        """Return how many items may travel together, with so many lanes."""
        ...

    def room(self, n_taken: int, n_lanes: int, size: int) -> int | None:
        """Return how many items may be taken now; None for all that there are.

        Args:
            n_taken: How many were taken from their source so far.
            n_lanes: Lanes that take part.
            size: Items that travel together.
        """
        ...


class Collected:
    """A sink that has room for everything, and gives it all back at the end."""

    keeps = False

    def __init__(self) -> None:
        self.room_made: Callable[[], None] = lambda: None  # never called: there always is room
        self._values: list[Any] = []
        self._failures: dict[int, Exception] = {}

    def take_in(self, outcomes: Outcomes) -> None:
        """Take in what became of consecutive items."""
        values, start, end = self._values, outcomes.start, outcomes.start + len(outcomes.values)
        if not values and not start:
            self._values = outcomes.values
        else:
            if end > len(values):
                values.extend([None] * (end - len(values)))
            values[start:end] = outcomes.values
        self._failures.update(outcomes.failures)

    def most_at_once(self, n_lanes: int) -> int:
        """Return any number: nothing waits here for anybody."""
        return 1 << 62

    def room(self, n_taken: int, n_lanes: int, size: int) -> int | None:
        """Return that there is room for everything."""
        return None

    def in_order(self, options: CallOptions) -> list[Any]:
        """Return the results in the order of the items, failures in their places.

        Raises:
            ExceptionGroup: There are failures, and ``on_error`` is ``group``.
        """
        values, failures = self._values, self._failures
        if failures and options.on_error == "group":
            ordered = [failures[index] for index in sorted(failures)]
            raise ExceptionGroup(f"{len(ordered)} of {len(values)} items failed", ordered)
        for index, error in failures.items():
            values[index] = error
        return values
