"""What a round asks of every entrant, whatever measures it."""

from typing import Protocol

from .entrants import Sample


class NoSample(Exception):
    """The entrant could not be measured; the text says why."""


class Sampler(Protocol):
    """Takes one sample at a time of one entrant.

    Attributes:
        remark: What the entrant decided in the last sample; empty where there was nothing to decide.
    """

    remark: str

    def sample(self) -> Sample:
        """Measure once; ``NoSample`` where that fails."""

    def close(self) -> int:
        """End what was started, and count the processes that had to be killed for it."""
