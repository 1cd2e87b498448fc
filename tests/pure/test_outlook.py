"""deciding/outlook.py: how quickly a run goes, and when it will be over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.deciding.outlook import Outlook, eta_s


def test_a_steady_run_goes_at_its_rate() -> None:
    """At 20 items a second the rate is 20 at each look, from the first on."""
    outlook = Outlook()
    assert [outlook.look(tenth / 10, 2 * tenth) for tenth in range(1, 300)] == pytest.approx([20.0] * 299)


def test_what_is_long_ago_is_forgotten() -> None:
    """A run that becomes slower goes at its new rate once the old one is ten seconds ago."""
    outlook = Outlook()
    done, rate = 0.0, None
    for tenth in range(1, 301):
        done += 10.0 if tenth <= 100 else 0.1
        rate = outlook.look(tenth / 10, done)
    assert rate == pytest.approx(1.0)


def test_a_long_item_leaves_the_mean() -> None:
    """Where nothing was finished for ten seconds the rate is the mean since the beginning; before the first item there is none."""
    outlook = Outlook()
    assert outlook.look(0.1, 0.0) is None
    outlook.look(1.0, 5.0)
    for second in range(2, 40):
        rate = outlook.look(second, 5.0)
    assert rate == pytest.approx(5.0 / 39)


def test_nothing_is_divided_by_no_time() -> None:
    """A clock too coarse to see the run gives no rate."""
    assert Outlook().look(0.0, 5.0) is None


@pytest.mark.parametrize(
    ("n_items", "n_done", "rate", "expected"),
    [(100, 40.0, 20.0, 3.0), (None, 40.0, 20.0, None), (100, 0.0, None, None), (100, 100.0, 20.0, 0.0), (0, 0.0, None, 0.0)],
)
def test_eta(n_items: int | None, n_done: float, rate: float | None, expected: float | None) -> None:
    """The rest at this rate; unknown where the number of items or the rate is."""
    assert eta_s(n_items, n_done, rate) == expected


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**9).map(lambda millionths: millionths / 1e6)), max_size=50))
def test_a_rate_is_never_negative(steps: list[tuple[float, float]]) -> None:
    """Whatever comes, a rate is a positive number or none."""
    outlook, elapsed_s = Outlook(), 0.0
    for step_s, n_done in steps:
        elapsed_s += step_s
        rate = outlook.look(elapsed_s, n_done)
        assert rate is None or rate > 0
