"""The maps that figures time: a function and its items."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .workloads import add_one, busy


@dataclass(frozen=True)
class Map:
    """``fn`` over ``items``; ``costs_known`` where an item is its own cost."""

    fn: Callable[[int], int]
    items: list[int]
    costs_known: bool = True


def uniform(ms: int) -> Map:
    """600 items of 5 ms each."""
    return Map(busy, [5 * ms] * 600)


def heavy_tail(ms: int) -> Map:
    """500 items of 1 ms, of which every 50th takes 60 times as long."""
    return Map(busy, [ms * 60 if position % 50 == 0 else ms for position in range(1, 501)])


def late_heavy(ms: int) -> Map:
    """400 items of 1 ms, then 4 that take 150 times as long."""
    return Map(busy, [ms] * 400 + [150 * ms] * 4)


def tiny(ms: int) -> Map:
    """100,000 items that cost next to nothing."""
    return Map(add_one, list(range(100_000)), costs_known=False)


def short_items(ms: int) -> Map:
    """2,000 items of 50 µs each."""
    return Map(busy, [ms // 20] * 2000)


def half_ms_calls(ms: int) -> Map:
    """1,000 calls of 0.5 ms, the work of the figure ``callers``."""
    return Map(busy, [ms // 2] * 1000)


MAPS: dict[str, Callable[[int], Map]] = {
    "uniform": uniform,
    "heavy_tail": heavy_tail,
    "late_heavy": late_heavy,
    "tiny": tiny,
    "short_items": short_items,
    "callers": half_ms_calls,
}


def payloads(count: int, size: int) -> list[Any]:
    """Strings, bytes and arrays by turns, of ``size`` bytes each."""
    import numpy as np

    kinds: list[Callable[[int], Any]] = [
        lambda position: chr(97 + position % 26) * size,
        lambda position: bytes([position % 256]) * size,
        lambda position: np.full(size // 8, float(position)),
    ]
    return [kinds[position % len(kinds)](position) for position in range(count)]
