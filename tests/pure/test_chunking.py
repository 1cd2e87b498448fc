"""deciding/chunking.py: how many items travel together."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.deciding.chunking import (
    FLOOR_S,
    LOCAL_ITEMS,
    MAX_ITEMS,
    OVERHEAD,
    PROBE_ITEMS,
    SHORT_S,
    TARGET_S,
    BlockPace,
    Pace,
    first_rows,
    first_size,
    may_queue_second,
    next_size,
)

seconds = st.floats(min_value=0, max_value=1e6, allow_nan=False)
counts = st.integers(min_value=1, max_value=10**9)
lanes = st.integers(min_value=1, max_value=256)


@pytest.mark.parametrize(
    ("item_s", "remaining", "n_lanes", "size"),
    [
        (None, None, 1, 1),  # nothing measured: one item tells most
        (None, 10**6, 2, 1),
        (0.001, None, 2, 15),  # 15 ms of items
        (0.001, 10**6, 2, 15),
        (0.001, 80, 2, 10),  # a quarter of what each of two lanes has left
        (0.001, 8, 2, 1),
        (0.001, 9, 2, 2),  # rounded up, or the last items would travel singly
        (0.1, 10**6, 2, 1),  # longer than a chunk should take
        (0.0, None, 2, MAX_ITEMS),  # too quick for the clock
        (1e-9, None, 2, MAX_ITEMS),
        (0.0, 100, 1, 100),  # not worth more than one round trip
        (0.001, 15, 1, 15),  # nobody to share the rest with
        (0.001, 16, 1, 4),
        (1e-5, 200, 2, 100),  # 1 ms of work, though a quarter share would be 25 items
        (1e-9, 0, 1, 1),
    ],
)
def test_sizes(item_s: float | None, remaining: int | None, n_lanes: int, size: int) -> None:
    """A chunk is about 15 ms of work, and no more than a quarter of what each lane has left."""
    assert next_size(item_s, remaining, n_lanes) == size


@given(item_s=st.none() | seconds, remaining=st.none() | st.integers(0, 10**9), n_lanes=lanes)
def test_sizes_are_bounded(item_s: float | None, remaining: int | None, n_lanes: int) -> None:
    """A chunk has at least one item, at most what may be pickled at once, and of several items no more than its time."""
    size = next_size(item_s, remaining, n_lanes)
    assert 1 <= size <= MAX_ITEMS
    if item_s and size > 1:
        assert size * item_s <= TARGET_S * 1.001


@given(item_s=seconds, remaining=counts, n_lanes=lanes)
def test_chunks_shrink_as_the_work_runs_out(item_s: float, remaining: int, n_lanes: int) -> None:
    """With less left a chunk is never bigger, and no more than a fair share or 1 ms, so that lanes finish together.

    A single lane, with no other to finish together with, takes the rest at once when that is a chunk's work.
    """
    size = next_size(item_s, remaining, n_lanes)
    is_rest = n_lanes == 1 and size == remaining and size * item_s <= TARGET_S
    assert n_lanes == 1 or next_size(item_s, remaining - 1, n_lanes) <= size
    assert next_size(item_s, remaining, n_lanes + 1) <= size
    assert is_rest or size <= math.ceil(remaining / (4 * n_lanes)) or size * item_s <= FLOOR_S * 1.001


@given(item_s=seconds, total=st.integers(1, 3000), n_lanes=st.integers(1, 8))
def test_a_run_ends(item_s: float, total: int, n_lanes: int) -> None:
    """Taking chunk after chunk uses up any run exactly; the last chunk is an item, or 1 ms of work, or a lone lane's."""
    remaining, size = total, 0
    while remaining:
        size = next_size(item_s, remaining, n_lanes)
        assert size <= remaining
        remaining -= size
    assert size == 1 or size * item_s <= (FLOOR_S if n_lanes > 1 else TARGET_S) * 1.001


@pytest.mark.parametrize(
    ("remaining", "size", "n_lanes", "may"),
    [(None, 10, 2, True), (1000, 10, 2, True), (41, 10, 2, True), (40, 10, 2, False), (0, 1, 1, False)],
)
def test_second_chunks(remaining: int | None, size: int, n_lanes: int, may: bool) -> None:
    """A lane gets a second chunk ahead of time only while two for every lane are left."""
    assert may_queue_second(remaining, size, n_lanes) is may


def test_pace_is_unknown_at_first() -> None:
    """Before the first measurement the cost of an item is unknown, and a chunk of nothing measures nothing."""
    pace = Pace()
    assert pace.item_s is None
    pace.measured(0, 1.0)
    assert pace.item_s is None


def test_pace_starts_from_what_is_known() -> None:
    """A cost that is known from before counts until there are newer measurements."""
    pace = Pace(0.25)
    assert pace.item_s == 0.25
    pace.measured(1000, 1.0)
    assert pace.item_s == pytest.approx(0.001, rel=0.2)


def test_pace_follows_a_change() -> None:
    """A hundredfold change of cost is followed within ten chunks."""
    pace = Pace()
    for _ in range(50):
        pace.measured(10, 0.01)
    assert pace.item_s == pytest.approx(0.001)
    for _ in range(10):
        pace.measured(10, 1.0)
    assert pace.item_s == pytest.approx(0.1, rel=0.2)


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 1e3)), min_size=1))
def test_pace_lies_between_its_measurements(chunks: list[tuple[int, float]]) -> None:
    """The pace is an average: never below the quickest chunk nor above the slowest."""
    pace = Pace()
    for items, took_s in chunks:
        pace.measured(items, took_s)
    each = [took_s / items for items, took_s in chunks]
    assert pace.item_s is not None
    assert min(each) * 0.999 <= pace.item_s <= max(each) * 1.001


def test_a_dear_first_item_is_soon_forgotten() -> None:
    """What the first item paid once, an import say, does not cut the chunks that follow to pieces."""
    pace = Pace()
    pace.measured(1, 0.5)
    pace.measured(1, 0.001)
    assert pace.item_s == pytest.approx(0.001)


def test_a_rare_long_item_moves_the_pace_little() -> None:
    """One item of 60 times the cost among many counts as a few."""
    pace = Pace()
    for _ in range(10):
        pace.measured(15, 0.015)
    pace.measured(15, 0.074)
    assert pace.item_s < 0.003


@pytest.mark.parametrize(
    ("item_s", "remaining", "estimated_s", "size"),
    [
        (None, 5, None, PROBE_ITEMS),
        (None, None, None, PROBE_ITEMS),
        (1e-7, 300_000, SHORT_S, LOCAL_ITEMS),
        (1e-3, 1000, 1.0, 15),
        (1e-3, 1000, None, 15),
        (1.0, 10, 10.0, 1),
    ],
)
def test_a_run_begins_in_the_local_thread(
    item_s: float | None, remaining: int | None, estimated_s: float | None, size: int
) -> None:
    """Unknown work begins with a probe, short work goes in one go, and long work chunk by chunk."""
    assert first_size(item_s, remaining, estimated_s) == size


# --- blocks of rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_rows", "workers", "row_bytes", "rows"),
    [
        (100_000, 2, 80, 1024),
        (4000, 2, 80, 500),
        (1000, 2, 80, 256),
        (300, 2, 80, 150),
        (5, 2, 80, 3),
        (1, 4, 80, 1),
        (0, 4, 0, 1),
        (100_000, 2, 1_000_000, 64),
        (100_000, 2, 1e9, 1),
    ],
)
def test_a_first_block(n_rows: int, workers: int, row_bytes: float, rows: int) -> None:
    """A block of unknown cost has a quarter of a worker's share, within 256 and 1,024 rows, a share and 64 MB."""
    assert first_rows(n_rows, workers, row_bytes) == rows


def blocks_until_the_end(pace: BlockPace, n_rows: int, lanes: int, call_s: float, row_s: float) -> list[int]:
    """Return the sizes of the blocks that rows are cut into, each measured before the next is cut."""
    sizes = []
    while n_rows:
        least = first_rows(n_rows, lanes, 8) if pace.item_s is None else pace.least
        sizes.append(next_size(pace.item_s, n_rows, lanes, LOCAL_ITEMS, least))
        pace.measured(sizes[-1], call_s + row_s * sizes[-1])
        n_rows -= sizes[-1]
    return sizes


def test_blocks_follow_time() -> None:
    """Without a cost of the call a block takes 15 ms, less near the end."""
    sizes = blocks_until_the_end(BlockPace(), 100_000, 2, 0.0, 1e-5)
    assert sizes[0] == 1024
    assert all(1400 <= size <= 1600 for size in sizes[1:-60])
    assert sizes[-1] <= 100


@pytest.mark.parametrize("call_s", [0.002, 0.010, 0.020])
def test_blocks_outgrow_what_a_call_costs(call_s: float) -> None:
    """A cost that each call has whatever its rows never becomes most of the time, though blocks should be short."""
    sizes = blocks_until_the_end(BlockPace(), 20_000, 2, call_s, 1e-4)
    overhead_s = len(sizes) * call_s
    assert overhead_s < 20_000 * 1e-4 / 2 + 4 * call_s


@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 10)), min_size=1, max_size=30))
def test_a_pace_of_blocks_is_never_absurd(blocks: list[tuple[int, float]]) -> None:
    """Whatever blocks take, costs are not negative, and a next block is at most a few times those of late."""
    pace = BlockPace()
    for rows, seconds in blocks:
        pace.measured(rows, seconds)
        assert pace.call_s >= -1e-9
        assert pace.row_s >= 0
        assert 1 <= pace.least <= OVERHEAD * max(size for size, _ in blocks)


def test_blocks_of_one_size_tell_nothing_of_the_call() -> None:
    """While all blocks have one size their whole time is that of their rows."""
    pace = BlockPace()
    for _ in range(5):
        pace.measured(100, 0.01)
    assert (pace.call_s, pace.least) == (0.0, 1)
    assert pace.row_s == pytest.approx(1e-4)
