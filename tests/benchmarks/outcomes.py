"""What a figure found out about one entrant."""

import math
from dataclasses import dataclass, field
from statistics import median

from .entrants import Entrant, Sample
from .quantiles import quantile

# Measures whose rounds are summed up by the worst one, not the median.
WORST_OF_ALL = {
    *("max_s", "pss_mb", "pss_share", "failed", "lost", "wrong", "most_live", "too_many"),
    *("over_window", "growth_mb", "late_mb", "cut", "twice", "left", "last_exit_s"),
}


@dataclass
class Outcome:
    """Every sample of one entrant, or why there are none."""

    entrant: Entrant
    samples: list[Sample] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # what it decided, where it decides: one for each sample
    failure: str | None = None
    killed: int = 0  # processes that had to be killed after it

    @property
    def measured(self) -> list[str]:
        return list(self.samples[0]) if self.samples else []

    def values(self, measure: str) -> list[float]:
        return [value for sample in self.samples for value in sample.get(measure, ())]

    def value(self, measure: str) -> float:
        """The median over all rounds; for a maximum, the maximum; not a number where not measured."""
        values = self.values(measure)
        if not values:
            return float("nan")
        return max(values) if measure in WORST_OF_ALL else median(values)

    def middle_half(self, measure: str) -> tuple[float, float]:
        """The quartiles: how far rounds differ."""
        values = self.values(measure)
        return quantile(values, 0.25), quantile(values, 0.75)


def ratios(ours: Outcome, theirs: Outcome, measure: str, their_measure: str) -> list[float]:
    """Our time as a share of theirs, round by round: a slow minute of the host strikes both alike."""
    return [
        _share(median(mine[measure]), median(other[their_measure]))
        for mine, other in zip(ours.samples, theirs.samples, strict=False)
    ]


def _share(mine: float, theirs: float) -> float:
    """Not a number where the other one counted nothing."""
    return mine / theirs if theirs else math.nan
