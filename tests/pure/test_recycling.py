"""worker/recycling.py: when a worker has done enough, or holds too much, to be used on."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.wire.status_page import Spent
from offloop.worker import recycling as module
from offloop.worker.recycling import Recycling


@pytest.mark.parametrize(
    ("max_items", "done", "left"),
    [(None, 0, None), (None, 10**9, None), (3, 0, 3), (3, 2, 1), (3, 3, 0), (3, 4, 0), (1, 0, 1)],
)
def test_how_many_items_are_left(max_items: int | None, done: int, left: int | None) -> None:
    """A worker may execute as many items as its limit says, and no fewer than none."""
    assert Recycling(max_items).items_left(done) == left


@pytest.mark.parametrize(
    ("max_items", "max_rss_bytes", "done", "why"),
    [
        (None, None, 10**9, 0),
        (3, None, 2, 0),
        (3, None, 3, Spent.ITEMS),
        (3, None, 4, Spent.ITEMS),
        (None, 1000, 0, 0),  # it holds just as much
        (None, 999, 0, Spent.MEMORY),
        (3, 1000, 3, Spent.ITEMS),
        (3, 999, 3, Spent.ITEMS),
        (3, 999, 2, Spent.MEMORY),
        (3, 1000, 2, 0),
    ],
)
def test_when_a_worker_is_spent(
    monkeypatch: pytest.MonkeyPatch, max_items: int | None, max_rss_bytes: int | None, done: int, why: int
) -> None:
    """A worker is spent once it has reached its number of items, or is above its memory; each by itself."""
    monkeypatch.setattr(module, "_own_bytes", lambda: 1000)
    assert Recycling(max_items, max_rss_bytes).spent(done) == why


@given(st.none() | st.integers(1, 10**6), st.integers(0, 10**7))
def test_a_worker_is_spent_when_nothing_is_left(max_items: int | None, done: int) -> None:
    """A worker that may execute no more items is spent, and one that may is not."""
    recycling = Recycling(max_items)
    assert (recycling.items_left(done) == 0) == (recycling.spent(done) == Spent.ITEMS)


def test_memory_is_not_looked_at_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a limit of memory its size is not asked for, which takes 10 µs."""

    def fail() -> int:
        raise AssertionError

    monkeypatch.setattr(module, "_own_bytes", fail)
    assert Recycling().spent(5) == Recycling(9).spent(5) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory_of_its_own_counts() -> None:
    """What a process takes of memory counts at once, and what it shares with others does not."""
    before = module._own_bytes()
    assert before > 1 << 20
    held = bytearray(64 << 20)
    held[::4096] = b"x" * len(held[::4096])
    assert module._own_bytes() - before > 48 << 20
    del held
    assert module._own_bytes() - before < 48 << 20


def test_where_memory_cannot_be_seen_no_worker_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc a limit of memory does nothing."""

    def no_file(*_: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr(module, "open", no_file, raising=False)
    assert Recycling(None, 1).spent(5) == 0
