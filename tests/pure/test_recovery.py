"""deciding/recovery.py: what becomes of the items of a lane that broke."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.deciding.recovery import Recovery, recover
from offloop.wire.status_page import LOADING, OVER, PACKED, UNPACKING

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
        (LOADING, 0, 1, Recovery(again=((10, 15),))),  # the function is to blame, not an item
        (LOADING, 9, 0, Recovery(again=((10, 15),))),
        (13 | PACKED, 0, 1, Recovery(alone=((10, 13),), again=((13, 15),))),  # items 10 to 12 were executed
        (13 | PACKED, 1, 1, Recovery(lost=((10, 13),), again=((13, 15),))),
        (13 | PACKED, 0, 0, Recovery(lost=((10, 13),), again=((13, 15),))),
        (15 | PACKED, 0, 1, Recovery(alone=((10, 15),))),
        (10 | PACKED, 0, 0, Recovery(again=((10, 15),))),  # their outcomes have all arrived
        (9 | PACKED, 0, 0, Recovery(again=((10, 15),))),
        (99 | PACKED, 0, 1, Recovery(alone=((10, 15),))),
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


@pytest.mark.parametrize(
    ("begun", "deaths", "retries", "expected"),
    [
        (None, 0, 1, Recovery(again=((10, 15),))),  # stuck before it read the chunk
        (LOADING, 0, 0, Recovery(again=((10, 15),))),
        (UNPACKING, 0, 1, Recovery(alone=((10, 15),))),  # one of them is stuck; which one shows alone
        (UNPACKING, 5, 0, Recovery(alone=((10, 15),))),
        (10, 0, 1, Recovery(timed_out=((10, 11),), again=((11, 15),))),
        (12, 0, 1, Recovery(timed_out=((12, 13),), again=((10, 12), (13, 15)))),
        (12, 0, 9, Recovery(timed_out=((12, 13),), again=((10, 12), (13, 15)))),  # a retry would take as long
        (12, 0, 0, Recovery(timed_out=((12, 13),), lost=((10, 12),), again=((13, 15),))),
        (14, 0, 0, Recovery(timed_out=((14, 15),), lost=((10, 14),))),
        (9, 0, 0, Recovery(again=((10, 15),))),
        (11 | PACKED, 0, 0, Recovery(timed_out=((10, 11),), again=((11, 15),))),
        (13 | PACKED, 0, 1, Recovery(alone=((10, 13),), again=((13, 15),))),
        (13 | PACKED, 0, 0, Recovery(lost=((10, 13),), again=((13, 15),))),
        (OVER, 0, 1, Recovery(alone=((10, 15),))),
        (OVER, 0, 0, Recovery(lost=((10, 15),))),
    ],
)
def test_chunks_whose_time_was_over(begun: int | None, deaths: int, retries: int, expected: Recovery) -> None:
    """Where a worker was killed since an item took too long, that item has timed out and no other."""
    found = recover(start=10, end=15, begun=begun, deaths=deaths, retries=retries, is_expired=True)
    assert found == expected


@pytest.mark.parametrize("begun", [UNPACKING, 7, 8 | PACKED, OVER])
@pytest.mark.parametrize(("deaths", "retries"), [(0, 0), (0, 1), (1, 1), (0, 5)])
def test_a_single_item_whose_time_was_over_has_timed_out(begun: int, deaths: int, retries: int) -> None:
    """An item that is alone on its chunk has timed out whatever of it took too long, and does not run again."""
    found = recover(start=7, end=8, begun=begun, deaths=deaths, retries=retries, is_expired=True)
    assert found == Recovery(timed_out=((7, 8),))


@pytest.mark.parametrize("is_expired", [False, True])
@pytest.mark.parametrize("begun", [None, LOADING, UNPACKING, OVER, 4, 5 | PACKED])
def test_nothing_is_made_of_a_finished_chunk(begun: int | None, is_expired: bool) -> None:
    """A chunk whose items all have their outcome needs nothing."""
    assert recover(start=5, end=5, begun=begun, deaths=0, retries=1, is_expired=is_expired) == Recovery()


def test_an_outcome_that_has_arrived_stands() -> None:
    """An item whose outcome has come is never touched, even if the worker had not gone on to the next one."""
    assert recover(start=10, end=15, begun=9, deaths=0, retries=1) == Recovery(again=((10, 15),))
    assert recover(start=10, end=15, begun=9, deaths=0, retries=0) == Recovery(again=((10, 15),))


def items(ranges: Ranges) -> list[int]:
    """Return all indexes of ranges."""
    return [index for start, end in ranges for index in range(start, end)]


@st.composite
def deaths_of_workers(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a chunk and how its worker died on it, or was killed."""
    start = draw(st.integers(0, 1000))
    size = draw(st.integers(0, 40))
    inside = st.integers(max(0, start - 1), max(start, start + size - 1))
    behind = st.integers(max(0, start - 1), start + size).map(lambda index: index | PACKED)
    return {
        "start": start,
        "end": start + size,
        "begun": draw(st.none() | st.sampled_from((LOADING, UNPACKING, OVER)) | inside | behind),
        "deaths": draw(st.integers(0, 4)),
        "retries": draw(st.integers(0, 3)),
        "is_expired": draw(st.booleans()),
    }


@given(deaths_of_workers())
def test_every_item_has_one_fate(death: dict[str, Any]) -> None:
    """Lost, timed out, alone and again hold every item without an outcome exactly once, and no other."""
    plan = recover(**death)
    fates = [index for ranges in plan for index in items(ranges)]
    assert sorted(fates) == list(range(death["start"], death["end"]))
    assert all(start < end for ranges in plan for start, end in ranges)


def last_executed(death: dict[str, Any]) -> int:
    """Return the index of the last item that may have been executed, or begun; below the first where none was."""
    begun, end = death["begun"], death["end"]
    if begun is None or begun in (LOADING, UNPACKING):
        return int(death["start"]) - 1
    return int(end if begun == OVER else begun & ~PACKED) - bool(begun == OVER or begun & PACKED)


@given(deaths_of_workers())
def test_no_retries_means_none(death: dict[str, Any]) -> None:
    """With retries=0 no item that a worker has begun runs a second time."""
    plan = recover(**{**death, "retries": 0})
    assert all(index > last_executed(death) for index in items(plan.alone) + items(plan.again))


@given(deaths_of_workers())
def test_what_was_not_begun_is_not_blamed(death: dict[str, Any]) -> None:
    """An item that no worker has come to neither fails nor loses a retry, unless it may be what could not be unpickled."""
    plan = recover(**death)
    blamed = items(plan.lost) + items(plan.timed_out) + items(plan.alone)
    if death["begun"] != UNPACKING:
        assert all(index <= last_executed(death) for index in blamed)


@given(deaths_of_workers())
def test_only_what_took_too_long_times_out(death: dict[str, Any]) -> None:
    """No more than one item times out at a time, and none where nothing has taken too long."""
    plan = recover(**death)
    assert len(items(plan.timed_out)) <= death["is_expired"]


@given(deaths_of_workers())
def test_recovery_ends(death: dict[str, Any]) -> None:
    """However often a worker dies on what is put back, the work gets less: an item alone has used up one retry."""
    plan = recover(**death)
    begun = death["begun"]
    if begun is None or begun == LOADING or death["end"] == death["start"]:
        return  # what ends it is told by the number of deaths that loading the function has cost
    if begun < death["start"] or (begun & PACKED and begun & ~PACKED <= death["start"] and begun < UNPACKING):
        return  # outcomes have arrived since: there is less work than there was
    size = death["end"] - death["start"]
    assert len(items(plan.again)) < size
    if size == 1 and (death["deaths"] >= death["retries"] or death["is_expired"]):
        assert plan.alone == ()
