"""What follows from the times of a bench."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from offloop.bench.outcomes import Spread, crossing, mean_regret, ratio, rounded, spread
from offloop.bench.plan import Variant
from offloop.bench.records import as_record
from offloop.model import Strategy

from .made import findings, report, row

SERIAL = Variant(n_items=100, strategy=Strategy.SERIAL)
AUTO = Variant(n_items=100, strategy=Strategy.AUTO)
PROCESSES = Variant(n_items=100, strategy=Strategy.PROCESSES, workers=2)
THREADS = Variant(n_items=100, strategy=Strategy.THREADS, workers=2)


def test_a_spread_is_median_and_range() -> None:
    """Of some values there are the median, the least and the most; of none there is nothing."""
    assert spread([3.0, 1.0, 2.0, 10.0]) == Spread(median=2.5, least=1.0, most=10.0)
    assert spread([]) is None


def test_ratios_pair_samples_of_one_round() -> None:
    """A ratio is taken within rounds, so that what slows all of one round down alike doesn't show."""
    assert ratio([2.0, 4.0, 200.0], [1.0, 2.0, 100.0]) == Spread(median=2.0, least=2.0, most=2.0)
    assert ratio([], [1.0]) is None


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, -1.0), (100, 1.0)], 10.0),
        ([(1, -1.0), (4, 1.0), (16, -1.0), (64, 1.0)], 32.0),
        ([(1, 1.0), (4, 1.0)], 0.0),
        ([(1, -1.0), (4, -0.1)], math.inf),
        ([(1, 1.0), (4, 0.0)], math.inf),
        ([], math.inf),
    ],
)
def test_a_crossing_is_where_a_lead_begins_to_last(points: list[tuple[int, float]], expected: float) -> None:
    """The crossing lies on the logarithmic line between the last position behind and the first one ahead."""
    assert crossing(points) == pytest.approx(expected)


def test_serial_wins_below_the_crossover() -> None:
    """The number of items from which parallel wins lies between those where it lost and won."""
    found = findings()
    assert found.crossover() == pytest.approx(3.0, rel=0.1)
    assert found.verdict == "serial wins below about 3 items; processes ×4 is 3.25× as fast as serial at 256 items"


@pytest.mark.parametrize(
    ("serial_s", "verdict"),
    [
        (0.5, "serial wins up to 100 items, the most that were measured"),
        (3.0, "processes ×2 is 3.00× as fast as serial at 100 items"),
    ],
)
def test_the_verdict_says_what_wins(serial_s: float, verdict: str) -> None:
    """Where parallel never or always wins, the verdict says that."""
    rows = (row(SERIAL, serial_s), row(PROCESSES, 1.0))
    assert findings(rows=rows).verdict == verdict


def test_a_gain_within_the_noise_is_called_so() -> None:
    """A gain that some rounds contradict is not told as if it were sure."""
    rows = (row(SERIAL, 1.0, samples_s=(0.8, 1.1, 1.2)), row(PROCESSES, 1.0, samples_s=(1.0, 1.0, 1.0)))
    assert findings(rows=rows).verdict == "processes ×2 is 1.10× as fast as serial at 100 items, though not in every round"


def test_regret_is_the_time_of_auto_by_that_of_the_best() -> None:
    """Regret compares `auto` with the best of all fixed settings, chunk sizes included, round by round."""
    chunked = replace(PROCESSES, chunk_size=5)
    rows = (row(SERIAL, 1.0), row(PROCESSES, 0.6), row(chunked, 0.5), row(AUTO, 0.55, ran="processes ×2"))
    (regret,) = findings(rows=rows).regrets()
    assert (regret.chosen, regret.best) == ("processes ×2", "processes ×2, chunks of 5")
    assert regret.ratio.median == pytest.approx(1.1)
    assert mean_regret([regret, replace(regret, ratio=replace(regret.ratio, median=1.1**3))]) == pytest.approx(1.1**2)


def test_what_did_not_take_effect_is_compared_with_nothing() -> None:
    """A row with a complaint or an error is neither best nor in a ratio, a verdict or a chart."""
    rows = (
        row(SERIAL, 1.0),
        row(THREADS, 0.9),
        row(PROCESSES, 0.1, complaints=("executed by serial (operator_off)",)),
        row(replace(PROCESSES, workers=1), 0.1, error="other results than serial, the first at index 3"),
        row(AUTO, 0.9),
    )
    found = findings(rows=rows)
    assert [regret.best for regret in found.regrets()] == ["threads ×2"]
    assert found.sound(Strategy.PROCESSES) == []
    assert [one.variant.workers for one in found.failures] == [1]


def test_the_first_call_is_no_rival() -> None:
    """What the first call of a session takes is shown, and not compared with later ones."""
    assert all(not one.variant.is_first for one in findings().sound())


@pytest.mark.parametrize(("value", "expected"), [(0.4, 0), (3.3, 3), (86.4, 86), (123.0, 120), (18_512.0, 19_000)])
def test_rounded_numbers_have_two_digits(value: float, expected: int) -> None:
    """A number is told with two digits that matter."""
    assert rounded(value) == expected


def test_records_have_all_figures_with_their_settings() -> None:
    """A record has of each row what was asked for, what happened, and all its samples; of what was left out the setting."""
    record = as_record(report(findings(left_out=(THREADS,))))
    (found,) = record["findings"]
    one = next(each for each in found["rows"] if each["strategy"] == "processes" and each["chunk_size"] == 8)
    assert (one["n_items"], one["workers"], one["took_effect"], len(one["samples_s"])) == (256, 4, True, 5)
    assert one["time_s"]["least"] <= one["time_s"]["median"] <= one["time_s"]["most"]
    assert found["left_out"] == [{"n_items": 100, "strategy": "threads", "workers": 2, "chunk_size": None, "is_first": False}]
    assert record["settings"] == {"workers": {"value": None, "source": "default"}}
    assert [regret["n_items"] for regret in found["regrets"]] == [1, 4, 16, 64, 256]


@pytest.mark.parametrize(("load", "is_told"), [(1.9, False), (2.1, True), (None, False)])
def test_a_busy_machine_is_told_of(load: float | None, is_told: bool) -> None:
    """Figures that were taken while others used more than half of the cores are called doubtful."""
    made = report()
    assert bool(replace(made, host={**made.host, "load_1_min": load}).warning) is is_told
