"""deciding/fairness.py: whose turn it is where flows share lanes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable
from itertools import count
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.deciding.fairness import (
    BATCH_WEIGHT,
    INTERACTIVE_WEIGHT,
    LEAST_S,
    MOST_S,
    FairQueue,
    Flow,
    Shares,
    rank,
)

CALL_S, TURN_S = 0.02, 0.05


class Waiting(NamedTuple):
    """Somebody in a queue."""

    ticket: int
    flow: Flow
    cost_s: float


class Queues:
    """Those who wait in some places that share the lanes, and how they are served one after another."""

    def __init__(self, n_places: int = 1) -> None:
        self.shares = Shares()
        self.places: list[FairQueue[Waiting]] = [FairQueue() for _ in range(n_places)]
        self.waiting: dict[int, tuple[Waiting, FairQueue[Waiting]]] = {}
        self.tickets = count(1)

    def join(self, name: Hashable = None, *, cost_s: float = CALL_S, is_interactive: bool = True, place: int = 0) -> Waiting:
        flow = self.shares.join(name, is_interactive)
        who = Waiting(next(self.tickets), flow, cost_s)
        self.places[place].add(flow, who.ticket, who)
        self.waiting[who.ticket] = who, self.places[place]
        return who

    def leave(self, who: Waiting) -> None:
        _, place = self.waiting.pop(who.ticket)
        assert place.remove(who.flow, who.ticket)
        assert not place.remove(who.flow, who.ticket)
        self.shares.leave(who.flow)

    def first(self) -> Waiting:
        firsts = [first for place in self.places if (first := place.first()) is not None]
        return min(firsts, key=lambda who: rank(who.flow, who.ticket))

    def serve(self) -> Waiting:
        first = self.first()
        self.shares.serve(first.flow, first.cost_s)
        self.leave(first)
        return first

    def serve_all(self) -> list[Hashable]:
        """Serve everybody; return the names of their flows."""
        return [self.serve().flow.name for _ in range(len(self.waiting))]


JOINS = st.tuples(
    st.just("join"),
    st.sampled_from("abcd"),
    st.booleans(),
    st.sampled_from([0.001, 0.02, 0.05, 1.0]),
    st.integers(0, 2),
)
LEAVES = st.tuples(st.just("leave"), st.integers(0, 50))
SERVES = st.tuples(st.just("serve"))
STEPS = st.lists(st.one_of(JOINS, JOINS, LEAVES, SERVES), max_size=80)


def act(queues: Queues, step: tuple[object, ...]) -> Waiting | None:
    """Take a step that Hypothesis made up; return who was served, if somebody was."""
    match step:
        case ("join", name, bool(is_interactive), float(cost_s), int(place)):
            queues.join(name, cost_s=cost_s, is_interactive=is_interactive, place=place)
        case ("leave", int(number)) if queues.waiting:
            queues.leave([who for who, _ in queues.waiting.values()][number % len(queues.waiting)])
        case ("serve",) if queues.waiting:
            return queues.serve()
    return None


@given(STEPS)
def test_the_lowest_rank_is_next(steps: list[tuple[object, ...]]) -> None:
    """However they come and go, in whatever place, next is who has the lowest rank of those who are first in their flow."""
    queues = Queues(3)
    for step in [*steps, *[("serve",)] * len(steps)]:
        firsts: dict[tuple[int, Flow], Waiting] = {}
        for who, place in queues.waiting.values():
            firsts.setdefault((queues.places.index(place), who.flow), who)
        ranks = {rank(who.flow, who.ticket): who for who in firsts.values()}
        if ranks:
            assert queues.first() is ranks[min(ranks)]
        act(queues, step)
    assert not any(queues.places)
    assert not any(queue.first() for queue in queues.places)


@given(STEPS)
def test_within_a_flow_who_came_first_is_first(steps: list[tuple[object, ...]]) -> None:
    """In one flow, whatever others do and whoever leaves, nobody is served before one who came earlier."""
    queues = Queues(3)
    for step in [*steps, *[("serve",)] * len(steps)]:
        served = act(queues, step)
        if served is not None:
            assert served.ticket < min((t for t, (who, _) in queues.waiting.items() if who.flow is served.flow), default=math.inf)


@given(st.lists(st.sampled_from([0.001, 0.05, 60.0]), min_size=1, max_size=30))
def test_one_flow_is_first_come_first_served(costs: list[float]) -> None:
    """With one flow and one priority the order is that of the tickets, whatever the turns cost."""
    queues = Queues()
    for cost_s in costs:
        queues.join(cost_s=cost_s)
    assert [queues.serve().ticket for _ in costs] == [*range(1, len(costs) + 1)]


@pytest.mark.parametrize(("callers_a", "callers_b"), [(1000, 10), (10, 1000), (1, 5)])
def test_labels_share_equally(callers_a: int, callers_b: int) -> None:
    """Two labels get every other turn, however many callers each has."""
    queues = Queues()
    for _ in range(callers_a):
        queues.join("a")
    for _ in range(callers_b):
        queues.join("b")
    least = min(callers_a, callers_b)
    assert Counter(queues.serve_all()[: 2 * least]) == {"a": least, "b": least}


def test_a_batch_turn_counts_as_25_calls() -> None:
    """Beside maps that always want more, 25 calls of 20 ms are served for every batch turn of 50 ms; neither starves."""
    queues = Queues()
    for _ in range(4):
        queues.join("map", cost_s=TURN_S, is_interactive=False)
    for _ in range(100):
        queues.join()
    names = queues.serve_all()
    assert [names[i : i + 26].count("map") for i in range(0, 104, 26)] == [1, 1, 1, 1]


def test_interactive_ones_go_first_among_equals() -> None:
    """Of flows that are due at the same time an interactive one is first, though it came last."""
    queues = Queues()
    for name in range(5):
        queues.join(name, is_interactive=False)
    queues.join("call")
    assert queues.serve().flow.name == "call"


@pytest.mark.parametrize("n_turns", [0, 4, 10, 14, 20, 27])
def test_a_call_does_not_wait_for_the_turns_of_maps(n_turns: int) -> None:
    """A single call that comes while ten maps wait, in whatever round of turns they are, is next."""
    queues = Queues()
    for _ in range(5):
        for name in range(10):
            queues.join(name, cost_s=TURN_S, is_interactive=False)
    for _ in range(n_turns):
        queues.serve()
    queues.join()
    assert queues.serve().flow.name is None


def test_priorities_of_one_label_are_flows_of_their_own() -> None:
    """An interactive call is not held up by batch calls of its own label that came before."""
    queues = Queues()
    for _ in range(20):
        queues.join("a", is_interactive=False)
    queues.serve()
    queues.join("a")
    assert queues.serve().flow.is_interactive


def test_one_caller_of_cheap_calls_gets_a_full_share() -> None:
    """A label with one caller, who comes again when served, gets 100 calls of 1 ms for each of 100 ms of ten others."""
    queues = Queues()
    for _ in range(20):
        queues.join("dear", cost_s=0.1)
    queues.join("cheap", cost_s=0.001)
    served = []
    for _ in range(1000):
        served.append(queues.serve().flow.name)
        if served[-1] == "cheap":
            queues.join("cheap", cost_s=0.001)
    assert served.count("dear") <= 12


def test_an_idle_flow_saves_nothing_up() -> None:
    """A flow that comes after another has been served for long gets every other turn, not all that it has missed."""
    queues = Queues()
    for _ in range(1000):
        queues.join("busy")
    for _ in range(900):
        queues.serve()
    for _ in range(10):
        queues.join("idle")
    assert Counter(queues.serve_all()[:10]) == {"busy": 5, "idle": 5}


def test_who_leaves_is_not_charged() -> None:
    """Callers that give up while they wait cost their flow nothing, however many."""
    queues = Queues()
    given_up = [queues.join("storm") for _ in range(1000)]
    for _ in range(10):
        queues.join("calm")
    for who in given_up:
        queues.leave(who)
    for _ in range(10):
        queues.join("storm")
    assert Counter(queues.serve_all()[:10]) == {"calm": 5, "storm": 5}


@given(
    st.lists(st.sampled_from([0.001, 0.02, 0.05, 0.5]), min_size=1, max_size=8),
    st.lists(st.sampled_from([0.001, 0.02, 0.05, 0.5]), min_size=1, max_size=8),
    st.booleans(),
    STEPS,
)
def test_shares_are_proportional(
    mine: list[float], theirs: list[float], is_interactive: bool, steps: list[tuple[object, ...]]
) -> None:
    """Two flows that wait all the time get what their weights say, up to one turn of each, whatever others do."""
    queues = Queues(3)
    costs = {"mine": mine, "theirs": theirs}
    priorities = {"mine": True, "theirs": is_interactive}
    weights = {name: INTERACTIVE_WEIGHT if priorities[name] else BATCH_WEIGHT for name in costs}
    had = {"mine": 0.0, "theirs": 0.0}
    turns = count()

    def join(name: str) -> None:
        cost_s = costs[name][next(turns) % len(costs[name])]
        queues.join(name, cost_s=cost_s, is_interactive=priorities[name], place=next(turns) % 3)

    for name in [*costs] * 4:
        join(name)
    for step in [*steps, *[("serve",)] * 60]:
        served = act(queues, step) if step[0] != "leave" else None
        if served is not None and (name := str(served.flow.name)) in costs:
            had[name] += served.cost_s / weights[name]
            assert abs(had["mine"] - had["theirs"]) <= sum(max(costs[name]) / weights[name] for name in costs) + 1e-9
            join(name)


@given(st.integers(0, 20), st.booleans(), st.integers(1, 8), st.lists(st.sampled_from("abc*"), min_size=1, max_size=8))
def test_nobody_starves(n_had: int, is_interactive: bool, n_rivals: int, names: list[str]) -> None:
    """Who waits is served after a bounded number of others, even if these come for ever, each under a new label (*)."""
    queues = Queues()
    new = count()

    def rival(turn: int) -> None:
        name = names[turn % len(names)]
        queues.join(next(new) if name == "*" else name, cost_s=(0.001, 0.004)[turn % 2], is_interactive=turn % 3 > 0)

    for turn in range(n_rivals):
        rival(turn)
    for _ in range(n_had):
        queues.join("mine", is_interactive=is_interactive, cost_s=0.004)
        while queues.serve().flow.name != "mine":
            pass
        for turn in range(n_rivals - len(queues.waiting)):
            rival(turn)
    mine = queues.join("mine", is_interactive=is_interactive)
    gap_s = mine.flow.start - min(who.flow.start for who, _ in queues.waiting.values())
    by_new = gap_s * INTERACTIVE_WEIGHT * (n_rivals + 1) / 0.001 + n_rivals + 1
    by_old = 2 * len(set(names)) * (gap_s * INTERACTIVE_WEIGHT / 0.001 + 2)
    for turn in range(int(by_new + by_old) + 1):
        if queues.serve() is mine:
            return
        rival(turn)
    pytest.fail("starved")


@pytest.mark.parametrize("n_waiting", [1, 10, 100])
@pytest.mark.parametrize(("is_interactive", "has_interactive_rivals"), [(True, True), (False, True), (True, False)])
def test_new_labels_for_ever_hold_nobody_up(n_waiting: int, is_interactive: bool, has_interactive_rivals: bool) -> None:
    """A label that was served once is served again by its share of the next rounds, though new labels come all the time."""
    queues = Queues()
    queues.join("mine", is_interactive=is_interactive)
    for name in range(n_waiting):
        queues.join(name, is_interactive=has_interactive_rivals)
    queues.join("mine", is_interactive=is_interactive)
    rounds = 3 if is_interactive else 3 * INTERACTIVE_WEIGHT
    served = []
    for name in range(n_waiting, (rounds + 1) * n_waiting + rounds):
        served.append(queues.serve().flow.name)
        queues.join(name, is_interactive=has_interactive_rivals)
    assert served.count("mine") == 2


def test_new_labels_for_ever_are_not_remembered() -> None:
    """What is kept of flows is bounded by how many wait, however many labels there have been."""
    queues = Queues()
    for name in range(10):
        queues.join(name)
    most = 0
    for name in range(10, 20_000):
        queues.join(name, is_interactive=name % 3 > 0)
        queues.serve()
        most = max(most, len(queues.shares))
    assert most <= 200
    queues.serve_all()
    assert len(queues.shares) <= 200


def test_those_who_give_up_are_not_remembered() -> None:
    """A storm of callers that come and leave while one waits in front leaves nothing in the queue."""
    queues = Queues()
    queues.join("front")
    for name in range(5000):
        queues.leave(queues.join(name))
    assert len(queues.shares) == 1
    assert len(queues.places[0]._heap) <= 200


@pytest.mark.parametrize(
    ("cost_s", "charged_s"),
    [(0.0, LEAST_S), (-1.0, LEAST_S), (math.nan, LEAST_S), (0.5, 0.5), (math.inf, MOST_S), (1e9, MOST_S)],
)
def test_wrong_estimates_do_no_harm(cost_s: float, charged_s: float) -> None:
    """A turn is never charged as nothing, nor as more than a minute, whatever was estimated."""
    queues = Queues()
    who = queues.join(cost_s=cost_s, is_interactive=False)
    queues.serve()
    assert who.flow.start == pytest.approx(charged_s)


def test_shares_are_exact_after_months() -> None:
    """After 10,000,000 seconds of work two labels still get every other call of 1 ms."""
    queues = Queues()
    queues.shares.batch_time = queues.shares.interactive_time = 1e7
    for name in "ab":
        for _ in range(50):
            queues.join(name, cost_s=0.001)
    assert Counter(queues.serve_all()[:50]) == {"a": 25, "b": 25}
