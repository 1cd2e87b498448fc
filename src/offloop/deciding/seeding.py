"""Random numbers that depend on seed and index only: not on strategy, workers, chunks or retries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Seeded:
    """Calls fn with a generator of the item's own, the one that ``SeedSequence(seed).spawn(n)[index]`` gives.

    Args:
        fn: Takes an item and ``rng=``.
        seed: As `numpy.random.SeedSequence` takes it.
    """

    wraps_fn = True

    def __init__(self, fn: Callable[..., Any], seed: int) -> None:
        self.fn, self.seed = fn, seed

    def __call__(self, index: int, item: Any) -> Any:
        """Execute one item."""
        from numpy.random import SeedSequence, default_rng

        return self.fn(item, rng=default_rng(SeedSequence(self.seed, spawn_key=(index,))))


class Keyed:
    """Calls fn with a generator of its own, over ``SeedSequence(seed, spawn_key=key)``, besides its arguments.

    Args:
        fn: Takes ``rng=``.
        seed: As `numpy.random.SeedSequence` takes it.
        key: Whole numbers below 2³².
    """

    wraps_fn = True

    def __init__(self, fn: Callable[..., Any], seed: int, key: tuple[int, ...]) -> None:
        self.fn, self.seed, self.key = fn, seed, key

    def __call__(self, *args: Any) -> Any:
        """Make the call."""
        from numpy.random import SeedSequence, default_rng

        return self.fn(*args, rng=default_rng(SeedSequence(self.seed, spawn_key=self.key)))
