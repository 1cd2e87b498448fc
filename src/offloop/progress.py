"""How far a run has come, as whoever waits for it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressEvent:
    """How far a run has come.

    What is counted are items, rows of `run_batches`, units of `run_branches`, and of `run` the one call.

    Attributes:
        fn: Name of the function; of `run_branches` the names of the branches under way.
        label: The run's name, as the call gives it.
        strategy: Where it executes now; empty where no unit of `run_branches` does.
        n_items: How many there are; None while a source has not been read to its end.
        n_done: How many have been executed, those that failed included. Exact also within a chunk.
        n_failed: How many of them have failed; of `run_batches` how many blocks.
        fraction: The share of the work that is done, 0 to 1, with what `report_progress` says of items under way; None where
            it isn't known how much there is.
        elapsed_s: Seconds since the run began.
        rate: How many are executed in a second, over about the last ten seconds; None before the first.
        eta_s: Seconds until the end, if it goes on like that; None where that isn't known.
        utilisation_pct: Seconds that items ran as a share of those that the lanes taking part could have worked, 0 to 100.
        is_last: Whether the run is over, whatever became of it.
    """

    fn: str
    label: str | None
    strategy: str
    n_items: int | None
    n_done: int
    n_failed: int
    fraction: float | None
    elapsed_s: float
    rate: float | None
    eta_s: float | None
    utilisation_pct: float
    is_last: bool


# Who is told: nobody, whoever looks at the terminal, or a function.
Progress = bool | Literal["text"] | Callable[[ProgressEvent], object]
