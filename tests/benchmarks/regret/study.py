"""The figure ``regret``: our time as a share of the best choice's, over a grid of workloads."""

import random
from argparse import Namespace
from time import perf_counter
from typing import Any

import anyio

from ..studies import Progress
from .cells import Cell, visited
from .rivals import LONG_S, Pools, pools
from .summary import lines, record
from .trial import ENOUGH_ROUNDS_S, Standing, measured

CELLS, QUICK_CELLS = 60, 18
BUDGET_S, QUICK_BUDGET_S = 440.0, 100.0
GRID_SEED = 1


class Regret:
    """Measures cell after cell in this very process."""

    name = "regret"
    title = "auto ÷ the best of serial, threads and processes, each chunked by hand; medians by turns"

    def __init__(self) -> None:
        self._standings: list[Standing] = []

    def run(self, options: Namespace, chance: random.Random, progress: Progress) -> None:
        """Visit the cells that fit the time."""
        cells = visited(
            options.cells or (QUICK_CELLS if options.quick else CELLS),
            seed=GRID_SEED if options.seed is None else options.seed,
            budget_s=QUICK_BUDGET_S if options.quick else BUDGET_S,
            estimated_s=estimated_s,
            texts=options.match,
        )
        with pools(options.workers) as opened:
            anyio.run(self._visit, cells, opened, chance, progress)

    async def _visit(
        self, cells: list[Cell], opened: Pools, chance: random.Random, progress: Progress
    ) -> None:
        for number, cell in enumerate(cells, 1):
            progress(f"cell {number} of {len(cells)}: {cell.label}")
            began_s = perf_counter()
            standing = await measured(cell, opened, chance)
            standing.spent_s = perf_counter() - began_s
            self._standings.append(standing)

    def lines(self) -> list[str]:
        """The tables."""
        return lines(self._standings)

    def record(self) -> dict[str, Any]:
        """All samples."""
        return record(self._standings)


def estimated_s(cell: Cell) -> float:
    """About how long a cell keeps a machine of two cores busy; read off runs."""
    rehearsal = 4.5 if cell.serial_s > LONG_S else 12.0
    copied_s = cell.payload * cell.count * 2e-9
    whole_s = cell.serial_s + copied_s
    return 0.8 + rehearsal * whole_s + max(min(ENOUGH_ROUNDS_S, 9 * (0.27 + 4 * whole_s)), 3 * 4 * whole_s)
