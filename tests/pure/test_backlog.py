"""backlog.py: what a run counts for in the backlog of the backend that it waits for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.backlog import Share


class FakeBackend:
    """Something with a backlog."""

    def __init__(self) -> None:
        self.backlog_s = self.interactive_s = 0.0
        self.n_shares = 0


def test_a_share_is_on_one_backend_at_a_time() -> None:
    """Moving takes a run's share away from where it was, and nobody else's."""
    one: Any = FakeBackend()
    other: Any = FakeBackend()
    share, neighbour = Share(), Share()
    neighbour.move(one, 3.0)
    assert (share.own, one.backlog_s) == ({}, 3.0)
    share.move(one, 2.0)
    assert (share.own, one.backlog_s) == ({one: 2.0}, 5.0)
    share.move(one, 1.0)
    assert (share.own, one.backlog_s) == ({one: 1.0}, 4.0)
    share.move(other, 7.0)
    assert (share.own, one.backlog_s, other.backlog_s) == ({other: 7.0}, 3.0, 7.0)
    share.move(None)
    share.move(None)
    assert (share.own, one.backlog_s, other.backlog_s) == ({}, 3.0, 0.0)


@given(st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(0, 2), st.integers(0, 100))))
def test_shares_add_up(moves: list[tuple[int, int | None, int]]) -> None:
    """However runs come, move and go, a backlog is the sum of the shares that are on it, and nothing in the end; likewise of what is interactive."""
    backends: list[Any] = [FakeBackend() for _ in range(3)]
    shares = [Share(is_interactive=number % 2 == 0) for number in range(5)]
    for share, backend, seconds in moves:
        shares[share].move(None if backend is None else backends[backend], seconds / 10)
        for one in backends:
            assert one.backlog_s == pytest.approx(sum(share.own.get(one, 0.0) for share in shares))
            assert one.interactive_s == pytest.approx(sum(share.own.get(one, 0.0) for share in shares[::2]))
    for share in shares:
        share.move(None)
    assert [(one.backlog_s, one.interactive_s) for one in backends] == [(0.0, 0.0)] * 3
