"""Counting what becomes of items."""

from __future__ import annotations


class Tally:
    """Counts of a run, or of a session."""

    __slots__ = ("busy_s", "completed", "crashes", "failed", "retried", "submitted")

    def __init__(self) -> None:
        self.submitted = self.completed = self.failed = self.retried = self.crashes = 0
        self.busy_s = 0.0

    @property
    def done(self) -> int:
        """Items that have their outcome."""
        return self.completed + self.failed

    @property
    def cancelled(self) -> int:
        """Items that were taken in and have no outcome."""
        return self.submitted - self.done

    def add(self, other: Tally) -> None:
        """Add another's counts."""
        self.submitted += other.submitted
        self.completed += other.completed
        self.failed += other.failed
        self.retried += other.retried
        self.crashes += other.crashes
        self.busy_s += other.busy_s
