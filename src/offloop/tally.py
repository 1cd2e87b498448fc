"""Counting what becomes of items."""

from __future__ import annotations

import threading

from .model import Reason, Strategy


class Tally:
    """Counts of a run, or of a session, which several event loops may add to at once.

    Attributes:
        submitted: Items taken in.
        completed: Items that returned.
        failed: Items that raised or were lost with their worker.
        retried: Items queued again after a worker died.
        crashes: Workers that died under work.
        executed: How much was executed in `busy_s`, counted as the source of the items does.
        lost: How much has failed without having been executed to its end, counted likewise.
        busy_s: Seconds that items ran, summed over all lanes.
        capacity_s: Seconds that lanes could have worked: wall time × workers, summed over runs.
        peak_in_flight: Most items that were on lanes at a time; of a session, in any one of its runs.
        decisions: How many runs executed where.
        fallbacks: How often something executed elsewhere than asked for or planned, by reason.
    """

    __slots__ = (
        "_lock",
        "busy_s",
        "capacity_s",
        "completed",
        "crashes",
        "decisions",
        "executed",
        "failed",
        "fallbacks",
        "lost",
        "peak_in_flight",
        "retried",
        "submitted",
    )

    def __init__(self) -> None:
        self.submitted = self.completed = self.failed = self.retried = self.crashes = self.peak_in_flight = 0
        self.executed = self.lost = 0
        self.busy_s = self.capacity_s = 0.0
        self.decisions: dict[Strategy, int] = {}  # no Counter: making one takes a microsecond, and every call has two
        self.fallbacks: dict[Reason, int] = {}
        self._lock = threading.RLock()  # a run that is collected ends its books wherever Python allocates memory, in here too

    @property
    def done(self) -> int:
        """Items that have their outcome."""
        return self.completed + self.failed

    @property
    def cancelled(self) -> int:
        """Items that were taken in and have no outcome."""
        return self.submitted - self.done

    @property
    def utilisation_pct(self) -> float:
        """Seconds that items ran as a share of those that lanes could have worked."""
        return 100 * self.busy_s / self.capacity_s if self.capacity_s else 0.0

    def note_decision(self, strategy: Strategy) -> None:
        """Count a run that executes there."""
        self.decisions[strategy] = self.decisions.get(strategy, 0) + 1

    def note_fallback(self, reason: Reason) -> None:
        """Count something that executes elsewhere than asked for or planned."""
        self.fallbacks[reason] = self.fallbacks.get(reason, 0) + 1

    def add(self, other: Tally) -> None:
        """Add another's counts, one that nobody changes any more."""
        with self._lock:
            self.submitted += other.submitted
            self.completed += other.completed
            self.failed += other.failed
            self.retried += other.retried
            self.crashes += other.crashes
            self.executed += other.executed
            self.lost += other.lost
            self.busy_s += other.busy_s
            self.capacity_s += other.capacity_s
            self.peak_in_flight = max(self.peak_in_flight, other.peak_in_flight)
            for strategy, count in other.decisions.items():
                self.decisions[strategy] = self.decisions.get(strategy, 0) + count
            for reason, count in other.fallbacks.items():
                self.fallbacks[reason] = self.fallbacks.get(reason, 0) + count

    def copy(self) -> Tally:
        """Return the counts as they are now, all of one moment."""
        copied = Tally()
        with self._lock:
            copied.add(self)
        return copied
