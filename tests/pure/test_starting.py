"""deciding/starting.py: when lanes may be started after failures, and when to give up."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from offloop.deciding.starting import (
    CALM,
    FIRST_S,
    FREE_LOSSES,
    MOST_S,
    TRIES,
    Trouble,
    after_failure,
    after_loss,
    in_a_new_row,
)


def failed(trouble: Trouble, times: int, now: float = 100.0) -> tuple[Trouble, list[float]]:
    """Return it after so many starts that failed at once, each as early as it may be, and the pauses before them."""
    pauses = []
    for _ in range(times):
        begun = max(now, trouble.not_before)
        pauses.append(begun - now)
        now = begun
        trouble = after_failure(trouble, begun, now)
    return trouble, pauses


def test_nothing_waits_while_nothing_fails() -> None:
    """Without failures lanes start at once and as many at a time as are wanted."""
    assert CALM.not_before < 0
    assert CALM.most_at_once is None
    assert not CALM.is_over(TRIES)


def test_pauses_grow_up_to_a_limit() -> None:
    """The first start is made at once, the next after growing pauses, none after a longer one than the limit."""
    trouble, pauses = failed(CALM, 9)
    assert [round(pause, 9) for pause in pauses] == [0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert (FIRST_S, MOST_S) == (0.05, 1.0)
    assert trouble.most_at_once == 1


def test_three_failures_in_a_row_are_enough() -> None:
    """A row of three is over, and a start that goes well ends a row."""
    assert [failed(CALM, n)[0].is_over(TRIES) for n in range(1, TRIES + 2)] == [False, False, True, True]
    assert TRIES == 3
    assert not failed(in_a_new_row(failed(CALM, 2)[0]), 2)[0].is_over(TRIES)


def test_a_new_row_goes_on_with_the_pauses() -> None:
    """Who asks anew after a row was given up gets as many tries again, but no earlier than the pauses allow."""
    given_up, _ = failed(CALM, 3)
    anew = in_a_new_row(given_up)
    assert not anew.is_over(TRIES)
    assert anew.not_before == given_up.not_before
    assert [round(pause, 9) for pause in failed(anew, 3, now=given_up.counted_at)[1]] == [0.2, 0.4, 0.8]


def test_failures_at_the_same_time_count_once() -> None:
    """Of starts that were under way together one failure counts, so that two that fail at once are no row of two."""
    trouble = after_failure(CALM, begun=1.0, now=2.0)
    assert after_failure(trouble, begun=1.5, now=2.1) == trouble
    assert after_failure(trouble, begun=2.5, now=2.6).failures == 2


def test_some_losses_are_free() -> None:
    """The first lanes that die before they serve are replaced at once; then pauses grow as after failed starts."""
    trouble, pauses = CALM, []
    for _ in range(FREE_LOSSES + 7):
        trouble = after_loss(trouble, now=10.0)
        pauses.append(round(trouble.not_before - 10.0, 9))
    assert pauses == [0.0] * FREE_LOSSES + [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert not trouble.is_over(TRIES)


@given(st.lists(st.tuples(st.sampled_from(["failure", "loss", "row"]), st.floats(0, 2)), max_size=60))
def test_a_crash_loop_never_spins(story: list[tuple[str, float]]) -> None:
    """Whatever goes wrong in whatever order, once it has gone wrong often the next start is a second away."""
    trouble, now = CALM, 0.0
    moments = [now]
    for what, seconds in story:
        now = max(now + seconds, trouble.not_before)
        if what == "row":
            trouble = in_a_new_row(trouble)
            continue
        trouble = after_failure(trouble, now, now) if what == "failure" else after_loss(trouble, now)
        moments.append(now)
        assert now <= trouble.not_before <= now + MOST_S
    often = moments[FREE_LOSSES + 12 :]  # by then six of a kind
    assert all(later - earlier >= MOST_S / 8 for earlier, later in pairwise(often))


def test_long_rows_cost_nothing() -> None:
    """A pause is the limit, however long it has been going on."""
    trouble = Trouble(level=10**6, losses=10**6)
    assert after_failure(trouble, 0.0, 0.0).not_before == MOST_S
    assert after_loss(trouble, 0.0).not_before == MOST_S
