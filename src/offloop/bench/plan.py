"""What a bench measures: the variants of each number of items, the most telling first, as many as time allows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from ..cli.amounts import counted
from ..model import Strategy

PARALLEL = (Strategy.PROCESSES, Strategy.THREADS)

COUNT_STEP = 4  # from one default number of items to the next
MOST_COUNTS = 5
CHUNK_STEP = 8
MOST_CHUNK_SIZES = 5
SHARE_OF_SERIAL = 1 / 60  # of the time there is, for one serial run: 20 variants run six times or more, most of them on fewer items
LARGEST_SHARE_OF_SERIAL = 1 / 8  # where it would be too few items otherwise, at the cost of rounds
ITEMS_PER_WORKER = 4
SHARE_OF_REHEARSAL = 0.45
LEAST_ROUNDS = 3
MOST_ROUNDS = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One way to run one number of items.

    Attributes:
        n_items: How many of the items.
        strategy: Where they are to execute.
        workers: How many workers are to take part; None where that isn't told.
        chunk_size: Items per chunk; None: steered by measured time.
        is_first: Whether it is the first call of a session, so that nothing is known and no worker is up.
    """

    n_items: int
    strategy: Strategy
    workers: int | None = None
    chunk_size: int | None = None
    is_first: bool = False

    @property
    def is_fixed(self) -> bool:
        """Whether nothing is left to `auto`."""
        return self.strategy is not Strategy.AUTO

    @property
    def where(self) -> str:
        """Strategy and workers in a few letters."""
        if self.is_first:
            return "auto, first"
        workers = f" ×{self.workers}" if self.strategy in PARALLEL else ""
        return f"{self.strategy}{workers}"

    def __str__(self) -> str:
        chunk = "" if self.chunk_size is None else f", chunks of {self.chunk_size}"
        return f"{self.where}{chunk}, {counted(self.n_items, 'item')}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """What is to be varied.

    Attributes:
        strategies: Where items are to execute; serial among them, since all is compared with that.
        workers: Numbers of workers.
        chunk_sizes: Items per chunk, besides steered ones; None: some that suit the number of items.
        counts: Numbers of items; None: some up to all.
        rounds: How often each variant is measured; None: as often as there is time for, 15 times at most.
        is_full: Whether every number of items is measured with every number of workers and every chunk size.
    """

    strategies: tuple[Strategy, ...]
    workers: tuple[int, ...]
    chunk_sizes: tuple[int, ...] | None = None
    counts: tuple[int, ...] | None = None
    rounds: int | None = None
    is_full: bool = False

    @property
    def most_workers(self) -> int:
        """The largest number of workers."""
        return max(self.workers)

    @property
    def n_essential(self) -> int:
        """How many variants a bench is nothing without: one for each strategy."""
        return len(self.strategies)


def counts_of(sweep: Sweep, n_items: int) -> tuple[int, ...]:
    """Return the numbers of items to measure, ascending, none larger than there are."""
    if sweep.counts is not None:
        return tuple(sorted({min(count, n_items) for count in sweep.counts}))
    found = [math.ceil(n_items / COUNT_STEP**step) for step in range(MOST_COUNTS)]
    return tuple(sorted(set(found)))


def affordable_counts(counts: Sequence[int], item_s: float, budget_s: float, workers: int) -> tuple[int, ...]:
    """Return the numbers of items that a bench has time for; the largest is cut down to what it has time for.

    Args:
        counts: Numbers of items, ascending.
        item_s: Seconds that one takes.
        budget_s: Seconds for the whole bench.
        workers: Most workers; with fewer than a few items for each nothing could be told, so these may take longer.
    """
    affordable = budget_s / max(item_s, 1e-9)
    most = max(1, int(affordable * SHARE_OF_SERIAL), min(ITEMS_PER_WORKER * workers, int(affordable * LARGEST_SHARE_OF_SERIAL)))
    kept = {count for count in counts if count <= most}
    if counts[-1] > most and (not kept or most >= 2 * max(kept)):
        kept.add(most)
    return tuple(sorted(kept))


def chunk_sizes_of(sweep: Sweep, n_items: int) -> tuple[int, ...]:
    """Return the chunk sizes to measure, ascending: up to that where each worker has one chunk."""
    largest = max(1, math.ceil(n_items / sweep.most_workers))
    if sweep.chunk_sizes is not None:
        return tuple(sorted({min(size, n_items) for size in sweep.chunk_sizes}))
    step = max(CHUNK_STEP, math.ceil(largest ** (1 / (MOST_CHUNK_SIZES - 1))))
    sizes = {step**power for power in range(MOST_CHUNK_SIZES) if step**power < largest}
    return tuple(sorted(sizes | {largest}))


def variants(sweep: Sweep, counts: Sequence[int]) -> list[Variant]:
    """Return what to measure, each once, the most telling first.

    First all strategies on all items with all workers; then other numbers of items, of workers, and chunk sizes, each for
    itself; last, if the sweep is full, all of these together.
    """
    return list(dict.fromkeys(variant for variant in _by_rank(sweep, counts) if variant.strategy in sweep.strategies))


def _by_rank(sweep: Sweep, counts: Sequence[int]) -> Iterator[Variant]:
    largest, most_workers = counts[-1], sweep.most_workers
    yield from _strategies(sweep, largest)
    for count in reversed(counts[:-1]):
        yield from _strategies(sweep, count)
    for workers in reversed(sweep.workers):
        yield from _parallel(sweep, largest, workers)
    for size in chunk_sizes_of(sweep, largest):
        yield from _chunked(sweep, largest, most_workers, size)
    yield Variant(n_items=largest, strategy=Strategy.AUTO, is_first=True)
    if sweep.is_full:
        for count, workers in product(reversed(counts), reversed(sweep.workers)):
            yield from _parallel(sweep, count, workers)
            for size in chunk_sizes_of(sweep, count):
                yield from _chunked(sweep, count, workers, size)


def _strategies(sweep: Sweep, n_items: int) -> Iterator[Variant]:
    yield Variant(n_items=n_items, strategy=Strategy.SERIAL)
    yield Variant(n_items=n_items, strategy=Strategy.AUTO)
    yield from _parallel(sweep, n_items, sweep.most_workers)


def _parallel(sweep: Sweep, n_items: int, workers: int) -> Iterator[Variant]:
    for strategy in PARALLEL:
        yield Variant(n_items=n_items, strategy=strategy, workers=min(workers, n_items))


def _chunked(sweep: Sweep, n_items: int, workers: int, size: int) -> Iterator[Variant]:
    swept = [strategy for strategy in PARALLEL if strategy in sweep.strategies]
    for strategy in swept if sweep.is_full else swept[:1]:
        yield Variant(n_items=n_items, strategy=strategy, workers=min(workers, n_items), chunk_size=size)


def affordable_variants(rehearsed_s: dict[Variant, float], budget_s: float, sweep: Sweep) -> list[Variant]:
    """Return, in their order, the variants that there is time to measure three times, or as often as is asked for.

    The first ones, one of each strategy, are among them in any case.

    Args:
        rehearsed_s: What each took when it was tried, the most telling first.
        budget_s: Seconds that are left.
        sweep: What is varied, and how often each is to be measured.
    """
    rounds = sweep.rounds or LEAST_ROUNDS
    kept: list[Variant] = []
    round_s = 0.0
    for variant, once_s in rehearsed_s.items():
        if len(kept) < sweep.n_essential or rounds * (round_s + once_s) <= budget_s:
            kept.append(variant)
            round_s += once_s
    return kept
