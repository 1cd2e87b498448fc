"""When lanes may be started, after starts that failed or lanes that came to nothing, and when to give up.

Rules:

- A start that failed for want of something that may be there later is tried again after a pause, `TRIES` times in a row,
  or `TRIES_IF_KILLED` times where a process was killed from outside, which is no fault of its own; then those who wait are
  told, if there is no lane at all. The next who needs a lane begins a new row.
- Pauses grow from one failure to the next, across rows, up to `MOST_S`, until a lane has served: however often somebody
  asks, a start that always fails is not made without pause.
- A lane that dies before it has served is likewise followed by a pause, but not the first few times: the item that it was
  on may be to blame, which is retried and then given up.
- After any of this lanes are started one at a time.

Times are seconds of one monotonic clock.
"""

from __future__ import annotations

from typing import NamedTuple

TRIES = 3
TRIES_IF_KILLED = 10  # a guess: about six seconds
FIRST_S, MOST_S = 0.05, 1.0  # guesses; a start takes 0.1 s of processor time, so at most a tenth goes into vain ones

# An item that kills its worker is tried twice as a rule. Some in a row should not make a map slow; a guess.
FREE_LOSSES = 4


class Trouble(NamedTuple):
    """What went wrong with lanes since one has served last.

    Attributes:
        failures: Starts that failed in this row; those under way at the same time count once.
        level: Starts that failed in all.
        losses: Lanes that died before they had served.
        counted_at: When a start last failed.
        not_before: No lane may be started earlier.
    """

    failures: int = 0
    level: int = 0
    losses: int = 0
    counted_at: float = float("-inf")
    not_before: float = float("-inf")

    def is_over(self, tries: int) -> bool:
        """Whether a row of failures is long enough to give up.

        Args:
            tries: How many such failures are.
        """
        return self.failures >= tries

    @property
    def most_at_once(self) -> int | None:
        """The most lanes that may be starting at the same time; None for any number."""
        return 1 if self.level or self.losses > FREE_LOSSES else None


CALM = Trouble()


def after_failure(trouble: Trouble, begun: float, now: float) -> Trouble:
    """Return it after a start that failed.

    Args:
        trouble: As it was.
        begun: When that start began.
        now: The time.
    """
    if begun < trouble.counted_at:
        return trouble
    level = trouble.level + 1
    not_before = max(trouble.not_before, now + _pause_s(level))
    return trouble._replace(failures=trouble.failures + 1, level=level, counted_at=now, not_before=not_before)


def after_loss(trouble: Trouble, now: float) -> Trouble:
    """Return it after a lane that died before it had served."""
    losses = trouble.losses + 1
    return trouble._replace(losses=losses, not_before=max(trouble.not_before, now + _pause_s(losses - FREE_LOSSES)))


def in_a_new_row(trouble: Trouble) -> Trouble:
    """Return it for somebody who needs a lane while none is starting, or after a start that went well."""
    return trouble._replace(failures=0) if trouble.failures else trouble


def _pause_s(count: int) -> float:
    return min(MOST_S, FIRST_S * 2.0 ** min(count - 1, 10)) if count > 0 else 0.0
