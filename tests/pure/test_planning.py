"""planning.py: what is known before a run, and when a decision is used again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from offloop import planning
from offloop.functions import call, star
from offloop.model import Decision, Host, Reason, Strategy, Workload
from offloop.options import CallOptions
from offloop.planning import STALL_S, Known, Planner
from offloop.sensing.meter import Meter
from offloop.settings import ParallelConfig
from offloop.wire.pickling import INLINE_BYTES

AUTO = CallOptions(strategy=Strategy.AUTO)
SAFE = CallOptions(strategy=Strategy.AUTO, thread_safe=True)


class FakeBackend:
    """A place to execute, with a queue."""

    is_remote = False

    def __init__(self) -> None:
        self.backlog_s = 0.0


class FakePool:
    """Workers, some of them idle."""

    n_idle = 2
    capacity = 4


def work(item: Any = None, scale: float = 1.0) -> Any:
    """Do nothing."""


def other(item: Any = None) -> Any:
    """Do nothing either."""


class Callable_:
    """A function with data of its own."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __call__(self, item: Any) -> None:
        """Do nothing."""

    def method(self, item: Any) -> None:
        """Do nothing."""


@pytest.fixture(autouse=True)
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    """Return a fresh meter, in place of the process's."""
    fresh = Meter()
    monkeypatch.setattr(planning, "meter", fresh)
    return fresh


class Desk:
    """A planner, what it asks about backlogs, workers and imports, and what it decided on."""

    def __init__(self) -> None:
        self.pool = FakePool()
        self.works: list[Workload] = []
        self.import_s = 0.0
        self.looked_up: list[Any] = []
        self.local: Any = FakeBackend()
        self.processes: Any = FakeBackend()
        self.planner = Planner(Host(cores=4), ParallelConfig(), self.pool)

    def decide(self, known: Known, n_items: int | None = 100, **now: Any) -> Decision:
        """Decide on a run."""
        return self.planner.decide(known, n_items, self.local, self.processes, **now)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Return a planner that notes each workload that it decides on."""
    desk = Desk()
    plain = planning.decide

    def noted(host: Host, workload: Workload, *rest: Any) -> Decision:
        desk.works.append(workload)
        return plain(host, workload, *rest)

    def looked_up(fn: Any) -> float:
        desk.looked_up.append(fn)
        return desk.import_s

    monkeypatch.setattr(planning, "decide", noted)
    monkeypatch.setattr(planning, "import_s", looked_up)
    return desk


def learned(desk: Desk, item_s: float = 0.01, options: CallOptions = AUTO) -> Known:
    """Return what is known of a function that has run for so long."""
    known = desk.planner.look_at(work, [3], options)
    known.cost.executed(10, 10 * item_s, item_s, is_remote=False)
    return known


# --- looking at work -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "another", "is_same"),
    [
        ((work, (10,)), (work, (11,)), True),
        ((work, (10,)), (work, (1000,)), False),
        ((work, (10,)), (other, (10,)), False),
        ((work, ("x" * 100,)), (work, ("x" * 1000,)), False),
        ((work, (10, 2.0)), (work, (11, 2.0)), True),
        ((work, (10, 2.0)), (work, (10, 200.0)), False),
        ((work, ()), (work, ()), True),
        ((work, ()), (work, (10,)), False),
        ((partial(work, scale=2.0), (10,)), (partial(work, scale=3.9), (10,)), True),
        ((partial(work, scale=2.0), (10,)), (partial(work, scale=99.0), (10,)), False),
        ((call(work, 10), ()), (call(work, 1000), ()), False),
        ((star(work), ((10, 2.0),)), (star(work), ((11, 2.0),)), True),
        ((star(work), ((10, 2.0),)), (star(work), ((999, 2.0),)), False),
        ((Callable_(b"").method, (1,)), (Callable_(bytes(1000)).method, (1,)), False),
        ((Callable_(b""), (1,)), (Callable_(b""), (1,)), True),
        ((Callable_(b""), (1,)), (Callable_(bytes(1000)), (1,)), False),
        ((sorted, ([1],)), (sorted, ([2],)), True),
        ((sorted, ([1],)), (max, ([1],)), False),
    ],
)
def test_the_same_work_has_one_cost(
    one: tuple[Any, tuple[Any, ...]], another: tuple[Any, tuple[Any, ...]], is_same: bool, desk: Desk
) -> None:
    """Work is the same if the function is, and what is bound in it and the arguments are of the same sizes."""
    first, second = (desk.planner.look_at(fn, sample, AUTO).cost for fn, sample in (one, another))
    assert (first is second) is is_same


def test_a_function_is_known_by_its_code(desk: Desk) -> None:
    """What has happened under a function is known of it in every wrapper, and in a closure that is made anew."""

    def make(number: int) -> Callable[[int], int]:
        return lambda item: item + number

    look_at = desk.planner.look_at
    assert look_at(make(1), [1], AUTO).function is look_at(make(2), [1], AUTO).function
    plain = look_at(work, [1], AUTO).function
    assert look_at(partial(work), [1], AUTO).function is plain
    assert look_at(star(work), [(1,)], AUTO).function is plain
    assert look_at(call(work, 1), [], AUTO).function is plain
    assert look_at(other, [1], AUTO).function is not plain


@pytest.mark.parametrize(
    ("fn", "sample", "was_remote", "is_light"),
    [
        (work, [1], True, True),
        (work, [1], False, False),  # a worker may have to import its module first
        (work, [bytes(INLINE_BYTES)], True, True),
        (work, [bytes(INLINE_BYTES + 1)], True, False),
        (partial(work, scale=1.0), [1], True, False),  # which would be pickled anew
        (lambda item: item, [1], True, False),
        (sorted, [[1]], True, True),
    ],
)
def test_light_is_what_a_worker_knows_already(
    fn: Any, sample: list[Any], was_remote: bool, is_light: bool, desk: Desk
) -> None:
    """Work is light if the function goes by its name to workers that have had it, with a message of data at most."""
    desk.planner.look_at(fn, sample, AUTO).function.was_remote = was_remote
    assert desk.planner.look_at(fn, sample, AUTO).is_light is is_light


def test_what_is_seen_of_a_sample(desk: Desk) -> None:
    """Bytes and columns are seen, or told by the caller, and so is parallelism of the work's own."""
    known = desk.planner.look_at(work, [np.zeros((10, 3))], AUTO)
    assert (known.payload_bytes, known.n_features, known.inner) == (240, 3, None)
    assert desk.planner.look_at(work, [np.zeros(10)], replace(AUTO, item_bytes=7)).payload_bytes == 7
    assert desk.planner.look_at(work, [np.zeros(10)], replace(AUTO, item_bytes=0)).payload_bytes == 0
    inner = desk.planner.look_at(partial(work, scale={"n_jobs": -1}), [1], AUTO)  # type: ignore[arg-type]
    assert inner.inner == "scale['n_jobs']=-1"
    assert desk.decide(inner).reason is Reason.INNER_PARALLELISM


def test_looking_runs_nothing(desk: Desk) -> None:
    """Looking at a callable object asks it for nothing."""
    asked: list[str] = []

    class Curious:
        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            raise AttributeError(name)

        def __call__(self, item: Any) -> None:
            asked.append("call")

    desk.planner.look_at(Curious(), [Curious()], AUTO)
    assert "call" not in asked
    assert not [name for name in asked if name not in ("__code__", "__qualname__", "__module__", "fn")]


# --- what a decision rests on ----------------------------------------------------------------------------------------


def test_what_was_learned_is_decided_on(desk: Desk) -> None:
    """A decision rests on what is known of such work, of the function, and of the workers."""
    known = learned(desk)
    known.cost.watched(0.5, 0.002, 0.02)
    known.cost.sent(1, 1000, 0.001)
    known.cost.received(1, 50, 0.001)
    known.cost.bias[Strategy.PROCESSES] = 1.5
    known.cost.current = Strategy.PROCESSES
    known.function.has_crashed = True
    desk.local.backlog_s, desk.processes.backlog_s = 0.25, 0.75
    desk.import_s = 0.5
    desk.decide(known, n_done=3, starting_s=0.125)
    (seen,) = desk.works
    assert (seen.n_items, seen.n_done, seen.item_s, seen.longest_s) == (100, 3, pytest.approx(0.01), 0.01)
    assert (seen.gil_held, seen.payload_bytes, seen.result_bytes) == (0.5, 1000, 50)
    assert seen.transport_s == known.cost.transport_s
    assert (seen.idle_workers, seen.local_backlog_s, seen.workers_backlog_s) == (2, 0.25, 0.75)
    assert (seen.max_workers, seen.import_s, seen.starting_s, seen.may_bridge) == (4, 0.5, 0.125, True)
    assert (seen.has_crashed, seen.current, seen.bias) == (True, Strategy.PROCESSES, {Strategy.PROCESSES: 1.5})


def test_what_a_run_sees_itself_counts_first(desk: Desk) -> None:
    """A run's own pace and place, and its own lanes, count before what was learned; its own queue doesn't count at all."""
    known = learned(desk, options=replace(AUTO, item_cost_s=0.5))
    desk.local.backlog_s = 0.3
    desk.decide(known)
    desk.decide(known, item_s=0.02, gil_held=0.0, current=Strategy.SERIAL, own_lanes=1, own={desk.local: 0.25}, waited_s=1.0)
    hinted, own = desk.works
    assert (hinted.item_s, hinted.gil_held, hinted.current, hinted.idle_workers) == (0.5, None, None, 2)
    assert (own.item_s, own.gil_held, own.current, own.idle_workers) == (0.02, 0.0, Strategy.SERIAL, 3)
    assert own.local_backlog_s == pytest.approx(1.05)


def test_what_was_measured_of_the_host_counts(desk: Desk, meter: Meter) -> None:
    """The host is as it was sensed, with what was measured on it since."""
    assert desk.planner.host == Host(cores=4)
    assert desk.planner.host is desk.planner.host
    meter.started(0.9)
    meter.tripped(0.25)
    assert desk.planner.host == Host(cores=4, worker_start_s=0.9, round_trip_s=0.25)


@pytest.mark.parametrize(("stall_s", "may_bridge"), [(0.0, True), (STALL_S, True), (STALL_S * 1.01, False)])
def test_work_that_stalls_the_loop_does_not_bridge(stall_s: float, may_bridge: bool, desk: Desk) -> None:
    """Work that was seen to keep the GIL for longer than 20 ms doesn't go on here while workers start."""
    known = learned(desk)
    known.cost.watched(0.9, stall_s, 0.02)
    desk.decide(known)
    assert desk.works[-1].may_bridge is may_bridge


# --- what workers import ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("import_s", [0.5, 0.0])
def test_imports_are_looked_up_once(import_s: float, desk: Desk) -> None:
    """What workers import for a function is looked up once, whatever the sizes and the wrappers, and be it nothing."""
    desk.import_s = import_s
    for fn, sample in ((work, [3]), (work, [9999]), (star(work), [(3,)]), (partial(work, scale=2.0), [3])):
        known = desk.planner.look_at(fn, sample, AUTO)
        known.cost.executed(10, 0.1, 0.01, is_remote=False)
        desk.decide(known)
    assert desk.looked_up == [work]
    assert [seen.import_s for seen in desk.works] == [import_s] * 4


@pytest.mark.parametrize(
    ("n_items", "n_done", "item_s", "is_looked_up"),
    [(100, 0, 0.01, True), (10, 0, 0.001, True), (9, 0, 0.001, False), (100, 91, 0.001, False), (None, 0, 0.001, True)],
)
def test_imports_are_looked_up_where_work_may_leave(
    n_items: int | None, n_done: int, item_s: float, is_looked_up: bool, desk: Desk
) -> None:
    """The look, of up to a millisecond, is taken for ten milliseconds of work, or where its end isn't known."""
    desk.decide(learned(desk, item_s), n_items, n_done=n_done)
    assert bool(desk.looked_up) is is_looked_up


def test_unknown_work_is_not_looked_up(desk: Desk) -> None:
    """Work of unknown cost is run first."""
    desk.decide(desk.planner.look_at(work, [3], AUTO))
    assert desk.looked_up == []


def test_workers_that_had_the_function_import_no_more(desk: Desk) -> None:
    """Once a function has run in workers, in any size, nothing is left to import."""
    desk.import_s = 0.5
    known = learned(desk)
    desk.decide(known)
    known.function.was_remote = True
    desk.decide(known, 200)
    assert [seen.import_s for seen in desk.works] == [0.5, 0.0]
    other_function = desk.planner.look_at(other, [3], AUTO)
    other_function.cost.executed(1, 0.01, 0.01, is_remote=True)
    desk.decide(other_function)
    assert desk.works[-1].import_s == 0.0
    assert desk.looked_up == [work]


# --- using a decision again ------------------------------------------------------------------------------------------


def test_a_decision_is_used_again_while_its_facts_hold(desk: Desk) -> None:
    """The same call of the same cost has the same decision, without deciding anew."""
    known = learned(desk)
    first = desk.decide(known)
    again = desk.planner.look_at(work, [2], AUTO)
    assert desk.decide(again) is first
    known.cost.executed(10, 0.11, 0.01, is_remote=False)  # within a quarter
    assert desk.decide(known) is first
    assert len(desk.works) == 1


def test_unknown_work_is_decided_on_each_time(desk: Desk) -> None:
    """Nothing is kept of a decision that rests on no cost."""
    known = desk.planner.look_at(work, [3], AUTO)
    assert desk.decide(known).reason is Reason.MEASURING
    known.cost.executed(10, 0.1, 0.01, is_remote=False)
    assert desk.decide(known).reason is not Reason.MEASURING


CHANGES: dict[str, Callable[[Desk, Known, Meter], Any]] = {
    "slower": lambda _, known, __: known.cost.forget() or known.cost.executed(1, 0.02, 0.02, is_remote=False),  # type: ignore[func-returns-value]
    "faster": lambda _, known, __: known.cost.executed(10, 0.01, 0.001, is_remote=False),
    "fewer idle": lambda desk, _, __: setattr(desk.pool, "n_idle", 0),
    "a crash": lambda _, known, __: setattr(known.function, "has_crashed", True),
    "less room": lambda desk, _, __: setattr(desk.pool, "capacity", 1),
    "what was forgone": lambda desk, _, __: desk.planner.learn(
        Decision(strategy=Strategy.SERIAL, reason=Reason.TOO_SMALL, workers=1, forgone_s=0.5)
    ),
    "workers have the function": lambda _, known, __: setattr(known.function, "was_remote", True),
    "the host": lambda _, __, meter: meter.started(3.0),
    "queue here": lambda desk, _, __: setattr(desk.local, "backlog_s", 0.1),
    "queue there": lambda desk, _, __: setattr(desk.processes, "backlog_s", 0.1),
    "options": lambda _, known, __: setattr(known, "options", SAFE),
    "inner": lambda _, known, __: setattr(known, "inner", "n_jobs=2"),
    "gil": lambda _, known, __: known.cost.watched(0.0, 0.0, 0.001),
    "bias": lambda _, known, __: known.cost.took(Strategy.PROCESSES, 1.0, 2.9, is_warm=True),
    "in each other's way": lambda _, known, __: known.cost.slowed(0.02),
    "transport": lambda _, known, __: known.cost.sent(1, 10**8, 0.5),
    "longest": lambda _, known, __: known.cost.executed(1, 0.01, 5.0, is_remote=False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_decision_is_not_used_again_when_a_fact_has_changed(change: str, desk: Desk, meter: Meter) -> None:
    """Once anything that a decision rests on has changed, it is made anew."""
    known = learned(desk)
    desk.decide(known)
    CHANGES[change](desk, known, meter)
    desk.decide(known)
    assert len(desk.works) == 2


def test_a_decision_is_for_its_number_of_items(desk: Desk) -> None:
    """A call with another number of items has a decision of its own."""
    known = learned(desk)
    assert [desk.decide(known, n).n_items for n in (100, 3, None)] == [100, 3, None]


@pytest.mark.parametrize("now", [{"current": Strategy.SERIAL}, {"waited_s": 0.5}, {"n_done": 3}])
def test_what_is_decided_in_mid_run_is_not_kept(now: dict[str, Any], desk: Desk) -> None:
    """A decision of a run that has begun is for that run alone, and no other is used for it."""
    known = learned(desk)
    desk.decide(known, **now)
    fresh = desk.decide(known)
    desk.decide(known, **now)
    assert len(desk.works) == 3
    assert desk.decide(known) is fresh


def test_what_was_forgone_counts_until_workers_are_up(desk: Desk) -> None:
    """What runs would have saved with workers that are up adds up until a run has had some."""
    known = learned(desk, 0.004)
    desk.pool.n_idle = 0
    small = desk.decide(known, 50)
    assert (small.strategy, small.forgone_s > 0) == (Strategy.SERIAL, True)
    for _ in range(3):
        desk.planner.learn(small)
    grown = desk.decide(known, 50)
    assert desk.works[-1].forgone_s == pytest.approx(3 * small.forgone_s)
    desk.planner.learn(replace(grown, strategy=Strategy.PROCESSES))
    desk.decide(known, 50)
    assert desk.works[-1].forgone_s == 0
