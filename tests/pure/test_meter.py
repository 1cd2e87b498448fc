"""sensing/meter.py: what working with processes costs on this host, as measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.model import Host
from offloop.sensing.meter import Meter

HOST = Host(cores=4, platform="darwin", memory_bytes=7, worker_start_s=0.5)


@pytest.fixture
def meter() -> Meter:
    """Return a meter that nobody else uses."""
    return Meter()


def test_before_the_first_figure_the_defaults_hold(meter: Meter) -> None:
    """What was not measured is left as the host has it."""
    assert meter.on(HOST) == HOST
    assert meter.version == 0


def test_the_first_figure_replaces_the_default(meter: Meter) -> None:
    """A measured figure counts instead of the default, and everything else of the host stays."""
    meter.started(0.2)
    meter.tripped(0.003)
    host = meter.on(HOST)
    assert (host.worker_start_s, host.round_trip_s) == (0.2, 0.003)
    assert (host.cores, host.platform, host.memory_bytes) == (4, "darwin", 7)


def test_later_figures_move_it_by_a_fifth(meter: Meter) -> None:
    """Each further figure counts for a fifth."""
    for figure, known in ((0.1, 0.1), (0.2, 0.12), (0.12, 0.12), (0.02, 0.1)):
        meter.started(figure)
        assert meter.on(HOST).worker_start_s == pytest.approx(known)


def test_a_figure_far_off_counts_as_three_times(meter: Meter) -> None:
    """A figure from a moment when the machine was busy moves what is known by two fifths at most."""
    meter.tripped(0.001)
    meter.tripped(100.0)
    assert meter.on(HOST).round_trip_s == pytest.approx(0.0014)


def test_the_version_grows_with_what_changes_much(meter: Meter) -> None:
    """The version tells those who rest on a figure that it is no longer near to what it was when it was last told."""
    seen = [meter.version]
    for figure in (0.1, 0.1, 0.12, 0.11):  # within a quarter
        meter.started(figure)
        seen.append(meter.version)
    assert seen == [0, 1, 1, 1, 1]
    while meter.on(HOST).worker_start_s < 0.125:
        assert meter.version == 1
        meter.started(0.2)
    assert meter.version == 2
    meter.tripped(0.001)  # nothing was told of trips so far
    assert meter.version == 3


def test_slow_drift_is_told_too(meter: Meter) -> None:
    """Figures that creep up are told once they have crept far, however small each step was."""
    figure = 0.1
    for _ in range(200):
        figure *= 1.01
        meter.tripped(figure)
    assert 4 <= meter.version <= 10


def test_meters_are_apart(meter: Meter) -> None:
    """What one has measured is not known to another."""
    meter.started(9.0)
    assert Meter().on(HOST) == HOST


figures = st.floats(0, 1e6)


@given(st.lists(st.tuples(st.sampled_from(["started", "tripped"]), figures), max_size=30))
def test_any_figures_leave_a_usable_host(told: list[tuple[str, float]]) -> None:
    """Whatever is measured, zero included, every cost on the host is finite and none is negative."""
    meter = Meter()
    for name, figure in told:
        getattr(meter, name)(figure)
    host = meter.on(HOST)
    for seconds in (host.worker_start_s, host.round_trip_s):
        assert math.isfinite(seconds)
        assert seconds >= 0


def test_a_trip_is_never_shorter_than_nothing(meter: Meter) -> None:
    """A call that seems to have taken less time than its execution, by two clocks' disagreement, costs nothing."""
    meter.tripped(-0.0001)
    meter.tripped(0.0)
    assert meter.on(HOST).round_trip_s >= 0
