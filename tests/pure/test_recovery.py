"""deciding/recovery.py: what becomes of the items of a lane that broke."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.deciding.recovery import Recovery, recover
from offloop.wire.status_page import OVER, UNPACKING

Ranges = tuple[tuple[int, int], ...]


@pytest.mark.parametrize(
    ("begun", "deaths", "retries", "expected"),
    [
        # items 10 to 14 have no outcome
        (None, 0, 1, Recovery(again=((10, 15),))),
        (None, 5, 0, Recovery(again=((10, 15),))),  # never read, so never run: no retry
        (UNPACKING, 0, 1, Recovery(alone=((10, 15),))),
        (UNPACKING, 0, 0, Recovery(alone=((10, 15),))),  # none was run yet
        (OVER, 0, 1, Recovery(alone=((10, 15),))),
        (OVER, 1, 1, Recovery(lost=((10, 15),))),
        (OVER, 0, 0, Recovery(lost=((10, 15),))),
        (10, 0, 1, Recovery(alone=((10, 11),), again=((11, 15),))),
        (12, 0, 1, Recovery(alone=((12, 13),), again=((10, 12), (13, 15)))),
        (14, 0, 1, Recovery(alone=((14, 15),), again=((10, 14),))),
        (12, 1, 1, Recovery(lost=((12, 13),), again=((10, 12), (13, 15)))),
        (12, 1, 2, Recovery(alone=((12, 13),), again=((10, 12), (13, 15)))),
        (12, 0, 0, Recovery(lost=((10, 12), (12, 13)), again=((13, 15),))),
        (14, 0, 0, Recovery(lost=((10, 14), (14, 15)))),
    ],
)
def test_chunks(begun: int | None, deaths: int, retries: int, expected: Recovery) -> None:
    """Each way for a worker to die on a chunk has one answer for every item of it."""
    assert recover(start=10, end=15, begun=begun, deaths=deaths, retries=retries) == expected


@pytest.mark.parametrize(
    ("begun", "deaths", "retries", "expected"),
    [
        (None, 3, 1, Recovery(again=((7, 8),))),
        (UNPACKING, 0, 1, Recovery(alone=((7, 8),))),
        (UNPACKING, 1, 1, Recovery(lost=((7, 8),))),
        (UNPACKING, 0, 0, Recovery(lost=((7, 8),))),
        (7, 0, 1, Recovery(alone=((7, 8),))),
        (7, 1, 1, Recovery(lost=((7, 8),))),
        (7, 0, 0, Recovery(lost=((7, 8),))),
        (OVER, 0, 1, Recovery(alone=((7, 8),))),
        (OVER, 0, 0, Recovery(lost=((7, 8),))),
    ],
)
def test_single_items(begun: int | None, deaths: int, retries: int, expected: Recovery) -> None:
    """An item that is alone on its chunk runs again as often as it may, then it is lost."""
    assert recover(start=7, end=8, begun=begun, deaths=deaths, retries=retries) == expected


@pytest.mark.parametrize("begun", [None, UNPACKING, OVER, 4])
def test_nothing_is_made_of_a_finished_chunk(begun: int | None) -> None:
    """A chunk whose items all have their outcome needs nothing."""
    assert recover(start=5, end=5, begun=begun, deaths=0, retries=1) == Recovery()


def test_an_outcome_that_has_arrived_stands() -> None:
    """An item whose outcome has come is never touched, even if the worker had not gone on to the next one."""
    assert recover(start=10, end=15, begun=9, deaths=0, retries=1) == Recovery(again=((10, 15),))
    assert recover(start=10, end=15, begun=9, deaths=0, retries=0) == Recovery(again=((10, 15),))


def items(ranges: Ranges) -> list[int]:
    """Return all indexes of ranges."""
    return [index for start, end in ranges for index in range(start, end)]


@st.composite
def deaths_of_workers(draw: st.DrawFn) -> dict[str, int | None]:
    """Draw a chunk and how its worker died on it."""
    start = draw(st.integers(0, 1000))
    size = draw(st.integers(0, 40))
    inside = st.integers(max(0, start - 1), max(start, start + size - 1))
    return {
        "start": start,
        "end": start + size,
        "begun": draw(st.none() | st.sampled_from((UNPACKING, OVER)) | inside),
        "deaths": draw(st.integers(0, 4)),
        "retries": draw(st.integers(0, 3)),
    }


@given(deaths_of_workers())
def test_every_item_has_one_fate(death: dict[str, int]) -> None:
    """Lost, alone and again hold every item without an outcome exactly once, and no other."""
    plan = recover(**death)
    fates = items(plan.lost) + items(plan.alone) + items(plan.again)
    assert sorted(fates) == list(range(death["start"], death["end"]))
    assert all(start < end for ranges in plan for start, end in ranges)


@given(deaths_of_workers())
def test_no_retries_means_none(death: dict[str, int]) -> None:
    """With retries=0 no item that a worker has begun runs a second time."""
    begun = death["begun"]
    plan = recover(**{**death, "retries": 0})
    if begun is None or begun == UNPACKING:
        return
    last_begun = death["end"] - 1 if begun == OVER else begun
    assert all(index > last_begun for index in items(plan.alone) + items(plan.again))


@given(deaths_of_workers())
def test_recovery_ends(death: dict[str, int]) -> None:
    """However often a worker dies on what is put back, the work gets less: an item alone has used up one retry."""
    plan = recover(**death)
    if death["begun"] is None or death["end"] == death["start"] or death["begun"] < death["start"]:
        return
    size = death["end"] - death["start"]
    assert len(items(plan.again)) < size
    if size == 1 and death["deaths"] >= death["retries"]:
        assert plan.alone == ()
