"""deciding/costs.py: what calls have cost, and how that is learned and forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.deciding import costs
from offloop.deciding.costs import Cost, Costs, FunctionCosts
from offloop.model import Decision, Reason, Strategy

THREADS, PROCESSES = Strategy.THREADS, Strategy.PROCESSES


def learned() -> Cost:
    """Return a cost of which everything is known."""
    cost = Cost()
    cost.executed(10, 0.1, 0.03, is_remote=False)
    cost.executed(10, 0.2, 0.04, is_remote=True)
    cost.sent(10, 1000, 0.001)
    cost.received(5, 2000, 0.002)
    cost.watched(0.5, 0.006, 0.02)
    cost.took(PROCESSES, 1.0, 1.2, is_warm=True)
    cost.current = PROCESSES
    return cost


def facts(cost: Cost) -> dict[str, object]:
    """Return what a cost comes to."""
    paces = {name: getattr(cost, name).item_s for name in ("local", "remote", "blocks", "sending", "receiving")}
    return paces | {field.name: getattr(cost, field.name) for field in fields(cost) if field.name not in paces}


# --- the table of functions ------------------------------------------------------------------------------------------


def test_costs_are_kept_by_function_and_size() -> None:
    """The same function with the same size of input has one cost, to be read and added to; any other has its own."""
    known = Costs()
    one = known.of("f").of(("int", 3))
    assert known.of("f").of(("int", 3)) is one
    assert known.of("f").of(("int", 4)) is not one
    assert known.of("g").of(("int", 3)) is not one
    assert known.of("f") is known.of("f")
    assert Costs().of("f").of(("int", 3)) is not one


def test_what_was_not_asked_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more functions and sizes are kept than there is room for; asking for one keeps it."""
    monkeypatch.setattr(costs, "_MAX_FUNCTIONS", 3)
    monkeypatch.setattr(costs, "_MAX_SIZES", 2)
    known = Costs()
    first, second = known.of(0), known.of(1)
    known.of(2)
    assert known.of(0) is first
    known.of(3)  # in place of 1
    assert known.of(0) is first
    assert known.of(1) is not second
    one, two = first.of("one"), first.of("two")
    assert first.of("one") is one
    first.of("three")
    assert first.of("one") is one
    assert first.of("two") is not two


@given(st.lists(st.integers(0, 5000)))
def test_memory_is_bounded(keys: list[int]) -> None:
    """However many functions and sizes are met, what is kept stays small."""
    known, function = Costs(), FunctionCosts()
    for key in (*keys, *range(1500)):
        known.of(key)
        function.of(key)
    assert len(known._functions) == 1024
    assert len(function._by_size) == 64


def test_a_new_function_has_done_nothing() -> None:
    """Of a function that was never called nothing is known, not even bad."""
    function = FunctionCosts()
    assert (function.has_crashed, function.was_remote, function.import_s) == (False, False, None)
    assert (function.of(0).item_s, function.of(0).transport_s, function.of(0).gil_held) == (None, None, None)


# --- seconds per item ------------------------------------------------------------------------------------------------


def test_the_pace_in_this_process_counts() -> None:
    """Items have the pace of this process, or of a worker where they have never run here; the two are kept apart."""
    cost = Cost()
    assert cost.item_s is None
    cost.executed(10, 0.2, 0.05, is_remote=True)
    assert cost.item_s == pytest.approx(0.02)
    cost.executed(10, 0.1, 0.05, is_remote=False)
    assert cost.item_s == pytest.approx(0.01)
    assert (cost.local.item_s, cost.remote.item_s) == (pytest.approx(0.01), pytest.approx(0.02))


@pytest.mark.parametrize(
    ("whole_s", "counts_s"),
    [(0.01, 0.01), (0.012, 0.01), (0.0199, 0.01), (0.021, 0.021), (0.2, 0.2), (0.009, 0.009), (0.001, 0.001)],
    ids=["the same", "busier", "much busier", "dearer later", "far dearer later", "cheaper later", "far cheaper later"],
)
def test_whole_runs_put_a_misleading_beginning_right(whole_s: float, counts_s: float) -> None:
    """The mean over a whole run counts where the first items were dearer, or less than half as dear."""
    cost = Cost()
    cost.executed(10, 0.1, 0.05, is_remote=False)
    cost.ran(whole_s)
    assert cost.item_s == pytest.approx(counts_s)


def test_the_mean_over_runs_follows_them() -> None:
    """Each further run counts for half."""
    cost = Cost()
    cost.ran(0.2)
    cost.ran(0.4)
    assert cost.whole_s == pytest.approx(0.3)
    assert cost.item_s is None


def test_the_longest_item_fades() -> None:
    """The longest item counts at once and is forgotten little by little."""
    cost = Cost()
    for longest_s, kept_s in ((0.5, 0.5), (0.1, 0.45), (0.1, 0.405), (1.0, 1.0)):
        cost.executed(1, 0.1, longest_s, is_remote=False)
        assert cost.longest_s == pytest.approx(kept_s)


def test_moving_is_pickling_and_the_socket() -> None:
    """Moving an item takes pickling it, unpickling its result, and its bytes through the socket."""
    cost = Cost()
    cost.received(10, 1000, 0.5)
    assert cost.transport_s is None  # none was sent: from a call that took another way
    cost.sent(10, 15_000_000, 0.1)
    assert (cost.payload_bytes, cost.result_bytes) == (1_500_000.0, 100.0)
    assert cost.transport_s == pytest.approx(0.01 + 0.05 + 1_500_100 / 1.5e9)


def test_results_are_taken_to_be_like_items() -> None:
    """Until a result was received, receiving it counts as long as sending the item."""
    cost = Cost()
    cost.sent(10, 0, 0.1)
    assert cost.transport_s == pytest.approx(0.02)


# --- the GIL ---------------------------------------------------------------------------------------------------------


def test_watching_is_averaged() -> None:
    """Each share of the GIL counts by its time, and all before by 20 ms at most; the longest stall fades by half."""
    cost = Cost()
    for held, stall_s, seconds, known, stalled_s in (
        (0.8, 0.02, 0.004, 0.8, 0.02),
        (0.4, 0.0, 0.004, 0.6, 0.01),
        (0.0, 0.1, 0.012, 0.24, 0.1),  # 8 ms before, 12 ms now
        (1.0, 0.0, 0.02, 0.62, 0.05),
        (0.0, 0.0, 0.02, 0.31, 0.025),  # of the 40 ms before, 20
        (1.0, 0.0, 0.98, 0.9862, 0.0125),
    ):
        cost.watched(held, stall_s, seconds)
        assert (cost.gil_held, cost.stall_s) == (pytest.approx(known), pytest.approx(stalled_s))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10), st.floats(1e-6, 1e6)), min_size=1))
def test_what_was_watched_is_a_share(watched: list[tuple[float, float, float]]) -> None:
    """However the GIL was held, and for however long, what is known lies between the least and the most of it."""
    cost = Cost()
    for held, stall_s, seconds in watched:
        cost.watched(held, stall_s, seconds)
    shares = [held for held, _, _ in watched]
    assert cost.gil_held is not None
    assert min(shares) - 1e-9 <= cost.gil_held <= min(1.0, max(shares) + 1e-9)


def test_watching_is_worth_it_where_it_can_tell() -> None:
    """A chunk is watched until 20 ms have been in all, if it may be long enough to tell: a millisecond."""
    cost = Cost()
    assert cost.is_worth_watching(1)  # of which nothing is known
    cost.executed(1, 0.0001, 0.0001, is_remote=False)
    assert not cost.is_worth_watching(1)
    assert not cost.is_worth_watching(9)
    assert cost.is_worth_watching(11)
    for seconds, is_known in ((0.001, False), (0.012, False), (0.006, False), (0.002, True)):
        cost.watched(0.5, 0.0, seconds)
        assert cost.is_worth_watching(1000) is not is_known
        assert not cost.is_worth_watching(9)
    cost.forget()
    assert cost.is_worth_watching(1)


# --- learning from estimates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "estimated_s", "actual_s", "bias"),
    [
        (PROCESSES, 1.0, 1.0, 1.0),
        (PROCESSES, 1.0, 2.0, 1.5),
        (PROCESSES, 1.0, 0.5, 1.0),  # sooner than estimated needs no correction
        (PROCESSES, 0.0011, 0.0022, 1.5),  # one of the two is long enough
        (PROCESSES, 0.001, 0.0019, None),  # a short run tells of the noise
        (PROCESSES, 0.0, 0.5, None),  # nothing was estimated
        (Strategy.SERIAL, 1.0, 2.0, None),  # of which the pace of items has learned already
        (THREADS, 1.0, 2.0, None),  # which learn by what an item takes beside others
    ],
)
def test_bias_moves_towards_what_happened(
    strategy: Strategy, estimated_s: float, actual_s: float, bias: float | None
) -> None:
    """After a run in worker processes their bias goes half of the way to what would have been right."""
    cost = Cost()
    cost.took(strategy, estimated_s, actual_s, is_warm=True)
    assert cost.bias == ({} if bias is None else {strategy: pytest.approx(bias)})


def test_a_run_that_started_workers_tells_nothing() -> None:
    """A run that had to start workers is neither hit nor miss and moves no bias of its own, but lets the others fade."""
    cost = learned()
    before = cost.bias[PROCESSES]
    for _ in range(5):
        cost.took(PROCESSES, 1.0, 9.0, is_warm=False)
    assert cost.bias == {PROCESSES: before}
    assert cost.item_s is not None
    cost.took(THREADS, 1.0, 9.0, is_warm=False)
    assert cost.bias[PROCESSES] == pytest.approx(1 + 0.95 * (before - 1))


def test_bias_settles_where_estimates_come_true() -> None:
    """Bias learns from estimates that had it in them: where those are right it stays."""
    cost = Cost()
    for _ in range(50):
        cost.took(PROCESSES, 1.0 * cost.bias.get(PROCESSES, 1.0), 1.8, is_warm=True)
    assert cost.bias[PROCESSES] == pytest.approx(1.8, rel=0.01)


def test_bias_has_bounds() -> None:
    """However often estimates miss, a bias stays between 1 and 3."""
    cost = Cost()
    for ratio, limit in ((2.9, 3.0), (0.35, 1.0)):
        for _ in range(50):
            cost.took(PROCESSES, 1.0, ratio, is_warm=True)
            assert 1.0 <= cost.bias[PROCESSES] <= 3.0
        assert cost.bias[PROCESSES] == limit


def test_a_bad_run_is_not_held_against_a_strategy_for_ever() -> None:
    """The bias of a strategy fades while runs go elsewhere, short ones too, and never below none."""
    cost = Cost()
    cost.took(PROCESSES, 1.0, 2.0, is_warm=True)
    before = cost.bias[PROCESSES]
    cost.took(Strategy.SERIAL, 0.0001, 0.0001, is_warm=True)
    assert cost.bias[PROCESSES] == pytest.approx(1 + 0.95 * (before - 1))
    for _ in range(500):
        cost.took(THREADS, 1.0, 1.0, is_warm=True)
    assert cost.bias[PROCESSES] == pytest.approx(1.0)


@pytest.mark.parametrize(("beside_s", "bias"), [(0.01, 1.0), (0.02, 1.5), (0.005, 1.0), (1.0, 3.0)])
def test_threads_that_are_in_each_others_way_are_noted(beside_s: float, bias: float) -> None:
    """What an item takes longer beside others than alone counts against threads, by half."""
    cost = Cost()
    cost.slowed(beside_s)
    assert cost.bias == {}  # what it takes alone isn't known
    cost.executed(10, 0.1, 0.01, is_remote=False)
    cost.slowed(beside_s)
    assert cost.bias == {THREADS: pytest.approx(bias)}


runs_before = st.tuples(st.sampled_from([THREADS, PROCESSES]), st.floats(0, 1e6), st.floats(0, 1e6), st.booleans())


@given(st.lists(runs_before))
def test_any_history_leaves_a_usable_bias(runs: list[tuple[Strategy, float, float, bool]]) -> None:
    """Whatever runs took, a bias is within its bounds, and an item's cost is either known or not."""
    cost = learned()
    for strategy, estimated_s, actual_s, is_warm in runs:
        cost.took(strategy, estimated_s, actual_s, is_warm=is_warm)
        cost.slowed(actual_s)
        assert all(1.0 <= bias <= 3.0 for bias in cost.bias.values())
        assert cost.item_s in (None, pytest.approx(0.01))


@pytest.mark.parametrize("miss", [(1.0, 3.0), (3.0, 1.0), (0.01, 5.0)])
def test_two_misses_in_a_row_forget(miss: tuple[float, float]) -> None:
    """One estimate that misses by a factor of 3 is left alone; a second in a row, and all is learned anew."""
    cost = learned()
    cost.bias.clear()  # which would fade
    before = facts(cost)
    cost.took(PROCESSES, *miss, is_warm=True)
    assert facts(cost) == before | {"_misses": 1}
    cost.took(THREADS, *miss, is_warm=True)
    assert facts(cost) == facts(Cost())


@pytest.mark.parametrize("between", [(1.0, 1.1), (1.0, 2.9)])
def test_a_hit_between_two_misses_keeps_what_was_learned(between: tuple[float, float]) -> None:
    """Misses count in a row: an estimate that came about true in between starts the count again."""
    cost = learned()
    cost.took(PROCESSES, 1.0, 9.0, is_warm=True)
    cost.took(Strategy.SERIAL, *between, is_warm=True)
    cost.took(PROCESSES, 1.0, 9.0, is_warm=True)
    assert cost.item_s == pytest.approx(0.01)


def test_a_short_run_is_neither_hit_nor_miss() -> None:
    """A run of less than two milliseconds tells nothing, so misses before and after it are in a row."""
    cost = learned()
    cost.took(PROCESSES, 1.0, 9.0, is_warm=True)
    cost.took(PROCESSES, 0.0001, 0.0019, is_warm=True)
    assert cost.item_s is not None
    cost.took(PROCESSES, 1.0, 9.0, is_warm=True)
    assert cost.item_s is None


DECISION = ("facts", 0.01, Decision(strategy=PROCESSES, reason=Reason.FASTER, workers=2))


@pytest.mark.parametrize(
    ("event", "is_kept"),
    [
        (lambda cost: cost.watched(0.5, 0.0, 0.001), False),
        (lambda cost: cost.sent(1, 100, 0.001), True),  # not for the first time
        (lambda cost: cost.received(1, 100, 0.001), True),
        (lambda cost: cost.slowed(0.02), False),
        (lambda cost: cost.took(PROCESSES, 1.0, 1.5, is_warm=True), False),
        (lambda cost: cost.took(PROCESSES, 1.0, 1.5, is_warm=False), True),
        (lambda cost: cost.took(Strategy.SERIAL, 1.0, 1.5, is_warm=True), True),
        (lambda cost: cost.executed(1, 0.01, 0.05, is_remote=False), True),
        (lambda cost: cost.executed(1, 0.01, 0.09, is_remote=False), False),  # a longer item than twice the longest
        (lambda cost: cost.forget(), False),
    ],
)
def test_a_decision_goes_with_what_it_rests_on(event: Callable[[Cost], None], is_kept: bool) -> None:
    """The last decision is dropped when the GIL, a bias or a much longer item shows, and kept otherwise."""
    cost = learned()
    cost.decision = DECISION
    event(cost)
    assert (cost.decision is DECISION) is is_kept


def test_a_decision_without_measured_transport_goes_with_the_first() -> None:
    """The last decision is dropped once it is known what sending an item takes."""
    cost = Cost()
    cost.decision = DECISION
    cost.sent(1, 100, 0.001)
    assert cost.decision is None


def test_forgetting_is_seen_by_runs_under_way() -> None:
    """A run holds on to its cost and learns on from nothing, in the same place."""
    function = FunctionCosts()
    cost = function.of(1)
    cost.executed(1, 5.0, 5.0, is_remote=False)
    cost.forget()
    cost.executed(1, 0.5, 0.5, is_remote=False)
    assert function.of(1).item_s == 0.5
    assert facts(Cost())["local"] is None  # and no other cost shares it
