"""model.py: the values that offloop decides with."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.model import Decision, Described, Host, Reason, SessionStatistics, Strategy, Workload, readable
from offloop.settings import ParallelConfig

MEMBERS: list[Described] = [*Strategy, *Reason]


@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_every_member_has_a_sentence(member: Described) -> None:
    """Every strategy and every reason has one human sentence of its own; it may begin with a setting as it is written."""
    assert member.sentence[0].isupper() or member.sentence.partition("=")[0] in ParallelConfig.__annotations__
    assert member.sentence.endswith(".")
    assert member.sentence.count(". ") == 0
    assert [other.sentence for other in MEMBERS].count(member.sentence) == 1


@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_members_are_their_strings(member: Described) -> None:
    """A member equals, prints, pickles and serialises as its value."""
    assert member == member.value == str(member) == member.name.lower()
    assert json.dumps(member) == f'"{member.value}"'
    assert pickle.loads(pickle.dumps(member)) is member
    assert type(member)(member.value) is member


names = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=30)
decisions = st.builds(
    Decision,
    strategy=st.sampled_from(Strategy),
    reason=st.sampled_from(Reason),
    workers=st.integers(1, 99),
    fn=names,
    n_items=st.none() | st.integers(0, 10**9),
    chunk_size=st.none() | st.integers(1, 99),
    item_s=st.none() | st.floats(0, 100),
    estimated_serial_s=st.none() | st.floats(0, 100),
    estimated_s=st.none() | st.floats(0, 100),
)


@given(decisions)
def test_a_decision_reads_as_two_lines(decision: Decision) -> None:
    """Printed, a decision is two lines: what is done with what, and why."""
    what, why = str(decision).split("\n")
    assert decision.fn in what
    assert decision.strategy.value in what
    assert f"({decision.reason.value})" in what
    assert why.startswith(f"  {decision.reason.sentence}")
    known = [decision.item_s, decision.estimated_serial_s, decision.estimated_s]
    assert ("Estimates: " in why) == any(seconds is not None for seconds in known)


def test_a_decision_in_full() -> None:
    """The line has the workers and the items, the reason its numbers in readable units."""
    decision = Decision(
        strategy=Strategy.PROCESSES,
        reason=Reason.FASTER,
        workers=4,
        fn="app.score",
        n_items=1000,
        item_s=0.0012,
        estimated_serial_s=1.2,
        estimated_s=0.31,
    )
    assert str(decision) == (
        "app.score: 1000 items → processes with 4 workers (faster)\n"
        "  The estimated gain over the local thread reaches min_speedup. "
        "Estimates: an item 1.2 ms, serial 1.2 s, as chosen 310 ms."
    )


def test_a_decision_tells_what_may_be_had() -> None:
    """The cost of starting workers, how the GIL is held, where the work is parallel itself, and a hint are told too."""
    decision = Decision(
        strategy=Strategy.SERIAL,
        reason=Reason.INNER_PARALLELISM,
        workers=1,
        fn="app.fit",
        start_cost_s=0.1,
        gil_held=0.256,
        inner="rf.n_jobs=-1",
        hint="thread_safe=True would be about 1.8× faster",
    )
    assert str(decision) == (
        "app.fit: items → serial (inner_parallelism: rf.n_jobs=-1)\n"
        f"  {Reason.INNER_PARALLELISM.sentence} Estimates: of it to start workers 100 ms, GIL held 26%. "
        "Hint: thread_safe=True would be about 1.8× faster."
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ns"),
        (3e-9, "3 ns"),
        (1.5e-6, "1.5 µs"),
        (0.0009996, "1 ms"),
        (0.001, "1 ms"),
        (0.31, "310 ms"),
        (0.9999, "1 s"),
        (12.34, "12.3 s"),
        (1234.0, "1234 s"),
    ],
)
def test_times_are_readable(seconds: float, text: str) -> None:
    """A time is told with three digits in the unit that fits, never with an exponent."""
    assert readable(seconds) == text


def test_a_single_item_is_one() -> None:
    """One item is not told as several."""
    one = Decision(strategy=Strategy.SERIAL, reason=Reason.CI, workers=1, fn="f", n_items=1)
    assert str(one).startswith("f: 1 item → serial (ci)\n")


def test_an_unknown_count_is_left_out() -> None:
    """Where the number of items isn't known, none is told."""
    decision = Decision(strategy=Strategy.SERIAL, reason=Reason.CI, workers=1, fn="f")
    assert str(decision).startswith("f: items → serial (ci)\n")


@pytest.mark.parametrize(
    "value",
    [
        Host(cores=1),
        Workload(fn="f", n_items=1),
        Decision(strategy=Strategy.SERIAL, reason=Reason.CI, workers=1),
        SessionStatistics(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_frozen(value: object) -> None:
    """What is decided from, and what is decided, can't be changed, and is equal to its copy."""
    name = fields(value)[0].name  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, 3)
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("value", [Host(cores=1), Decision(strategy=Strategy.SERIAL, reason=Reason.CI, workers=1)])
def test_values_without_a_mapping_hash_alike(value: object) -> None:
    """A host and a decision can be kept in a set: equal ones hash alike."""
    assert hash(pickle.loads(pickle.dumps(value))) == hash(value)


@pytest.mark.parametrize("kind", [Host, Workload, Decision, SessionStatistics])
def test_every_field_is_explained(kind: type) -> None:
    """The docstring says of every field what it is."""
    assert all(f"        {field.name}: " in (kind.__doc__ or "") for field in fields(kind))
