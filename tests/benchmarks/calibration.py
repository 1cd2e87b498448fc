"""How many loop turns one millisecond of this host's CPU is worth."""

import time

from .workloads import busy

TURNS = 200_000
TRIALS = 25


def iterations_per_ms() -> int:
    """Take the fastest of a few trials, in CPU time: the host undisturbed, as far as it can be seen."""
    return round(TURNS / (min(_trial_s() for _ in range(TRIALS)) * 1e3))


def _trial_s() -> float:
    began_s = time.thread_time()
    busy(TURNS)
    return time.thread_time() - began_s
