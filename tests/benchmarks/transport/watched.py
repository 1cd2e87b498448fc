"""Two passes over the same work: one against the clock, one under watch."""

from dataclasses import replace

from ..entrants import Assignment, Sample
from ..hosting import Guest


class TimedThenWatched:
    """Starts a guest for each pass: reading a process's memory takes time, and holds up its page faults.

    A slow entrant is watched while it is timed: beside seconds that is nothing.
    """

    remark = ""

    def __init__(self, assignment: Assignment, *, verbose: bool = False) -> None:
        self._passes = [
            replace(assignment, watched=is_watched)
            for is_watched in ([True] if assignment.entrant.slow else [False, True])
        ]
        self._verbose = verbose
        self._killed = 0

    def sample(self) -> Sample:
        sample: Sample = {}
        for assignment in self._passes:
            guest = Guest(assignment, verbose=self._verbose)
            try:
                sample = guest.sample() | sample
            finally:
                self._killed += guest.close()
        return sample

    def close(self) -> int:
        return self._killed
