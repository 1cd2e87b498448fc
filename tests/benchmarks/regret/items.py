"""The function and the items of a cell, sized for this host."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from time import thread_time
from typing import Any

from . import work
from .cells import Cell

HEAVY = 20  # times as long as the light ones
TRIALS = 15
TRIAL_S = 2e-3


@dataclass(frozen=True)
class Load:
    """What a cell runs: a function that nobody has called, and its items."""

    original: Callable[[Any], Any]
    items: list[Any]


def load(cell: Cell) -> Load:
    """Make the items of a cell."""
    original = _original(cell)
    if original is work.bump:
        return Load(original, list(range(cell.count)))
    turns = [_turns(original, cell.payload, cost_s) for cost_s in costs_s(cell)]
    if not cell.payload:
        return Load(original, turns)
    return Load(original, [(number, array(cell.payload, at)) for at, number in enumerate(turns)])


def _original(cell: Cell) -> Callable[[Any], Any]:
    if cell.payload:
        return work.spin_on if cell.gil == "held" else work.digest_on
    if cell.cost_s < 1e-6:
        return work.bump
    return work.spin if cell.gil == "held" else work.digest


def costs_s(cell: Cell) -> Sequence[float]:
    """Return the wanted seconds of each item."""
    if cell.skew == "uniform":
        return [cell.cost_s] * cell.count
    n_heavy = cell.count // 10
    light_s = cell.serial_s / (cell.count - n_heavy + HEAVY * n_heavy)
    heavy_s = HEAVY * light_s
    if cell.skew == "last":
        return [light_s] * (cell.count - n_heavy) + [heavy_s] * n_heavy
    return [heavy_s if position % 10 == 0 else light_s for position in range(1, cell.count + 1)]


def array(size: int, value: float) -> Any:
    """Return an array whose memory is its own, every page of it in use."""
    import numpy as np

    return np.full(size // 8, float(value))


def _turns(original: Callable[[Any], Any], payload: int, cost_s: float) -> int:
    fixed_s, turn_s = _gauged(original, payload)
    return max(0, round((cost_s - fixed_s) / turn_s))


@cache
def _gauged(original: Callable[[Any], Any], payload: int) -> tuple[float, float]:
    """Return the CPU seconds of a call without turns, and of one turn: the fastest of a few trials."""
    data = array(payload, 1.0) if payload else None

    def call_s(turns: int) -> float:
        item = (turns, data) if payload else turns
        return min(_mean_s(original, item) for _ in range(TRIALS))

    fixed_s = call_s(0)
    many = 10_000
    return fixed_s, max(1e-9, (call_s(many) - fixed_s) / many)


def _mean_s(fn: Callable[[Any], Any], item: Any) -> float:
    began_s = thread_time()
    fn(item)
    once_s = max(1e-8, thread_time() - began_s)
    times = max(1, math.ceil(TRIAL_S / once_s)) if once_s < TRIAL_S else 1
    began_s = thread_time()
    for _ in range(times):
        fn(item)
    return (thread_time() - began_s) / times
