"""When a run will be over, by how it has gone lately."""

from __future__ import annotations

from collections import deque

_WINDOW_S = 10.0  # what is older tells little of what is to come; a guess
_MOST = 128  # samples: as many as come in that time, and some


class Outlook:
    """How quickly a run goes, from how far it was at each look."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque([(0.0, 0.0)], maxlen=_MOST)

    def look(self, elapsed_s: float, n_done: float) -> float | None:
        """Note how far the run is, and return how many items a second it has come since about ten seconds ago.

        Where none was finished in that time, it is the mean since the beginning; None if none was finished at all.

        Args:
            elapsed_s: Since its first item began; never less than before.
            n_done: Items done, with the share that is done of those under way.
        """
        samples = self._samples
        while len(samples) > 1 and samples[1][0] <= elapsed_s - _WINDOW_S:
            samples.popleft()
        samples.append((elapsed_s, n_done))
        before_s, before = samples[0]
        if n_done > before and elapsed_s > before_s:
            return (n_done - before) / (elapsed_s - before_s) or None
        return (n_done / elapsed_s or None) if elapsed_s > 0 else None


def eta_s(n_items: int | None, n_done: float, rate: float | None) -> float | None:
    """Return the seconds until all is done at this rate; None where that can't be known."""
    if n_items is None:
        return None
    left = n_items - n_done
    if left <= 0:
        return 0.0
    return left / rate if rate else None
