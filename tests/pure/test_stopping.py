"""deciding/stopping.py: stopping what executes, step by step."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.deciding.stopping import HEAD_START_S, PAUSE_S, Act, Stopping

WAIT, INTERRUPT, GIVE_UP = Act.WAIT, Act.INTERRUPT, Act.GIVE_UP
GRACE_S = 1.0


def acts(grace_s: float, *elapsed_s: float) -> list[Act]:
    """Return what is done where it is asked at these times after the beginning."""
    stopping = Stopping(100.0, grace_s)
    return [stopping.step(100.0 + seconds).act for seconds in elapsed_s]


@pytest.mark.parametrize(
    ("elapsed_s", "expected"),
    [
        ((0.0,), [WAIT]),
        ((0.0, 0.001), [WAIT, WAIT]),
        ((0.0, 0.0021), [WAIT, INTERRUPT]),
        ((0.5,), [INTERRUPT]),
        ((0.0021, 0.003), [INTERRUPT, WAIT]),  # the first pause is 4 ms
        ((0.0021, 0.0062), [INTERRUPT, INTERRUPT]),
        ((0.0021, 0.0062, 0.014), [INTERRUPT, INTERRUPT, WAIT]),  # the next 8 ms
        ((0.0021, 0.0062, 0.0143), [INTERRUPT, INTERRUPT, INTERRUPT]),
        ((0.9999,), [INTERRUPT]),
        ((1.0,), [GIVE_UP]),
        ((1e9,), [GIVE_UP]),
        ((0.5, 1.0, 2.0), [INTERRUPT, GIVE_UP, GIVE_UP]),
    ],
)
def test_steps(elapsed_s: tuple[float, ...], expected: list[Act]) -> None:
    """First it waits, then it interrupts with longer and longer pauses, and with the grace it gives up for good."""
    assert acts(GRACE_S, *elapsed_s) == expected


@pytest.mark.parametrize("elapsed_s", [0.0, 1e-9, 5.0])
def test_no_grace_is_none(elapsed_s: float) -> None:
    """With a grace of 0 it is given up at once, without an interrupt."""
    assert acts(0.0, elapsed_s) == [GIVE_UP]


@pytest.mark.parametrize("grace_s", [0.0005, 0.001, HEAD_START_S])
def test_a_grace_below_the_head_start_is_kept(grace_s: float) -> None:
    """A grace that is shorter than the head start is not made longer by it."""
    assert acts(grace_s, 0.0, grace_s * 0.9, grace_s * 1.001) == [WAIT, WAIT, GIVE_UP]


def asked_in_time(grace_s: float, late_s: float = 0.0) -> list[tuple[float, Act]]:
    """Return what is done, and when, by whoever comes back after each wait, so much later than that."""
    stopping, now_s, done = Stopping(0.0, grace_s), 0.0, []
    while not done or done[-1][1] is not GIVE_UP:
        step = stopping.step(now_s)
        done.append((now_s, step.act))
        now_s += step.wait_s + late_s
        assert len(done) < 20_000
    return done


@given(st.floats(0, 5), st.floats(0, 0.2))
def test_whoever_waits_as_told_does_all_in_time(grace_s: float, late_s: float) -> None:
    """Interrupts come after the head start, with pauses that grow to the longest one; the end comes with the grace."""
    done = asked_in_time(grace_s, late_s)
    interrupts = [now_s for now_s, act in done if act is INTERRUPT]
    assert all(now_s >= HEAD_START_S for now_s in interrupts)
    assert all(now_s < grace_s for now_s, act in done if act is not GIVE_UP)
    assert grace_s <= done[-1][0] <= grace_s * (1 + 1e-9) + late_s + 1e-9
    pauses = [after - before for before, after in pairwise(interrupts)]
    assert all(pause_s <= PAUSE_S + 2 * late_s + 1e-9 for pause_s in pauses)
    assert len(done) <= 5 + 2 * grace_s / PAUSE_S + 12
    if not late_s:
        assert all(after >= before - 1e-9 for before, after in pairwise(pauses))
        assert grace_s <= HEAD_START_S or interrupts[0] == pytest.approx(HEAD_START_S)
        assert len(pauses) < 10 or pauses[8] == pytest.approx(PAUSE_S)


@given(st.floats(0, 1e6), st.floats(0, 1e4), st.lists(st.floats(0, 1e4), max_size=60))
def test_any_steps_of_a_clock_have_an_answer(begun_s: float, grace_s: float, steps_s: list[float]) -> None:
    """However irregularly it is asked, it gives up at the grace and never before, and any wait is within the grace."""
    stopping, now_s, given_up, n_interrupts = Stopping(begun_s, grace_s), begun_s, False, 0
    for step_s in steps_s:
        now_s += step_s
        act, wait_s = stopping.step(now_s)
        elapsed_s = now_s - begun_s
        assert (act is GIVE_UP) == (elapsed_s >= grace_s)
        assert act is not INTERRUPT or elapsed_s >= HEAD_START_S
        assert act is GIVE_UP or not given_up
        given_up = act is GIVE_UP
        n_interrupts += act is INTERRUPT
        assert 0 <= wait_s <= max(HEAD_START_S, PAUSE_S) + 1e-9
        assert wait_s > 0 or act is GIVE_UP
        assert elapsed_s + wait_s <= grace_s + 1e-9 or act is GIVE_UP
    assert n_interrupts <= 1 + (now_s - begun_s) / (2 * HEAD_START_S)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30))
def test_a_clock_that_goes_back_harms_nobody(times_s: list[float]) -> None:
    """A clock that goes back, which none should, is no reason to interrupt too early or to give up without grace."""
    stopping = Stopping(0.0, GRACE_S)
    for now_s in times_s:
        act, wait_s = stopping.step(now_s)
        assert act is not INTERRUPT or now_s >= HEAD_START_S
        assert (act is GIVE_UP) == (now_s >= GRACE_S)
        assert wait_s >= 0
