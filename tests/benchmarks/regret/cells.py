"""The grid of workloads, and which of its cells a run visits."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

COSTS_S = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.3)
COUNTS = (5, 20, 100, 1_000, 10_000, 100_000, 300_000)
GILS = ("held", "released")
PAYLOADS = {
    0: 0.0,
    10_000: 1e-5,
    1_000_000: 1e-4,
    64_000_000: 1e-2,
}  # bytes: the least cost that reading them leaves
SKEWS = ("uniform", "tenth", "last")

LONGEST_S = 6.0
MOST_BYTES = 1_500_000_000
LEAST_SHAPED_S = 1e-5  # what costs less can't be skewed, nor can it release the GIL


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One workload.

    Attributes:
        cost_s: Wanted seconds per item, the mean over all.
        count: Items.
        gil: Whether an item holds the GIL or releases it.
        payload: Bytes of the array that each item brings.
        skew: ``tenth``: every 10th item is 20 times as long as the others; ``last``: so is the last tenth of them.
    """

    cost_s: float
    count: int
    gil: str = "held"
    payload: int = 0
    skew: str = "uniform"

    @property
    def serial_s(self) -> float:
        """Wanted seconds for everything, one after another."""
        return self.cost_s * self.count

    @property
    def label(self) -> str:
        parts = [f"{self.count:,} × {_short(self.cost_s, TIMES)}", self.gil]
        parts.append(_short(self.payload, SIZES) if self.payload else "")
        parts.append(self.skew if self.skew != "uniform" else "")
        return ", ".join(part for part in parts if part)

    def is_sound(self) -> bool:
        """Whether such a workload can be made, and is short enough to be measured often."""
        is_shaped = self.gil == "released" or self.skew != "uniform"
        return (
            self.serial_s <= LONGEST_S
            and self.payload * self.count <= MOST_BYTES
            and self.cost_s >= PAYLOADS[self.payload]
            and not (is_shaped and self.cost_s < LEAST_SHAPED_S)
            and not (self.skew != "uniform" and self.count < 20)
        )


TIMES = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
SIZES = (("MB", 1e6), ("kB", 1e3))


def _short(value: float, units: Sequence[tuple[str, float]]) -> str:
    unit, size = next((fit for fit in units if value >= fit[1]), units[-1])
    return f"{value / size:g} {unit}"


GRID = tuple(
    cell
    for cost_s, count, gil, payload, skew in product(COSTS_S, COUNTS, GILS, PAYLOADS, SKEWS)
    if (cell := Cell(cost_s=cost_s, count=count, gil=gil, payload=payload, skew=skew)).is_sound()
)

# Where choices go wrong: next to nothing, just worth it, few and long, large payloads, long items last.
CORE = (
    Cell(cost_s=1e-7, count=5),
    Cell(cost_s=1e-6, count=1_000),
    Cell(cost_s=1e-5, count=100),
    Cell(cost_s=1e-4, count=20),
    Cell(cost_s=1e-3, count=5),
    Cell(cost_s=1e-3, count=20),
    Cell(cost_s=1e-2, count=5),
    Cell(cost_s=1e-7, count=300_000),
    Cell(cost_s=1e-4, count=20, gil="released"),
    Cell(cost_s=1e-3, count=100, gil="released"),
    Cell(cost_s=1e-2, count=5, gil="released"),
    Cell(cost_s=1e-5, count=10_000),
    Cell(cost_s=1e-5, count=1_000, payload=10_000),
    Cell(cost_s=1e-3, count=100, payload=1_000_000),
    Cell(cost_s=1e-3, count=100, payload=1_000_000, gil="released"),
    Cell(cost_s=1e-3, count=1_000, skew="last"),
    Cell(cost_s=1e-2, count=20, skew="tenth"),
    Cell(cost_s=1e-6, count=300_000),
    Cell(cost_s=1e-4, count=10_000, gil="released"),
    Cell(cost_s=0.1, count=5, gil="released"),
    Cell(cost_s=0.1, count=5, payload=64_000_000),
    Cell(cost_s=1e-2, count=20, payload=64_000_000),
    Cell(cost_s=0.3, count=5),
)


def visited(
    count: int, *, seed: int, budget_s: float, estimated_s: Callable[[Cell], float], texts: Sequence[str] = ()
) -> list[Cell]:
    """Return the cells of a run: the core, then the grid by chance, leaving out what no longer fits the time.

    With ``texts``, only those whose label has all of them in it.
    """
    chosen: list[Cell] = []
    for cell in _by_turns(seed):
        cost_s = estimated_s(cell)
        if all(text in cell.label for text in texts) and cost_s <= budget_s and len(chosen) < count:
            chosen.append(cell)
            budget_s -= cost_s
    return chosen


def _by_turns(seed: int) -> Iterator[Cell]:
    """Yield the core, then all others, one order of magnitude of the whole after another by turns."""
    yield from CORE
    chance = random.Random(seed)
    magnitudes: dict[int, list[Cell]] = {}
    for cell in chance.sample(GRID, len(GRID)):
        if cell not in CORE:
            magnitudes.setdefault(math.floor(math.log10(cell.serial_s) + 1e-9), []).append(cell)
    while magnitudes:
        for magnitude in sorted(magnitudes):
            yield magnitudes[magnitude].pop()
            if not magnitudes[magnitude]:
                del magnitudes[magnitude]
