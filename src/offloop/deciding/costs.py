"""What calls have cost so far, by function."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from .chunking import Pace

_MAX_FUNCTIONS = 1024


class Costs:
    """Seconds per call of each function; those that were not asked for longest are forgotten."""

    def __init__(self) -> None:
        self._paces: OrderedDict[Hashable, Pace] = OrderedDict()

    def of(self, function: Hashable) -> Pace:
        """Return what is known of a function's cost, for the caller to read and to add to."""
        pace = self._paces.get(function)
        if pace is None:
            pace = self._paces[function] = Pace()
            if len(self._paces) > _MAX_FUNCTIONS:
                self._paces.popitem(last=False)
        else:
            self._paces.move_to_end(function)
        return pace
