"""The results of a map: outcomes as they come, in the order of the items at the end."""

from __future__ import annotations

from typing import Any

from .options import CallOptions
from .strategies.base import Outcomes


class Results:
    """A sink for outcomes.

    Args:
        n_items: How many items there are, as far as is known.
    """

    __slots__ = ("_failures", "_values")

    def __init__(self, n_items: int | None) -> None:
        self._values: list[Any] = [None] * (n_items or 0)
        self._failures: dict[int, Exception] = {}

    def take_in(self, outcomes: Outcomes) -> None:
        """Take in what became of consecutive items."""
        values, start, end = self._values, outcomes.start, outcomes.start + len(outcomes.values)
        if end > len(values):
            values.extend([None] * (end - len(values)))
        values[start:end] = outcomes.values
        self._failures.update(outcomes.failures)

    def in_order(self, n_items: int, options: CallOptions) -> list[Any]:
        """Return the results of so many items, failures in their places.

        Raises:
            ExceptionGroup: There are failures, and ``on_error`` is ``group``.
        """
        values, failures = self._values, self._failures
        del values[n_items:]  # the source was shorter than it said
        if failures and options.on_error == "group":
            ordered = [failures[index] for index in sorted(failures)]
            raise ExceptionGroup(f"{len(ordered)} of {len(values)} items failed", ordered)
        for index, error in failures.items():
            values[index] = error
        return values
