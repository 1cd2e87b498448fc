"""The plan of a bench: what is measured, in which order, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offloop.bench.plan import (
    Sweep,
    Variant,
    affordable_counts,
    affordable_variants,
    chunk_sizes_of,
    counts_of,
    variants,
)
from offloop.model import Strategy

SWEEP = Sweep(strategies=tuple(Strategy), workers=(1, 2, 4))


@pytest.mark.parametrize(
    ("n_items", "expected"), [(1, (1,)), (10, (1, 3, 10)), (256, (1, 4, 16, 64, 256)), (10_000, (40, 157, 625, 2_500, 10_000))]
)
def test_counts_go_down_by_quarters(n_items: int, expected: tuple[int, ...]) -> None:
    """Without counts of the user's, all items are measured, a quarter of them, and so on, five numbers at most."""
    assert counts_of(SWEEP, n_items) == expected


def test_counts_are_no_more_than_there_are_items() -> None:
    """A number of items that there aren't is measured with those that there are, once."""
    assert counts_of(replace(SWEEP, counts=(5, 50, 500)), 20) == (5, 20)


@pytest.mark.parametrize(
    ("item_s", "expected"), [(0.001, (1, 4, 16, 64, 256)), (0.02, (1, 4, 16, 50)), (0.1, (1, 4, 16)), (0.5, (1, 4, 15)), (1.0, (1, 4)), (100.0, (1,))]
)
def test_counts_are_cut_down_to_what_there_is_time_for(item_s: float, expected: tuple[int, ...]) -> None:
    """Of 60 s one serial run takes a sixtieth at most, few items an eighth, and one item is measured whatever it takes."""
    assert affordable_counts((1, 4, 16, 64, 256), item_s, 60.0, 4) == expected


@pytest.mark.parametrize(("n_items", "expected"), [(1, (1,)), (16, (1, 4)), (256, (1, 8, 64)), (65_536, (1, 12, 144, 1_728, 16_384))])
def test_chunk_sizes_go_up_to_one_chunk_each(n_items: int, expected: tuple[int, ...]) -> None:
    """Chunk sizes go from 1 to that which gives each worker one chunk."""
    assert chunk_sizes_of(SWEEP, n_items) == expected


def test_one_variant_of_each_strategy_comes_first() -> None:
    """The first variants are serial, then the other strategies, on all items with all workers; none comes twice."""
    wanted = variants(SWEEP, (4, 64))
    first = wanted[: SWEEP.n_essential]
    assert [(one.strategy, one.n_items) for one in first[:2]] == [(Strategy.SERIAL, 64), (Strategy.AUTO, 64)]
    assert {one.strategy for one in first} == set(Strategy)
    assert {one.workers for one in first if one.is_fixed} == {None, 4}
    assert len(set(wanted)) == len(wanted)


def test_each_setting_is_varied() -> None:
    """Counts, workers and chunk sizes are varied one at a time, and all together only in a full sweep."""
    wanted = variants(SWEEP, (4, 64))
    full = variants(replace(SWEEP, is_full=True), (4, 64))
    processes = [one for one in wanted if one.strategy is Strategy.PROCESSES]
    assert {(one.n_items, one.workers, one.chunk_size) for one in processes} == {
        (64, 4, None), (64, 2, None), (64, 1, None), (4, 4, None), (64, 4, 1), (64, 4, 8), (64, 4, 16)
    }  # fmt: skip
    assert Variant(n_items=4, strategy=Strategy.THREADS, workers=2, chunk_size=1) in full
    assert set(wanted) < set(full)


def test_strategies_that_are_not_named_are_not_measured() -> None:
    """Nothing runs in threads unless they are among the strategies."""
    sweep = replace(SWEEP, strategies=(Strategy.SERIAL, Strategy.PROCESSES), is_full=True)
    assert {one.strategy for one in variants(sweep, (4, 64))} == {Strategy.SERIAL, Strategy.PROCESSES}


def test_no_more_workers_than_items_are_asked_for() -> None:
    """What is measured on one item has one worker."""
    assert {one.workers for one in variants(SWEEP, (1,)) if one.strategy is Strategy.PROCESSES} == {1}


def variant(number: int) -> Variant:
    return Variant(n_items=number, strategy=Strategy.PROCESSES, workers=2)


def test_what_does_not_fit_is_left_out() -> None:
    """A variant that there is no time for three times is left out, and shorter ones after it are kept."""
    sweep = replace(SWEEP, strategies=(Strategy.SERIAL,))
    tried = {variant(1): 1.0, variant(2): 50.0, variant(3): 1.0}
    assert affordable_variants(tried, 10.0, sweep) == [variant(1), variant(3)]
    assert affordable_variants(tried, 10.0, replace(sweep, rounds=9)) == [variant(1)]


def test_the_first_variants_are_kept_whatever_they_take() -> None:
    """One variant of each strategy is measured in any case."""
    assert len(affordable_variants({variant(number): 100.0 for number in range(6)}, 10.0, SWEEP)) == 4


def test_variants_tell_what_they_are() -> None:
    """A variant says its strategy, workers, chunk size and number of items."""
    assert str(replace(variant(1_000), chunk_size=7)) == "processes ×2, chunks of 7, 1,000 items"
    assert str(Variant(n_items=1, strategy=Strategy.AUTO, is_first=True)) == "auto, first, 1 item"
